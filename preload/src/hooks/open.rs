//! Opening files. The mode is read always: on x86-64 a missing one is a register that the kernel does not look at.

use core::ffi::{c_char, c_int};

use crate::args;
use crate::calls::open::open as opened;
use crate::cancellation_points;
use crate::errno::libc_int;

cancellation_points! {
    fn open(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int | is_minus_one {
        // SAFETY: the program's own arguments, here and below.
        libc_int(unsafe { opened(libc::SYS_open, args!(path, flags, mode)) })
    }

    fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { opened(libc::SYS_open, args!(path, flags, mode)) })
    }

    fn __open_2(path: *const c_char, flags: c_int) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { opened(libc::SYS_open, args!(path, flags, 0)) })
    }

    fn __open64_2(path: *const c_char, flags: c_int) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { opened(libc::SYS_open, args!(path, flags, 0)) })
    }

    fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { opened(libc::SYS_openat, args!(directory, path, flags, mode)) })
    }

    fn openat64(directory: c_int, path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { opened(libc::SYS_openat, args!(directory, path, flags, mode)) })
    }

    fn creat(path: *const c_char, mode: libc::mode_t) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { opened(libc::SYS_creat, args!(path, mode)) })
    }
}
