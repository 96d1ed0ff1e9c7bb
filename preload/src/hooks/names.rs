//! The calls about names that servers make most. All others of the family come by way of the filter.

use core::ffi::{c_char, c_int};

use crate::args;
use crate::calls::disk::names;
use crate::errno::libc_int;
use crate::hook;

unsafe fn call(number: i64, a: [usize; 6]) -> c_int {
    // SAFETY: forwarded promise.
    libc_int(unsafe { names::call(number, a) }.unwrap_or(-(libc::ENOSYS as isize)))
}

hook! {
    fn unlink(path: *const c_char) -> c_int {
        // SAFETY: the program's own arguments, here and below.
        unsafe { call(libc::SYS_unlink, args!(path)) }
    }

    fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { call(libc::SYS_unlinkat, args!(directory, path, flags)) }
    }

    fn rename(from: *const c_char, to: *const c_char) -> c_int {
        // SAFETY: as above.
        unsafe { call(libc::SYS_rename, args!(from, to)) }
    }

    fn mkdir(path: *const c_char, mode: libc::mode_t) -> c_int {
        // SAFETY: as above.
        unsafe { call(libc::SYS_mkdir, args!(path, mode)) }
    }

    fn chmod(path: *const c_char, mode: libc::mode_t) -> c_int {
        // SAFETY: as above.
        unsafe { call(libc::SYS_chmod, args!(path, mode)) }
    }

    fn rmdir(path: *const c_char) -> c_int {
        // SAFETY: as above.
        unsafe { call(libc::SYS_rmdir, args!(path)) }
    }
}
