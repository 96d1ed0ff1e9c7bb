//! Locks on files of the kernel's (`fcntl`, `flock`): the kernel knows who holds what, dmt who waits.
//!
//! The kernel is only asked without waiting. Whoever finds a lock taken waits here until some lock may have become free,
//! and then asks again, in order of arrival; so the order in which locks are given is that of the schedule.

use crate::bounds::MAX_PROCESSES;
use crate::call::Call;
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::process::abi::{EDEADLK, EINTR};
use crate::thread::{ThreadId, Wake};

/// What the kernel says to one request for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The call's result: it is granted, released, or refused for good.
    Done(i64),
    /// Somebody has it: the process, if it is a lock of processes (`F_SETLK`), else 0.
    Taken(i32),
}

/// All waiters: which lock became free is the kernel's to know.
const KEY: WaitKey = WaitKey::number(Space::FileLock, 0);

impl Kernel {
    /// A lock may have become free: a descriptor was closed, a process ended.
    pub(crate) fn locks_changed(&mut self) {
        self.wake_all(KEY);
    }

    /// True if `me` would wait for itself by waiting for process `holder`.
    fn lock_deadlock(&self, me: ThreadId, holder: i32) -> bool {
        let own = self.processes.get(self.process_of(me)).pid;
        let mut pid = holder;
        for _ in 0..MAX_PROCESSES {
            if pid == 0 || pid == own {
                return pid == own;
            }
            let Some(process) = self.processes.by_pid(pid) else { return false };
            let waiter = self.threads_of(process).find(|&id| {
                let thread = self.threads.get(id);
                thread.key.space == Space::FileLock && thread.lock_holder != 0
            });
            pid = waiter.map_or(0, |id| self.threads.get(id).lock_holder);
        }
        false
    }
}

impl Call<'_> {
    /// A request for a lock on `fd`, or its release: `ask` asks the kernel without waiting. Without `wait` the result of
    /// a lock that is taken is `taken`.
    pub fn file_lock(&self, fd: i32, wait: bool, taken: i64, mut ask: impl FnMut() -> Answer) -> i64 {
        let mut waited = false;
        self.op(Op::FileLock, fd as u64, |k, me| {
            let why = if waited { k.take_wake(me) } else { Wake::None };
            let holder = match ask() {
                Answer::Done(result) => {
                    k.locks_changed();
                    return Step::Done(result);
                }
                Answer::Taken(_) if !wait => return Step::Done(taken),
                Answer::Taken(holder) => holder,
            };
            if why == Wake::Signal && k.signal_due(me) {
                waited = false;
                return if k.restarts(me) { Step::Restart } else { Step::Done(-EINTR) };
            }
            if k.lock_deadlock(me, holder) {
                return Step::Done(-EDEADLK);
            }
            k.threads.get_mut(me).lock_holder = holder;
            waited = true;
            k.wait(me, KEY, None);
            Step::Block
        })
    }

    /// A descriptor of the kernel's was closed, and with it may have gone a lock. Costs no tick.
    pub fn kernel_file_closed(&self) {
        self.with(Kernel::locks_changed);
    }
}
