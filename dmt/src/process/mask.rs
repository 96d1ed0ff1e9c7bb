//! Masks and dispositions: what the program asked the kernel for, kept for dmt's choice of threads.

use crate::call::Call;
use crate::kernel::Kernel;
use crate::op::Op;
use crate::process::abi::*;
use crate::process::queue::Target;
use crate::process::signal::{Disposition, Handling, SIGNALS, SignalSet, UNBLOCKABLE, bit};
use crate::thread::ThreadId;

impl Kernel {
    /// The signals that `me` blocks.
    #[inline]
    pub fn signal_mask(&self, me: ThreadId) -> SignalSet {
        self.threads.get(me).signal_mask
    }

    /// Sets what `me` blocks and returns what it blocked before. Signals that this unblocks are due, but taken only by
    /// the next [`Call::deliver_signals`].
    pub fn swap_signal_mask(&mut self, me: ThreadId, mask: SignalSet) -> SignalSet {
        let mask = mask & !UNBLOCKABLE;
        let thread = self.threads.get_mut(me);
        let old = core::mem::replace(&mut thread.signal_mask, mask);
        if old == mask {
            return old;
        }
        let process = thread.process;
        let newly_blocked = mask & !old;
        if self.processes.get(process).pending & newly_blocked != 0 {
            self.retarget(process);
        }
        self.stop_by_unblocked(me, old & !mask);
        if self.deliverable(me) != 0 {
            self.threads.get_mut(me).signals_due = true;
        }
        old
    }
}

impl Call<'_> {
    /// Notes the kernel's mask of this thread, without a tick and without a delivery: at a handler's entry and end, and
    /// after `sigprocmask`, which preload lets [`Call::deliver_signals`] follow.
    pub fn set_signal_mask(&self, mask: SignalSet) {
        self.with(|k| k.swap_signal_mask(self.thread(), mask));
    }

    /// `sigaction`: `handler` is an address, `SIG_DFL` (0) or `SIG_IGN` (1). 0 or -`EINVAL`. The address stays with
    /// preload, and so does what the program asked for before.
    pub fn signal_action(&self, signal: i32, handler: u64, flags: i32) -> i64 {
        if !(1..SIGNALS as i32).contains(&signal) || (bit(SIGKILL) | bit(SIGSTOP)) & bit(signal) != 0 {
            return -EINVAL;
        }
        let handling = match handler {
            0 => Handling::Default,
            1 => Handling::Ignore,
            _ => Handling::Handler,
        };
        let new = Disposition { flags: flags as u32, handling };
        self.quick(Op::SignalAction, signal as u64 | u64::from(new.flags) << 32, |k, me| {
            let process = k.process_of(me);
            k.processes.get_mut(process).dispositions[signal as usize] = new;
            if new.ignores(signal) && !new.stops(signal) {
                k.drop_pending(process, bit(signal));
            }
            0
        })
    }

    /// Whether this process ignores `signal` because it, or a program before it, asked for that. Costs no tick.
    pub fn ignores(&self, signal: i32) -> bool {
        self.with(|k| {
            let process = k.processes.get(k.process_of(self.thread()));
            process.dispositions[signal as usize].handling == Handling::Ignore
        })
    }

    /// `sigpending`: blocked signals that are pending.
    pub fn signals_pending(&self) -> SignalSet {
        self.with(|k| {
            let thread = k.threads.get(self.thread());
            (thread.signal_pending | k.processes.get(thread.process).pending) & thread.signal_mask
        })
    }
}

impl Kernel {
    /// Drops pending signals of a process and its threads.
    pub(crate) fn drop_pending(&mut self, process: u16, set: SignalSet) {
        self.processes.get_mut(process).pending &= !set;
        self.processes.queue.purge(Target::Process(process), set);
        let mut from = 1;
        while let Some(id) = self.next_thread_of(process, from) {
            self.threads.get_mut(id).signal_pending &= !set;
            self.processes.queue.purge(Target::Thread(id), set);
            from = id + 1;
        }
    }
}
