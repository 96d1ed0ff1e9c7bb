//! Condition variables. Initialisation is libc's: it sets clock and sharing, which our layout keeps where libc has them.

use core::ffi::c_int;

use dmt::sync::Deadline;
use dmt::sync::cond::Cond;
use dmt::sync::mutex::Mutex;

use super::deadline;
use crate::cancellation_points;
use crate::hook;
use crate::world::dmt;

hook! {
    fn pthread_cond_signal(cond: *mut Cond) -> c_int {
        // SAFETY: as above.
        dmt(|call| unsafe { call.cond_signal(cond) })
    }

    fn pthread_cond_broadcast(cond: *mut Cond) -> c_int {
        // SAFETY: as above.
        dmt(|call| unsafe { call.cond_broadcast(cond) })
    }

    fn pthread_cond_destroy(_cond: *mut Cond) -> c_int {
        // libc's would wait for waiters by its own bookkeeping, which does not exist here.
        0
    }
}

cancellation_points! {
    fn pthread_cond_wait(cond: *mut Cond, mutex: *mut Mutex) -> c_int | is_not_zero {
        // SAFETY: the program's objects, here and below.
        dmt(|call| unsafe { call.cond_wait(cond, mutex, Deadline::Never) })
    }

    fn pthread_cond_timedwait(cond: *mut Cond, mutex: *mut Mutex, at: *const libc::timespec) -> c_int | is_not_zero {
        // SAFETY: as above; and the program's time.
        let Some(time) = (unsafe { crate::calls::time::nanoseconds(at as usize) }) else { return libc::EINVAL };
        // SAFETY: as above.
        dmt(|call| unsafe { call.cond_wait(cond, mutex, (*cond).deadline(time)) })
    }

    fn pthread_cond_clockwait(cond: *mut Cond, mutex: *mut Mutex, clock: c_int, at: *const libc::timespec) -> c_int | is_not_zero {
        // SAFETY: as above; and the program's time.
        let Some(limit) = (unsafe { deadline(clock, at) }) else { return libc::EINVAL };
        // SAFETY: as above.
        dmt(|call| unsafe { call.cond_wait(cond, mutex, limit) })
    }
}
