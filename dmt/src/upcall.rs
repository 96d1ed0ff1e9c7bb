//! Upcalls: what a server tells its coordinator, in order, through one ring.
//!
//! The order carries meaning: every [`UpcallKind::Output`] behind `Applied(i)` and before `Applied(i+1)` was produced in
//! the bubble of entry i, and may leave only once entry i is committed (I3).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What an upcall is; the number is the ring frame's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum UpcallKind {
    /// Entry `a` is applied at logical time `b`. If `flags` has [`ADMITTED`], this server made the entry itself, as
    /// leader: payload = the `EntryHeader`, then `inline_len` bytes of events made by dmt; the other events are the
    /// pending ring's frames in cursors `c..d`. The coordinator must hand it to Paxos. Otherwise no payload.
    Applied = 1,
    /// Bytes for a client: `a` = connection, `b` = offset in the connection's output; payload = `len` bytes.
    /// Only a leader writes them; a follower's output goes to the digest alone.
    Output = 2,
    /// The server closed or shut down its sending side: `a` = connection, `b` = total bytes of output,
    /// `c` = 1 if the connection is to be reset (unread input or SO_LINGER 0).
    OutputEnd = 3,
    /// The server dropped its last reference to connection `a`; nothing of it is of interest any more.
    Closed = 4,
    /// The server listens, or has bound a UDP socket for clients: `a` = listener id, `b` = port, `c` = backlog, `d` =
    /// bits of [`listen`]; payload = the 16 address bytes.
    Listen = 5,
    /// Listener `a` is closed, or UDP socket `a`, which may have no `Listen`.
    Unlisten = 6,
    /// At the end of the bubble of entry `a`, logical time `b`, the digest was `c`.
    Digest = 7,
    /// The server's first process ended: `a` = wait status, at logical time `b`, with digest `c`.
    Exited = 8,
    /// The server cannot follow entry `a` at logical time `b`; payload = why, UTF-8.
    Diverged = 9,
    /// One line for the replica's log, UTF-8 (a refused call, a bound that was met); `a` = severity: 0, [`WARNING`] or
    /// [`WARNING_ONCE`].
    Log = 10,
    /// The server has read bytes of connection `a`: `b` in total since its start. Only a leader writes it, at the
    /// latest when [`CONSUMED_REPORT_BYTES`] are unreported; it opens the receive window.
    Consumed = 11,
    /// Under CRANE: thread `b` is in a loop that only waits, which branch `a` closes. `c` = the tick that it does not get
    /// past, or `STAMP_AUTO` if it may. The coordinator makes an entry of it.
    SpinPoint = 12,
    /// The signal from outside with id `a` took effect. It counts once the entry in whose bubble this stands is committed.
    Signalled = 13,
    /// The server wants connection `a` to another host; payload = `ConnectInfo`, of which the peer counts. Only a leader
    /// writes it.
    Dial = 14,
    /// A datagram for the outside: `a` = id of its socket, `b` = 1 if the sender's address matters; payload =
    /// `ConnectInfo` and the bytes. Only a leader writes it.
    Datagram = 15,
    /// The server's UDP sockets at port `b` joined (`c` = 1) or left a multicast group; `d` = index of the interface, 0 if
    /// it was not given; payload = 16 bytes of the group and 16 of the interface's address.
    Membership = 16,
}

/// Bits of `d` in [`UpcallKind::Listen`].
pub mod listen {
    /// It takes IPv6 clients only.
    pub const V6_ONLY: u64 = 1;
    /// It is a UDP socket.
    pub const UDP: u64 = 2;
    /// It shares its address with others (`SO_REUSEADDR`).
    pub const REUSE: u64 = 4;
    /// The server asked for any port (TCP).
    pub const ANY_PORT: u64 = 8;
}

/// A leader reports reads of a connection at least this often, bytes.
pub const CONSUMED_REPORT_BYTES: u64 = 64 * 1024;

/// Severity of a [`UpcallKind::Log`] line that is a warning; 0 = it is none.
pub const WARNING: u64 = 1;
/// The same, of which a replica needs no second one of the same text.
pub const WARNING_ONCE: u64 = 2;
/// Flag of [`UpcallKind::Applied`].
pub const ADMITTED: u16 = 1;

impl UpcallKind {
    /// The kind with this tag.
    pub fn from_tag(tag: u32) -> Option<Self> {
        Some(match tag {
            1 => Self::Applied,
            2 => Self::Output,
            3 => Self::OutputEnd,
            4 => Self::Closed,
            5 => Self::Listen,
            6 => Self::Unlisten,
            7 => Self::Digest,
            8 => Self::Exited,
            9 => Self::Diverged,
            10 => Self::Log,
            11 => Self::Consumed,
            12 => Self::SpinPoint,
            13 => Self::Signalled,
            14 => Self::Dial,
            15 => Self::Datagram,
            16 => Self::Membership,
            _ => return None,
        })
    }
}

/// The fixed head of every upcall.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq)]
#[repr(C)]
pub struct UpcallHeader {
    /// Payload bytes that count (the frame may be padded).
    pub len: U32,
    /// Flags; see [`ADMITTED`].
    pub flags: U16,
    /// Zero.
    pub reserved: U16,
    /// See the kind.
    pub a: U64,
    /// See the kind.
    pub b: U64,
    /// See the kind.
    pub c: U64,
    /// See the kind.
    pub d: U64,
}

/// Bytes of an [`UpcallHeader`].
pub const UPCALL_HEADER_BYTES: usize = size_of::<UpcallHeader>();
const _: () = assert!(UPCALL_HEADER_BYTES == 40);
