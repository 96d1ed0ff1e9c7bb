//! Admission in the place of a quiescent server.
//!
//! A leader's server that waits for inputs cannot move, so its coordinator can make the next entry for it: it knows the
//! logical time, the clock and the grant from the control page. The entry is on its way to the other replicas before the
//! server is even awake, which takes two hand-overs between processes out of the way of a lone request.
//!
//! The server offers this when it goes to sleep, and looks at what became of the offer before anything else. Exactly one
//! side makes the entry, by compare-and-swap on [`Control::offer`].

use core::sync::atomic::{Ordering, fence};

use zerocopy::little_endian::{U16, U32, U64};

use crate::bounds::{LAYOUT_VERSION, MAX_ENTRY_BYTES};
use crate::control::{Control, offer};
use crate::entry::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind};
use crate::kernel::Kernel;
use crate::link::{Link, Shared};

/// An entry that the coordinator makes in the place of its server.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Its header.
    pub header: EntryHeader,
    /// Its events are those of the pending ring from this cursor on,
    pub from: u64,
    /// up to this one.
    pub to: u64,
}

impl Link {
    /// Makes the next entry, number `index`, of the inputs that wait, if the server is quiescent and offers it; `now` is the
    /// real clock, nanoseconds. The caller has handled all upcalls, leads, and must pass the entry to
    /// [`Link::push_entry`], which has room for it, before it wakes the server.
    pub fn take_offer(&mut self, index: u64, now: u64) -> Option<Taken> {
        (self.shared().pending.tail() != self.pending_built() && self.claim_offer(index))
            .then(|| self.make_claimed(index, now))
    }

    /// As [`Link::take_offer`], with or without inputs, but for the entry, which [`Link::make_claimed`] makes later. The server is
    /// quiescent, and stays so until it has that entry. False if it does not offer it.
    pub fn claim_offer(&self, index: u64) -> bool {
        let (shared, control) = (self.shared(), self.control());
        control.offer.load(Ordering::Acquire) == offer::open(index)
            && shared.entries.is_empty()
            && !self.has_upcalls()
            && control.claim_offer(index)
    }

    /// Makes the entry after [`Link::claim_offer`], of the inputs that wait now.
    pub fn make_claimed(&mut self, index: u64, now: u64) -> Taken {
        let from = self.pending_built();
        let (shared, control) = (self.shared(), self.control());
        let now = control.leader_time(now);
        let (to, events_len, event_count) = shared.pending_until(from);
        let header = EntryHeader {
            version: U32::new(LAYOUT_VERSION),
            kind: U16::new(EntryKind::Bubble as u16),
            reserved: U16::new(0),
            index: U64::new(index),
            stamp: U64::new(control.tick.load(Ordering::Relaxed)),
            clock: U64::new(now),
            grant: U64::new(control.offered_grant.load(Ordering::Relaxed)),
            ballot: U64::new(control.ballot.load(Ordering::Relaxed)),
            event_count: U32::new(event_count),
            events_len: U32::new(events_len as u32),
        };
        control.admitted_at.store(now, Ordering::Relaxed);
        control.pending_applied.store(to, Ordering::Release);
        Taken { header, from, to }
    }
}

impl Control {
    /// The server, which has applied so many entries, goes to sleep: the coordinator may make the next one.
    pub fn open_offer(&self, applied: u64) {
        self.offer.store(offer::open(applied), Ordering::SeqCst);
    }

    /// The server takes back what it offered; false if the coordinator took it.
    pub fn close_offer(&self) -> bool {
        let seen = self.offer.load(Ordering::SeqCst);
        seen == offer::NONE
            || seen != offer::TAKEN
                && self.offer.compare_exchange(seen, offer::NONE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The coordinator takes the offer to make entry `index`; false if that is not offered (any more).
    pub fn claim_offer(&self, index: u64) -> bool {
        let open = offer::open(index);
        self.offer.compare_exchange(open, offer::TAKEN, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

impl Shared {
    /// The end of the inputs from cursor `from` on that fit one entry: cursor, bytes, events. For the one side that
    /// admits now.
    pub(crate) fn pending_until(&self, from: u64) -> (u64, usize, u32) {
        let (mut at, mut bytes, mut count) = (from, 0, 0);
        // SAFETY: whoever admits is the only one who looks at the pending ring; the cursor is a frame's end or the
        // ring's tail at the time of `Link::lead`.
        while let Some(frame) = unsafe { self.pending.peek(at) } {
            if ENTRY_HEADER_BYTES + bytes + frame.body.len() > MAX_ENTRY_BYTES {
                break;
            }
            bytes += frame.body.len();
            count += 1;
            at = frame.end;
        }
        (at, bytes, count)
    }
}

impl Kernel {
    /// The server goes to sleep as a quiescent leader: its coordinator may make the next entry, with this grant.
    pub(crate) fn open_offer(&self, shared: &Shared, grant: u64) {
        shared.control.offered_grant.store(grant, Ordering::Relaxed);
        shared.control.open_offer(self.sched.applied);
    }

    /// True if all that the coordinator has not read comes from the bubble of an undecided entry which it made itself:
    /// it need not be woken, for it looks when that is decided.
    pub(crate) fn waits_for_decision(&self, shared: &Shared) -> bool {
        // Against the coordinator, which says that it is decided before it looks for upcalls a last time.
        fence(Ordering::SeqCst);
        self.sched.taken_last != 0 && shared.control.committed.load(Ordering::SeqCst) < self.sched.applied
    }

    /// Takes over the entry that the coordinator made, once it is in the ring; false = not yet.
    pub(crate) fn take_over_offer(&mut self, shared: &Shared) -> bool {
        if shared.entries.is_empty() {
            return false;
        }
        shared.control.offer.store(offer::NONE, Ordering::SeqCst);
        self.renew_pending_cursor(shared);
        self.sched.pending_cursor = shared.control.pending_applied.load(Ordering::Acquire);
        true
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::admission::Next;
    use crate::control::FOLLOWER;
    use crate::entry::{EventHeader, EventKind};
    use crate::testing::Server;

    const NOW: u64 = 1_700_000_001_000_000_000;

    /// A leader that applied entry 0 and an empty one because it was idle for long, and went to sleep: nobody is runnable.
    fn quiescent() -> (Server, Link) {
        let (server, mut link) = Server::leader(100);
        assert_eq!(advance(&server), Next::Applied, "entry 0");
        assert_eq!(advance(&server), Next::Applied, "entry 1");
        link.set_committed(2);
        assert_eq!(advance(&server), Next::Wait(None));
        read_upcalls(&mut link);
        (server, link)
    }

    fn advance(server: &Server) -> Next {
        // SAFETY: no thread of the server runs.
        let kernel = unsafe { &mut *server.arena.kernel() };
        kernel.advance(&server.arena.shared, true, &|| NOW)
    }

    fn read_upcalls(link: &mut Link) {
        while let Some(end) = link.next_upcall().map(|upcall| upcall.end) {
            link.release_upcall(end);
        }
    }

    /// An input for a connection that does not exist: it changes nothing, and counts.
    fn push(link: &mut Link) {
        let header = EventHeader {
            len: U32::new(0),
            kind: U16::new(EventKind::PeerClosed as u16),
            reserved: U16::new(0),
            connection: U64::new(77),
            sequence: U64::new(1),
            arg: U64::new(0),
        };
        assert!(link.push_event(&header, &[]));
    }

    fn take(link: &mut Link) -> Vec<u8> {
        let taken = link.take_offer(2, NOW + 5).expect("the server offers it");
        let mut value = taken.header.as_bytes().to_vec();
        link.pending_range(taken.from, taken.to, |event| value.extend_from_slice(event));
        link.release_pending(taken.to);
        value
    }

    #[test]
    fn the_coordinator_makes_the_entry_of_a_quiescent_leader() {
        let (server, mut link) = quiescent();
        assert!(link.take_offer(2, NOW).is_none(), "no input waits");
        push(&mut link);
        push(&mut link);
        assert!(link.take_offer(3, NOW).is_none(), "that is not the server's next entry");
        let value = take(&mut link);
        let entry = crate::entry::Entry::parse(&value).expect("a whole entry");
        assert_eq!((entry.header.index.get(), entry.header.event_count.get()), (2, 2));
        assert_eq!((entry.header.clock.get(), entry.header.ballot.get()), (NOW + 5, 1));
        assert!(matches!(advance(&server), Next::Wait(None)), "it waits for what the coordinator makes");
        assert!(link.push_entry(&value));
        assert_eq!(advance(&server), Next::Applied);
        assert_eq!(link.control().applied.load(Ordering::SeqCst), 3);
        // The inputs are used up: the next entry is again somebody's to make.
        link.set_committed(3);
        read_upcalls(&mut link);
        assert!(matches!(advance(&server), Next::Wait(Some(_))));
        read_upcalls(&mut link);
        assert!(link.take_offer(3, NOW).is_none());
        push(&mut link);
        assert!(link.take_offer(3, NOW).is_some());
    }

    #[test]
    fn a_server_that_wakes_first_makes_the_entry_itself() {
        let (server, mut link) = quiescent();
        push(&mut link);
        assert_eq!(advance(&server), Next::Applied);
        read_upcalls(&mut link);
        assert!(link.take_offer(3, NOW).is_none(), "its offer was withdrawn");
    }

    #[test]
    fn both_ways_lead_to_the_same_state() {
        let digest = |server: &Server| {
            // SAFETY: no thread of the server runs.
            unsafe { (*server.arena.kernel()).digest }
        };
        let (alone, mut link) = quiescent();
        push(&mut link);
        assert_eq!(advance(&alone), Next::Applied);
        let (other, mut link) = quiescent();
        push(&mut link);
        let taken = link.take_offer(2, NOW).expect("the server offers it");
        let mut value = taken.header.as_bytes().to_vec();
        link.pending_range(taken.from, taken.to, |event| value.extend_from_slice(event));
        assert!(link.push_entry(&value));
        assert_eq!(advance(&other), Next::Applied);
        assert_eq!(digest(&alone), digest(&other));
    }

    #[test]
    fn a_claimed_offer_keeps_the_server_asleep_until_it_has_an_entry() {
        let (server, mut link) = quiescent();
        assert!(link.claim_offer(2) && !link.claim_offer(2));
        push(&mut link);
        assert_eq!(advance(&server), Next::Wait(None), "neither inputs nor timers move it");
        let taken = link.make_claimed(2, NOW + 7);
        assert_eq!((taken.header.event_count.get(), taken.header.clock.get()), (1, NOW + 7));
        let mut value = taken.header.as_bytes().to_vec();
        link.pending_range(taken.from, taken.to, |event| value.extend_from_slice(event));
        assert!(link.push_entry(&value));
        assert_eq!(advance(&server), Next::Applied);
        // Without inputs, too.
        link.release_pending(taken.to);
        link.set_committed(3);
        read_upcalls(&mut link);
        assert!(matches!(advance(&server), Next::Wait(_)));
        read_upcalls(&mut link);
        assert!(link.claim_offer(3));
        let taken = link.make_claimed(3, NOW + 8);
        assert_eq!((taken.header.event_count.get(), taken.from), (0, taken.to));
        assert!(link.push_entry(taken.header.as_bytes()));
        assert_eq!(advance(&server), Next::Applied);
    }

    #[test]
    fn a_leader_that_was_deposed_still_takes_the_entry_that_was_made_for_it() {
        let (server, mut link) = quiescent();
        push(&mut link);
        let value = take(&mut link);
        assert!(link.push_entry(&value));
        link.follow();
        assert_eq!(link.control().lead_from.load(Ordering::SeqCst), FOLLOWER);
        assert_eq!(advance(&server), Next::Applied);
        assert_eq!(link.control().offer.load(Ordering::SeqCst), offer::NONE);
    }
}
