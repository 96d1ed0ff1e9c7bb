//! Waiting for signals: pause, sigsuspend, sigwait and its kin, and the hook of signalfd.

use crate::bounds::MAX_SIGNALFDS;
use crate::call::Call;
use crate::file::abi::{POLLIN, POLLRDNORM};
use crate::file::{FileId, FileKind};
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::process::abi::*;
use crate::process::signal::{PendingSignal, SignalSet, UNBLOCKABLE};
use crate::thread::Wake;

impl Call<'_> {
    /// `pause`: until a handler ran. -`EINTR`.
    pub fn pause(&self) -> i64 {
        let mut waited = false;
        self.op(Op::Pause, 0, |k, me| {
            if core::mem::replace(&mut waited, true) && k.take_wake(me) == Wake::Signal && k.signal_due(me) {
                return Step::Done(-EINTR);
            }
            k.wait(me, WaitKey::number(Space::Sleep, u64::from(me)), None);
            Step::Block
        })
    }

    /// `sigsuspend`: pause with another mask, or `pause`. Preload sets the kernel's mask before and back afterwards.
    pub fn signal_suspend(&self, mask: Option<SignalSet>) -> i64 {
        self.with_signal_mask(mask, || self.pause())
    }

    /// `sigwait`, `sigwaitinfo`, `sigtimedwait`: takes a pending signal of `set`. `timeout` is in
    /// nanoseconds. Returns its number, -`EAGAIN` at the deadline, -`EINTR` after a handler of another signal ran.
    pub fn signal_wait(&self, set: SignalSet, timeout: Option<u64>, info: &mut PendingSignal) -> i64 {
        let deadline = timeout.map(|ns| self.with(|k| k.clock()).saturating_add(ns));
        let set = set & !UNBLOCKABLE;
        let mut waited = false;
        self.op(Op::SignalWait, set, |k, me| {
            k.threads.get_mut(me).waits_for = 0;
            if let Some(taken) = k.take_signal(me, set) {
                *info = taken;
                return Step::Done(i64::from(taken.signal));
            }
            if core::mem::replace(&mut waited, true) {
                match k.take_wake(me) {
                    Wake::Timeout => return Step::Done(-EAGAIN),
                    Wake::Signal if k.signal_due(me) => return Step::Done(-EINTR),
                    _ => {}
                }
            }
            if deadline.is_some_and(|deadline| deadline <= k.clock()) {
                return Step::Done(-EAGAIN);
            }
            k.threads.get_mut(me).waits_for = set;
            k.wait(me, WaitKey::number(Space::SignalWait, u64::from(me)), deadline);
            Step::Block
        })
    }
}

/// The signalfds; one that was closed leaves the list at the next signal.
#[repr(C)]
pub(crate) struct SignalFds {
    ids: [FileId; MAX_SIGNALFDS],
    len: usize,
}

impl Kernel {
    /// A signal became pending for a process or one of its threads: signalfds may be readable.
    pub(crate) fn signal_became_pending(&mut self) {
        let mut at = 0;
        while let Some(&file) = self.processes.signalfds.ids[..self.processes.signalfds.len].get(at) {
            if self.files.get(file).kind == FileKind::SignalFd {
                self.notify(file, POLLIN | POLLRDNORM);
                at += 1;
            } else {
                let list = &mut self.processes.signalfds;
                list.len -= 1;
                list.ids[at] = list.ids[list.len];
            }
        }
    }

    /// Remembers a new signalfd, to tell it of signals; false at [`MAX_SIGNALFDS`].
    pub(crate) fn watch_signals(&mut self, file: FileId) -> bool {
        self.signal_became_pending();
        let list = &mut self.processes.signalfds;
        if list.ids[..list.len].contains(&file) {
            return true;
        }
        let Some(slot) = list.ids.get_mut(list.len) else { return false };
        *slot = file;
        list.len += 1;
        true
    }
}
