//! Output commit: bytes for clients wait here until every input that they may depend on is decided (I3).
//!
//! The server's outputs come in the order of its logical time, so one queue in that order is enough: an item tagged
//! with entry `i` leaves when more than `i` entries are committed, and never before an item in front of it. The bytes
//! themselves stand in one buffer for each connection, so that a release is one `write` for each connection.
//!
//! Pure: no sockets, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::datagrams::Datagram;

/// What the server did to its sending side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// So many more bytes were written.
    Bytes(usize),
    /// The server sends no more; `reset` = the connection is to be reset.
    End {
        /// Send RST instead of FIN.
        reset: bool,
    },
    /// The server dropped the connection.
    Closed,
    /// The server wants the connection to be made.
    Dial,
    /// A datagram leaves.
    Datagram,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    entry: u64,
    connection: u64,
    item: Item,
}

/// The outputs of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Bytes at the front that the kernel took already.
    taken: usize,
    /// Bytes at the front that are released.
    released: usize,
    /// The server's end of the stream is released, too.
    pub end: Option<bool>,
    /// The server dropped the connection, and that is released.
    pub closed: bool,
}

impl Outbox {
    /// Bytes that may be written to the client now.
    pub fn ready(&self) -> &[u8] {
        &self.bytes[self.taken..self.released]
    }

    /// Takes `count` bytes of [`Outbox::ready`] away.
    pub fn take(&mut self, count: usize) {
        assert!(self.taken + count <= self.released, "took unreleased output");
        self.taken += count;
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
            self.released = 0;
            self.bytes.shrink_to(KEEP_BYTES);
        } else if self.taken >= COMPACT_BYTES && self.taken * 2 >= self.bytes.len() {
            self.bytes.drain(..self.taken);
            self.released -= self.taken;
            self.taken = 0;
        }
    }

    /// Bytes that wait for commit or for the client.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An empty outbox keeps this much memory, bytes.
const KEEP_BYTES: usize = 4096;
/// Bytes already taken at the front of an outbox before they are cut off.
const COMPACT_BYTES: usize = 32 * 1024;

/// Bytes of datagrams that may wait for their entries to be decided; more are lost.
const MAX_DATAGRAM_BYTES: usize = 16 << 20;

/// All outputs that this leader has not given to the kernel yet.
#[derive(Debug, Default)]
pub struct Outputs {
    queue: VecDeque<Held>,
    boxes: BTreeMap<u64, Outbox>,
    /// Connections to be made, in the order of their items in the queue.
    dials: VecDeque<(u64, SocketAddr)>,
    /// Of these, those at the front that are released.
    dials_released: usize,
    /// As `dials`.
    datagrams: VecDeque<Datagram>,
    datagrams_released: usize,
    datagram_bytes: usize,
    committed: u64,
}

impl Outputs {
    /// Starts to keep outputs of `connection`. Outputs of unknown connections are dropped: they belong to another
    /// leader's clients.
    pub fn open(&mut self, connection: u64) {
        self.boxes.insert(connection, Outbox::default());
    }

    /// Forgets `connection` and all that waits for it.
    pub fn drop_connection(&mut self, connection: u64) {
        self.boxes.remove(&connection);
    }

    /// Forgets everything: leadership ended.
    pub fn clear(&mut self) {
        *self = Self { committed: self.committed, ..Self::default() };
    }

    /// Takes bytes that the server wrote in the bubble of `entry`.
    pub fn push_bytes(&mut self, entry: u64, connection: u64, bytes: &[u8]) {
        let Some(outbox) = self.boxes.get_mut(&connection) else { return };
        outbox.bytes.extend_from_slice(bytes);
        match self.queue.back_mut() {
            Some(Held { entry: e, connection: c, item: Item::Bytes(n) })
                if *e == entry && *c == connection =>
            {
                *n += bytes.len();
            }
            _ => self.queue.push_back(Held { entry, connection, item: Item::Bytes(bytes.len()) }),
        }
    }

    /// Takes the end of the stream or the closing of `connection`, which happened in the bubble of `entry`.
    pub fn push_mark(&mut self, entry: u64, connection: u64, item: Item) {
        if self.boxes.contains_key(&connection) {
            self.queue.push_back(Held { entry, connection, item });
        }
    }

    /// The server asked in the bubble of `entry` for `connection` to a host: keeps its outputs from now on.
    pub fn push_dial(&mut self, entry: u64, connection: u64, to: SocketAddr) {
        self.open(connection);
        self.dials.push_back((connection, to));
        self.queue.push_back(Held { entry, connection, item: Item::Dial });
    }

    /// Takes a datagram that the server sent in the bubble of `entry`; it is lost if too many wait.
    pub fn push_datagram(&mut self, entry: u64, datagram: Datagram) {
        if self.datagram_bytes + datagram.bytes.len() > MAX_DATAGRAM_BYTES {
            return;
        }
        self.datagram_bytes += datagram.bytes.len();
        self.datagrams.push_back(datagram);
        self.queue.push_back(Held { entry, connection: 0, item: Item::Datagram });
    }

    /// Takes the connections that may be made now.
    pub fn take_dials(&mut self) -> impl Iterator<Item = (u64, SocketAddr)> {
        self.dials.drain(..std::mem::take(&mut self.dials_released))
    }

    /// True if datagrams may leave.
    pub fn has_datagrams(&self) -> bool {
        self.datagrams_released > 0
    }

    /// Takes the datagrams that may leave now.
    pub fn take_datagrams(&mut self) -> impl Iterator<Item = Datagram> {
        let count = std::mem::take(&mut self.datagrams_released);
        let bytes = self.datagrams.iter().take(count).map(|datagram| datagram.bytes.len());
        self.datagram_bytes -= bytes.sum::<usize>();
        self.datagrams.drain(..count)
    }

    /// `committed` entries are decided: releases what waited for them and calls `changed` for each connection with
    /// something new, possibly more than once.
    pub fn release(&mut self, committed: u64, mut changed: impl FnMut(u64)) {
        self.committed = self.committed.max(committed);
        while let Some(held) = self.queue.front().copied().filter(|h| h.entry < self.committed) {
            self.queue.pop_front();
            match held.item {
                Item::Dial => self.dials_released += 1,
                Item::Datagram => self.datagrams_released += 1,
                _ => {}
            }
            let Some(outbox) = self.boxes.get_mut(&held.connection) else { continue };
            match held.item {
                Item::Bytes(count) => outbox.released += count,
                Item::End { reset } => outbox.end = Some(reset),
                Item::Closed => outbox.closed = true,
                Item::Dial | Item::Datagram => continue,
            }
            changed(held.connection);
        }
    }

    /// The outbox of `connection`.
    pub fn get_mut(&mut self, connection: u64) -> Option<&mut Outbox> {
        self.boxes.get_mut(&connection)
    }

    /// Items that wait for commit.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(outputs: &mut Outputs, committed: u64) -> Vec<u64> {
        let mut all = Vec::new();
        outputs.release(committed, |c| all.push(c));
        all
    }

    #[test]
    fn nothing_leaves_before_its_entry_is_committed() {
        let mut outputs = Outputs::default();
        outputs.open(7);
        outputs.push_bytes(3, 7, b"early");
        assert!(released(&mut outputs, 3).is_empty(), "entries 0..=2 are committed, entry 3 is not");
        assert!(outputs.get_mut(7).unwrap().ready().is_empty());
        assert_eq!(released(&mut outputs, 4), [7]);
        assert_eq!(outputs.get_mut(7).unwrap().ready(), b"early");
    }

    #[test]
    fn only_the_committed_part_of_a_connection_is_ready() {
        let mut outputs = Outputs::default();
        outputs.open(7);
        outputs.push_bytes(1, 7, b"one");
        outputs.push_bytes(2, 7, b"two");
        outputs.push_mark(2, 7, Item::End { reset: false });
        outputs.push_mark(2, 7, Item::Closed);
        released(&mut outputs, 2);
        let outbox = outputs.get_mut(7).unwrap();
        assert_eq!(outbox.ready(), b"one");
        outbox.take(3);
        assert_eq!(outbox.end, None);
        assert!(!outbox.closed);
        released(&mut outputs, 3);
        let outbox = outputs.get_mut(7).unwrap();
        assert_eq!((outbox.ready(), outbox.end, outbox.closed), (&b"two"[..], Some(false), true));
    }

    #[test]
    fn a_commit_index_that_comes_late_or_twice_changes_nothing() {
        let mut outputs = Outputs::default();
        outputs.open(7);
        released(&mut outputs, 10);
        outputs.push_bytes(4, 7, b"x");
        assert_eq!(released(&mut outputs, 5), [7], "the known commit index does not go back");
        assert!(released(&mut outputs, 5).is_empty());
    }

    #[test]
    fn outputs_of_unknown_or_dropped_connections_vanish() {
        let mut outputs = Outputs::default();
        outputs.push_bytes(1, 9, b"not mine");
        outputs.open(7);
        outputs.push_bytes(1, 7, b"mine");
        outputs.drop_connection(7);
        assert!(released(&mut outputs, 5).is_empty());
        assert_eq!(outputs.waiting(), 0);
    }

    #[test]
    fn taking_in_pieces_keeps_the_order_and_the_memory_small() {
        let mut outputs = Outputs::default();
        outputs.open(1);
        let mut taken = Vec::new();
        for round in 0..1000u64 {
            outputs.push_bytes(round, 1, &[round as u8; 300]);
            outputs.release(round + 1, |_| {});
            let outbox = outputs.get_mut(1).unwrap();
            let count = outbox.ready().len().min(299);
            taken.extend_from_slice(&outbox.ready()[..count]);
            outbox.take(count);
        }
        let outbox = outputs.get_mut(1).unwrap();
        assert_eq!(outbox.len(), 1000);
        taken.extend_from_slice(outbox.ready());
        let expected: Vec<u8> = (0..1000u64).flat_map(|r| [r as u8; 300]).collect();
        assert_eq!(taken, expected);
    }
}
