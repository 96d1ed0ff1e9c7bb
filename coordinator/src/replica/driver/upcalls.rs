//! What the server tells: entries that it made, outputs, digests, listeners, its end.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use dmt::bounds::{MAX_ENTRY_BYTES, UPCALL_RING_BYTES};
use dmt::entry::{ConnectInfo, ENTRY_HEADER_BYTES, EntryHeader};
use dmt::link::{Link, Upcall};
use dmt::upcall::{ADMITTED, UpcallKind, WARNING_ONCE, listen};
use zerocopy::{FromBytes, IntoBytes};

use super::{Driver, Effect, Phase, Rebuild};
use crate::log::Disk;
use crate::replica::crane::SpinPoint;
use crate::replica::datagrams::Datagram;
use crate::replica::digests::Digest;
use crate::replica::outputs::Item;
use crate::sockets::{Listener, Membership};

/// Bytes freed in the upcall ring after which the server is woken, because it may wait for room.
const ROOM_NEWS_BYTES: u64 = UPCALL_RING_BYTES as u64 / 4;

/// What the server tells that is not for the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It has read so many bytes of a connection in all.
    Consumed {
        /// The connection.
        connection: u64,
        /// Bytes.
        total: u64,
    },
    /// A bubble ended with this digest.
    Digest(Digest),
    /// It listens.
    Listens(Listener),
    /// It listens no more.
    Unlistens {
        /// The listener.
        id: u64,
    },
    /// One of its UDP sockets joined or left a multicast group.
    Membership {
        /// Which, where.
        membership: Membership,
        /// Else it left.
        joined: bool,
    },
    /// Its first process ended.
    Exited {
        /// As of `waitpid`.
        wait_status: i32,
        /// Logical time.
        tick: u64,
        /// The rolling digest then.
        digest: u64,
    },
    /// It found out itself that it is wrong.
    Diverged {
        /// Entry.
        entry: u64,
        /// Logical time.
        tick: u64,
        /// How.
        reason: String,
    },
    /// A signal from outside took effect in the bubble of an entry, which may not be decided yet.
    Signalled {
        /// The signal.
        id: u64,
        /// The entry.
        entry: u64,
    },
    /// A line for people.
    Log {
        /// Worth a warning.
        warning: bool,
        /// One of the same text is enough.
        once: bool,
        /// The line.
        text: String,
    },
}

impl<D: Disk> Driver<D> {
    /// Reads all upcalls that wait.
    pub fn read_upcalls(&mut self, link: &mut Link, news: &mut Vec<News>, effects: &mut Vec<Effect>) {
        let mut ends = None;
        while let Some(upcall) = link.next_upcall() {
            let end = upcall.end;
            ends = Some((ends.map_or(end, |(first, _)| first), end));
            let head = *upcall.header;
            let (a, c) = (head.a.get(), head.c.get());
            match upcall.kind {
                UpcallKind::Output => self.outputs.push_bytes(self.current_entry, a, upcall.payload),
                UpcallKind::Applied => {
                    self.current_entry = a;
                    if head.flags.get() & ADMITTED != 0 {
                        let value = begin_value(upcall.payload);
                        self.admitted(value, c, head.d.get(), link);
                    }
                }
                UpcallKind::Dial | UpcallKind::Datagram => self.leaves(&upcall),
                UpcallKind::OutputEnd => {
                    self.outputs.push_mark(self.current_entry, a, Item::End { reset: c != 0 });
                }
                UpcallKind::Closed => {
                    self.given.closed(a);
                    self.outputs.push_mark(self.current_entry, a, Item::Closed);
                }
                UpcallKind::SpinPoint => {
                    if let Some(crane) = &mut self.crane {
                        crane.add_point(SpinPoint { branch: a, thread: head.b.get(), stamp: c });
                    }
                }
                UpcallKind::Signalled => {
                    news.push(News::Signalled { id: a, entry: self.current_entry });
                }
                _ => news.extend(other_news(&upcall)),
            }
        }
        let Some((first, last)) = ends else { return };
        link.release_upcall(last);
        self.wake |= last - first > ROOM_NEWS_BYTES;
        if self.rebuild.is_none() {
            // Outputs of entries that were decided long ago need no further decision.
            self.release(self.consensus.paxos().commit(), effects);
        }
    }

    /// What a connection or a datagram of the server's own will is about. From the bubble that an earlier leader opened
    /// nothing of that kind leaves: that leader may have let it out already, and the connections are reset by the entry
    /// that follows.
    fn leaves(&mut self, upcall: &Upcall<'_>) {
        if !self.serves() || self.current_entry < self.leads_from {
            return;
        }
        let Ok((info, bytes)) = ConnectInfo::ref_from_prefix(upcall.payload) else { return };
        let (a, b) = (upcall.header.a.get(), upcall.header.b.get());
        let to = socket_address(&info.peer_address, info.peer_port.get());
        if upcall.kind == UpcallKind::Dial {
            return self.outputs.push_dial(self.current_entry, a, to);
        }
        let from = socket_address(&info.local_address, info.local_port.get());
        let datagram = Datagram { socket: a, from, fixed: b != 0, to, bytes: bytes.into() };
        self.outputs.push_datagram(self.current_entry, datagram);
    }

    /// An entry was made: it is proposed as it is, or the state of a server that applied it is worthless (I4). `value` is
    /// the beginning of the entry, the rest stands in the pending ring.
    fn admitted(&mut self, mut value: Vec<u8>, from: u64, to: u64, link: &mut Link) -> Option<Arc<[u8]>> {
        let (header, _) = EntryHeader::ref_from_prefix(&value).ok()?;
        let (index, made_in) = (header.index.get(), header.ballot.get());
        let (next, leading) = (self.given.next(), Phase::Leading { ballot: made_in });
        if self.phase != leading || index != next {
            self.must_rebuild(Rebuild::Late { index, made_in, next, phase: self.phase });
            return None;
        }
        link.pending_range(from, to, |event| value.extend_from_slice(event));
        link.release_pending(to);
        let value: Arc<[u8]> = value.into();
        if let Err(error) = self.consensus.propose(index, value.clone()) {
            self.must_rebuild(Rebuild::NotProposed(index, error));
            return None;
        }
        self.given.give(&value, false);
        Some(value)
    }

    /// Makes the next entry in the place of a server that is quiescent and leads, if inputs wait for it. The caller has
    /// read all upcalls, and wakes the server. `wall`: the real time, nanoseconds.
    pub fn admit_for_idle_server(&mut self, wall: u64, link: &mut Link) {
        let may = self.serves() && self.crane.is_none() && !self.is_fenced() && !self.held;
        let wanted = self.claimed || self.has_news(link);
        if !may || !wanted || !self.consensus.paxos().takes_proposals() {
            return;
        }
        let taken = match std::mem::take(&mut self.claimed) {
            true => Some(link.make_claimed(self.given.next(), wall)),
            false => link.take_offer(self.given.next(), wall),
        };
        let Some(taken) = taken else { return };
        let value = begin_value(taken.header.as_bytes());
        if let Some(value) = self.admitted(value, taken.from, taken.to, link) {
            let pushed = link.push_entry(&value);
            assert!(pushed, "the entries ring of a quiescent leader is empty, with room for any entry");
            self.wake = true;
        }
    }
}

/// Room for the whole entry, with its head in it.
fn begin_value(head: &[u8]) -> Vec<u8> {
    let events = EntryHeader::ref_from_prefix(head).map_or(0, |(header, _)| header.events_len.get() as usize);
    let mut value = Vec::with_capacity(ENTRY_HEADER_BYTES + events.min(MAX_ENTRY_BYTES));
    value.extend_from_slice(head);
    value
}

/// IPv4 comes as IPv4-mapped IPv6.
fn ip_address(bytes: &[u8]) -> IpAddr {
    let address = Ipv6Addr::from(bytes.first_chunk::<16>().copied().unwrap_or_default());
    address.to_canonical()
}

fn socket_address(ip: &[u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(ip_address(ip), port)
}

fn other_news(upcall: &Upcall<'_>) -> Option<News> {
    let head = upcall.header;
    let (a, b, c) = (head.a.get(), head.b.get(), head.c.get());
    let text = || String::from_utf8_lossy(upcall.payload).into_owned();
    Some(match upcall.kind {
        UpcallKind::Consumed => News::Consumed { connection: a, total: b },
        UpcallKind::Digest => News::Digest(Digest { entry: a, tick: b, value: c }),
        UpcallKind::Listen => News::Listens(Listener {
            id: a,
            port: b as u16,
            backlog: c as u32,
            address: ip_address(upcall.payload),
            v6_only: head.d.get() & listen::V6_ONLY != 0,
            udp: head.d.get() & listen::UDP != 0,
            reuse: head.d.get() & listen::REUSE != 0,
            any_port: head.d.get() & listen::ANY_PORT != 0,
        }),
        UpcallKind::Membership => {
            let index = head.d.get() as u32;
            let interface = ip_address(upcall.payload.get(16..).unwrap_or_default());
            let membership = Membership { socket: a, group: ip_address(upcall.payload), interface, index };
            News::Membership { membership, joined: c != 0 }
        }
        UpcallKind::Unlisten => News::Unlistens { id: a },
        UpcallKind::Exited => News::Exited { wait_status: a as i32, tick: b, digest: c },
        UpcallKind::Diverged => News::Diverged { entry: a, tick: b, reason: text() },
        UpcallKind::Log => News::Log { warning: a != 0, once: a == WARNING_ONCE, text: text() },
        UpcallKind::Applied
        | UpcallKind::Output
        | UpcallKind::Dial
        | UpcallKind::Datagram
        | UpcallKind::OutputEnd
        | UpcallKind::Closed
        | UpcallKind::SpinPoint
        | UpcallKind::Signalled => return None,
    })
}
