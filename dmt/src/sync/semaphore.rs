//! POSIX semaphores (`sem_t`), unnamed and named (a named one is the same object in a shared mapping).

use crate::call::Call;
use crate::kernel::Step;
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::sync::Deadline;
use crate::sync::errno::{EAGAIN, EINTR, EOVERFLOW, ETIMEDOUT};
use crate::thread::Wake;

/// A `sem_t` as we use it; glibc's `sem_init` sets `value` and `private`, `sem_getvalue` reads `value`.
#[derive(Debug)]
#[repr(C)]
pub struct Semaphore {
    value: u32,
    waiters: u32,
    private: i32,
    pad: i32,
    /// Its number if processes share it, see [`Call::object_key`].
    number: u32,
    rest: [u32; 3],
}
const _: () = assert!(size_of::<Semaphore>() == 32);

const VALUE_MAX: u32 = 0x7fff_ffff;

impl Call<'_> {
    unsafe fn semaphore_key(&self, sem: *mut Semaphore) -> WaitKey {
        // SAFETY: promise of the callers below.
        let s = unsafe { &mut *sem };
        let shared = s.private != 0;
        self.object_key(Space::Sync, sem as u64, shared.then_some(&mut s.number))
    }

    /// `sem_wait`, `sem_timedwait`, `sem_clockwait`, `sem_trywait`: 0 or a negative errno.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn sem_wait(&self, sem: *mut Semaphore, blocking: bool, deadline: Deadline) -> i64 {
        let deadline = self.deadline(deadline);
        // SAFETY: promise of the caller.
        let key = unsafe { self.semaphore_key(sem) };
        let mut waits = false;
        self.op(Op::SemWait, sem as u64, |k, me| {
            // SAFETY: promise of the caller; no reference outlives this try.
            let s = unsafe { &mut *sem };
            // What woke an earlier wait of the thread is none of this one's business.
            let wake = if waits { k.take_wake(me) } else { Wake::None };
            if core::mem::take(&mut waits) {
                s.waiters = s.waiters.saturating_sub(1);
            }
            if s.value > 0 {
                s.value -= 1;
                return Step::Done(0);
            }
            let error = match wake {
                _ if !blocking => EAGAIN,
                Wake::Timeout => ETIMEDOUT,
                Wake::Signal => EINTR,
                Wake::None | Wake::Event => 0,
            };
            if error != 0 {
                return Step::Done(-i64::from(error));
            }
            s.waiters += 1;
            waits = true;
            k.wait(me, key, deadline);
            Step::Block
        })
    }

    /// `sem_post`: 0 or a negative errno.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn sem_post(&self, sem: *mut Semaphore) -> i64 {
        // SAFETY: promise of the caller.
        let key = unsafe { self.semaphore_key(sem) };
        self.quick(Op::SemPost, sem as u64, |k, _| {
            // SAFETY: promise of the caller.
            let s = unsafe { &mut *sem };
            if s.value == VALUE_MAX {
                return -i64::from(EOVERFLOW);
            }
            s.value += 1;
            if s.waiters > 0 {
                k.wake_one(key);
            }
            0
        })
    }
}
