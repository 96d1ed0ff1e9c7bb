//! Which thread must give the turn away although it makes no operation, and where threads of spin loops are stopped.
//!
//! The watchdog's signal interrupts a thread that was seen without an operation; what its handler tells is a [`Stretch`].
//! A leader decides by it, and its entry says so; a follower looks whether the next entry is about this very stretch.

use core::sync::atomic::Ordering;

use zerocopy::little_endian::{U16, U32, U64};

use crate::admission::Next;
use crate::bounds::MAX_SPECULATION_ENTRIES;
use crate::call::{Call, UPCALL_HEADROOM_BYTES};
use crate::control::wanted;
use crate::entry::{EntryKind, Event, EventHeader, EventKind};
use crate::following::Peeked;
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::thread::ThreadId;

/// An event that dmt makes itself, alone in its entry.
#[derive(Clone, Copy)]
pub(crate) struct Inline {
    pub(crate) kind: EventKind,
    thread: ThreadId,
    /// An address in the program.
    pub(crate) place: u64,
}

impl Inline {
    /// `None` without a branch.
    pub(crate) fn spin_point(thread: ThreadId, branch: u64) -> Option<Self> {
        (branch != 0).then_some(Self { kind: EventKind::SpinPoint, thread, place: branch })
    }

    pub(crate) fn of(event: &Event<'_>) -> Option<Self> {
        let kind = event.kind;
        matches!(kind, EventKind::Preempt | EventKind::SpinPoint).then(|| Self {
            kind,
            thread: event.header.arg.get() as ThreadId,
            place: event.header.connection.get(),
        })
    }

    pub(crate) fn header(&self, tick: u64) -> EventHeader {
        EventHeader {
            len: U32::new(0),
            kind: U16::new(self.kind as u16),
            reserved: U16::new(0),
            connection: U64::new(self.place),
            sequence: U64::new(tick),
            arg: U64::new(u64::from(self.thread)),
        }
    }
}

/// What becomes of a thread that the watchdog interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    GoOn,
    /// It passes the turn on.
    Switch,
    /// It goes on, and stops at this branch of its loop.
    Arm(u64),
}

/// A stretch of a thread without an operation, as the handler of the watchdog's signal sees it.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// Who.
    pub thread: ThreadId,
    /// The instruction that the signal interrupted; 0 = unknown.
    pub place: u64,
    /// The branch that closes the spin loop around it; 0 if it is in none that is recognised.
    pub branch: u64,
    /// It used as much CPU time as a thread may; if neither this nor `spun` is true it was only seen twice.
    pub spent: bool,
    /// It used as much as a thread may in a loop that only waits.
    pub spun: bool,
    /// It was so long that even the bubble of another leader may be cut. The watchdog may have measured a follower's,
    /// which has just become leader.
    pub inherited: bool,
    /// Real time.
    pub now: u64,
}

impl Kernel {
    /// A leader cuts the bubble for a thread that used up its limit, or that is seen where others spun before.
    fn preempt_as_leader(&mut self, shared: &Shared, stretch: &Stretch) -> bool {
        let others = self.sched.queued + self.sched.spinners.count;
        if !self.leads(shared) || others == 0 || self.sched.turn != stretch.thread {
            return false;
        }
        if !stretch.inherited && !self.owns_bubble(shared) {
            return false;
        }
        let ahead = self.sched.applied.saturating_sub(shared.control.committed.load(Ordering::SeqCst));
        let due = stretch.spent
            || stretch.spun && self.sched.places.suspect(stretch.place)
            || self.spins_on(stretch);
        if ahead >= MAX_SPECULATION_ENTRIES || !due {
            return false;
        }
        self.renew_pending_cursor(shared);
        let rest = self.sched.bubble_end.saturating_sub(self.sched.tick).max(1);
        let inline = Inline { kind: EventKind::Preempt, thread: stretch.thread, place: stretch.place };
        self.admit(shared, EntryKind::Preempt, rest, stretch.now, Some(inline));
        true
    }

    /// A leader that recognises the loop around the thread makes the loop's branch a spin point, at the next operation or,
    /// if the thread has spun for long enough, at the branch itself.
    fn suspect_as_leader(&mut self, shared: &Shared, stretch: &Stretch) -> Option<Verdict> {
        let may = self.leads(shared) && (stretch.inherited || self.owns_bubble(shared));
        let process = self.process_of(stretch.thread);
        if stretch.branch == 0 || !may || self.sched.turn != stretch.thread {
            return None;
        }
        if self.sched.spinners.knows(process, stretch.branch) {
            return Some(Verdict::GoOn);
        }
        let others = self.sched.queued + self.sched.spinners.count > 0;
        let cut = self.suspect(shared, stretch)?;
        Some(if cut && others { Verdict::Arm(stretch.branch) } else { Verdict::GoOn })
    }

    /// At a branch that is no spin point: makes it one, if this leader has decided so or the log says so.
    pub(crate) fn cut_at(&mut self, shared: &Shared, me: ThreadId, branch: u64, now: u64) -> bool {
        if self.sched.crane != 0 {
            let due = self.crane_branch_due(shared, me) == branch;
            if due {
                self.learn_spin_point(me, branch);
            }
            return due;
        }
        let (leads, owns) = (self.leads(shared), self.owns_bubble(shared));
        if leads && self.cuts_at(me, branch, owns) {
            let ahead = self.sched.applied.saturating_sub(shared.control.committed.load(Ordering::SeqCst));
            if ahead >= MAX_SPECULATION_ENTRIES {
                return false;
            }
            self.take_suspect();
            self.renew_pending_cursor(shared);
            let rest = self.sched.bubble_end.saturating_sub(self.sched.tick).max(1);
            self.admit(shared, EntryKind::Preempt, rest, now, Inline::spin_point(me, branch));
            return true;
        }
        !leads && self.branch_due(shared, me) == branch && self.follow(shared, false) == Next::Applied
    }

    /// The branch at which the log says that `me` is to be stopped in this very stretch, or 0.
    fn branch_due(&self, shared: &Shared, me: ThreadId) -> u64 {
        let due = |next: &Peeked| next.branch && next.stamp == self.sched.tick && self.sched.turn == me;
        self.peek(shared).filter(due).map_or(0, |next| next.place)
    }

    /// True if the thread is in a known spin loop and was so when it was asked before. Once is not enough: while a thread
    /// that was preempted there wakes up, its tick stands still, too, and it has not looked at its condition again.
    fn spins_on(&mut self, stretch: &Stretch) -> bool {
        self.sched.places.knows(stretch.place)
            && core::mem::replace(&mut self.sched.asked_at, self.sched.tick) == self.sched.tick
    }

    /// Where the log says that the thread was preempted, here it is, too: after the whole limit, or as soon as it is in
    /// the same known spin loop.
    fn preempt_as_follower(&mut self, shared: &Shared, stretch: &Stretch) -> bool {
        let places = &self.sched.places;
        let due = self.peek(shared).is_some_and(|next| {
            next.kind == EntryKind::Preempt
                && !next.branch
                && next.stamp == self.sched.tick
                && self.sched.turn == stretch.thread
                && (stretch.spent
                    || stretch.spun && places.may_be_one(stretch.place, next.place)
                    || places.are_one(stretch.place, next.place))
        });
        due && !self.leads(shared) && self.follow(shared, false) == Next::Applied
    }

    /// What a thread that makes no operation is to do.
    pub fn preempt(&mut self, shared: &Shared, stretch: &Stretch) -> Verdict {
        if self.sched.crane != 0 {
            return self.suspect_in_crane(shared, stretch);
        }
        if let Some(verdict) = self.suspect_as_leader(shared, stretch) {
            return verdict;
        }
        if !self.leads(shared) {
            let branch = self.branch_due(shared, stretch.thread);
            if branch != 0 {
                return Verdict::Arm(branch);
            }
        }
        if self.preempt_as_leader(shared, stretch) || self.preempt_as_follower(shared, stretch) {
            Verdict::Switch
        } else {
            Verdict::GoOn
        }
    }

    pub(crate) fn apply_inline(&mut self, shared: &Shared, event: Inline) {
        if event.kind == EventKind::Preempt {
            return self.apply_preempt(shared, event.thread, event.place);
        }
        shared.control.wanted.store(0, Ordering::Relaxed);
        self.digest = crate::digest::mix(self.digest, event.place, u64::from(event.thread));
        self.learn_spin_point(event.thread, event.place);
    }

    /// The preempted thread goes to the tail of the run queue.
    fn apply_preempt(&mut self, shared: &Shared, thread: ThreadId, place: u64) {
        self.sched.preemptions += 1;
        self.sched.places.learn(place);
        shared.control.preemptions.store(u64::from(self.sched.preemptions), Ordering::Relaxed);
        shared.control.wanted.store(0, Ordering::Relaxed);
        self.digest = crate::digest::mix(self.digest, u64::from(thread), u64::from(self.sched.turn));
        if thread != self.sched.turn {
            self.diverge(shared, "a preempted thread does not hold the turn here");
            return;
        }
        self.sched.preempted = thread;
        self.sched.enqueue(&mut self.threads, thread);
    }
}

impl Call<'_> {
    /// Called by the handler of the watchdog's signal in a thread that runs its own code: gives the turn away if it
    /// holds it and makes no progress. `place` is the instruction that was interrupted, `branch` the one that closes the
    /// spin loop around it (0 = none that is recognised). Without a word of the watchdog in `wanted` the stretch is only
    /// long enough for a thread in such a loop.
    pub fn preempt(&self, place: u64, branch: u64) {
        let bits = wanted::PREEMPT | wanted::PREEMPT_INHERITED | wanted::SPIN | wanted::ASKED;
        let wanted = self.shared().control.wanted.fetch_and(!bits, Ordering::SeqCst);
        if self.with(|k| k.sched.turn) != self.thread() || !self.shared().upcalls.fits(UPCALL_HEADROOM_BYTES)
        {
            return;
        }
        let stretch = Stretch {
            thread: self.thread(),
            place,
            branch,
            spent: wanted & wanted::PREEMPT != 0,
            spun: wanted & (wanted::SPIN | wanted::PREEMPT) != 0,
            inherited: wanted & wanted::PREEMPT_INHERITED != 0,
            now: self.now(),
        };
        match self.with(|k| k.preempt(self.shared(), &stretch)) {
            Verdict::GoOn => self.kick(),
            Verdict::Arm(branch) => self.platform().arm_spin_point(branch),
            Verdict::Switch => {
                if self.with(|k| k.take_rotation(self.thread())) {
                    self.kick();
                    self.switch();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use crate::call::Call;
    use crate::control::wanted;
    use crate::testing::{Body, Server};

    /// In a loop that is not recognised.
    const PLACE: u64 = 0x40_1000;

    /// The watchdog says this about a thread that computes at `place`; true if it was preempted.
    fn interrupt(call: &Call<'_>, bits: u32, place: u64) -> bool {
        let before = call.with(|k| k.sched.preemptions);
        call.shared().control.wanted.store(bits, Ordering::SeqCst);
        call.preempt(place, 0);
        call.with(|k| k.sched.preemptions) > before
    }

    #[test]
    fn a_computation_may_last_longer_than_a_loop_where_threads_were_preempted_before() {
        let (server, mut link) = Server::leader(1000);
        let over = Arc::new(AtomicU64::new(0));
        let seen = over.clone();
        let computes: Body = Box::new(move |call| {
            for _ in 0..2 {
                assert!(!interrupt(call, wanted::SPIN, PLACE), "it may compute");
                assert!(interrupt(call, wanted::PREEMPT, PLACE), "but not for ever");
            }
            assert!(!interrupt(call, wanted::SPIN, PLACE + 0x1000), "elsewhere it may compute");
            assert!(interrupt(call, wanted::SPIN, PLACE + 8), "the place is suspected");
            assert!(!interrupt(call, 0, PLACE + 8), "and not known");
            seen.store(1, Ordering::SeqCst);
        });
        let other: Body = Box::new(move |call| {
            while over.load(Ordering::SeqCst) == 0 {
                call.yield_turn();
            }
        });
        server.run(&mut link, vec![computes, other]);
    }
}
