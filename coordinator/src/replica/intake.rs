//! Where inputs for the server go: straight into its pending ring, or (crane) into the coordinator's own next entry.

use dmt::entry::{EventHeader, EventKind};
use dmt::link::Link;
use zerocopy::little_endian::{U16, U32, U64};

/// See the module.
pub trait Intake {
    /// Whether an event with so many bytes of payload would be taken now.
    fn has_room(&self, payload: usize) -> bool;
    /// Takes an event; false if there was no room.
    fn put(&mut self, header: &EventHeader, payload: &[u8]) -> bool;
}

impl Intake for Link {
    fn has_room(&self, payload: usize) -> bool {
        self.fits_event(payload)
    }

    fn put(&mut self, header: &EventHeader, payload: &[u8]) -> bool {
        self.push_event(header, payload)
    }
}

/// The head of an event.
pub fn event(kind: EventKind, connection: u64, sequence: u64, arg: u64, payload: usize) -> EventHeader {
    EventHeader {
        len: U32::new(payload as u32),
        kind: U16::new(kind as u16),
        reserved: U16::new(0),
        connection: U64::new(connection),
        sequence: U64::new(sequence),
        arg: U64::new(arg),
    }
}
