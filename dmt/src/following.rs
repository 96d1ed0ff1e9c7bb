//! How decided entries take effect: a follower applies them in order, each at its stamp, and has diverged where it cannot.

use core::sync::atomic::Ordering;

use crate::admission::Next;
use crate::entry::{ENTRY_HEADER_BYTES, Entry, EntryHeader, EntryKind, EventKind, STAMP_AUTO};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::preemption::Inline;
use crate::upcall::UpcallKind;

/// What the next decided entry is, as far as a follower must know it before it applies it.
#[derive(Clone, Copy)]
pub(crate) struct Peeked {
    pub(crate) stamp: u64,
    pub(crate) kind: EntryKind,
    /// Where the thread was, if it is a preemption.
    pub(crate) place: u64,
    /// That is the branch of a spin loop, where the thread is to be stopped.
    pub(crate) branch: bool,
}

impl Kernel {
    /// The next decided entry, if there is one.
    pub(crate) fn peek(&self, shared: &Shared) -> Option<Peeked> {
        // SAFETY: the turn holder is the consumer of the entries ring.
        let frame = unsafe { shared.entries.peek(shared.entries.head()) }?;
        let entry = entry_of(frame.body)?;
        let kind = EntryKind::from_wire(entry.header.kind.get())?;
        let event = match kind {
            EntryKind::Preempt => entry.events().next().and_then(|event| Inline::of(&event)),
            _ => None,
        };
        let branch = event.is_some_and(|event| event.kind == EventKind::SpinPoint);
        let place = event.map_or(0, |event| event.place);
        Some(Peeked { stamp: entry.header.stamp.get(), kind, place, branch })
    }

    /// The coordinator made the next entry in the place of this quiescent server.
    pub(crate) fn follow_own(&mut self, shared: &Shared) -> Next {
        if !self.take_over_offer(shared) {
            return Next::Wait(None);
        }
        let next = self.follow(shared, true);
        self.sched.admitted_last = 1;
        self.sched.taken_last = 1;
        next
    }

    /// Applies the next decided entry, if there is one and the bubble before it is over.
    pub(crate) fn follow(&mut self, shared: &Shared, quiescent: bool) -> Next {
        shared.control.wanted.store(0, Ordering::Relaxed);
        let Some(next) = self.peek(shared) else {
            let granted = self.sched.crane != 0 && !quiescent && self.sched.tick < self.sched.bubble_end;
            return if granted { Next::Run } else { Next::Wait(None) };
        };
        // A spin point of CRANE has taken effect at its stamp, if it has one.
        let auto = next.stamp == STAMP_AUTO || (self.sched.crane != 0 && next.branch);
        let due = if auto {
            quiescent || self.sched.tick >= self.sched.bubble_end
        } else {
            self.sched.tick >= next.stamp
        };
        if !due && !quiescent {
            return Next::Run;
        }
        if !auto && self.sched.applied > 0 && next.stamp != self.sched.tick {
            self.diverge(shared, "the next entry's stamp is at another logical time");
            return Next::Halt;
        }
        // SAFETY: as in `peek`.
        let Some(frame) = (unsafe { shared.entries.peek(shared.entries.head()) }) else {
            return Next::Wait(None);
        };
        let Some(entry) = entry_of(frame.body) else {
            self.diverge(shared, "the next entry cannot be parsed");
            return Next::Halt;
        };
        if entry.header.index.get() != self.sched.applied {
            self.diverge(shared, "the next entry has another index than expected");
            return Next::Halt;
        }
        self.report_digest(shared);
        self.upcall(shared, UpcallKind::Applied, [self.sched.applied, self.sched.tick, 0, 0], 0, &[]);
        self.sched.admitted_last = 0;
        self.sched.idle_closed = 0;
        self.apply_entry(shared, &entry);
        shared.entries.release(frame.end);
        Next::Applied
    }

    fn apply_entry(&mut self, shared: &Shared, entry: &Entry<'_>) {
        if let Some(genesis) = entry.genesis() {
            self.random.seed(&genesis.secret);
            self.sched.set_parameters(&genesis.parameters);
            self.sched.crane = genesis.crane.get();
            self.sched.genesis_clock = entry.header.clock.get();
            shared.control.spin_limit_us.store(self.sched.spin_limit_us, Ordering::Relaxed);
        }
        self.open_bubble(shared, entry.header);
        for event in entry.events() {
            match Inline::of(&event) {
                Some(inline) => self.apply_inline(shared, inline),
                None => self.apply_event(shared, event),
            }
        }
        self.fire_timers(shared);
    }
}

/// The entry in a ring frame, whose body may be padded.
pub(crate) fn entry_of(body: &[u8]) -> Option<Entry<'_>> {
    let (header, rest) = zerocopy::Ref::<_, EntryHeader>::from_prefix(body).ok()?;
    let whole = ENTRY_HEADER_BYTES + header.events_len.get() as usize;
    if rest.len() + ENTRY_HEADER_BYTES < whole {
        return None;
    }
    Entry::parse(&body[..whole]).ok()
}
