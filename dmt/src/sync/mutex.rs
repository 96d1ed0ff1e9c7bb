//! Mutexes: normal, recursive, error-checking, adaptive, robust; process-shared or not; PI as plain ones, because the
//! scheduler has no priorities.

use crate::call::Call;
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::sync::Deadline;
use crate::sync::errno::{EBUSY, EDEADLK, EINVAL, ENOTRECOVERABLE, EOWNERDEAD, EPERM, ETIMEDOUT};
use crate::thread::{ThreadId, ThreadState, Wake};

/// A `pthread_mutex_t` as we use it. `kind` lies where glibc's initialisers put it.
#[derive(Debug)]
#[repr(C)]
pub struct Mutex {
    /// 0, or the owner's thread number.
    owner: u32,
    /// Depth of a recursive lock beyond the first.
    depth: u32,
    /// The owner's serial, so that a dead owner is known although its number was reused.
    serial: u32,
    /// Threads queued for it.
    waiters: u32,
    /// glibc's type and attribute bits.
    kind: u32,
    /// 1 = its owner died, 2 = not recoverable.
    health: u32,
    /// Its number if processes share it, see [`Call::object_key`].
    number: u32,
    rest: [u32; 3],
}
const _: () = assert!(size_of::<Mutex>() == 40 && core::mem::offset_of!(Mutex, kind) == 16);

const TYPE: u32 = 3;
const RECURSIVE: u32 = 1;
const ERRORCHECK: u32 = 2;
const ROBUST: u32 = 16;
const SHARED: u32 = 128;

/// Empty locks of one mutex in a row after which its thread counts as polling. Servers often make two or three.
const POLLS: u32 = 8;
/// Ticks from one of them to the next.
const NEAR_TICKS: u64 = 2;

const OWNER_DIED: u32 = 1;
const LOST: u32 = 2;

impl Mutex {
    fn take(&mut self, k: &Kernel, me: ThreadId) -> i32 {
        self.owner = u32::from(me);
        self.serial = k.threads.get(me).serial;
        if self.health == OWNER_DIED { EOWNERDEAD } else { 0 }
    }

    /// One try: 0 or an error, or `None` if another thread holds it.
    fn try_take(&mut self, k: &Kernel, me: ThreadId, blocking: bool) -> Option<i32> {
        if self.health == LOST {
            return Some(ENOTRECOVERABLE);
        }
        if self.owner == 0 {
            return Some(self.take(k, me));
        }
        if self.owner == u32::from(me) && self.serial == k.threads.get(me).serial {
            return match self.kind & TYPE {
                RECURSIVE => {
                    self.depth += 1;
                    Some(0)
                }
                ERRORCHECK if blocking => Some(EDEADLK),
                _ => None,
            };
        }
        if self.kind & ROBUST != 0 && self.owner_is_dead(k) {
            self.health = OWNER_DIED;
            self.depth = 0;
            return Some(self.take(k, me));
        }
        None
    }

    fn owner_is_dead(&self, k: &Kernel) -> bool {
        let owner = k.threads.get(self.owner as ThreadId);
        owner.serial != self.serial || matches!(owner.state, ThreadState::Free | ThreadState::Ended)
    }
}

impl Kernel {
    /// True if `me`, which just unlocked `mutex`, has locked and unlocked it and no other for some times, one after the
    /// other, with nothing in between: it polls memory. Where threads were preempted, such a thread passes the turn on; time
    /// alone may not decide about it, because a poll that is counted must end at the same operation everywhere.
    fn spins_at(&mut self, me: ThreadId, mutex: u64) -> bool {
        let now = self.sched.tick;
        let thread = self.threads.get_mut(me);
        let adjacent = thread.locked_at + 1 == now;
        let again = thread.idle_pair == mutex && thread.locked_at <= thread.idle_at + NEAR_TICKS;
        thread.idle_pairs = if adjacent && again { thread.idle_pairs + 1 } else { 0 };
        (thread.idle_pair, thread.idle_at) = (if adjacent { mutex } else { 0 }, now);
        thread.idle_pairs >= POLLS
    }
}

impl Kernel {
    /// A thread has ended: who waits for a robust mutex looks whether its owner still lives.
    pub(crate) fn wake_robust_waiters(&mut self) {
        if self.robust_waits == 0 {
            return;
        }
        for id in self.threads.ids() {
            let thread = self.threads.get(id);
            let waits = thread.state == ThreadState::Waiting && thread.key.space == Space::Sync;
            if waits && thread.waits_robust {
                self.wake_thread(id, Wake::Event);
            }
        }
    }
}

impl Call<'_> {
    fn mutex_key(&self, mutex: &mut Mutex) -> WaitKey {
        let address = core::ptr::from_mut(mutex) as u64;
        let shared = mutex.kind & SHARED != 0;
        self.object_key(Space::Sync, address, shared.then_some(&mut mutex.number))
    }

    /// `pthread_mutex_lock`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    #[inline]
    pub unsafe fn mutex_lock(&self, mutex: *mut Mutex) -> i32 {
        self.tick();
        // SAFETY: promise of the caller; the turn makes the access exclusive.
        let m = unsafe { &mut *mutex };
        if m.owner == 0 && m.health == 0 {
            return self.with(|k| {
                m.take(k, self.thread());
                k.note(self.thread(), Op::MutexLock, mutex as u64, 0);
                if k.sched.has_spinners() {
                    k.threads.get_mut(self.thread()).locked_at = k.sched.tick;
                }
                0
            });
        }
        // SAFETY: forwarded.
        unsafe { self.mutex_lock_slow(mutex, Op::MutexLock, Deadline::Never) }
    }

    /// `pthread_mutex_timedlock` and `pthread_mutex_clocklock`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn mutex_timedlock(&self, mutex: *mut Mutex, deadline: Deadline) -> i32 {
        self.tick();
        // SAFETY: forwarded.
        unsafe { self.mutex_lock_slow(mutex, Op::MutexTimedLock, deadline) }
    }

    /// Locks without a tick (the caller made it).
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub(crate) unsafe fn mutex_lock_slow(&self, mutex: *mut Mutex, op: Op, deadline: Deadline) -> i32 {
        let me = self.thread();
        let deadline = self.deadline(deadline);
        loop {
            let step = self.with(|k| {
                // SAFETY: promise of the caller; no reference outlives this try.
                let m = unsafe { &mut *mutex };
                if let Some(result) = m.try_take(k, me, true) {
                    return Step::Done(result);
                }
                if k.take_wake(me) == Wake::Timeout {
                    return Step::Done(ETIMEDOUT);
                }
                m.waiters += 1;
                let key = self.mutex_key(m);
                let robust = m.kind & ROBUST != 0;
                k.threads.get_mut(me).waits_robust = robust;
                k.robust_waits |= u32::from(robust);
                k.wait(me, key, deadline);
                Step::Block
            });
            match step {
                Step::Done(result) => {
                    self.with(|k| k.note(me, op, mutex as u64, i64::from(result)));
                    return result;
                }
                Step::Block | Step::Restart => {
                    self.park();
                    // SAFETY: as above; a mutex may not be destroyed while a thread is queued for it.
                    unsafe { (*mutex).waiters -= 1 };
                }
            }
        }
    }

    /// `pthread_mutex_trylock`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn mutex_trylock(&self, mutex: *mut Mutex) -> i32 {
        self.quick(Op::MutexTryLock, mutex as u64, |k, me| {
            // SAFETY: promise of the caller.
            unsafe { (*mutex).try_take(k, me, false) }.unwrap_or(EBUSY)
        })
    }

    /// `pthread_mutex_unlock`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    #[inline]
    pub unsafe fn mutex_unlock(&self, mutex: *mut Mutex) -> i32 {
        self.tick();
        // SAFETY: forwarded.
        let result = unsafe { self.mutex_release(mutex) };
        self.with(|k| k.note(self.thread(), Op::MutexUnlock, mutex as u64, i64::from(result)));
        if self.with(|k| k.sched.has_spinners() && k.spins_at(self.thread(), mutex as u64)) {
            self.give_way();
        }
        result
    }

    /// Unlocks without a tick, for condition waits too.
    ///
    /// # Safety
    /// See [`crate::sync`].
    #[inline]
    pub(crate) unsafe fn mutex_release(&self, mutex: *mut Mutex) -> i32 {
        // SAFETY: promise of the caller.
        let m = unsafe { &mut *mutex };
        if m.kind & (TYPE | ROBUST) != 0 {
            let mine = m.owner == u32::from(self.thread());
            if !mine && m.kind & (RECURSIVE | ERRORCHECK | ROBUST) != 0 {
                return EPERM;
            }
            if m.kind & TYPE == RECURSIVE && m.depth > 0 {
                m.depth -= 1;
                return 0;
            }
        }
        if m.health == OWNER_DIED {
            m.health = LOST;
        }
        m.owner = 0;
        if m.waiters > 0 {
            let key = self.mutex_key(m);
            self.with(|k| if m.health == LOST { k.wake_all(key) > 0 } else { k.wake_one(key) });
        }
        0
    }

    /// `pthread_mutex_consistent`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn mutex_consistent(&self, mutex: *mut Mutex) -> i32 {
        // SAFETY: promise of the caller.
        let m = unsafe { &mut *mutex };
        if m.kind & ROBUST == 0 || m.health != OWNER_DIED || m.owner != u32::from(self.thread()) {
            return EINVAL;
        }
        m.health = 0;
        0
    }

    /// `pthread_mutex_destroy`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn mutex_destroy(&self, mutex: *mut Mutex) -> i32 {
        // SAFETY: promise of the caller.
        let m = unsafe { &*mutex };
        if m.owner != 0 && m.kind & ROBUST == 0 { EBUSY } else { 0 }
    }
}
