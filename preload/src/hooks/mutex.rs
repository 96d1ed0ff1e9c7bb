//! Mutexes. Initialisation is libc's: it sets the type, which our layout keeps where libc has it.

use core::ffi::c_int;

use dmt::sync::mutex::Mutex;

use super::deadline;
use crate::hook;
use crate::world::dmt;

hook! {
    fn pthread_mutex_lock(mutex: *mut Mutex) -> c_int {
        // SAFETY: the program's mutex, here and below.
        dmt(|call| unsafe { call.mutex_lock(mutex) })
    }

    fn pthread_mutex_unlock(mutex: *mut Mutex) -> c_int {
        // SAFETY: as above.
        dmt(|call| unsafe { call.mutex_unlock(mutex) })
    }

    fn pthread_mutex_trylock(mutex: *mut Mutex) -> c_int {
        // SAFETY: as above.
        dmt(|call| unsafe { call.mutex_trylock(mutex) })
    }

    fn pthread_mutex_timedlock(mutex: *mut Mutex, at: *const libc::timespec) -> c_int {
        // SAFETY: as above; and the program's time.
        let Some(limit) = (unsafe { deadline(libc::CLOCK_REALTIME, at) }) else { return libc::EINVAL };
        // SAFETY: as above.
        dmt(|call| unsafe { call.mutex_timedlock(mutex, limit) })
    }

    fn pthread_mutex_clocklock(mutex: *mut Mutex, clock: c_int, at: *const libc::timespec) -> c_int {
        // SAFETY: as above; and the program's time.
        let Some(limit) = (unsafe { deadline(clock, at) }) else { return libc::EINVAL };
        // SAFETY: as above.
        dmt(|call| unsafe { call.mutex_timedlock(mutex, limit) })
    }

    fn pthread_mutex_consistent(mutex: *mut Mutex) -> c_int {
        // SAFETY: as above.
        dmt(|call| unsafe { call.mutex_consistent(mutex) })
    }

    fn pthread_mutex_destroy(mutex: *mut Mutex) -> c_int {
        // SAFETY: as above.
        dmt(|call| unsafe { call.mutex_destroy(mutex) })
    }
}
