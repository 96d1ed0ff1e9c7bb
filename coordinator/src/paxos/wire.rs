//! The bytes of a [`Message`]: one self-delimiting frame, fixed little-endian headers, every length checked.
//!
//! A frame is a [`FrameHeader`] followed by `body` bytes. An `Accept` body is one [`EntryHead`] and the value for each
//! entry. Unknown versions are refused, never guessed. Who sent a frame is known from its connection, not from its bytes.

use std::io::{self, Write};
use std::sync::Arc;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::message::Message;
use super::types::{Ballot, Entry, MAX_BATCH_BYTES, MAX_BATCH_ENTRIES, MAX_VALUE_BYTES};

/// Version of this format.
pub const VERSION: u8 = 2;

/// The head of every frame. What `a`, `b`, `c` and `d` mean depends on the kind.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FrameHeader {
    /// Bytes that follow this header.
    pub body: U32,
    /// [`VERSION`].
    pub version: u8,
    /// Which message.
    pub kind: u8,
    /// Bit 0: trial; bit 1: granted.
    pub flags: u8,
    /// Zero.
    pub reserved: u8,
    /// The ballot.
    pub ballot: U64,
    /// First field.
    pub a: U64,
    /// Second field.
    pub b: U64,
    /// Third field.
    pub c: U64,
}

/// The head of each entry in an `Accept`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EntryHead {
    len: U32,
    reserved: U32,
    ballot: U64,
}

/// Bytes of a [`FrameHeader`].
pub const HEADER_BYTES: usize = size_of::<FrameHeader>();
const ENTRY_HEAD_BYTES: usize = size_of::<EntryHead>();
const _: () = assert!(HEADER_BYTES == 40 && ENTRY_HEAD_BYTES == 16);

/// Bytes of the longest frame.
pub const MAX_FRAME_BYTES: usize =
    HEADER_BYTES + MAX_BATCH_ENTRIES * ENTRY_HEAD_BYTES + MAX_BATCH_BYTES + MAX_VALUE_BYTES;

const ACCEPT: u8 = 1;
const ACCEPTED: u8 = 2;
const REJECTED: u8 = 3;
const NACK: u8 = 4;
const PREPARE: u8 = 5;
const PROMISE: u8 = 6;
const LEARNED: u8 = 7;
const CUT: u8 = 8;
const TRIAL: u8 = 1;
const GRANTED: u8 = 2;

/// Why bytes are not a message. The connection that they came from is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Written by another version of brolga.
    #[error(
        "a peer speaks version {0} of the consensus protocol, this binary version {VERSION}; install one version everywhere"
    )]
    Version(u8),
    /// No such message.
    #[error("a peer sent a consensus message of unknown kind {0}")]
    Kind(u8),
    /// Longer than any message.
    #[error("a peer announced a message of {0} bytes; the longest has {MAX_FRAME_BYTES}")]
    TooLong(u64),
    /// The body ends early, or goes on too long.
    #[error("a peer sent a consensus message whose parts do not add up to its length")]
    Length,
    /// A number out of its range.
    #[error("a peer sent a consensus message with an impossible {0}")]
    Value(&'static str),
}

/// Bytes that [`encode`] writes.
pub fn encoded_len(message: &Message) -> usize {
    match message {
        Message::Accept { entries, .. } => {
            HEADER_BYTES + entries.iter().map(|entry| ENTRY_HEAD_BYTES + entry.value.len()).sum::<usize>()
        }
        _ => HEADER_BYTES,
    }
}

/// Writes `message` as one frame, the values straight from where they are.
pub fn encode(message: &Message, to: &mut impl Write) -> io::Result<()> {
    let body = (encoded_len(message) - HEADER_BYTES) as u32;
    let head = |kind: u8, flags: u8, ballot: Ballot, a: u64, b: u64, c: u64| FrameHeader {
        body: body.into(),
        version: VERSION,
        kind,
        flags,
        reserved: 0,
        ballot: ballot.0.into(),
        a: a.into(),
        b: b.into(),
        c: c.into(),
    };
    let trial_bit = |trial: bool| if trial { TRIAL } else { 0 };
    let header = match message {
        Message::Accept { ballot, first, previous, commit, .. } => {
            head(ACCEPT, 0, *ballot, *first, previous.0, *commit)
        }
        Message::Accepted { ballot, len } => head(ACCEPTED, 0, *ballot, *len, 0, 0),
        Message::Rejected { ballot, first, hint } => head(REJECTED, 0, *ballot, *first, *hint, 0),
        Message::Learned { ballot, fits, len } => {
            head(LEARNED, if *fits { GRANTED } else { 0 }, *ballot, *len, 0, 0)
        }
        Message::Cut { ballot, first } => head(CUT, 0, *ballot, *first, 0, 0),
        Message::Nack { promised } => head(NACK, 0, *promised, 0, 0, 0),
        Message::Prepare { ballot, trial, last, len } => {
            head(PREPARE, trial_bit(*trial), *ballot, last.0, *len, 0)
        }
        Message::Promise { ballot, trial, granted, promised } => {
            let flags = trial_bit(*trial) | if *granted { GRANTED } else { 0 };
            head(PROMISE, flags, *ballot, promised.0, 0, 0)
        }
    };
    to.write_all(header.as_bytes())?;
    if let Message::Accept { entries, .. } = message {
        for entry in entries {
            let head = EntryHead {
                len: (entry.value.len() as u32).into(),
                reserved: 0.into(),
                ballot: entry.ballot.0.into(),
            };
            to.write_all(head.as_bytes())?;
            to.write_all(&entry.value)?;
        }
    }
    Ok(())
}

/// How long the frame is that `bytes` begin with, if they hold its header already.
pub fn frame_len(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Ok((header, _)) = FrameHeader::ref_from_prefix(bytes) else { return Ok(None) };
    if header.version != VERSION {
        return Err(WireError::Version(header.version));
    }
    let len = HEADER_BYTES as u64 + u64::from(header.body.get());
    if len > MAX_FRAME_BYTES as u64 {
        return Err(WireError::TooLong(len));
    }
    Ok(Some(len as usize))
}

/// Reads one whole frame, no byte more or less. The only copy of a value is the one into its own allocation.
pub fn decode(frame: &[u8]) -> Result<Message, WireError> {
    let len = frame_len(frame)?.ok_or(WireError::Length)?;
    if len != frame.len() {
        return Err(WireError::Length);
    }
    let Ok((header, body)) = FrameHeader::ref_from_prefix(frame) else { return Err(WireError::Length) };
    let ballot = ballot(header.ballot)?;
    let (a, b, c) = (header.a.get(), header.b.get(), header.c.get());
    if header.kind != ACCEPT && !body.is_empty() {
        return Err(WireError::Length);
    }
    let trial = header.flags & TRIAL != 0;
    Ok(match header.kind {
        ACCEPT => Message::Accept {
            ballot,
            first: index(a)?,
            previous: self::ballot(header.b)?,
            commit: index(c)?,
            entries: decode_entries(body)?,
        },
        ACCEPTED => Message::Accepted { ballot, len: index(a)? },
        REJECTED => Message::Rejected { ballot, first: index(a)?, hint: index(b)? },
        LEARNED => Message::Learned { ballot, fits: header.flags & GRANTED != 0, len: index(a)? },
        CUT => Message::Cut { ballot, first: index(a)? },
        NACK => Message::Nack { promised: ballot },
        PREPARE => Message::Prepare { ballot, trial, last: self::ballot(header.a)?, len: index(b)? },
        PROMISE => {
            let granted = header.flags & GRANTED != 0;
            Message::Promise { ballot, trial, granted, promised: self::ballot(header.a)? }
        }
        kind => return Err(WireError::Kind(kind)),
    })
}

fn decode_entries(mut body: &[u8]) -> Result<Vec<Entry>, WireError> {
    let mut entries = Vec::new();
    while !body.is_empty() {
        let (head, rest) = EntryHead::ref_from_prefix(body).map_err(|_| WireError::Length)?;
        let len = head.len.get() as usize;
        if len > MAX_VALUE_BYTES {
            return Err(WireError::TooLong(len as u64));
        }
        if len > rest.len() {
            return Err(WireError::Length);
        }
        if entries.len() == MAX_BATCH_ENTRIES {
            return Err(WireError::Value("number of entries"));
        }
        let (value, rest) = rest.split_at(len);
        entries.push(Entry { ballot: ballot(head.ballot)?, value: Arc::from(value) });
        body = rest;
    }
    Ok(entries)
}

fn ballot(raw: U64) -> Result<Ballot, WireError> {
    let ballot = Ballot(raw.get());
    if ballot.is_sane() { Ok(ballot) } else { Err(WireError::Value("ballot")) }
}

/// Indices beyond this can only come from broken bytes; the margin keeps arithmetic on them from overflowing.
fn index(raw: u64) -> Result<u64, WireError> {
    if raw <= u64::MAX / 4 { Ok(raw) } else { Err(WireError::Value("index")) }
}
