//! Opening: the random devices are dmt's, measured files of /proc are copied, all else is the kernel's.

use core::ffi::{CStr, c_char, c_int};

use crate::calls::file::install;
use crate::calls::procfs;
use crate::calls::stamp;
use crate::kernel;
use crate::world::dmt;

/// `open`, `creat`, `openat`, `openat2`.
pub unsafe fn open(number: i64, a: [usize; 6]) -> isize {
    let (path, flags) = match number {
        libc::SYS_open => (a[0], a[1]),
        libc::SYS_creat => (a[0], libc::O_WRONLY as usize),
        // SAFETY: the program's structure starts with the flags.
        libc::SYS_openat2 => (a[1], if a[2] == 0 { 0 } else { unsafe { *(a[2] as *const u64) as usize } }),
        _ => (a[1], a[2]),
    };
    // SAFETY: the program's path.
    if path != 0 && unsafe { is_random_device(path as *const c_char) } {
        return install(dmt(|call| call.random_file(flags as c_int)), flags, false);
    }
    if path != 0 && flags as c_int & (libc::O_ACCMODE | libc::O_PATH) == libc::O_RDONLY {
        // SAFETY: as above.
        let path = unsafe { CStr::from_ptr(path as *const c_char) };
        if let Some(content) = procfs::content(path.to_bytes()) {
            // SAFETY: as above.
            return unsafe { procfs::open(path, flags as c_int, content) };
        }
    }
    // SAFETY: forwarded promise.
    unsafe {
        match number {
            libc::SYS_creat => stamp::open(libc::AT_FDCWD as usize, path, CREAT_FLAGS as usize, a[1]),
            libc::SYS_open if changes(flags) => stamp::open(libc::AT_FDCWD as usize, path, flags, a[2]),
            libc::SYS_openat if changes(flags) => stamp::open(a[0], path, flags, a[3]),
            _ => kernel::call(number, a),
        }
    }
}

/// What `creat` means.
const CREAT_FLAGS: c_int = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;

/// Whether opening may make or empty a file.
fn changes(flags: usize) -> bool {
    const TEMPORARY: c_int = libc::O_TMPFILE & !libc::O_DIRECTORY;
    flags as c_int & (libc::O_CREAT | libc::O_TRUNC | TEMPORARY) != 0
}

unsafe fn is_random_device(path: *const c_char) -> bool {
    // SAFETY: the caller's promise: a C string.
    matches!(unsafe { CStr::from_ptr(path) }.to_bytes(), b"/dev/urandom" | b"/dev/random")
}
