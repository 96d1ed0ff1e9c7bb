//! Descriptors.

use core::ffi::{c_int, c_uint, c_ulong};

use crate::args;
use crate::calls::{file, lock};
use crate::cancel;
use crate::cancellation_points;
use crate::errno::libc_int;
use crate::hook;

hook! {
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { file::close_range(args!(first, last, flags)) })
    }

    fn closefrom(first: c_int) {
        // SAFETY: as above.
        unsafe { file::close_range(args!(first.max(0), u32::MAX, 0)) };
    }

    fn dup(fd: c_int) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { file::dup(args!(fd)) })
    }

    fn dup2(old: c_int, new: c_int) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { file::dup2(args!(old, new)) })
    }

    fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { file::dup3(args!(old, new, flags)) })
    }

    fn ioctl(fd: c_int, request: c_ulong, argument: usize) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { file::ioctl(args!(fd, request, argument)) })
    }

    fn flock(fd: c_int, operation: c_int) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { lock::flock(args!(fd, operation)) })
    }

    fn pipe(fds: *mut c_int) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { file::pipe2(args!(fds, 0)) })
    }

    fn pipe2(fds: *mut c_int, flags: c_int) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { file::pipe2(args!(fds, flags)) })
    }

    fn eventfd(initial: c_uint, flags: c_int) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { file::eventfd2(args!(initial, flags)) })
    }
}

/// A point only where it can wait: for a lock.
fn fcntl_call(command: c_int, function: impl FnOnce() -> c_int) -> c_int {
    if lock::waits(command) { cancel::is_minus_one(function) } else { function() }
}

cancellation_points! {
    fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int | is_asynchronous {
        // SAFETY: as below; an argument that the command does not have is not looked at.
        fcntl_call(command, || libc_int(unsafe { file::fcntl(args!(fd, command, argument)) }))
    }

    fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int | is_asynchronous {
        // SAFETY: as above.
        fcntl_call(command, || libc_int(unsafe { file::fcntl(args!(fd, command, argument)) }))
    }

    fn close(fd: c_int) -> c_int | is_minus_one {
        // SAFETY: the program's own arguments, here and below.
        libc_int(unsafe { file::close(args!(fd)) })
    }
}
