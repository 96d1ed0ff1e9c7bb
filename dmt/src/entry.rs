//! Log entries and the events in them: the bytes that Paxos decides, that the log keeps, and that a server applies.
//!
//! An entry is an [`EntryHeader`] followed by `events_len` bytes of events; an event is an [`EventHeader`] followed by
//! its payload, padded to [`ALIGN`]. All integers are little-endian. Every length is checked by [`Entry::parse`]
//! before anything is applied, because these bytes come from disks and peers.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bounds::{LAYOUT_VERSION, MAX_ENTRY_BYTES, MAX_EVENT_BYTES};

/// Events start at multiples of this, in bytes.
pub const ALIGN: usize = 8;

/// A stamp that means "where the bubble before this entry ends". Only `--admission crane` uses it.
pub const STAMP_AUTO: u64 = u64::MAX;

/// What an entry is for. The kinds never mix in one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum EntryKind {
    /// Entry 0: carries a [`Genesis`].
    Genesis = 0,
    /// Inputs, or none: then it is a pure bubble.
    Bubble = 1,
    /// One `Preempt` event; the only kind that may be stamped inside a bubble together with `Close`.
    Preempt = 2,
    /// Closes the bubble before it early, after a stretch of more than `CLOSE_GAP_US` without an operation.
    Close = 3,
}

impl EntryKind {
    /// The kind with this wire number.
    pub fn from_wire(value: u16) -> Option<Self> {
        Some(match value {
            0 => Self::Genesis,
            1 => Self::Bubble,
            2 => Self::Preempt,
            3 => Self::Close,
            _ => return None,
        })
    }
}

/// The fixed head of every entry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq)]
#[repr(C)]
pub struct EntryHeader {
    /// [`LAYOUT_VERSION`] of the writer.
    pub version: U32,
    /// An [`EntryKind`].
    pub kind: U16,
    /// Zero.
    pub reserved: U16,
    /// Index in the log; entry 0 is the genesis.
    pub index: U64,
    /// Logical time at which the entry takes effect, ticks, or [`STAMP_AUTO`].
    pub stamp: U64,
    /// Virtual clock from this entry on, nanoseconds since the Unix epoch.
    pub clock: U64,
    /// Length of this entry's bubble, ticks.
    pub grant: U64,
    /// Ballot of the leader that opened this bubble: a bubble with another ballot than a leader's own is inherited.
    pub ballot: U64,
    /// Events in the entry.
    pub event_count: U32,
    /// Bytes of events that follow, padding included.
    pub events_len: U32,
}

impl EntryHeader {
    /// The head of entry 0, which a [`Genesis`] follows. Without a grant the server does nothing before the first leader
    /// has said what it may.
    pub fn genesis(clock: u64, grant: u64, ballot: u64) -> Self {
        Self {
            version: U32::new(LAYOUT_VERSION),
            kind: U16::new(EntryKind::Genesis as u16),
            reserved: U16::new(0),
            index: U64::new(0),
            stamp: U64::new(0),
            clock: U64::new(clock),
            grant: U64::new(grant),
            ballot: U64::new(ballot),
            event_count: U32::new(0),
            events_len: U32::new(size_of::<Genesis>() as u32),
        }
    }
}

/// What an event is. Numbers are wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum EventKind {
    /// Ring filler; never in an entry.
    Pad = 0,
    /// A client connected. `arg` = listener id; payload = [`ConnectInfo`].
    Connect = 1,
    /// Bytes from a client.
    Data = 2,
    /// The client sent FIN.
    PeerClosed = 3,
    /// The connection is gone: RST, relay lost, or the leader that held it is gone.
    PeerReset = 4,
    /// `arg` = bytes of this connection's output, counted from its start, that the client side has taken.
    Drained = 5,
    /// A signal from outside for the server's first process. `arg` = signal number, `sequence` = its id, which is never 0:
    /// whoever sends it may send it again to another leader, and it takes effect once.
    Signal = 6,
    /// New scheduler parameters; payload = [`Parameters`].
    Reconfigure = 7,
    /// `arg` = thread that lost the turn.
    Preempt = 8,
    /// `connection` = address of a branch that becomes a spin point, `arg` = thread that was seen in its loop. In a
    /// `Close` entry it takes effect at an operation, in a `Preempt` entry when that thread next takes the branch.
    SpinPoint = 9,
    /// A datagram from outside. `connection` = the stream of its leadership ([`datagram_stream`]), payload =
    /// [`ConnectInfo`] and the bytes.
    Datagram = 10,
    /// A connection that the server asked for stands. Payload = [`ConnectInfo`].
    Connected = 11,
    /// A connection that the server asked for was not made. `arg` = errno.
    Refused = 12,
    /// A leadership begins: all connections to other hosts are gone, and these are the rules for new ones. Payload =
    /// [`OutboundHead`] and its [`OutboundRule`]s.
    Outbound = 13,
    /// Who takes part in the consensus from this entry on. `arg` = format of the payload, which only coordinators read.
    Members = 14,
    /// A file of the replica gets another content. `sequence` = its id, as of a signal; payload: see [`crate::replaced`].
    File = 15,
}

impl EventKind {
    /// The kind with this wire number.
    pub fn from_wire(value: u16) -> Option<Self> {
        Some(match value {
            0 => Self::Pad,
            1 => Self::Connect,
            2 => Self::Data,
            3 => Self::PeerClosed,
            4 => Self::PeerReset,
            5 => Self::Drained,
            6 => Self::Signal,
            7 => Self::Reconfigure,
            8 => Self::Preempt,
            9 => Self::SpinPoint,
            10 => Self::Datagram,
            11 => Self::Connected,
            12 => Self::Refused,
            13 => Self::Outbound,
            14 => Self::Members,
            15 => Self::File,
            _ => return None,
        })
    }
}

/// The fixed head of every event.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq)]
#[repr(C)]
pub struct EventHeader {
    /// Payload bytes, without padding.
    pub len: U32,
    /// An [`EventKind`].
    pub kind: U16,
    /// Zero.
    pub reserved: U16,
    /// Connection id, unique in the whole life of the log; 0 if the event belongs to none.
    pub connection: U64,
    /// Position among this connection's events, from 0 (`Connect`); what makes an event exactly-once (I5).
    pub sequence: U64,
    /// Meaning depends on the kind.
    pub arg: U64,
}

/// Bytes of an [`EntryHeader`].
pub const ENTRY_HEADER_BYTES: usize = size_of::<EntryHeader>();
/// Bytes of an [`EventHeader`].
pub const EVENT_HEADER_BYTES: usize = size_of::<EventHeader>();
const _: () = assert!(ENTRY_HEADER_BYTES == 56 && EVENT_HEADER_BYTES == 32);

/// Bit of the ids of connections that the server made itself; dmt numbers them.
pub const OUTBOUND_CONNECTION: u64 = 1 << 63;
/// Connection ids of clients are `ballot << CONNECTION_NUMBER_BITS | number`, with numbers from 1.
pub const CONNECTION_NUMBER_BITS: u32 = 24;

/// What stands for a connection in the datagram events of a leadership; their sequence numbers start at 0.
pub const fn datagram_stream(ballot: u64) -> u64 {
    ballot << CONNECTION_NUMBER_BITS
}

/// Addresses of a new connection or of a datagram, as the server sees them. IPv4 addresses are IPv4-mapped.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq)]
#[repr(C)]
pub struct ConnectInfo {
    /// The client's address.
    pub peer_address: [u8; 16],
    /// The address that the client connected to.
    pub local_address: [u8; 16],
    /// The client's port.
    pub peer_port: U16,
    /// The port that the client connected to.
    pub local_port: U16,
    /// Zero.
    pub reserved: U32,
}

/// What an [`EventKind::Outbound`] begins with.
#[derive(
    Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq,
)]
#[repr(C)]
pub struct OutboundHead {
    /// The address that IPv4 packets of the server come from, IPv4-mapped; all zeroes = there is none.
    pub own_v4: [u8; 16],
    /// The address that IPv6 packets of the server come from; all zeroes = there is none.
    pub own_v6: [u8; 16],
    /// Rules that follow.
    pub rules: U32,
    /// Zero.
    pub reserved: U32,
}

/// A destination that the server may connect or send to.
#[derive(
    Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq,
)]
#[repr(C)]
pub struct OutboundRule {
    /// The host, IPv4 addresses IPv4-mapped; all zeroes = any.
    pub address: [u8; 16],
    /// The port; 0 = any.
    pub port: U16,
    /// Zero.
    pub reserved: U16,
}

/// Scheduler parameters that a `Reconfigure` event can change at run time, at the same tick everywhere.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq)]
#[repr(C)]
pub struct Parameters {
    /// Threads that may run at the same time. 1 = serial; other values are refused for now.
    pub primaries: U32,
    /// Operations of each primary in a round (parallel mode).
    pub steps: U32,
    /// Operations after which a thread passes the turn on, ticks.
    pub quantum: U32,
    /// CPU time without an operation after which a leader preempts, microseconds.
    pub spin_limit_us: U32,
}

/// Payload of entry 0: all that a run depends on besides the command, the files and the inputs.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq)]
#[repr(C)]
pub struct Genesis {
    /// Key of the ChaCha20 stream that all randomness of the server comes from.
    pub secret: [u8; 32],
    /// First scheduler parameters.
    pub parameters: Parameters,
    /// 1 if `--admission crane`.
    pub crane: U32,
    /// Zero.
    pub reserved: U32,
    /// First 16 bytes of a hash of command, environment and cluster name: a log of another command is refused.
    pub fingerprint: [u8; 16],
}

/// Why bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// Shorter than a header, or than the header says.
    Truncated,
    /// Longer than the header says.
    TrailingBytes,
    /// Written by a binary with another [`LAYOUT_VERSION`].
    Version(u32),
    /// An entry kind that does not exist.
    EntryKind(u16),
    /// An event kind that does not exist or may not be in a log.
    EventKind(u16),
    /// An event or entry longer than its bound.
    TooLong,
    /// The header's count differs from the events that follow.
    EventCount,
}

/// A checked entry over borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The head.
    pub header: &'a EntryHeader,
    /// The events' bytes.
    pub events: &'a [u8],
}

/// One event of an [`Entry`].
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The head.
    pub header: &'a EventHeader,
    /// What the event is.
    pub kind: EventKind,
    /// The payload.
    pub payload: &'a [u8],
}

/// `len` rounded up to [`ALIGN`].
pub const fn padded(len: usize) -> usize {
    (len + ALIGN - 1) & !(ALIGN - 1)
}

/// Splits the first event off `bytes`; `None` at the end.
pub fn next_event<'a>(bytes: &mut &'a [u8]) -> Option<Result<Event<'a>, EntryError>> {
    if bytes.is_empty() {
        return None;
    }
    Some(split_event(bytes))
}

fn split_event<'a>(bytes: &mut &'a [u8]) -> Result<Event<'a>, EntryError> {
    let whole: &'a [u8] = bytes;
    let (header, rest) = EventHeader::ref_from_prefix(whole).map_err(|_| EntryError::Truncated)?;
    let len = header.len.get() as usize;
    if len > MAX_EVENT_BYTES {
        return Err(EntryError::TooLong);
    }
    let kind = EventKind::from_wire(header.kind.get()).ok_or(EntryError::EventKind(header.kind.get()))?;
    if rest.len() < padded(len) {
        return Err(EntryError::Truncated);
    }
    *bytes = &rest[padded(len)..];
    Ok(Event { header, kind, payload: &rest[..len] })
}

impl<'a> Entry<'a> {
    /// Checks `bytes` as one whole entry with all its events.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EntryError> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLong);
        }
        let (header, events) = EntryHeader::ref_from_prefix(bytes).map_err(|_| EntryError::Truncated)?;
        if header.version.get() != LAYOUT_VERSION {
            return Err(EntryError::Version(header.version.get()));
        }
        EntryKind::from_wire(header.kind.get()).ok_or(EntryError::EntryKind(header.kind.get()))?;
        let len = header.events_len.get() as usize;
        if events.len() < len {
            return Err(EntryError::Truncated);
        }
        if events.len() > len {
            return Err(EntryError::TrailingBytes);
        }
        let entry = Self { header, events };
        entry.check_events()?;
        Ok(entry)
    }

    fn check_events(&self) -> Result<(), EntryError> {
        if self.kind() == EntryKind::Genesis {
            return if self.events.len() == size_of::<Genesis>() {
                Ok(())
            } else {
                Err(EntryError::Truncated)
            };
        }
        let (mut rest, mut count) = (self.events, 0);
        while let Some(event) = next_event(&mut rest) {
            let event = event?;
            if event.kind == EventKind::Pad {
                return Err(EntryError::EventKind(0));
            }
            count += 1;
        }
        if count == self.header.event_count.get() { Ok(()) } else { Err(EntryError::EventCount) }
    }

    /// The entry's kind.
    pub fn kind(&self) -> EntryKind {
        EntryKind::from_wire(self.header.kind.get()).unwrap_or(EntryKind::Bubble)
    }

    /// The genesis, if this is entry 0.
    pub fn genesis(&self) -> Option<&'a Genesis> {
        if self.kind() != EntryKind::Genesis {
            return None;
        }
        Genesis::ref_from_bytes(self.events).ok()
    }

    /// The events in order. The entry was checked, so iteration has no errors.
    pub fn events(&self) -> impl Iterator<Item = Event<'a>> + use<'a> {
        let genesis = self.kind() == EntryKind::Genesis;
        let mut rest = if genesis { &[] } else { self.events };
        core::iter::from_fn(move || next_event(&mut rest)?.ok())
    }
}
