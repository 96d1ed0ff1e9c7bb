//! Condition variables, first come first woken.

use crate::call::Call;
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::sync::Deadline;
use crate::sync::errno::{EINTR, ETIMEDOUT};
use crate::sync::mutex::Mutex;
use crate::thread::Wake;

/// A `pthread_cond_t` as we use it; glibc's `pthread_cond_init` sets `flags`.
#[derive(Debug)]
#[repr(C)]
pub struct Cond {
    /// Threads that wait or were woken and have not yet run.
    waiters: u32,
    /// Its number if processes share it, see [`Call::object_key`].
    number: u32,
    rest: [u32; 7],
    /// glibc's: bit 0 process-shared, bit 1 waits by `CLOCK_MONOTONIC`.
    flags: u32,
    rest2: [u32; 2],
}
const _: () = assert!(size_of::<Cond>() == 48 && core::mem::offset_of!(Cond, flags) == 36);

impl Cond {
    /// A deadline of `pthread_cond_timedwait` on the clock that the condition was made for.
    pub fn deadline(&self, at: u64) -> Deadline {
        if self.flags & 2 != 0 { Deadline::Monotonic(at) } else { Deadline::Real(at) }
    }
}

impl Call<'_> {
    fn cond_key(&self, cond: *mut Cond) -> WaitKey {
        // SAFETY: promise of the callers below.
        let c = unsafe { &mut *cond };
        let shared = c.flags & 1 != 0;
        self.object_key(Space::Cond, cond as u64, shared.then_some(&mut c.number))
    }

    /// `pthread_cond_wait`, `_timedwait`, `_clockwait`. Returns with the mutex locked, also on time-out.
    ///
    /// # Safety
    /// See [`crate::sync`]; the caller holds the mutex.
    pub unsafe fn cond_wait(&self, cond: *mut Cond, mutex: *mut Mutex, deadline: Deadline) -> i32 {
        self.tick();
        let me = self.thread();
        let limit = self.deadline(deadline);
        let key = self.cond_key(cond);
        // SAFETY: promise of the caller.
        let unlocked = unsafe { self.mutex_release(mutex) };
        if unlocked != 0 {
            return unlocked;
        }
        // SAFETY: promise of the caller.
        unsafe { (*cond).waiters += 1 };
        self.with(|k| {
            k.note(me, Op::CondWait, cond as u64, 0);
            k.wait(me, key, limit);
        });
        self.park();
        let wake = self.with(|k| k.take_wake(me));
        // A condition may be destroyed as soon as its waiters were woken, so it is touched only if this one was not. A
        // signal ends the wait as a spurious wake-up, which POSIX allows, so that no wake can be lost meanwhile.
        if wake != Wake::Event {
            // SAFETY: a waiter that nobody woke proves that the condition is still alive.
            unsafe { (*cond).waiters = (*cond).waiters.saturating_sub(1) };
        }
        let result = match wake {
            Wake::Timeout => ETIMEDOUT,
            // The program never sees this one: preload ends the thread.
            Wake::Signal if self.with(|k| k.cancel_due(me)) => EINTR,
            _ => 0,
        };
        // SAFETY: promise of the caller.
        let locked = unsafe { self.mutex_lock_slow(mutex, Op::CondTimedWait, Deadline::Never) };
        if locked != 0 { locked } else { result }
    }

    /// `pthread_cond_signal`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn cond_signal(&self, cond: *mut Cond) -> i32 {
        // SAFETY: forwarded.
        unsafe { self.cond_wake(cond, Op::CondSignal, 1) }
    }

    /// `pthread_cond_broadcast`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn cond_broadcast(&self, cond: *mut Cond) -> i32 {
        // SAFETY: forwarded.
        unsafe { self.cond_wake(cond, Op::CondBroadcast, u64::MAX) }
    }

    unsafe fn cond_wake(&self, cond: *mut Cond, op: Op, most: u64) -> i32 {
        self.tick();
        // SAFETY: promise of the caller.
        if unsafe { (*cond).waiters } > 0 {
            let key = self.cond_key(cond);
            let woken = self.with(|k| k.wake(key, most, |_, _| true));
            // SAFETY: as above.
            let waiters = unsafe { &mut (*cond).waiters };
            *waiters = waiters.saturating_sub(woken as u32);
        }
        self.with(|k| k.note(self.thread(), op, cond as u64, 0));
        0
    }
}
