//! One-time initialisation.

use core::ffi::c_int;

use crate::hook;
use crate::world::dmt;

hook! {
    fn pthread_once(once: *mut c_int, routine: extern "C" fn()) -> c_int {
        // SAFETY: the program's control word.
        if dmt(|call| unsafe { call.once_begin(once) }) {
            routine();
            // SAFETY: as above; this thread began it.
            dmt(|call| unsafe { call.once_end(once) });
        }
        0
    }
}
