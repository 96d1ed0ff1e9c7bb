//! Threads: creation, joining, detaching.

use core::ffi::{c_char, c_int, c_void};

use dmt::sync::Deadline;

use super::deadline;
use crate::calls;
use crate::cancellation_points;
use crate::hook;
use crate::threads::{self, Start};
use crate::world::dmt;

/// Joins in dmt, then lets libc free what is left.
unsafe fn join(thread: libc::pthread_t, out: *mut *mut c_void, wait: bool, limit: Deadline) -> c_int {
    let error = dmt(|call| call.thread_join(thread, wait, limit));
    if error != 0 {
        return error;
    }
    // SAFETY: the program's own arguments; the thread has ended.
    unsafe { pthread_join::real()(thread, out) }
}

hook! {
    fn pthread_create(
        out: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        start: Start,
        argument: *mut c_void,
    ) -> c_int {
        // SAFETY: the program's own arguments, here and below.
        unsafe { threads::create(pthread_create::real(), out, attributes, start, argument) }
    }

    fn pthread_tryjoin_np(thread: libc::pthread_t, out: *mut *mut c_void) -> c_int {
        // SAFETY: as above.
        unsafe { join(thread, out, false, Deadline::Never) }
    }

    fn pthread_detach(thread: libc::pthread_t) -> c_int {
        let error = dmt(|call| call.thread_detach(thread));
        // SAFETY: as above.
        if error != 0 { error } else { unsafe { pthread_detach::real()(thread) } }
    }

    fn pthread_setname_np(thread: libc::pthread_t, name: *const c_char) -> c_int {
        // SAFETY: as above.
        unsafe { calls::thread::pthread_setname(thread, name) }
    }

    fn pthread_getname_np(thread: libc::pthread_t, out: *mut c_char, bytes: usize) -> c_int {
        // SAFETY: as above.
        unsafe { calls::thread::pthread_getname(thread, out, bytes) }
    }

    fn gettid() -> libc::pid_t {
        calls::thread::gettid() as libc::pid_t
    }

    fn sched_yield() -> c_int {
        calls::misc::sched_yield() as c_int
    }

    fn pthread_yield() -> c_int {
        calls::misc::sched_yield() as c_int
    }

    fn sched_getcpu() -> c_int {
        0
    }
}

cancellation_points! {
    fn pthread_join(thread: libc::pthread_t, out: *mut *mut c_void) -> c_int | is_not_zero {
        // SAFETY: as above.
        unsafe { join(thread, out, true, Deadline::Never) }
    }

    fn pthread_timedjoin_np(thread: libc::pthread_t, out: *mut *mut c_void, at: *const libc::timespec) -> c_int | is_not_zero {
        // SAFETY: as above.
        let Some(limit) = (unsafe { deadline(libc::CLOCK_REALTIME, at) }) else { return libc::EINVAL };
        // SAFETY: as above.
        unsafe { join(thread, out, true, limit) }
    }

    fn pthread_clockjoin_np(
        thread: libc::pthread_t,
        out: *mut *mut c_void,
        clock: c_int,
        at: *const libc::timespec,
    ) -> c_int | is_not_zero {
        // SAFETY: as above.
        let Some(limit) = (unsafe { deadline(clock, at) }) else { return libc::EINVAL };
        // SAFETY: as above.
        unsafe { join(thread, out, true, limit) }
    }
}
