//! `--admission crane`: order first, execute after. The baseline that the design is held against.
//!
//! Inputs become an entry at once, with no bubble of their own. While no input comes for [`SILENCE_NS`] and the server
//! wants to run, an entry grants it [`BUBBLE_TICKS`]. All servers run decided entries only.

use std::sync::Arc;

use dmt::bounds::{LAYOUT_VERSION, MAX_ENTRY_BYTES};
use dmt::entry::{
    ENTRY_HEADER_BYTES, EVENT_HEADER_BYTES, EntryHeader, EntryKind, EventHeader, EventKind, STAMP_AUTO,
    padded,
};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::intake::Intake;

/// Silence before a bubble, nanoseconds.
pub const SILENCE_NS: u64 = 100_000;
/// Ticks of a bubble.
pub const BUBBLE_TICKS: u64 = 1000;
/// A quiescent server gets an empty entry this often, so that its timers can fire, nanoseconds.
pub const IDLE_NS: u64 = 10_000_000;

/// What the server does, as far as bubbles depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// All entries are decided and applied.
    pub settled: bool,
    /// No thread of the server can run.
    pub quiescent: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Crane {
    events: Vec<u8>,
    count: u32,
    last_ns: u64,
    /// Spin points to be ordered.
    points: Vec<SpinPoint>,
}

/// A spin loop that the server has reported; see [`dmt::upcall::UpcallKind::SpinPoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpinPoint {
    /// Address of the branch.
    pub branch: u64,
    /// Thread that was seen.
    pub thread: u64,
    /// Where it takes effect, a tick or `STAMP_AUTO`.
    pub stamp: u64,
}

impl Crane {
    /// Drops what waits.
    pub fn clear(&mut self) {
        self.events.clear();
        self.count = 0;
    }

    /// Drops the spin points that wait, too: another leader's server will see them again.
    pub fn reset(&mut self) {
        self.clear();
        self.points.clear();
    }

    /// Takes a spin point to be ordered.
    pub fn add_point(&mut self, point: SpinPoint) {
        if !self.points.contains(&point) {
            self.points.push(point);
        }
    }

    /// True if a spin point waits to be ordered.
    pub fn has_point(&self) -> bool {
        !self.points.is_empty()
    }

    /// The entry of a spin point to propose now, if any.
    pub fn next_point(&mut self, index: u64, ballot: u64, clock: u64) -> Option<Arc<[u8]>> {
        let point = self.points.pop()?;
        let event = EventHeader {
            len: U32::new(0),
            kind: U16::new(EventKind::SpinPoint as u16),
            reserved: U16::new(0),
            connection: U64::new(point.branch),
            sequence: U64::new(0),
            arg: U64::new(point.thread),
        };
        let mut header = header(EntryKind::Preempt, index, ballot, clock);
        header.stamp = U64::new(point.stamp);
        (header.event_count, header.events_len) = (U32::new(1), U32::new(EVENT_HEADER_BYTES as u32));
        Some([header.as_bytes(), event.as_bytes()].concat().into())
    }

    /// The grant of the entry to propose now, if any.
    pub fn due(&self, now_ns: u64, situation: Situation) -> Option<u64> {
        if self.count > 0 {
            return Some(0);
        }
        (self.deadline(situation)? <= now_ns).then_some(BUBBLE_TICKS)
    }

    /// When a bubble is due; `None` while one is under way.
    pub fn deadline(&self, situation: Situation) -> Option<u64> {
        let pause = if situation.quiescent { IDLE_NS } else { SILENCE_NS };
        situation.settled.then_some(self.last_ns + pause)
    }

    /// Builds the entry of all that waits.
    pub fn build(&mut self, now_ns: u64, index: u64, ballot: u64, clock: u64, grant: u64) -> Arc<[u8]> {
        let mut header = header(EntryKind::Bubble, index, ballot, clock);
        header.grant = U64::new(grant);
        (header.event_count, header.events_len) = (U32::new(self.count), U32::new(self.events.len() as u32));
        let value = [header.as_bytes(), &self.events].concat();
        self.clear();
        self.last_ns = now_ns;
        value.into()
    }
}

/// The head of an entry without events or grant, to be applied where the bubble before it ends.
fn header(kind: EntryKind, index: u64, ballot: u64, clock: u64) -> EntryHeader {
    EntryHeader {
        version: U32::new(LAYOUT_VERSION),
        kind: U16::new(kind as u16),
        reserved: U16::new(0),
        index: U64::new(index),
        stamp: U64::new(STAMP_AUTO),
        clock: U64::new(clock),
        grant: U64::new(0),
        ballot: U64::new(ballot),
        event_count: U32::new(0),
        events_len: U32::new(0),
    }
}

impl Intake for Crane {
    fn has_room(&self, payload: usize) -> bool {
        ENTRY_HEADER_BYTES + self.events.len() + EVENT_HEADER_BYTES + padded(payload) <= MAX_ENTRY_BYTES
    }

    fn put(&mut self, header: &EventHeader, payload: &[u8]) -> bool {
        if !self.has_room(payload.len()) {
            return false;
        }
        self.events.extend_from_slice(header.as_bytes());
        self.events.extend_from_slice(payload);
        self.events.resize(padded(self.events.len()), 0);
        self.count += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::intake::event;
    use dmt::entry::Entry;

    #[test]
    fn inputs_go_at_once_and_bubbles_only_after_silence() {
        let mut crane = Crane::default();
        let busy = Situation { settled: true, quiescent: false };
        crane.build(1000, 1, 1, 1, 0);
        assert_eq!(crane.due(1000 + SILENCE_NS - 1, busy), None);
        assert_eq!(crane.due(1000 + SILENCE_NS, busy), Some(BUBBLE_TICKS));
        assert_eq!(crane.due(1000 + SILENCE_NS, Situation { settled: false, ..busy }), None);
        assert_eq!(crane.due(1000 + SILENCE_NS, Situation { quiescent: true, ..busy }), None);
        assert!(crane.put(&event(EventKind::Data, 9, 1, 0, 3), b"abc"));
        assert_eq!(crane.due(1000, busy), Some(0));
        let value = crane.build(2000, 2, 1, 1, 0);
        let entry = Entry::parse(&value).unwrap();
        assert_eq!(entry.events().next().unwrap().payload, b"abc");
        assert_eq!(crane.due(2001, busy), None);
    }

    #[test]
    fn an_entry_never_exceeds_its_bound() {
        let mut crane = Crane::default();
        while crane.put(&event(EventKind::Data, 9, 1, 0, 60_001), &[7; 60_001]) {}
        let value = crane.build(0, 1, 1, 1, 0);
        assert!(Entry::parse(&value).is_ok());
    }

    #[test]
    fn a_spin_point_is_an_entry_of_its_own() {
        let mut crane = Crane::default();
        let point = SpinPoint { branch: 0x40_1000, thread: 3, stamp: 77 };
        crane.add_point(point);
        crane.add_point(point);
        let value = crane.next_point(5, 1, 9).expect("one waits");
        let entry = Entry::parse(&value).unwrap();
        assert_eq!((entry.kind(), entry.header.stamp.get()), (EntryKind::Preempt, 77));
        let event = entry.events().next().expect("an event");
        assert_eq!((event.kind, event.header.connection.get()), (EventKind::SpinPoint, 0x40_1000));
        assert!(crane.next_point(6, 1, 9).is_none());
    }
}
