//! Birth and death of threads, and waiting for their end.
//!
//! The order of death: a thread calls [`Call::thread_exit`] after its TLS destructors ran, then ends for real. A joiner
//! returns from [`Call::thread_join`] when that call was made, and then joins the real thread, which takes no time.

use crate::call::Call;
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::process::abi::*;
use crate::process::queue::Target;
use crate::sync::Deadline;
use crate::thread::{ThreadId, ThreadState, Wake};

fn end_of(thread: ThreadId) -> WaitKey {
    WaitKey::number(Space::Join, u64::from(thread))
}

impl Kernel {
    /// A new thread of `process`, not yet runnable.
    pub(crate) fn add_thread(&mut self, process: u16) -> Option<ThreadId> {
        let id = self.threads.allocate(process)?;
        let slot = self.processes.get_mut(process);
        slot.threads += 1;
        self.threads.get_mut(id).stopped = slot.stopped != 0;
        Some(id)
    }

    pub(crate) fn make_runnable(&mut self, id: ThreadId) {
        self.threads.get_mut(id).state = ThreadState::Runnable;
        self.sched.enqueue(&mut self.threads, id);
    }

    /// Takes a thread out of whatever it is doing and frees its slot. The holder of the turn is in no queue.
    pub(crate) fn remove_thread(&mut self, id: ThreadId) {
        let thread = self.threads.get(id);
        let process = thread.process;
        match thread.state {
            ThreadState::Waiting if thread.key.space != Space::None => self.cancel_wait(id),
            ThreadState::Runnable if id != self.sched.turn && !thread.held => {
                self.sched.remove(&mut self.threads, id)
            }
            _ => {}
        }
        if self.threads.get(id).state != ThreadState::Ended {
            self.processes.get_mut(process).threads -= 1;
        }
        self.fold_ticks(id);
        self.processes.queue.purge(Target::Thread(id), u64::MAX);
        self.threads.release(id);
        self.wake_robust_waiters();
    }

    /// The thread of `process` with this handle that was not joined yet; ended ones included.
    pub fn thread_by_handle(&self, process: u16, handle: u64) -> Option<ThreadId> {
        self.threads.ids().find(|&id| {
            let thread = self.threads.get(id);
            thread.process == process && thread.handle == handle && thread.state != ThreadState::Free
        })
    }
}

impl Call<'_> {
    /// Before the real creation: reserves a slot. Returns the thread's number or -`EAGAIN`. It runs only after
    /// [`Call::thread_created`]; its first act is [`Call::start`].
    pub fn thread_reserve(&self, start: u64, argument: u64, detached: bool) -> i64 {
        self.quick(Op::ThreadCreate, start, |k, me| {
            let process = k.process_of(me);
            let mask = k.threads.get(me).signal_mask;
            let Some(id) = k.add_thread(process) else { return -EAGAIN };
            let tid = k.threads.new_tid();
            let thread = k.threads.get_mut(id);
            thread.tid = tid;
            thread.start = [start, argument];
            thread.detached = detached;
            thread.signal_mask = mask;
            i64::from(id)
        })
    }

    /// After the real creation, by the creator, which still has the turn.
    pub fn thread_created(&self, id: ThreadId, handle: u64) {
        self.with(|k| {
            k.threads.get_mut(id).handle = handle;
            k.make_runnable(id);
        });
    }

    /// Instead of [`Call::thread_created`] if the real creation failed.
    pub fn thread_abandon(&self, id: ThreadId) {
        self.with(|k| k.remove_thread(id));
    }

    /// The handle of the calling thread, which preload knows later than dmt for a process's first thread.
    pub fn note_handle(&self, handle: u64) {
        self.with(|k| k.threads.get_mut(self.thread()).handle = handle);
    }

    /// The thread ends and the turn passes on; preload makes no further call. The last thread of a process ends it,
    /// with status 0.
    pub fn thread_exit(&self) {
        let me = self.thread();
        let last = self.with(|k| k.processes.get(k.process_of(me)).threads == 1);
        if last {
            return self.process_exit(0);
        }
        self.tick();
        let process = self.with(|k| {
            k.note(me, Op::ThreadExit, u64::from(me), 0);
            let process = k.process_of(me);
            if k.threads.get(me).detached {
                k.remove_thread(me);
            } else {
                k.fold_ticks(me);
                k.processes.get_mut(process).threads -= 1;
                k.processes.queue.purge(Target::Thread(me), u64::MAX);
                let thread = k.threads.get_mut(me);
                (thread.signal_pending, thread.state) = (0, ThreadState::Ended);
                k.wake_all(end_of(me));
                k.wake_robust_waiters();
            }
            k.retarget(process);
            process
        });
        self.leave_to_others(process);
    }

    /// `pthread_join`, its timed forms, and with `wait` false `pthread_tryjoin_np`: 0 or an errno. Preload joins the
    /// real thread after 0. `EINTR` = the caller itself is cancelled.
    pub fn thread_join(&self, handle: u64, wait: bool, limit: Deadline) -> i32 {
        let deadline = self.deadline(limit);
        let mut target = None;
        let result = self.op(Op::Join, handle, |k, me| {
            let found = *target.get_or_insert_with(|| k.joinable(me, handle));
            let id = match found {
                Ok(id) => id,
                Err(errno) => return Step::Done(errno),
            };
            if k.threads.get(id).state == ThreadState::Ended {
                k.threads.release(id);
                return Step::Done(0);
            }
            if !wait {
                return Step::Done(EBUSY);
            }
            if k.cancel_due(me) {
                return Step::Done(EINTR);
            }
            if k.take_wake(me) == Wake::Timeout || deadline.is_some_and(|deadline| deadline <= k.clock()) {
                return Step::Done(ETIMEDOUT);
            }
            k.wait(me, end_of(id), deadline);
            Step::Block
        });
        result as i32
    }

    /// `pthread_detach`: 0 or an errno. Preload detaches the real thread after 0.
    pub fn thread_detach(&self, handle: u64) -> i32 {
        let result = self.quick(Op::Detach, handle, |k, me| {
            let Some(id) = k.thread_by_handle(k.process_of(me), handle) else { return ESRCH };
            if k.threads.get(id).detached {
                return EINVAL;
            }
            if k.threads.get(id).state == ThreadState::Ended {
                k.threads.release(id);
            } else {
                k.threads.get_mut(id).detached = true;
            }
            0
        });
        result as i32
    }
}

impl Kernel {
    fn joinable(&self, me: ThreadId, handle: u64) -> Result<ThreadId, i64> {
        let id = self.thread_by_handle(self.process_of(me), handle).ok_or(ESRCH)?;
        if id == me {
            return Err(EDEADLK);
        }
        let awaited = self.first_waiter(end_of(id), |_, _| true).is_some();
        if self.threads.get(id).detached || awaited { Err(EINVAL) } else { Ok(id) }
    }
}
