//! Spin locks: a waiter is parked, because spinning alone under a serial scheduler would be for ever.

use crate::call::Call;
use crate::kernel::Step;
use crate::op::Op;
use crate::park::Space;
use crate::sync::errno::EBUSY;

/// x86-64 glibc's meaning of `pthread_spinlock_t`: 1 = free, 0 or less = held. Kept, because `pthread_spin_init` may be
/// inlined into old programs as a store of 1.
const FREE: i32 = 1;

impl Call<'_> {
    /// `pthread_spin_lock`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn spin_lock(&self, lock: *mut i32) -> i32 {
        // Whether it is shared is not recorded in the object; a key without a process serves both, at the price of a
        // spurious wake between processes that have private spin locks at one address.
        let key = self.address_key(Space::Sync, lock as u64, true);
        self.op(Op::SpinLock, lock as u64, |k, me| {
            // SAFETY: promise of the caller.
            let l = unsafe { &mut *lock };
            if *l == FREE {
                *l = 0;
                return Step::Done(0);
            }
            k.wait(me, key, None);
            Step::Block
        })
    }

    /// `pthread_spin_trylock`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn spin_trylock(&self, lock: *mut i32) -> i32 {
        self.quick(Op::SpinLock, lock as u64, |_, _| {
            // SAFETY: promise of the caller.
            let l = unsafe { &mut *lock };
            if *l == FREE {
                *l = 0;
                0
            } else {
                EBUSY
            }
        })
    }

    /// `pthread_spin_unlock` and `pthread_spin_init`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn spin_unlock(&self, lock: *mut i32) -> i32 {
        let key = self.address_key(Space::Sync, lock as u64, true);
        self.quick(Op::SpinUnlock, lock as u64, |k, _| {
            // SAFETY: promise of the caller.
            unsafe { *lock = FREE };
            k.wake_one(key);
            0
        })
    }
}
