//! Client connections by id: a fixed open-addressing table, and the ids that were closed last.

use crate::bounds::MAX_CONNECTIONS;
use crate::file::FileId;

/// Slots of the table; twice the bound, so that probes stay short.
pub(crate) const SLOTS: usize = (MAX_CONNECTIONS * 2).next_power_of_two();
/// Closed connections that are remembered, so that a repeated `Connect` of one is known as such.
const REMEMBERED: usize = 256;

#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    connection: u64,
    file: FileId,
}

/// The table. All zeroes is an empty one; connection 0 does not exist.
#[repr(C)]
pub struct Connections {
    slots: [Slot; SLOTS],
    len: u32,
    gone: u32,
    /// Those whose client sent something and got nothing since.
    pub(crate) asking: u32,
    closed: [u64; REMEMBERED],
}

fn home(connection: u64) -> usize {
    (connection.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % SLOTS
}

impl Connections {
    /// The file of a connection.
    pub(crate) fn find(&self, connection: u64) -> Option<FileId> {
        let mut at = home(connection);
        while self.slots[at].file != 0 {
            if self.slots[at].connection == connection {
                return Some(self.slots[at].file);
            }
            at = (at + 1) % SLOTS;
        }
        None
    }

    /// What is in a slot of the table.
    pub(crate) fn at(&self, slot: usize) -> Option<(u64, FileId)> {
        let Slot { connection, file } = self.slots[slot];
        (file != 0).then_some((connection, file))
    }

    /// True if no more connections fit.
    pub(crate) fn is_full(&self) -> bool {
        self.len as usize == MAX_CONNECTIONS
    }

    /// True if this connection was closed not long ago.
    pub(crate) fn was_closed(&self, connection: u64) -> bool {
        self.closed.contains(&connection)
    }

    /// Enters a connection. The caller has looked that the table is not full and the connection not in it.
    pub(crate) fn insert(&mut self, connection: u64, file: FileId) {
        debug_assert!(!self.is_full());
        let mut at = home(connection);
        while self.slots[at].file != 0 {
            at = (at + 1) % SLOTS;
        }
        self.slots[at] = Slot { connection, file };
        self.len += 1;
    }

    /// Takes a connection out, and closes the gap in its chain of probes.
    pub(crate) fn remove(&mut self, connection: u64) {
        let mut at = home(connection);
        while self.slots[at].connection != connection || self.slots[at].file == 0 {
            if self.slots[at].file == 0 {
                return;
            }
            at = (at + 1) % SLOTS;
        }
        let mut next = (at + 1) % SLOTS;
        while self.slots[next].file != 0 {
            let wanted = home(self.slots[next].connection);
            if (next + SLOTS - wanted) % SLOTS >= (next + SLOTS - at) % SLOTS {
                self.slots[at] = self.slots[next];
                at = next;
            }
            next = (next + 1) % SLOTS;
        }
        self.slots[at].file = 0;
        self.len -= 1;
        self.closed[self.gone as usize % REMEMBERED] = connection;
        self.gone = self.gone.wrapping_add(1);
    }
}
