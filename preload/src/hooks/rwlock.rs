//! Read-write locks. Initialisation is libc's.

use core::ffi::c_int;

use dmt::sync::Deadline;
use dmt::sync::rwlock::RwLock;

use super::deadline;
use crate::hook;
use crate::world::dmt;

unsafe fn timed(lock: *mut RwLock, write: bool, clock: c_int, at: *const libc::timespec) -> c_int {
    // SAFETY: the program's time and lock.
    unsafe {
        match deadline(clock, at) {
            Some(limit) => dmt(|call| call.rwlock_lock(lock, write, limit)),
            None => libc::EINVAL,
        }
    }
}

hook! {
    fn pthread_rwlock_rdlock(lock: *mut RwLock) -> c_int {
        // SAFETY: the program's lock, here and below.
        dmt(|call| unsafe { call.rwlock_lock(lock, false, Deadline::Never) })
    }

    fn pthread_rwlock_wrlock(lock: *mut RwLock) -> c_int {
        // SAFETY: as above.
        dmt(|call| unsafe { call.rwlock_lock(lock, true, Deadline::Never) })
    }

    fn pthread_rwlock_tryrdlock(lock: *mut RwLock) -> c_int {
        // SAFETY: as above.
        dmt(|call| unsafe { call.rwlock_trylock(lock, false) })
    }

    fn pthread_rwlock_trywrlock(lock: *mut RwLock) -> c_int {
        // SAFETY: as above.
        dmt(|call| unsafe { call.rwlock_trylock(lock, true) })
    }

    fn pthread_rwlock_timedrdlock(lock: *mut RwLock, at: *const libc::timespec) -> c_int {
        // SAFETY: as above.
        unsafe { timed(lock, false, libc::CLOCK_REALTIME, at) }
    }

    fn pthread_rwlock_timedwrlock(lock: *mut RwLock, at: *const libc::timespec) -> c_int {
        // SAFETY: as above.
        unsafe { timed(lock, true, libc::CLOCK_REALTIME, at) }
    }

    fn pthread_rwlock_clockrdlock(lock: *mut RwLock, clock: c_int, at: *const libc::timespec) -> c_int {
        // SAFETY: as above.
        unsafe { timed(lock, false, clock, at) }
    }

    fn pthread_rwlock_clockwrlock(lock: *mut RwLock, clock: c_int, at: *const libc::timespec) -> c_int {
        // SAFETY: as above.
        unsafe { timed(lock, true, clock, at) }
    }

    fn pthread_rwlock_unlock(lock: *mut RwLock) -> c_int {
        // SAFETY: as above.
        dmt(|call| unsafe { call.rwlock_unlock(lock) })
    }

    fn pthread_rwlock_destroy(_lock: *mut RwLock) -> c_int {
        0
    }
}
