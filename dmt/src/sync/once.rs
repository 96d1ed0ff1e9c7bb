//! `pthread_once`: the caller runs the routine between [`Call::once_begin`] and [`Call::once_end`].

use crate::call::Call;
use crate::kernel::Step;
use crate::op::Op;
use crate::park::Space;

/// glibc's values of a `pthread_once_t`.
const RUNNING: i32 = 1;
const DONE: i32 = 2;

impl Call<'_> {
    /// True if the caller must run the routine and then call [`Call::once_end`]; false if it has been run.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn once_begin(&self, once: *mut i32) -> bool {
        // SAFETY: promise of the caller.
        if unsafe { *once } & 3 == DONE {
            return false;
        }
        let key = self.address_key(Space::Sync, once as u64, false);
        self.op(Op::Once, once as u64, |k, me| {
            // SAFETY: promise of the caller; no reference outlives this try.
            let o = unsafe { &mut *once };
            match *o & 3 {
                DONE => Step::Done(0),
                RUNNING => {
                    k.wait(me, key, None);
                    Step::Block
                }
                _ => {
                    *o = RUNNING;
                    Step::Done(1)
                }
            }
        }) == 1
    }

    /// The routine has returned.
    ///
    /// # Safety
    /// See [`crate::sync`]; follows a true [`Call::once_begin`].
    pub unsafe fn once_end(&self, once: *mut i32) {
        let key = self.address_key(Space::Sync, once as u64, false);
        self.quick(Op::Once, once as u64, |k, _| {
            // SAFETY: promise of the caller.
            unsafe { *once = DONE };
            k.wake_all(key) as i64
        });
    }
}
