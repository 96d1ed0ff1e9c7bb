//! Spin locks.

use core::ffi::c_int;

use crate::hook;
use crate::world::dmt;

hook! {
    fn pthread_spin_lock(lock: *mut c_int) -> c_int {
        // SAFETY: the program's lock, here and below.
        dmt(|call| unsafe { call.spin_lock(lock) })
    }

    fn pthread_spin_trylock(lock: *mut c_int) -> c_int {
        // SAFETY: as above.
        dmt(|call| unsafe { call.spin_trylock(lock) })
    }

    fn pthread_spin_unlock(lock: *mut c_int) -> c_int {
        // SAFETY: as above.
        dmt(|call| unsafe { call.spin_unlock(lock) })
    }

    fn pthread_spin_init(lock: *mut c_int, _shared: c_int) -> c_int {
        // SAFETY: as above; 1 is a free lock.
        unsafe { *lock = 1 };
        0
    }
}
