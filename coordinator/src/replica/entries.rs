//! What the server was given: which entries, whether they are decided, and which connections live because of them.
//!
//! A leader's server applies entries before they are decided, and so does the server of a new leader that proposes its
//! predecessor's entries again. Each such value is kept until its index is decided; if another one is decided there, the
//! server's state is worthless and must be rebuilt (I4). Pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dmt::entry::{ENTRY_HEADER_BYTES, EntryHeader, EventKind, next_event};
use zerocopy::FromBytes;

/// See the module.
#[derive(Debug, Default)]
pub struct Given {
    next: u64,
    undecided: VecDeque<(u64, Arc<[u8]>)>,
    alive: BTreeMap<u64, u64>,
}

/// Another value was decided than the one that the server applied at this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tainted {
    /// The index.
    pub index: u64,
}

impl Given {
    /// Of a server that has applied all entries before `next`, which are decided, and has these connections.
    pub fn restored(next: u64, connections: &[(u64, u64)]) -> Self {
        Self { next, undecided: VecDeque::new(), alive: connections.iter().copied().collect() }
    }

    /// Index of the entry that the server needs next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The server has (or admitted) the entry `next`.
    pub fn give(&mut self, value: &Arc<[u8]>, decided: bool) {
        self.track(value);
        if !decided {
            self.undecided.push_back((self.next, value.clone()));
        }
        self.next += 1;
    }

    /// Whether the decision at `index` matters to the server.
    pub fn waits_for(&self, index: u64) -> bool {
        self.undecided.front().is_some_and(|(first, _)| *first == index)
    }

    /// `value` is decided at `index`.
    pub fn decide(&mut self, index: u64, value: Option<&Arc<[u8]>>) -> Result<(), Tainted> {
        let Some((first, mine)) = self.undecided.front() else { return Ok(()) };
        if *first != index {
            return Ok(());
        }
        let same = value.is_some_and(|value| Arc::ptr_eq(value, mine) || value == mine);
        self.undecided.pop_front();
        if same { Ok(()) } else { Err(Tainted { index }) }
    }

    /// The first undecided entry that the server applied, if it stands before `from`: the log went on from there behind a checkpoint of
    /// another replica, and nobody will say any more whether it was decided.
    pub fn overtaken(&self, from: u64) -> Option<Tainted> {
        self.undecided.front().filter(|(index, _)| *index < from).map(|(index, _)| Tainted { index: *index })
    }

    /// Whether every undecided entry that the server applied stands in the log, of which `entry` is one. If not, a leader
    /// must not build on its server's state: nobody else will ever be in it.
    pub fn is_in_log<'a>(&self, entry: impl Fn(u64) -> Option<&'a Arc<[u8]>>) -> bool {
        self.undecided.iter().all(|(index, mine)| entry(*index) == Some(mine))
    }

    /// Connections that were opened by an entry and that neither an entry nor the server closed, with the sequence
    /// number of their next event.
    pub fn alive(&self) -> impl Iterator<Item = (u64, u64)> {
        self.alive.iter().map(|(&connection, &sequence)| (connection, sequence))
    }

    /// The server dropped `connection`.
    pub fn closed(&mut self, connection: u64) {
        self.alive.remove(&connection);
    }

    fn track(&mut self, value: &[u8]) {
        let genesis = self.next == 0;
        let Some(mut events) = value.get(ENTRY_HEADER_BYTES..).filter(|_| !genesis) else { return };
        while let Some(Ok(event)) = next_event(&mut events) {
            let connection = event.header.connection.get();
            match event.kind {
                _ if connection == 0 => {}
                EventKind::PeerReset => {
                    self.alive.remove(&connection);
                }
                EventKind::Connect => {
                    self.alive.insert(connection, 1);
                }
                _ => {
                    if let Some(sequence) = self.alive.get_mut(&connection) {
                        *sequence = event.header.sequence.get() + 1;
                    }
                }
            }
        }
    }
}

/// True if the entry has no event: a pure bubble.
pub fn is_bubble(value: &[u8]) -> bool {
    EntryHeader::ref_from_prefix(value).is_ok_and(|(header, _)| header.event_count.get() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dmt::entry::EventHeader;
    use zerocopy::IntoBytes;
    use zerocopy::little_endian::{U16, U32, U64};

    fn entry(events: &[(EventKind, u64, u64)]) -> Arc<[u8]> {
        let mut bytes = vec![0; ENTRY_HEADER_BYTES];
        for &(kind, connection, sequence) in events {
            let header = EventHeader {
                len: U32::new(0),
                kind: U16::new(kind as u16),
                reserved: U16::new(0),
                connection: U64::new(connection),
                sequence: U64::new(sequence),
                arg: U64::new(0),
            };
            bytes.extend_from_slice(header.as_bytes());
        }
        bytes.into()
    }

    #[test]
    fn an_undecided_entry_must_turn_out_to_be_the_decided_one() {
        let mut given = Given::default();
        given.give(&entry(&[]), true);
        let mine = entry(&[(EventKind::Connect, 5, 0)]);
        given.give(&mine, false);
        given.give(&mine, false);
        assert_eq!(given.decide(0, Some(&entry(&[]))), Ok(()));
        assert_eq!(given.decide(1, Some(&mine.to_vec().into())), Ok(()), "equal bytes in another allocation");
        assert_eq!(given.decide(2, Some(&entry(&[]))), Err(Tainted { index: 2 }));
        assert_eq!(given.next(), 3);
    }

    #[test]
    fn an_undecided_entry_that_cannot_be_compared_taints() {
        let mut given = Given::default();
        given.give(&entry(&[]), false);
        assert_eq!(given.decide(0, None), Err(Tainted { index: 0 }));
    }

    #[test]
    fn an_undecided_entry_before_the_log_s_new_beginning_taints() {
        let mut given = Given::default();
        given.give(&entry(&[]), true);
        (0..3).for_each(|_| given.give(&entry(&[]), false));
        assert_eq!(given.overtaken(1), None, "it is decided next");
        assert_eq!(given.overtaken(3), Some(Tainted { index: 1 }), "though the server has applied entry 3");
    }

    #[test]
    fn a_log_that_lost_an_applied_entry_is_no_ground_to_lead_on() {
        let mut given = Given::default();
        let (mine, other) = (entry(&[(EventKind::Connect, 5, 0)]), entry(&[]));
        given.give(&other, true);
        given.give(&mine, false);
        assert!(given.is_in_log(|index| (index == 1).then_some(&mine)));
        assert!(!given.is_in_log(|_| Some(&other)), "another entry was proposed at this index");
        assert!(!given.is_in_log(|_| None), "the log is shorter");
    }

    #[test]
    fn live_connections_are_those_that_a_new_leader_must_reset() {
        let mut given = Given::default();
        given.give(&entry(&[]), true);
        given.give(
            &entry(&[(EventKind::Connect, 5, 0), (EventKind::Data, 5, 1), (EventKind::Connect, 6, 0)]),
            true,
        );
        given.give(&entry(&[(EventKind::Data, 5, 2), (EventKind::PeerReset, 6, 1)]), true);
        given.give(&entry(&[(EventKind::Connect, 7, 0), (EventKind::PeerClosed, 7, 1)]), true);
        given.closed(7);
        assert_eq!(given.alive().collect::<Vec<_>>(), [(5, 3)]);
    }
}
