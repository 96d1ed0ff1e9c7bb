//! The coordinator's end of the arena: push inputs and entries, read upcalls, set the role.
//!
//! One `Link` exists per arena and it is the only producer of the pending and entries rings and the only consumer of
//! the upcall ring. It makes no system call: [`Link::wants_wake`] tells the caller to `FUTEX_WAKE` (shared, not
//! private) [`Link::wake_word`].

use zerocopy::{FromBytes, IntoBytes};

use crate::atomic::{AtomicU32, Ordering};
use crate::bounds::{ENTRIES_RING_BYTES, PENDING_RING_BYTES, TRACE_RING_BYTES, UPCALL_RING_BYTES};
use crate::control::{ARENA_MAGIC, CRANE_LEADER, Control, FOLLOWER, offer};
use crate::entry::{EVENT_HEADER_BYTES, EventHeader};
use crate::replaced::FileRequest;
use crate::ring::{Corrupt, FRAME_HEADER_BYTES, Frame, Ring};
use crate::upcall::{UPCALL_HEADER_BYTES, UpcallHeader, UpcallKind};

/// The part of the arena that coordinator and server share; the scheduler's own state follows behind it.
#[repr(C, align(4096))]
pub struct Shared {
    /// Control words.
    pub control: Control,
    /// Inputs that wait for admission (leader). Frames: one event each, tag 0. Released by the coordinator.
    pub pending: Ring<PENDING_RING_BYTES>,
    /// Decided entries in index order. Frames: one entry each, tag 0. Released by the server.
    pub entries: Ring<ENTRIES_RING_BYTES>,
    /// Upcalls. Tag = [`UpcallKind`]. Released by the coordinator.
    pub upcalls: Ring<UPCALL_RING_BYTES>,
    /// Operations and calls of a traced replay, see [`crate::tracing`]. Released by the coordinator.
    pub trace: Ring<TRACE_RING_BYTES>,
    /// A file that init is to write.
    pub file: FileRequest,
}

/// An upcall, in place.
#[derive(Clone, Copy, Debug)]
pub struct Upcall<'a> {
    /// What it is.
    pub kind: UpcallKind,
    /// The head.
    pub header: &'a UpcallHeader,
    /// The payload, without padding.
    pub payload: &'a [u8],
    /// Pass it to [`Link::release_upcall`].
    pub end: u64,
}

/// See the module.
pub struct Link {
    shared: *const Shared,
    upcall_cursor: u64,
    /// Events before this cursor are in entries, or belong to no leadership.
    built: u64,
    damaged: bool,
}

// SAFETY: the pointer is to shared memory that outlives the Link (promise of `attach`); all access is by atomics and
// by rings of which the Link is the only user on this side.
unsafe impl Send for Link {}

impl Link {
    /// Takes the coordinator's end of the arena at `shared`.
    ///
    /// # Safety
    /// `shared` points to a mapped arena (fresh zeroes, or initialised by dmt) that outlives the Link, and no other
    /// Link to it exists.
    pub unsafe fn attach(shared: *const Shared) -> Self {
        // SAFETY: forwarded promise.
        let (upcall_cursor, built) = unsafe { ((*shared).upcalls.head(), (*shared).pending.head()) };
        Self { shared, upcall_cursor, built, damaged: false }
    }

    /// Marks a fresh arena (all zeroes) as usable: role follower, nothing committed.
    pub fn initialise(&mut self) {
        let control = self.control();
        control.lead_from.store(FOLLOWER, Ordering::SeqCst);
        control.magic.store(ARENA_MAGIC, Ordering::SeqCst);
    }

    /// Makes an arena that was copied at a checkpoint usable: the role is that of a follower, and what the coordinator of then
    /// wanted is forgotten. To be called before the server runs again.
    pub fn restored(&mut self) {
        let control = self.control();
        control.lead_from.store(FOLLOWER, Ordering::SeqCst);
        control.offer.store(offer::NONE, Ordering::SeqCst);
        let words = [
            &control.halt,
            &control.wanted,
            &control.corrupt_next,
            &control.coordinator_asleep,
            &control.freeing,
        ];
        for word in words {
            word.store(0, Ordering::SeqCst);
        }
        control.restores.fetch_add(1, Ordering::SeqCst);
    }

    /// True while the server sleeps until it gets another entry: it has applied `given` entries, which are all that it has,
    /// and the coordinator has read all that it told. Nothing of it moves then but by a new entry.
    pub fn is_parked(&self, given: u64) -> bool {
        let control = self.control();
        control.applied.load(Ordering::SeqCst) == given
            && control.server_idle.load(Ordering::SeqCst) != 0
            && self.shared().entries.is_empty()
            && !self.has_upcalls()
    }

    /// What both ends share. The reference does not borrow the Link: the arena outlives it.
    pub(crate) fn shared<'a>(&self) -> &'a Shared {
        // SAFETY: promise of `attach`.
        unsafe { &*self.shared }
    }

    /// Cursor behind the last event that is in an entry.
    pub(crate) fn pending_built(&self) -> u64 {
        self.built
    }

    /// The control words.
    pub fn control(&self) -> &Control {
        &self.shared().control
    }

    /// Queues one input event; false if the ring is full (the caller tries again after releasing upcalls).
    pub fn push_event(&mut self, header: &EventHeader, payload: &[u8]) -> bool {
        debug_assert_eq!(header.len.get() as usize, payload.len());
        self.reclaim();
        // SAFETY: the Link is the only producer of this ring, and &mut self makes it one thread.
        unsafe { self.shared().pending.push(0, &[header.as_bytes(), payload]) }
    }

    /// Whether [`Link::push_event`] would take an event with so many bytes of payload now.
    pub fn fits_event(&self, payload: usize) -> bool {
        self.reclaim();
        self.shared().pending.fits(EVENT_HEADER_BYTES + ((payload + 7) & !7))
    }

    /// Cursor behind the last event pushed.
    pub fn pending_tail(&self) -> u64 {
        self.shared().pending.tail()
    }

    /// Calls `each` with the bytes of every event frame in cursors `from..to`, in order: concatenated they are the
    /// events of an entry.
    pub fn pending_range(&self, from: u64, to: u64, mut each: impl FnMut(&[u8])) {
        let mut at = from;
        while at < to {
            // SAFETY: the range comes from an upcall, so its frames are published, and only `release_pending` frees them.
            let Ok(Some(frame)) = (unsafe { self.shared().pending.try_peek(at) }) else { break };
            each(frame.body);
            at = frame.end;
        }
    }

    /// Gives up the events before cursor `to`: they are in an entry now, or leadership was lost. Their room is used
    /// again once the server has applied them, too.
    pub fn release_pending(&mut self, to: u64) {
        self.built = to;
        self.reclaim();
    }

    fn reclaim(&self) {
        let applied = self.control().pending_applied.load(Ordering::Acquire);
        let to = self.built.min(applied);
        if to > self.shared().pending.head() {
            self.shared().pending.release(to);
        }
    }

    /// Queues one decided entry; false if the ring is full.
    pub fn push_entry(&mut self, entry: &[u8]) -> bool {
        // SAFETY: the Link is the only producer of this ring, and &mut self makes it one thread.
        unsafe { self.shared().entries.push(0, &[entry]) }
    }

    /// The next upcall not yet returned, without freeing it.
    pub fn next_upcall(&mut self) -> Option<Upcall<'_>> {
        // SAFETY: the Link is the only consumer; the cursor only moves to the end of frames that it got.
        match unsafe { (*self.shared).upcalls.try_peek(self.upcall_cursor) } {
            Ok(None) => return None,
            Ok(Some(frame)) => {
                if let Some(upcall) = parse_upcall(&frame) {
                    self.upcall_cursor = frame.end;
                    return Some(upcall);
                }
            }
            Err(Corrupt) => {}
        }
        self.damaged = true;
        None
    }

    /// The server overwrote memory that it shares with its coordinator: nothing that it says can be believed any more.
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Frees all upcalls up to `end`. The server waits when its ring is full, so free soon, and wake it then.
    pub fn release_upcall(&mut self, end: u64) {
        self.shared().upcalls.release(end);
    }

    /// True if an upcall is waiting.
    pub fn has_upcalls(&self) -> bool {
        self.shared().upcalls.tail() != self.upcall_cursor
    }

    /// Says that the caller is about to sleep; returns false if an upcall is waiting after all (then do not sleep).
    pub fn prepare_sleep(&self) -> bool {
        self.control().coordinator_sleeps(|| self.has_upcalls())
    }

    /// The coordinator looks for a kick instead of sleeping ([`Link::was_kicked`]); false if there are upcalls already.
    pub fn prepare_look(&self) -> bool {
        self.control().coordinator_looks(|| self.has_upcalls())
    }

    /// Whether the server has written upcalls since [`Link::prepare_look`] and wants them read.
    pub fn was_kicked(&self) -> bool {
        self.control().was_kicked()
    }

    /// Ends what [`Link::prepare_sleep`] or [`Link::prepare_look`] began.
    pub fn woke(&self) {
        self.control().coordinator_woke();
    }

    /// Makes all changes so far visible to an idle server; true if the caller must `FUTEX_WAKE` the wake word.
    #[must_use]
    pub fn wants_wake(&self) -> bool {
        self.control().must_wake()
    }

    /// The futex word that an idle server sleeps on.
    pub fn wake_word(&self) -> &AtomicU32 {
        &self.control().inbound
    }

    /// Publishes the commit index.
    pub fn set_committed(&self, count: u64) {
        self.control().committed.store(count, Ordering::SeqCst);
    }

    /// Prepares a leadership: inputs pushed before this call are not admitted, those pushed between this call and
    /// [`Link::lead`] are in the first entry.
    pub fn prepare_lead(&mut self) {
        let control = self.control();
        let tail = self.pending_tail();
        control.pending_from.store(tail, Ordering::SeqCst);
        control.pending_applied.store(tail, Ordering::SeqCst);
        self.built = tail;
    }

    /// Makes the server admit inputs from entry `from` on, under `ballot`. All entries below `from` must have been
    /// pushed, and [`Link::prepare_lead`] been called.
    pub fn lead(&mut self, from: u64, ballot: u64) {
        let control = self.control();
        control.forget_time();
        control.ballot.store(ballot, Ordering::SeqCst);
        control.lead_from.store(from, Ordering::SeqCst);
    }

    /// Makes the server emit its output without admitting anything: leadership under `--admission crane`, where the
    /// coordinator makes the entries and feeds them once they are committed.
    pub fn lead_crane(&self) {
        self.control().forget_time();
        self.control().lead_from.store(CRANE_LEADER, Ordering::SeqCst);
    }

    /// Stops admission. Entries that the server admitted and that come out of the upcall ring later were never
    /// proposed: the server's state is tainted then and must be rebuilt (I4).
    pub fn follow(&self) {
        self.control().lead_from.store(FOLLOWER, Ordering::SeqCst);
    }
}

fn parse_upcall<'a>(frame: &Frame<'a>) -> Option<Upcall<'a>> {
    let (header, rest) = UpcallHeader::ref_from_prefix(frame.body).ok()?;
    let payload = rest.get(..header.len.get() as usize)?;
    Some(Upcall { kind: UpcallKind::from_tag(frame.tag)?, header, payload, end: frame.end })
}

/// Bytes that an upcall with `payload` bytes takes in the ring at the most.
pub const fn upcall_frame_bytes(payload: usize) -> usize {
    FRAME_HEADER_BYTES + UPCALL_HEADER_BYTES + ((payload + 7) & !7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Server;
    use zerocopy::FromZeros;
    use zerocopy::little_endian::U32;

    fn log(link: &Link, tag: u32, claimed: u32) {
        let header = UpcallHeader { len: U32::new(claimed), ..UpcallHeader::new_zeroed() };
        // SAFETY: no server runs: this thread is the only producer.
        assert!(unsafe { link.shared().upcalls.push(tag, &[header.as_bytes(), b"eight by"]) });
    }

    #[test]
    fn what_a_server_with_wild_pointers_writes_is_noticed_and_not_believed() {
        for (tag, claimed) in [(UpcallKind::Log as u32, 9), (UpcallKind::Log as u32, u32::MAX), (0xdead, 8)] {
            let (_, mut link) = Server::leader(100);
            log(&link, UpcallKind::Log as u32, 8);
            log(&link, tag, claimed);
            assert!(link.next_upcall().is_some_and(|upcall| upcall.payload == b"eight by"));
            assert!(link.next_upcall().is_none() && link.is_damaged(), "{tag:x} {claimed}");
        }
        let (_, mut link) = Server::leader(100);
        log(&link, UpcallKind::Log as u32, 8);
        assert!(!link.is_damaged());
        link.upcall_cursor += 8;
        assert!(link.next_upcall().is_none() && link.is_damaged(), "not the start of a frame");
    }
}
