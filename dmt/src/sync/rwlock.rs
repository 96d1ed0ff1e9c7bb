//! Reader-writer locks. Readers get in while no writer holds it, or waits if writers are preferred; a waiting thread is
//! woken in order of arrival, with all readers that stand in front of the first writer.

use crate::call::Call;
use crate::kernel::Step;
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::sync::Deadline;
use crate::sync::errno::{EBUSY, EDEADLK, EPERM, ETIMEDOUT};
use crate::thread::Wake;

/// A `pthread_rwlock_t` as we use it; glibc's `pthread_rwlock_init` sets `shared` and `prefer`.
#[derive(Debug)]
#[repr(C)]
pub struct RwLock {
    readers: u32,
    writer: u32,
    waiters: u32,
    waiting_writers: u32,
    pad: [u32; 3],
    shared: u32,
    /// Its number if processes share it, see [`Call::object_key`].
    number: u32,
    pad2: [u32; 3],
    prefer: u32,
    pad3: u32,
}
const _: () = assert!(size_of::<RwLock>() == 56 && core::mem::offset_of!(RwLock, shared) == 28);

/// `PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP`.
const PREFER_WRITER: u32 = 2;

impl RwLock {
    fn try_take(&mut self, me: u32, write: bool) -> Option<i32> {
        if write {
            return match (self.writer, self.readers) {
                (0, 0) => {
                    self.writer = me;
                    Some(0)
                }
                (w, _) if w == me => Some(EDEADLK),
                _ => None,
            };
        }
        if self.writer == me {
            return Some(EDEADLK);
        }
        let behind_writer = self.prefer == PREFER_WRITER && self.waiting_writers > 0;
        if self.writer != 0 || behind_writer {
            return None;
        }
        self.readers += 1;
        Some(0)
    }
}

impl Call<'_> {
    fn rwlock_key(&self, lock: *mut RwLock) -> WaitKey {
        // SAFETY: promise of the callers below.
        let (shared, number) = unsafe { ((*lock).shared != 0, &mut (*lock).number) };
        self.object_key(Space::Sync, lock as u64, shared.then_some(number))
    }

    /// `pthread_rwlock_rdlock`, `_wrlock` and their timed forms.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn rwlock_lock(&self, lock: *mut RwLock, write: bool, deadline: Deadline) -> i32 {
        self.tick();
        let me = self.thread();
        let deadline = self.deadline(deadline);
        let op = if write { Op::RwWrite } else { Op::RwRead };
        loop {
            let step = self.with(|k| {
                // SAFETY: promise of the caller; no reference outlives this try.
                let l = unsafe { &mut *lock };
                if let Some(result) = l.try_take(u32::from(me), write) {
                    k.note(me, op, lock as u64, i64::from(result));
                    return Step::Done(result);
                }
                if k.take_wake(me) == Wake::Timeout {
                    k.note(me, op, lock as u64, i64::from(ETIMEDOUT));
                    return Step::Done(ETIMEDOUT);
                }
                l.waiters += 1;
                l.waiting_writers += u32::from(write);
                k.wait(me, self.rwlock_key(lock), deadline);
                Step::Block
            });
            match step {
                Step::Done(result) => return result,
                Step::Block | Step::Restart => {
                    self.park();
                    // SAFETY: as above; the lock may not be destroyed while a thread is queued for it.
                    let l = unsafe { &mut *lock };
                    l.waiters -= 1;
                    l.waiting_writers -= u32::from(write);
                }
            }
        }
    }

    /// `pthread_rwlock_tryrdlock` and `_trywrlock`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn rwlock_trylock(&self, lock: *mut RwLock, write: bool) -> i32 {
        let op = if write { Op::RwWrite } else { Op::RwRead };
        self.quick(op, lock as u64, |_, me| {
            // SAFETY: promise of the caller.
            match unsafe { (*lock).try_take(u32::from(me), write) } {
                Some(0) => 0,
                _ => EBUSY,
            }
        })
    }

    /// `pthread_rwlock_unlock`.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn rwlock_unlock(&self, lock: *mut RwLock) -> i32 {
        let key = self.rwlock_key(lock);
        self.quick(Op::RwUnlock, lock as u64, |k, me| {
            // SAFETY: promise of the caller.
            let l = unsafe { &mut *lock };
            if l.writer == u32::from(me) {
                l.writer = 0;
            } else if l.readers > 0 {
                l.readers -= 1;
            } else {
                return EPERM;
            }
            // All look again, in order of arrival: the readers in front get in together, or the writer does.
            if l.waiters > 0 && l.readers == 0 {
                k.wake_all(key);
            }
            0
        })
    }
}
