//! poll, select, epoll and what they wait for.

use core::ffi::{c_int, c_ulong};

use crate::args;
use crate::calls::ready as calls;
use crate::cancellation_points;
use crate::errno::libc_int;
use crate::hook;
use crate::signals::SET_BYTES;

/// A call by number.
unsafe fn by_number(number: i64, a: [usize; 6]) -> c_int {
    // SAFETY: the program's own arguments; the numbers used here are of this family.
    libc_int(unsafe { calls::call(number, a) }.unwrap_or(-(libc::ENOSYS as isize)))
}

hook! {
    fn epoll_create(size: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { by_number(libc::SYS_epoll_create, args!(size)) }
    }

    fn epoll_create1(flags: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { by_number(libc::SYS_epoll_create1, args!(flags)) }
    }

    fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut libc::epoll_event) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::epoll_ctl(args!(epoll, operation, fd, event)) })
    }

    fn timerfd_create(clock: c_int, flags: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { by_number(libc::SYS_timerfd_create, args!(clock, flags)) }
    }

    fn timerfd_settime(
        fd: c_int, flags: c_int, new: *const libc::itimerspec, old: *mut libc::itimerspec,
    ) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::timerfd_settime(args!(fd, flags, new, old)) })
    }

    fn timerfd_gettime(fd: c_int, out: *mut libc::itimerspec) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::timerfd_gettime(args!(fd, out)) })
    }

    fn signalfd(fd: c_int, mask: *const u64, flags: c_int) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::signalfd(args!(fd, mask, SET_BYTES, flags)) })
    }
}

cancellation_points! {
    fn poll(fds: *mut libc::pollfd, count: c_ulong, limit: c_int) -> c_int | is_minus_one {
        // SAFETY: the program's own arguments, here and below.
        libc_int(unsafe { calls::poll(fds as usize, count as usize, calls::milliseconds(limit as usize), None) })
    }

    fn __poll_chk(fds: *mut libc::pollfd, count: c_ulong, limit: c_int, room: usize) -> c_int | is_minus_one {
        if count as usize * size_of::<libc::pollfd>() > room {
            // SAFETY: libc's own way to end a program that overflows a buffer.
            return unsafe { __poll_chk::real()(fds, count, limit, room) };
        }
        // SAFETY: as above.
        libc_int(unsafe { calls::poll(fds as usize, count as usize, calls::milliseconds(limit as usize), None) })
    }

    fn ppoll(fds: *mut libc::pollfd, count: c_ulong, limit: *const libc::timespec, mask: *const u64) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { calls::ppoll(args!(fds, count, limit, mask, SET_BYTES)) })
    }

    fn __ppoll_chk(
        fds: *mut libc::pollfd, count: c_ulong, limit: *const libc::timespec, mask: *const u64, room: usize,
    ) -> c_int | is_minus_one {
        if count as usize * size_of::<libc::pollfd>() > room {
            // SAFETY: libc's own way to end a program that overflows a buffer.
            return unsafe { __ppoll_chk::real()(fds, count, limit, mask, room) };
        }
        // SAFETY: as above.
        libc_int(unsafe { calls::ppoll(args!(fds, count, limit, mask, SET_BYTES)) })
    }

    fn select(
        count: c_int, read: *mut libc::fd_set, write: *mut libc::fd_set, except: *mut libc::fd_set,
        limit: *mut libc::timeval,
    ) -> c_int | is_minus_one {
        // SAFETY: as above.
        unsafe { by_number(libc::SYS_select, args!(count, read, write, except, limit)) }
    }

    fn pselect(
        count: c_int, read: *mut libc::fd_set, write: *mut libc::fd_set, except: *mut libc::fd_set,
        limit: *const libc::timespec, mask: *const u64,
    ) -> c_int | is_minus_one {
        let inner = [mask as usize, SET_BYTES];
        // SAFETY: as above.
        unsafe { by_number(libc::SYS_pselect6, args!(count, read, write, except, limit, inner.as_ptr())) }
    }

    fn epoll_wait(epoll: c_int, events: *mut libc::epoll_event, count: c_int, limit: c_int) -> c_int | is_minus_one {
        let limit = calls::milliseconds(limit as usize);
        // SAFETY: as above.
        libc_int(unsafe { calls::epoll_wait(args!(epoll, events, count), limit, None) })
    }

    fn epoll_pwait(
        epoll: c_int, events: *mut libc::epoll_event, count: c_int, limit: c_int, mask: *const u64,
    ) -> c_int | is_minus_one {
        // SAFETY: as above.
        unsafe { by_number(libc::SYS_epoll_pwait, args!(epoll, events, count, limit, mask, SET_BYTES)) }
    }

    fn epoll_pwait2(
        epoll: c_int, events: *mut libc::epoll_event, count: c_int, limit: *const libc::timespec, mask: *const u64,
    ) -> c_int | is_minus_one {
        // SAFETY: as above.
        unsafe { by_number(libc::SYS_epoll_pwait2, args!(epoll, events, count, limit, mask, SET_BYTES)) }
    }
}
