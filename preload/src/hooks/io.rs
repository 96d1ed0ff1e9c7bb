//! Reading and writing, with libc's checked and 64-bit forms.

use core::ffi::{c_int, c_void};

use crate::args;
use crate::calls::{file, vector};
use crate::cancellation_points;
use crate::errno::libc_result;
use crate::hook;

hook! {
    fn sendfile(out: c_int, input: c_int, position: *mut i64, count: usize) -> isize {
        // SAFETY: as above.
        libc_result(unsafe { vector::sendfile(args!(out, input, position, count)) })
    }

    fn sendfile64(out: c_int, input: c_int, position: *mut i64, count: usize) -> isize {
        // SAFETY: as above.
        libc_result(unsafe { vector::sendfile(args!(out, input, position, count)) })
    }
}

cancellation_points! {
    fn read(fd: c_int, buffer: *mut c_void, count: usize) -> isize | is_minus_one {
        // SAFETY: the program's own arguments, here and below.
        libc_result(unsafe { file::read(args!(fd, buffer, count)) })
    }

    fn __read_chk(fd: c_int, buffer: *mut c_void, count: usize, room: usize) -> isize | is_minus_one {
        if count > room {
            // SAFETY: libc's own way to end a program that overflows a buffer.
            return unsafe { __read_chk::real()(fd, buffer, count, room) };
        }
        // SAFETY: as above.
        libc_result(unsafe { file::read(args!(fd, buffer, count)) })
    }

    fn write(fd: c_int, buffer: *const c_void, count: usize) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { file::write(args!(fd, buffer, count)) })
    }

    fn readv(fd: c_int, pieces: *const libc::iovec, count: c_int) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { vector::readv(args!(fd, pieces, count)) })
    }

    fn writev(fd: c_int, pieces: *const libc::iovec, count: c_int) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { vector::writev(args!(fd, pieces, count)) })
    }

    fn pread(fd: c_int, buffer: *mut c_void, count: usize, at: i64) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { vector::positioned(libc::SYS_pread64, args!(fd, buffer, count, at)) })
    }

    fn pread64(fd: c_int, buffer: *mut c_void, count: usize, at: i64) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { vector::positioned(libc::SYS_pread64, args!(fd, buffer, count, at)) })
    }

    fn __pread_chk(fd: c_int, buffer: *mut c_void, count: usize, at: i64, room: usize) -> isize | is_minus_one {
        if count > room {
            // SAFETY: libc's own way to end a program that overflows a buffer.
            return unsafe { __pread_chk::real()(fd, buffer, count, at, room) };
        }
        // SAFETY: as above.
        libc_result(unsafe { vector::positioned(libc::SYS_pread64, args!(fd, buffer, count, at)) })
    }

    fn __pread64_chk(fd: c_int, buffer: *mut c_void, count: usize, at: i64, room: usize) -> isize | is_minus_one {
        if count > room {
            // SAFETY: libc's own way to end a program that overflows a buffer.
            return unsafe { __pread64_chk::real()(fd, buffer, count, at, room) };
        }
        // SAFETY: as above.
        libc_result(unsafe { vector::positioned(libc::SYS_pread64, args!(fd, buffer, count, at)) })
    }

    fn pwrite(fd: c_int, buffer: *const c_void, count: usize, at: i64) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { vector::positioned(libc::SYS_pwrite64, args!(fd, buffer, count, at)) })
    }

    fn pwrite64(fd: c_int, buffer: *const c_void, count: usize, at: i64) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { vector::positioned(libc::SYS_pwrite64, args!(fd, buffer, count, at)) })
    }

    fn preadv(fd: c_int, pieces: *const libc::iovec, count: c_int, at: i64) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { vector::positioned(libc::SYS_preadv, args!(fd, pieces, count, at, 0)) })
    }

    fn preadv64(fd: c_int, pieces: *const libc::iovec, count: c_int, at: i64) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { vector::positioned(libc::SYS_preadv, args!(fd, pieces, count, at, 0)) })
    }

    fn pwritev(fd: c_int, pieces: *const libc::iovec, count: c_int, at: i64) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { vector::positioned(libc::SYS_pwritev, args!(fd, pieces, count, at, 0)) })
    }

    fn pwritev64(fd: c_int, pieces: *const libc::iovec, count: c_int, at: i64) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { vector::positioned(libc::SYS_pwritev, args!(fd, pieces, count, at, 0)) })
    }
}
