//! Job control: stopped processes.
//!
//! The kernel stops nobody. A process is stopped in dmt from the operation on that sent the signal or lifted its block: its
//! threads get no turn. Who waits goes on waiting, and what wakes it meanwhile (a deadline, too) takes effect when the process
//! goes on; so no wait ends with `EINTR` for a stop alone. Only the thread that holds the turn finishes its operation first.

use crate::kernel::Kernel;
use crate::op::Op;
use crate::process::abi::*;
use crate::process::queue::Target;
use crate::process::signal::{Handling, PendingSignal, STOPS, SignalSet, bit};
use crate::process::table::{ProcessState, Report};
use crate::process::wait::child_key;
use crate::thread::{ThreadId, ThreadState};

impl Kernel {
    /// True if `me`, which holds the turn, belongs to a stopped process.
    pub(crate) fn is_stopped(&mut self, me: ThreadId) -> bool {
        let stopped = self.threads.get(me).stopped;
        if stopped {
            let signal = self.processes.get(self.process_of(me)).stopped;
            self.note(me, Op::Signal, signal as u64, i64::from(CLD_STOPPED));
        }
        stopped
    }

    /// What sending `signal` does, whoever blocks or ignores it: the two kinds cancel each other.
    pub(crate) fn jobs_before(&mut self, process: u16, signal: i32) {
        if signal == SIGCONT {
            self.drop_pending(process, STOPS);
            self.go_on(process);
        } else if STOPS & bit(signal) != 0 {
            self.drop_pending(process, bit(SIGCONT));
        }
    }

    /// Stops the process if that is what `signal` does there. Without anybody who could let it go on (its group is
    /// orphaned), a signal of a terminal does not.
    pub(crate) fn stop_by(&mut self, process: u16, signal: i32) {
        let slot = self.processes.get(process);
        let group = slot.group;
        if slot.stopped != 0
            || !slot.dispositions[signal as usize].stops(signal)
            || signal != SIGSTOP && self.is_orphaned(group, 0)
            || self.threads_of(process).any(|id| self.deliverable(id) & bit(SIGKILL) != 0)
        {
            return;
        }
        self.processes.get_mut(process).stopped = signal;
        let mut from = 1;
        while let Some(id) = self.next_thread_of(process, from) {
            self.hold(id);
            from = id + 1;
        }
        self.report(process, Report::Stopped);
    }

    /// Stops the process of `me` by signals that `me` blocked until now.
    pub(crate) fn stop_by_unblocked(&mut self, me: ThreadId, unblocked: SignalSet) {
        let process = self.process_of(me);
        let mut left = unblocked & STOPS & self.deliverable(me);
        while left != 0 {
            let signal = left.trailing_zeros() as i32 + 1;
            left &= left - 1;
            if self.processes.get(process).dispositions[signal as usize].stops(signal) {
                self.take_signal(me, bit(signal));
                self.stop_by(process, signal);
            }
        }
    }

    fn hold(&mut self, id: ThreadId) {
        self.threads.get_mut(id).stopped = true;
        if self.threads.get(id).state != ThreadState::Runnable {
            return;
        }
        if id == self.sched.turn {
            // It looks after its operation.
            self.threads.get_mut(id).signals_due = true;
        } else {
            self.sched.remove(&mut self.threads, id);
            self.threads.get_mut(id).held = true;
        }
    }

    /// Gives a thread of a stopped process turns again.
    pub(crate) fn let_go(&mut self, id: ThreadId) {
        let thread = self.threads.get_mut(id);
        thread.stopped = false;
        if core::mem::take(&mut thread.held) {
            self.sched.enqueue(&mut self.threads, id);
        }
    }

    fn go_on(&mut self, process: u16) {
        if core::mem::take(&mut self.processes.get_mut(process).stopped) == 0 {
            return;
        }
        let mut from = 1;
        while let Some(id) = self.next_thread_of(process, from) {
            self.let_go(id);
            from = id + 1;
        }
        self.report(process, Report::Continued);
    }

    /// Tells the parent, by SIGCHLD unless it does not want that, and by what it may wait for.
    fn report(&mut self, process: u16, report: Report) {
        self.processes.changes += 1;
        let changed = self.processes.changes;
        let slot = self.processes.get_mut(process);
        (slot.report, slot.changed) = (report, changed);
        let (code, value) = match report {
            Report::Stopped => (CLD_STOPPED, slot.stopped),
            _ => (CLD_CONTINUED, SIGCONT),
        };
        let (pid, uid, parent) = (slot.pid, slot.uid, slot.parent);
        if parent == 0 {
            return;
        }
        let wanted = self.processes.get(parent).dispositions[SIGCHLD as usize];
        if wanted.handling != Handling::Ignore && wanted.flags & SA_NOCLDSTOP == 0 {
            let info =
                PendingSignal { signal: SIGCHLD, code, pid, uid, value: value as u64, ..PendingSignal::NONE };
            self.send_signal(Target::Process(parent), info);
        }
        self.wake_all(child_key(parent));
    }

    /// True if no process of `group`, but for `except`, has a parent in another group of its session: a shell, say, which
    /// could let a stopped one go on.
    fn is_orphaned(&self, group: i32, except: u16) -> bool {
        !self.processes.ids().any(|id| {
            let process = self.processes.get(id);
            let lives = process.state == ProcessState::Live && process.group == group;
            lives && id != except && process.parent != 0 && self.is_outside(id, process.parent)
        })
    }

    /// True if `parent` is in another group of the same session.
    fn is_outside(&self, process: u16, parent: u16) -> bool {
        let (process, parent) = (self.processes.get(process), self.processes.get(parent));
        parent.group != process.group && parent.session == process.session
    }

    /// `process` has lost its parent, or has ended itself: if it or its parent was the last that kept its group from being
    /// orphaned, and somebody is stopped there, all of them get SIGHUP and SIGCONT.
    pub(crate) fn hang_up_jobs(&mut self, process: u16, parent: u16) {
        if parent == 0 || !self.is_outside(process, parent) {
            return;
        }
        let slot = self.processes.get(process);
        let (group, pid) = (slot.group, slot.pid);
        let ended = if slot.state == ProcessState::Live { 0 } else { process };
        let is_member = |k: &Self, id: u16| {
            let slot = k.processes.get(id);
            slot.state == ProcessState::Live && slot.group == group
        };
        let stopped = |id: u16| is_member(self, id) && self.processes.get(id).stopped != 0;
        if !self.is_orphaned(group, ended) || !self.processes.ids().any(stopped) {
            return;
        }
        for signal in [SIGHUP, SIGCONT] {
            for id in 1..=self.processes.high() {
                if is_member(self, id) {
                    let info = PendingSignal { signal, code: SI_KERNEL, pid, ..PendingSignal::NONE };
                    self.send_signal(Target::Process(id), info);
                }
            }
        }
    }
}
