//! Cutting open files, which servers do with each temporary one. `truncate` and `fallocate` come by way of the filter.

use core::ffi::c_int;

use crate::args;
use crate::calls::stamp;
use crate::errno::libc_int;
use crate::hook;

unsafe fn cut(fd: c_int, size: libc::off_t) -> c_int {
    // SAFETY: forwarded promise.
    libc_int(unsafe { stamp::call(libc::SYS_ftruncate, args!(fd, size)) }.unwrap_or(-(libc::ENOSYS as isize)))
}

hook! {
    fn ftruncate(fd: c_int, size: libc::off_t) -> c_int {
        // SAFETY: the program's own arguments, here and below.
        unsafe { cut(fd, size) }
    }

    fn ftruncate64(fd: c_int, size: libc::off_t) -> c_int {
        // SAFETY: as above.
        unsafe { cut(fd, size) }
    }
}
