//! What programs ask about files most. All other calls of the family come by way of the filter.

use core::ffi::{c_char, c_int, c_uint};

use crate::args;
use crate::calls::disk as files;
use crate::errno::libc_int;
use crate::hook;

const HERE: c_int = libc::AT_FDCWD;
const NO_FOLLOW: c_int = libc::AT_SYMLINK_NOFOLLOW;

unsafe fn at(directory: c_int, path: *const c_char, out: *mut libc::stat, flags: c_int) -> c_int {
    let file = [directory as usize, path as usize, flags as usize];
    let call = args!(directory, path, out, flags);
    // SAFETY: forwarded promise.
    libc_int(unsafe { files::stat::stat(libc::SYS_newfstatat, call, file, out as usize) })
}

unsafe fn open(fd: c_int, out: *mut libc::stat) -> c_int {
    // SAFETY: forwarded promise.
    libc_int(unsafe { files::stat::stat(libc::SYS_fstat, args!(fd, out), [fd as usize, 0, 0], out as usize) })
}

hook! {
    fn stat(path: *const c_char, out: *mut libc::stat) -> c_int {
        // SAFETY: the program's own arguments, here and below.
        unsafe { at(HERE, path, out, 0) }
    }

    fn stat64(path: *const c_char, out: *mut libc::stat) -> c_int {
        // SAFETY: as above; the structures are the same.
        unsafe { at(HERE, path, out, 0) }
    }

    fn lstat(path: *const c_char, out: *mut libc::stat) -> c_int {
        // SAFETY: as above.
        unsafe { at(HERE, path, out, NO_FOLLOW) }
    }

    fn lstat64(path: *const c_char, out: *mut libc::stat) -> c_int {
        // SAFETY: as above.
        unsafe { at(HERE, path, out, NO_FOLLOW) }
    }

    fn fstat(fd: c_int, out: *mut libc::stat) -> c_int {
        // SAFETY: as above.
        unsafe { open(fd, out) }
    }

    fn fstat64(fd: c_int, out: *mut libc::stat) -> c_int {
        // SAFETY: as above.
        unsafe { open(fd, out) }
    }

    fn fstatat(directory: c_int, path: *const c_char, out: *mut libc::stat, flags: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { at(directory, path, out, flags) }
    }

    fn fstatat64(directory: c_int, path: *const c_char, out: *mut libc::stat, flags: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { at(directory, path, out, flags) }
    }

    fn statx(directory: c_int, path: *const c_char, flags: c_int, mask: c_uint, out: *mut libc::statx) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { files::stat::statx(args!(directory, path, flags, mask, out)) })
    }

    fn __xstat(_version: c_int, path: *const c_char, out: *mut libc::stat) -> c_int {
        // SAFETY: as above.
        unsafe { at(HERE, path, out, 0) }
    }

    fn __xstat64(_version: c_int, path: *const c_char, out: *mut libc::stat) -> c_int {
        // SAFETY: as above.
        unsafe { at(HERE, path, out, 0) }
    }

    fn __lxstat(_version: c_int, path: *const c_char, out: *mut libc::stat) -> c_int {
        // SAFETY: as above.
        unsafe { at(HERE, path, out, NO_FOLLOW) }
    }

    fn __lxstat64(_version: c_int, path: *const c_char, out: *mut libc::stat) -> c_int {
        // SAFETY: as above.
        unsafe { at(HERE, path, out, NO_FOLLOW) }
    }

    fn __fxstat(_version: c_int, fd: c_int, out: *mut libc::stat) -> c_int {
        // SAFETY: as above.
        unsafe { open(fd, out) }
    }

    fn __fxstat64(_version: c_int, fd: c_int, out: *mut libc::stat) -> c_int {
        // SAFETY: as above.
        unsafe { open(fd, out) }
    }
}
