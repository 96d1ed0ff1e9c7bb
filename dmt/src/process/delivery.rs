//! Sending a signal, and choosing when and by whom it is taken.
//!
//! A thread takes signals only where it makes an operation. `signals_due` in its slot is a hint that it may have
//! something to take: never missing when it should be set, so the path without signals is one load.

use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::Space;
use crate::process::abi::*;
use crate::process::queue::Target;
use crate::process::signal::{Handling, PendingSignal, SignalSet, UNBLOCKABLE, bit, is_real_time};
use crate::process::table::ProcessState;
use crate::thread::{Thread, ThreadId, ThreadState, Wake};

/// True if a wait of this kind ends with `EINTR`. In the others (locks, joins) handlers run and the wait goes on.
pub fn is_interruptible(space: Space) -> bool {
    use Space::{Cond, Exec, Join, None, Start, Sync};
    !matches!(space, None | Sync | Cond | Join | Start | Exec)
}

impl Kernel {
    /// Sends a signal. 0, or -`EAGAIN` if a real-time signal finds the queue full, or -`EINVAL`.
    pub(crate) fn send_signal(&mut self, target: Target, info: PendingSignal) -> i64 {
        let process = match target {
            Target::Process(id) => id,
            Target::Thread(id) => self.process_of(id),
        };
        let signal = info.signal;
        if !(1..=63).contains(&signal) {
            return -EINVAL;
        }
        if self.processes.get(process).state != ProcessState::Live || signal == SIGSYS {
            return 0;
        }
        self.jobs_before(process, signal);
        if self.would_vanish(target, process, signal) {
            self.stop_by(process, signal);
            return 0;
        }
        let pending = self.pending_mut(target);
        let already = *pending & bit(signal) != 0;
        if already && !is_real_time(signal) {
            return 0;
        }
        *pending |= bit(signal);
        if !self.processes.queue.push(target, info) && is_real_time(signal) {
            if !already {
                *self.pending_mut(target) &= !bit(signal);
            }
            return -EAGAIN;
        }
        self.notify_signal(target, signal);
        self.signal_became_pending();
        0
    }

    /// A signal of the kernel's or of dmt's own to one thread (SIGPIPE after a failed write, for example).
    pub fn raise_on(&mut self, me: ThreadId, signal: i32) {
        let pid = self.processes.get(self.process_of(me)).pid;
        self.send_signal(
            Target::Thread(me),
            PendingSignal { signal, code: SI_KERNEL, pid, ..Default::default() },
        );
    }

    pub(crate) fn pending_mut(&mut self, target: Target) -> &mut SignalSet {
        match target {
            Target::Process(id) => &mut self.processes.get_mut(id).pending,
            Target::Thread(id) => &mut self.threads.get_mut(id).signal_pending,
        }
    }

    /// True if the signal is ignored and no thread that could take it blocks it (a blocked one stays pending, because
    /// the disposition may be another by the time it is unblocked).
    fn would_vanish(&self, target: Target, process: u16, signal: i32) -> bool {
        if !self.processes.get(process).dispositions[signal as usize].ignores(signal) {
            return false;
        }
        let holds = |t: &Thread| (t.signal_mask | t.waits_for) & bit(signal) != 0;
        match target {
            Target::Thread(id) => !holds(self.threads.get(id)),
            Target::Process(id) => self.threads_of(id).any(|t| !holds(self.threads.get(t))),
        }
    }

    /// Tells a thread that a signal is pending which it may take.
    pub(crate) fn notify_signal(&mut self, target: Target, signal: i32) {
        match target {
            Target::Thread(id) => {
                if !self.wake_signal_waiter(id, signal) && self.wants(id, signal) {
                    self.interrupt(id);
                }
            }
            Target::Process(process) => {
                let mut from = 1;
                while let Some(id) = self.next_thread_of(process, from) {
                    if self.wake_signal_waiter(id, signal) {
                        return;
                    }
                    from = id + 1;
                }
                if let Some(id) = self.choose(process, signal) {
                    self.interrupt(id);
                }
            }
        }
    }

    /// Wakes `id` if it is in sigwait for this signal.
    fn wake_signal_waiter(&mut self, id: ThreadId, signal: i32) -> bool {
        let thread = self.threads.get(id);
        if thread.key.space != Space::SignalWait || thread.waits_for & bit(signal) == 0 {
            return false;
        }
        self.wake_thread(id, Wake::Event);
        true
    }

    fn wants(&self, id: ThreadId, signal: i32) -> bool {
        self.threads.get(id).signal_mask & bit(signal) == 0
    }

    /// The thread of `process` that takes a signal sent to the process: the main thread if it can do so soon, else one
    /// that waits interruptibly, else a runnable one, else any that does not block it.
    fn choose(&self, process: u16, signal: i32) -> Option<ThreadId> {
        let main = self.processes.get(process).main;
        let rank = |id: ThreadId| {
            let thread = self.threads.get(id);
            match thread.state {
                _ if !self.wants(id, signal) => None,
                ThreadState::Waiting if is_interruptible(thread.key.space) => Some(u8::from(id != main)),
                ThreadState::Runnable if id == main => Some(0),
                ThreadState::Runnable => Some(2),
                ThreadState::Waiting => Some(3),
                ThreadState::Free | ThreadState::Ended => None,
            }
        };
        self.threads_of(process).filter_map(|id| Some((rank(id)?, id))).min().map(|(_, id)| id)
    }

    /// Marks `id` as having signals to take and ends its wait.
    fn interrupt(&mut self, id: ThreadId) {
        if self.deliverable(id) & bit(SIGKILL) != 0 {
            // That ends a stopped process, too, and only this thread of it.
            self.let_go(id);
        }
        self.threads.get_mut(id).signals_due = true;
        let thread = self.threads.get(id);
        let waits = thread.state == ThreadState::Waiting && thread.key.space != Space::None;
        if waits && self.signal_due(id) {
            self.wake_thread(id, Wake::Signal);
        }
    }

    /// Looks anew for takers of the signals pending for a process, after a mask changed or a thread ended.
    pub(crate) fn retarget(&mut self, process: u16) {
        let mut left = self.processes.get(process).pending;
        while left != 0 {
            let signal = left.trailing_zeros() as i32 + 1;
            left &= left - 1;
            self.notify_signal(Target::Process(process), signal);
        }
    }

    /// Signals that `me` may take now.
    pub(crate) fn deliverable(&self, me: ThreadId) -> SignalSet {
        let thread = self.threads.get(me);
        let process = self.processes.get(thread.process);
        (thread.signal_pending | process.pending) & (!thread.signal_mask | UNBLOCKABLE)
    }

    fn first_effective(&self, me: ThreadId) -> Option<i32> {
        let dispositions = &self.processes.get(self.process_of(me)).dispositions;
        let mut left = self.deliverable(me);
        while left != 0 {
            let signal = left.trailing_zeros() as i32 + 1;
            if !dispositions[signal as usize].ignores(signal) {
                return Some(signal);
            }
            left &= left - 1;
        }
        None
    }

    /// True if a signal is to be taken by `me` that runs a handler or ends the process, or if it must end itself.
    #[inline]
    pub fn signal_due(&self, me: ThreadId) -> bool {
        let thread = self.threads.get(me);
        thread.signals_due && self.first_effective(me).is_some() || self.cancel_due(me)
    }

    /// True if the signal that `me` takes next lets interrupted calls restart (`SA_RESTART`), or there is none.
    pub fn restarts(&self, me: ThreadId) -> bool {
        if self.cancel_due(me) {
            return false;
        }
        let dispositions = &self.processes.get(self.process_of(me)).dispositions;
        self.first_effective(me).is_none_or(|signal| {
            let disposition = dispositions[signal as usize];
            disposition.handling == Handling::Handler && disposition.flags & SA_RESTART != 0
        })
    }

    /// What an operation returns after [`Wake::Signal`] if `SA_RESTART` applies to it (reads, writes, accept, wait):
    /// -`EINTR`, or another try after the handler ran.
    pub fn interrupted(&self, me: ThreadId) -> Step<i64> {
        if self.restarts(me) { Step::Restart } else { Step::Done(-EINTR) }
    }

    /// As [`Kernel::interrupted`], for calls that never restart (sleeps, poll, select, `epoll_wait`, `pause`).
    pub fn interrupted_for_good(&self, me: ThreadId) -> Step<i64> {
        if self.signal_due(me) { Step::Done(-EINTR) } else { Step::Restart }
    }

    /// The next signal that `me` must handle now. Called after every operation.
    #[inline]
    pub fn next_signal(&mut self, me: ThreadId) -> Option<PendingSignal> {
        if !self.threads.get(me).signals_due {
            return None;
        }
        self.take_next(me)
    }

    #[cold]
    fn take_next(&mut self, me: ThreadId) -> Option<PendingSignal> {
        let process = self.process_of(me);
        loop {
            let set = self.deliverable(me);
            if set == 0 {
                let thread = self.threads.get_mut(me);
                thread.signals_due = thread.stopped;
                return None;
            }
            let first = if set & bit(SIGKILL) != 0 { bit(SIGKILL) } else { set };
            let mut info = self.take_signal(me, first)?;
            let signal = info.signal;
            self.stop_by(process, signal);
            let disposition = &mut self.processes.get_mut(process).dispositions[signal as usize];
            if disposition.ignores(signal) {
                continue;
            }
            info.fatal = disposition.is_fatal(signal);
            if disposition.flags & SA_RESETHAND != 0 && !info.fatal {
                *disposition = Default::default();
            }
            self.note(me, Op::Signal, signal as u64, i64::from(info.code));
            return Some(info);
        }
    }

    /// Takes the first pending signal of `me` or its process that is in `set`, blocked or not: for delivery, sigwait
    /// and signalfd.
    pub fn take_signal(&mut self, me: ThreadId, set: SignalSet) -> Option<PendingSignal> {
        let thread = self.threads.get(me);
        let (own, process) = (thread.signal_pending & set, thread.process);
        let common = self.processes.get(process).pending & set;
        let (found, target) = if own != 0 {
            (own, Target::Thread(me))
        } else if common != 0 {
            (common, Target::Process(process))
        } else {
            return None;
        };
        let signal = found.trailing_zeros() as i32 + 1;
        let (info, more) = self.processes.queue.take(target, signal);
        if !more {
            *self.pending_mut(target) &= !bit(signal);
        }
        // A standard signal that found the queue full is delivered all the same, without what came with it.
        Some(info.unwrap_or(PendingSignal { signal, ..Default::default() }))
    }

    /// True if a signal of `set` is pending for `me` or its process: readability of a signalfd.
    pub fn signals_in(&self, me: ThreadId, set: SignalSet) -> bool {
        let thread = self.threads.get(me);
        (thread.signal_pending | self.processes.get(thread.process).pending) & set != 0
    }

    /// Called at a park, after the thread was queued: a signal that came while it was runnable ends the wait at once.
    pub(crate) fn wake_if_signalled(&mut self, me: ThreadId) {
        let thread = self.threads.get(me);
        let asked = thread.signals_due || thread.cancel.requested;
        if asked && thread.state == ThreadState::Waiting && self.signal_due(me) {
            self.wake_thread(me, Wake::Signal);
        }
    }
}
