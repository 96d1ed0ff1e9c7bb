//! The bytes of a log file: one [`SegmentHeader`], then records, then zeros.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::paxos::{Ballot, MAX_VALUE_BYTES, Write};

/// Version of the format.
pub const FORMAT_VERSION: u32 = 1;
/// Records start at multiples of this.
pub(super) const ALIGN: u64 = 8;
const MAGIC: [u8; 8] = *b"brolgalg";
const PROMISE: u32 = 1;
const ENTRY: u32 = 2;

/// First bytes of a file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SegmentHeader {
    magic: [u8; 8],
    version: U32,
    /// Over the other fields.
    crc: U32,
    cluster: [u8; 16],
    number: U64,
    /// Sequence number of the first record.
    first_sequence: U64,
    /// Bytes of the whole file.
    size: U64,
    reserved: U64,
}

/// First bytes of a record; the value and zeros up to [`ALIGN`] follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RecordHeader {
    /// Over the fields that follow and the value.
    crc: U32,
    len: U32,
    /// One more than the record's before, across files.
    sequence: U64,
    /// Records below this one were durable when this one was written. If one of them is bad, the disk lost it.
    durable: U64,
    index: U64,
    ballot: U64,
    kind: U32,
    reserved: U32,
}

pub(super) const SEGMENT_HEADER_BYTES: u64 = size_of::<SegmentHeader>() as u64;
pub(super) const RECORD_HEADER_BYTES: usize = size_of::<RecordHeader>();
const _: () = assert!(SEGMENT_HEADER_BYTES == 64 && RECORD_HEADER_BYTES == 48);

/// No file is larger, whatever its header says: so many bytes of the disk are taken and looked at when it is opened, bytes.
pub(super) const MAX_FILE_BYTES: u64 =
    super::SEGMENT_BYTES + SEGMENT_HEADER_BYTES + (RECORD_HEADER_BYTES + MAX_VALUE_BYTES) as u64;

/// Why a file's first bytes are not a good header.
pub(super) enum HeaderFault {
    /// What was expected, and what was found.
    Broken(String),
    Version(u32),
    Cluster,
}

impl SegmentHeader {
    pub(super) fn new(cluster: [u8; 16], number: u64, first_sequence: u64, size: u64) -> Self {
        let mut header = Self {
            magic: MAGIC,
            version: FORMAT_VERSION.into(),
            crc: 0.into(),
            cluster,
            number: number.into(),
            first_sequence: first_sequence.into(),
            size: size.into(),
            reserved: 0.into(),
        };
        header.crc = header.checksum().into();
        header
    }

    pub(super) fn parse(bytes: &[u8], cluster: [u8; 16], number: u64) -> Result<Self, HeaderFault> {
        let broken = |expected: String, found: String| {
            HeaderFault::Broken(format!("expected {expected}, found {found}"))
        };
        let header = Self::read_from_bytes(bytes)
            .map_err(|_| broken(format!("{SEGMENT_HEADER_BYTES} bytes"), bytes.len().to_string()))?;
        if header.magic != MAGIC {
            let quoted = |magic: [u8; 8]| format!("\"{}\"", magic.escape_ascii());
            return Err(broken(quoted(MAGIC), quoted(header.magic)));
        }
        if header.checksum() != header.crc.get() {
            let crc = |crc: u32| format!("CRC {crc:08x}");
            return Err(broken(crc(header.crc.get()), crc(header.checksum())));
        }
        if header.version.get() != FORMAT_VERSION {
            return Err(HeaderFault::Version(header.version.get()));
        }
        if header.cluster != cluster {
            return Err(HeaderFault::Cluster);
        }
        if header.number.get() != number {
            return Err(broken(format!("file {number} of the log"), format!("file {}", header.number)));
        }
        let sizes = SEGMENT_HEADER_BYTES..=MAX_FILE_BYTES;
        if !sizes.contains(&header.size.get()) {
            let bounds = format!("a size of {SEGMENT_HEADER_BYTES} to {MAX_FILE_BYTES} bytes");
            return Err(broken(bounds, header.size.to_string()));
        }
        Ok(header)
    }

    fn checksum(&self) -> u32 {
        let mut blank = *self;
        blank.crc = 0.into();
        crc32fast::hash(blank.as_bytes())
    }

    pub(super) fn first_sequence(&self) -> u64 {
        self.first_sequence.get()
    }

    pub(super) fn size(&self) -> u64 {
        self.size.get()
    }
}

/// What checksums start from: values come from clients, and must not be able to look like records of this file.
pub(super) fn salt(cluster: [u8; 16], segment: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&cluster);
    hasher.update(&segment.to_le_bytes());
    hasher.finalize()
}

fn checksum(header: &RecordHeader, value: &[u8], salt: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(&header.as_bytes()[4..]);
    hasher.update(value);
    hasher.finalize()
}

/// Bytes of a record with a value of `len` bytes.
pub(super) fn record_bytes(len: usize) -> u64 {
    (RECORD_HEADER_BYTES as u64 + len as u64).next_multiple_of(ALIGN)
}

/// A record that passed its checks, borrowed from a buffer.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) sequence: u64,
    pub(super) durable: u64,
    pub(super) ballot: Ballot,
    /// `None` for a promise.
    pub(super) entry: Option<(u64, &'a [u8])>,
    /// Bytes with header and padding.
    pub(super) size: u64,
}

/// The header for `write`, and the value that follows it. `len` is the log's length, kept in promises for people.
pub(super) fn header_for(
    write: &Write,
    len: u64,
    sequence: u64,
    durable: u64,
    salt: u32,
) -> (RecordHeader, &[u8]) {
    let (index, ballot, kind, value) = match write {
        Write::Promise(ballot) => (len, *ballot, PROMISE, &[][..]),
        Write::Entry { index, entry } | Write::Anew { first: index, entry, .. } => {
            (*index, entry.ballot, ENTRY, &entry.value[..])
        }
    };
    let mut header = RecordHeader {
        crc: 0.into(),
        len: (value.len() as u32).into(),
        sequence: sequence.into(),
        durable: durable.into(),
        index: index.into(),
        ballot: ballot.0.into(),
        kind: kind.into(),
        reserved: 0.into(),
    };
    header.crc = checksum(&header, value, salt).into();
    (header, value)
}

/// How many bytes the record is long whose header `bytes` are, if it looks like one.
pub(super) fn announced_size(bytes: &[u8]) -> Option<u64> {
    let header = RecordHeader::ref_from_bytes(bytes).ok()?;
    let len = header.len.get() as usize;
    let plausible = matches!(header.kind.get(), PROMISE | ENTRY)
        && header.reserved.get() == 0
        && len <= MAX_VALUE_BYTES
        && header.durable.get() <= header.sequence.get();
    plausible.then(|| record_bytes(len))
}

/// Sequence number in these header bytes, and below which one records were durable, unchecked.
pub(super) fn announced_numbers(bytes: &[u8]) -> (u64, u64) {
    RecordHeader::ref_from_bytes(bytes).map_or((0, 0), |header| (header.sequence.get(), header.durable.get()))
}

/// Checks one whole record, padding included.
pub(super) fn parse(bytes: &[u8], salt: u32) -> Option<Record<'_>> {
    let (header, rest) = RecordHeader::ref_from_prefix(bytes).ok()?;
    let len = header.len.get() as usize;
    let size = record_bytes(len);
    if bytes.len() as u64 != size {
        return None;
    }
    let (value, padding) = rest.split_at(len);
    let ballot = Ballot(header.ballot.get());
    if checksum(header, value, salt) != header.crc.get()
        || padding.iter().any(|b| *b != 0)
        || !ballot.is_sane()
    {
        return None;
    }
    let entry = match header.kind.get() {
        PROMISE => None,
        ENTRY => Some((header.index.get(), value)),
        _ => return None,
    };
    Some(Record { sequence: header.sequence.get(), durable: header.durable.get(), ballot, entry, size })
}

/// How these bytes, as many as [`announced_size`] said, differ from a good record with this sequence number.
pub(super) fn fault(bytes: &[u8], salt: u32, sequence: u64) -> String {
    let Ok((header, rest)) = RecordHeader::ref_from_prefix(bytes) else { return String::new() };
    let (value, padding) = rest.split_at(rest.len().min(header.len.get() as usize));
    let (wanted, crc) = (header.crc.get(), checksum(header, value, salt));
    if wanted != crc {
        return format!("expected CRC {wanted:08x} of record {sequence}, found {crc:08x}");
    }
    if padding.iter().any(|byte| *byte != 0) {
        return format!("expected zeros behind record {sequence}, found {padding:02x?}");
    }
    match header.sequence.get() {
        found if found != sequence => format!("expected record {sequence}, found record {found}"),
        _ => format!("expected record {sequence}, found an impossible ballot, {:x}", header.ballot),
    }
}

/// Gives a file's header and records the checksums that fit what stands there: a fuzzer finds none by itself.
#[cfg(fuzzing)]
pub(super) fn mend(bytes: &mut [u8], cluster: [u8; 16], number: u64) {
    let first = SEGMENT_HEADER_BYTES as usize;
    if let Some(Ok(mut header)) = bytes.get(..first).map(SegmentHeader::read_from_bytes) {
        header.crc = header.checksum().into();
        bytes[..first].copy_from_slice(header.as_bytes());
    }
    let (mut at, salt) = (first, salt(cluster, number));
    while let Some(mut header) =
        bytes.get(at..).and_then(|rest| RecordHeader::read_from_prefix(rest).ok()).map(|(header, _)| header)
    {
        let value = at + RECORD_HEADER_BYTES;
        let Some(found) = bytes.get(value..value + header.len.get() as usize) else { break };
        if header.sequence.get() == 0 {
            break;
        }
        header.crc = checksum(&header, found, salt).into();
        bytes[at..value].copy_from_slice(header.as_bytes());
        at += record_bytes(header.len.get() as usize) as usize;
    }
}
