//! Barriers.

use core::ffi::{c_int, c_uint, c_void};

use dmt::sync::barrier::Barrier;

use crate::hook;
use crate::world::dmt;

hook! {
    fn pthread_barrier_init(barrier: *mut Barrier, attributes: *const c_void, count: c_uint) -> c_int {
        // SAFETY: the program's objects; the attribute is one int, its sharing.
        unsafe {
            let words = barrier.cast::<u32>();
            core::ptr::write_bytes(words, 0, size_of::<Barrier>() / 4);
            words.add(2).write(count);
            words.add(3).write(if attributes.is_null() { 0 } else { *attributes.cast::<u32>() });
        }
        if count == 0 { libc::EINVAL } else { 0 }
    }

    fn pthread_barrier_wait(barrier: *mut Barrier) -> c_int {
        // SAFETY: the program's barrier.
        dmt(|call| unsafe { call.barrier_wait(barrier) })
    }

    fn pthread_barrier_destroy(_barrier: *mut Barrier) -> c_int {
        0
    }
}
