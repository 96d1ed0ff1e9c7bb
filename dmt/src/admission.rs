//! Time bubbling: when entries take effect, and how a leader makes them (design section 7).
//!
//! An entry is applied only where the bubble before it ends: at its last tick, when the server is quiescent, or where a
//! `Close` or `Preempt` entry cuts it (I1). A follower runs a bubble only when it knows the next entry, whose stamp says
//! where the bubble was cut, or when it has been told to lead; so it cannot run past a cut (I2).

use core::sync::atomic::Ordering;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use crate::bounds::{
    BUBBLE_TARGET_NS, LAYOUT_VERSION, MAX_GRANT_TICKS, MAX_SPECULATION_ENTRIES, MIN_GRANT_TICKS,
};
use crate::control::{CRANE_LEADER, FOLLOWER};
use crate::entry::{EVENT_HEADER_BYTES, EntryHeader, EntryKind, next_event};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::preemption::Inline;
use crate::upcall::{ADMITTED, UpcallHeader, UpcallKind};

/// A leader that was quiescent this long, nanoseconds, with nothing to admit makes one empty entry, so that followers,
/// which run one entry behind, catch up.
pub const IDLE_CLOSE_NS: u64 = 200_000_000;

/// What a thread at the end of a bubble, or a quiescent server, has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An entry was applied.
    Applied,
    /// Nothing to apply: the bubble is not over.
    Run,
    /// Wait for the coordinator, at the longest for this many nanoseconds.
    Wait(Option<u64>),
    /// This replica has diverged or was halted; it must not run any further.
    Halt,
}

impl Kernel {
    /// True if this replica admits inputs itself at the next bubble's end.
    pub fn leads(&self, shared: &Shared) -> bool {
        let from = shared.control.lead_from.load(Ordering::SeqCst);
        from != FOLLOWER && from != CRANE_LEADER && self.sched.applied >= from
    }

    /// True if output is to be handed to the coordinator. Never part of deterministic state.
    pub fn emits(&self, shared: &Shared) -> bool {
        shared.control.lead_from.load(Ordering::Relaxed) != FOLLOWER
    }

    /// Called at every stop: at an operation with `tick >= stop_at` (`quiescent` false, the turn held), or with no
    /// runnable thread (`quiescent` true). `now` is the real clock, used by a leader alone.
    pub fn advance(&mut self, shared: &Shared, quiescent: bool, now: &dyn Fn() -> u64) -> Next {
        if shared.control.halt.load(Ordering::SeqCst) != 0 {
            return Next::Halt;
        }
        if self.sched.applied == 0 {
            return self.follow(shared, quiescent);
        }
        if quiescent && !shared.control.close_offer() {
            return self.follow_own(shared);
        }
        if self.leads(shared) {
            return self.lead(shared, quiescent, now);
        }
        self.follow(shared, quiescent)
    }

    /// True if the bubble was opened by this very leadership.
    pub(crate) fn owns_bubble(&self, shared: &Shared) -> bool {
        self.sched.bubble_ballot == shared.control.ballot.load(Ordering::Relaxed)
    }

    fn lead(&mut self, shared: &Shared, quiescent: bool, now: &dyn Fn() -> u64) -> Next {
        let wanted = shared.control.wanted.load(Ordering::Relaxed);
        // What follows the gap may have left under the leader that opened the bubble, whose thread was quicker: only its
        // own bubbles are a leader's to cut.
        let owns = self.owns_bubble(shared);
        let close = owns && wanted & crate::control::wanted::CLOSE != 0;
        let over = quiescent || self.sched.tick >= self.sched.bubble_end;
        if wanted != 0 {
            // An operation: whatever the watchdog saw is over.
            shared.control.wanted.store(0, Ordering::Relaxed);
        }
        let branch = if quiescent || !owns { 0 } else { self.take_suspect() };
        if !over && !close && branch == 0 {
            return Next::Run;
        }
        let ahead = self.sched.applied.saturating_sub(shared.control.committed.load(Ordering::SeqCst));
        if ahead >= MAX_SPECULATION_ENTRIES {
            return Next::Wait(None);
        }
        self.renew_pending_cursor(shared);
        let now = now();
        if !over || branch != 0 {
            let rest = self.sched.bubble_end.saturating_sub(self.sched.tick).max(1);
            self.admit(shared, EntryKind::Close, rest, now, Inline::spin_point(self.sched.turn, branch));
            return Next::Applied;
        }
        let input = shared.pending.tail() != self.sched.pending_cursor;
        if quiescent && !input {
            let wait = self.idle_wait(shared, now);
            if wait > 0 {
                match self.spin_wait(shared, now) {
                    Some((turns, 0)) if owns => {
                        self.note_allowed(turns);
                        self.admit(shared, EntryKind::Close, turns, now, None);
                        return Next::Applied;
                    }
                    // A bubble of its own first.
                    Some((_, 0)) => {}
                    spin => {
                        let wait = wait.min(spin.map_or(u64::MAX, |(_, wait)| wait));
                        self.open_offer(shared, self.next_grant(shared, true, now));
                        return Next::Wait((wait != u64::MAX).then_some(wait));
                    }
                }
            }
        }
        let grant = self.next_grant(shared, quiescent, now);
        self.sched.grant = grant;
        self.admit(shared, EntryKind::Bubble, grant, now, None);
        Next::Applied
    }

    /// Nanoseconds until a quiescent leader without input must make an entry; `u64::MAX` = until input comes.
    fn idle_wait(&mut self, shared: &Shared, now: u64) -> u64 {
        let timer = self.timers.earliest().map(|deadline| deadline.saturating_sub(now.max(self.clock())));
        let idle_since = shared.control.admitted_at.load(Ordering::Relaxed);
        let close = (self.sched.idle_closed == 0).then(|| (idle_since + IDLE_CLOSE_NS).saturating_sub(now));
        let wait = timer.unwrap_or(u64::MAX).min(close.unwrap_or(u64::MAX));
        if wait == 0 && timer != Some(0) {
            self.sched.idle_closed = 1;
        }
        wait
    }

    pub(crate) fn renew_pending_cursor(&mut self, shared: &Shared) {
        let from = shared.control.pending_from.load(Ordering::SeqCst);
        if self.sched.pending_epoch != from + 1 {
            self.sched.pending_epoch = from + 1;
            self.sched.pending_cursor = from;
        }
    }

    /// Adapts the grant so that a bubble lasts about [`BUBBLE_TARGET_NS`]. Only a bubble that was used up says anything.
    fn next_grant(&self, shared: &Shared, quiescent: bool, now: u64) -> u64 {
        // Among spinners a tick may take a millisecond, and inputs wait for the end of the bubble.
        let least = if self.sched.preemptions == 0 { MIN_GRANT_TICKS } else { 1 };
        let grant = self.sched.grant.max(least);
        if quiescent || self.sched.admitted_last == 0 {
            return grant;
        }
        let lasted = now.saturating_sub(shared.control.admitted_at.load(Ordering::Relaxed));
        let grant = if lasted < BUBBLE_TARGET_NS / 2 {
            grant * 2
        } else if lasted > BUBBLE_TARGET_NS * 2 {
            grant / 2
        } else {
            grant
        };
        grant.clamp(least, MAX_GRANT_TICKS)
    }

    /// What a quiescent leader lets waiting spinners do: turns, and how long it waits before, nanoseconds.
    fn spin_wait(&mut self, shared: &Shared, now: u64) -> Option<(u64, u64)> {
        let (turns, pause) = self.spin_pause()?;
        let since = shared.control.admitted_at.load(Ordering::Relaxed);
        Some((turns, (since + pause).saturating_sub(now)))
    }

    /// Makes the next entry out of all waiting inputs (none for `Preempt` and `Close`), applies it, tells the coordinator.
    pub(crate) fn admit(
        &mut self,
        shared: &Shared,
        kind: EntryKind,
        grant: u64,
        now: u64,
        alone: Option<Inline>,
    ) {
        let from = self.sched.pending_cursor;
        let (to, mut events_len, mut count) = match kind {
            EntryKind::Bubble => shared.pending_until(from),
            _ => (from, 0, 0),
        };
        let inline = alone.map(|event| event.header(self.sched.tick));
        let inline = inline.as_ref().map_or(&[][..], |event| event.as_bytes());
        if !inline.is_empty() {
            (events_len, count) = (EVENT_HEADER_BYTES, 1);
        }
        let header = EntryHeader {
            version: U32::new(LAYOUT_VERSION),
            kind: U16::new(kind as u16),
            reserved: U16::new(0),
            index: U64::new(self.sched.applied),
            stamp: U64::new(self.sched.tick),
            clock: U64::new(now.max(self.clock())),
            grant: U64::new(grant),
            ballot: U64::new(shared.control.ballot.load(Ordering::Relaxed)),
            event_count: U32::new(count),
            events_len: U32::new(events_len as u32),
        };
        shared.control.admitted_at.store(now, Ordering::Relaxed);
        self.report_digest(shared);
        self.upcall(
            shared,
            UpcallKind::Applied,
            [self.sched.applied, self.sched.tick, from, to],
            ADMITTED,
            &[header.as_bytes(), inline],
        );
        self.sched.admitted_last = 1;
        if count > 0 {
            self.sched.idle_closed = 0;
        }
        self.open_bubble(shared, &header);
        self.apply_pending(shared, from, to);
        if let Some(event) = alone {
            self.apply_inline(shared, event);
        }
        self.sched.pending_cursor = to;
        shared.control.pending_applied.store(to, Ordering::Release);
        self.fire_timers(shared);
    }

    /// The server has ended: a leader says with one more entry where, because a follower runs a bubble only when it knows
    /// the next entry, which it then takes note of.
    pub(crate) fn close_last(&mut self, shared: &Shared, now: u64) {
        // The coordinator has been told the digest at the end.
        self.sched.reported = 1;
        if self.leads(shared) {
            self.renew_pending_cursor(shared);
            self.admit(shared, EntryKind::Close, 1, now, None);
        } else if self.sched.crane == 0 {
            self.follow(shared, true);
        }
    }

    fn apply_pending(&mut self, shared: &Shared, from: u64, to: u64) {
        let mut at = from;
        while at < to {
            // SAFETY: the turn holder admits and is the only one who looks at the pending ring; the coordinator frees no frame beyond `pending_applied`.
            let Some(frame) = (unsafe { shared.pending.peek(at) }) else { break };
            let mut bytes = frame.body;
            while let Some(Ok(event)) = next_event(&mut bytes) {
                self.apply_event(shared, event);
            }
            at = frame.end;
        }
    }

    pub(crate) fn open_bubble(&mut self, shared: &Shared, header: &EntryHeader) {
        let clock = header.clock.get().max(self.clock());
        let kind = EntryKind::from_wire(header.kind.get());
        if kind == Some(EntryKind::Bubble) || kind == Some(EntryKind::Genesis) {
            self.sched.grant = header.grant.get();
        }
        self.allow_turns(match (kind, self.sched.turn) {
            (Some(EntryKind::Close), 0) => header.grant.get(),
            _ if self.sched.crane != 0 && header.event_count.get() == 0 => crate::spin_point::CRANE_TURNS,
            _ => 0,
        });
        self.sched.stamp = self.sched.tick;
        self.sched.clock = clock;
        self.sched.bubble_end = self.sched.tick + header.grant.get();
        self.sched.applied += 1;
        self.sched.reported = 0;
        self.sched.taken_last = 0;
        self.digest = crate::digest::mix(self.digest, clock, header.grant.get());
        let control = &shared.control;
        self.sched.bubble_ballot = header.ballot.get();
        control.bubble_ballot.store(header.ballot.get(), Ordering::Relaxed);
        control.applied.store(self.sched.applied, Ordering::Relaxed);
        self.publish(shared);
    }

    /// Where the current bubble must stop next: the tick for [`crate::sched::Scheduler::stop_at`], or `None` if a
    /// follower may not run yet because it does not know the next entry.
    pub fn bubble_stop(&self, shared: &Shared) -> Option<u64> {
        if self.sched.applied == 0 {
            return None;
        }
        if self.sched.crane != 0 || self.leads(shared) {
            return Some(self.sched.bubble_end);
        }
        Some(self.peek(shared)?.stamp)
    }

    pub(crate) fn report_digest(&mut self, shared: &Shared) {
        if self.sched.reported == 0 && self.sched.applied > 0 {
            self.sched.reported = 1;
            self.upcall(
                shared,
                UpcallKind::Digest,
                [self.sched.applied - 1, self.sched.tick, self.digest, 0],
                0,
                &[],
            );
        }
    }

    /// Writes an upcall. [`crate::call::Call`] made sure of room before the operation.
    pub fn upcall(&self, shared: &Shared, kind: UpcallKind, words: [u64; 4], flags: u16, payload: &[&[u8]]) {
        let len: usize = payload.iter().map(|part| part.len()).sum();
        let header = UpcallHeader {
            len: U32::new(len as u32),
            flags: U16::new(flags),
            reserved: U16::new(0),
            a: U64::new(words[0]),
            b: U64::new(words[1]),
            c: U64::new(words[2]),
            d: U64::new(words[3]),
        };
        let mut parts = [&[][..]; 4];
        parts[0] = header.as_bytes();
        parts[1..=payload.len()].copy_from_slice(payload);
        // SAFETY: the holder of the turn is the only producer of upcalls.
        let pushed = unsafe { shared.upcalls.push(kind as u32, &parts[..=payload.len()]) };
        assert!(pushed, "an operation wrote more upcalls than UPCALL_HEADROOM_BYTES");
    }

    /// Reports that this replica cannot go on.
    pub fn diverge(&mut self, shared: &Shared, why: &str) {
        shared.control.halt.store(1, Ordering::SeqCst);
        self.upcall(
            shared,
            UpcallKind::Diverged,
            [self.sched.applied, self.sched.tick, 0, 0],
            0,
            &[why.as_bytes()],
        );
    }
}
