//! Spin points under `--admission crane`, where the coordinator makes the entries and no bubble is ever cut.
//!
//! The leader's server reports the loop; the entry that names it has a stamp, the tick at which the thread spins for ever
//! on every replica, and takes effect there although the entries before it are not applied yet. Without a stamp (the loop
//! may end by itself) it takes effect in its order.

use crate::control::CRANE_LEADER;
use crate::entry::{EntryKind, EventKind, STAMP_AUTO};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::preemption::{Stretch, Verdict};
use crate::thread::ThreadId;
use crate::upcall::UpcallKind;

impl Kernel {
    /// What a thread that makes no operation is to do.
    pub(crate) fn suspect_in_crane(&mut self, shared: &Shared, stretch: &Stretch) -> Verdict {
        let due = self.crane_branch_due(shared, stretch.thread);
        if due != 0 {
            return Verdict::Arm(due);
        }
        let leads = shared.control.lead_from.load(crate::atomic::Ordering::SeqCst) == CRANE_LEADER;
        let process = self.process_of(stretch.thread);
        let known = stretch.branch == 0 || self.sched.spinners.knows(process, stretch.branch);
        let stamp = if stretch.spun { self.sched.tick } else { STAMP_AUTO };
        if leads
            && !known
            && self.sched.turn == stretch.thread
            && self.sched.spinners.is_news(stretch.branch, stamp)
        {
            let words = [stretch.branch, u64::from(stretch.thread), stamp, 0];
            self.upcall(shared, UpcallKind::SpinPoint, words, 0, &[]);
        }
        Verdict::GoOn
    }

    /// The branch at which a decided entry, wherever it is in the ring, stops `me` in this very stretch, or 0.
    pub(crate) fn crane_branch_due(&self, shared: &Shared, me: ThreadId) -> u64 {
        let mut at = shared.entries.head();
        // SAFETY: the turn holder is the consumer of the entries ring; the cursor is a frame's end.
        while let Some(frame) = unsafe { shared.entries.peek(at) } {
            at = frame.end;
            let Some(entry) = crate::following::entry_of(frame.body) else { continue };
            if entry.kind() != EntryKind::Preempt || entry.header.stamp.get() != self.sched.tick {
                continue;
            }
            let event = entry.events().find(|event| event.kind == EventKind::SpinPoint);
            if let Some(event) = event
                && event.header.arg.get() == u64::from(me)
                && self.sched.turn == me
            {
                return event.header.connection.get();
            }
        }
        0
    }
}
