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
use crate::entry::{
    ENTRY_HEADER_BYTES, EVENT_HEADER_BYTES, Entry, EntryHeader, EntryKind, Event, EventHeader, EventKind,
    STAMP_AUTO, next_event,
};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::thread::ThreadId;
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

/// What the next decided entry is, as far as a follower must know it before it applies it.
#[derive(Clone, Copy)]
struct Peeked {
    stamp: u64,
    kind: EntryKind,
    /// Where the thread was, if it is a preemption.
    place: u64,
    /// That is the branch of a spin loop, where the thread is to be stopped.
    branch: bool,
}

/// An event that dmt makes itself, alone in its entry.
#[derive(Clone, Copy)]
struct Inline {
    kind: EventKind,
    thread: ThreadId,
    /// An address in the program.
    place: u64,
}

impl Inline {
    /// `None` without a branch.
    fn spin_point(thread: ThreadId, branch: u64) -> Option<Self> {
        (branch != 0).then_some(Self { kind: EventKind::SpinPoint, thread, place: branch })
    }

    fn of(event: &Event<'_>) -> Option<Self> {
        let kind = event.kind;
        matches!(kind, EventKind::Preempt | EventKind::SpinPoint).then(|| Self {
            kind,
            thread: event.header.arg.get() as ThreadId,
            place: event.header.connection.get(),
        })
    }

    fn header(&self, tick: u64) -> EventHeader {
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
    /// It used as much CPU time as a thread may, else it was only seen twice.
    pub spent: bool,
    /// It was so long that even the bubble of another leader may be cut. The watchdog may have measured a follower's,
    /// which has just become leader.
    pub inherited: bool,
    /// Real time.
    pub now: u64,
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
        if quiescent && !self.close_offer(shared) {
            return self.follow_own(shared);
        }
        if self.leads(shared) {
            return self.lead(shared, quiescent, now);
        }
        self.follow(shared, quiescent)
    }

    /// True if the bubble was opened by this very leadership.
    fn owns_bubble(&self, shared: &Shared) -> bool {
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
        if ahead >= MAX_SPECULATION_ENTRIES || !(stretch.spent || self.spins_on(stretch)) {
            return false;
        }
        self.renew_pending_cursor(shared);
        let rest = self.sched.bubble_end.saturating_sub(self.sched.tick).max(1);
        let inline = Inline { kind: EventKind::Preempt, thread: stretch.thread, place: stretch.place };
        self.admit(shared, EntryKind::Preempt, rest, stretch.now, Some(inline));
        true
    }

    /// A leader that recognises the loop around the thread makes the loop's branch a spin point, at the next operation or,
    /// if the thread has spent its limit, at the branch itself.
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
        let due = self.peek(shared).is_some_and(|next| {
            next.kind == EntryKind::Preempt
                && !next.branch
                && next.stamp == self.sched.tick
                && self.sched.turn == stretch.thread
                && (stretch.spent || self.sched.places.are_one(stretch.place, next.place))
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

    /// What a quiescent leader lets waiting spinners do: turns, and how long it waits before, nanoseconds.
    fn spin_wait(&mut self, shared: &Shared, now: u64) -> Option<(u64, u64)> {
        let (turns, pause) = self.spin_pause()?;
        let since = shared.control.admitted_at.load(Ordering::Relaxed);
        Some((turns, (since + pause).saturating_sub(now)))
    }

    /// Makes the next entry out of all waiting inputs (none for `Preempt` and `Close`), applies it, tells the coordinator.
    fn admit(&mut self, shared: &Shared, kind: EntryKind, grant: u64, now: u64, alone: Option<Inline>) {
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

    fn peek(&self, shared: &Shared) -> Option<Peeked> {
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
    fn follow_own(&mut self, shared: &Shared) -> Next {
        if !self.take_over_offer(shared) {
            return Next::Wait(None);
        }
        let next = self.follow(shared, true);
        self.sched.admitted_last = 1;
        self.sched.taken_last = 1;
        next
    }

    fn follow(&mut self, shared: &Shared, quiescent: bool) -> Next {
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

    fn open_bubble(&mut self, shared: &Shared, header: &EntryHeader) {
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

    fn apply_inline(&mut self, shared: &Shared, event: Inline) {
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

    fn report_digest(&mut self, shared: &Shared) {
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

/// The entry in a ring frame, whose body may be padded.
pub(crate) fn entry_of(body: &[u8]) -> Option<Entry<'_>> {
    let (header, rest) = zerocopy::Ref::<_, EntryHeader>::from_prefix(body).ok()?;
    let whole = ENTRY_HEADER_BYTES + header.events_len.get() as usize;
    if rest.len() + ENTRY_HEADER_BYTES < whole {
        return None;
    }
    Entry::parse(&body[..whole]).ok()
}
