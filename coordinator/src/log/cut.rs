//! Where a log begins that was cut: the entries before are in checkpoints.
//!
//! A small file with a checksum names the first record that counts, by file, offset and sequence number, and carries what the
//! records before it said: the highest promise. It is written, durably, before any file of the log is removed, so a crash at any
//! place leaves either the whole log or the cut one; what was to be removed is removed at the next start. The first entry is a decided
//! one, so nothing ever replaces an entry before it.
//!
//! A log that was not there when entries were decided *begins anew* with one entry of a peer. The file that it stands in is made first
//! under a name of its own; with the small file it becomes the log.

use std::io;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::disk::{Disk, DiskFile};
use super::error::LogError;
use super::members::MEMBERS;
use super::points::{Place, Points};
use super::record::{self, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::{Durability, Log, Segment, io_error, segment_name, segment_number};
use crate::paxos::{Ballot, Roster, Runs, Write};

/// Name of the small file.
pub(super) const CUT: &str = "cut";
/// Name of a file that a log begins anew in, until the small file says so.
pub(super) const ANEW: &str = "anew.tmp";
/// Version of the small file; another one is refused. Magic, version and checksum stand in the same places in all versions.
const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"brolgact";

/// The small file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CutFile {
    magic: [u8; 8],
    version: U32,
    /// Over the other fields.
    crc: U32,
    cluster: [u8; 16],
    /// Index of the first entry.
    first: U64,
    /// Stamp of the entry before, zero if it is not known.
    before: U64,
    /// The highest promise of all records before.
    promised: U64,
    /// Number of the file with the first record.
    segment: U64,
    /// Where it stands there.
    offset: U64,
    /// Its sequence number.
    sequence: U64,
}

const _: () = assert!(size_of::<CutFile>() == 80);

/// Where the checksum stands, behind magic and version.
const CRC_AT: usize = 12;

/// Over all bytes but those of the checksum, which count as zeros.
fn checksum(bytes: &[u8]) -> u32 {
    let (head, rest) = bytes.split_at(bytes.len().min(CRC_AT));
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(&[0; 4][..rest.len().min(4)]);
    hasher.update(rest.get(4..).unwrap_or_default());
    hasher.finalize()
}

/// What a file of any version says.
fn version_and_sum(bytes: &[u8]) -> Option<(u32, u32)> {
    let (version, rest) = bytes.strip_prefix(&MAGIC)?.split_first_chunk()?;
    Some((u32::from_le_bytes(*version), u32::from_le_bytes(*rest.first_chunk()?)))
}

/// Where a cut log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) first: u64,
    /// Stamp of the entry before.
    pub(super) before: Ballot,
    pub(super) promised: Ballot,
    /// Number of the file.
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) sequence: u64,
}

impl<D: Disk> Log<D> {
    /// Index of the first entry.
    pub fn first(&self) -> u64 {
        self.stamps.first()
    }

    /// Removes the files that hold nothing but entries before `first`, if there are any: then the log begins with `first`, which must be
    /// decided. True if it was cut.
    pub fn cut(&mut self, first: u64) -> Result<bool, LogError> {
        if first <= self.first() || first >= self.len() {
            return Ok(false);
        }
        let (place, sequence) = self.place_of(first)?;
        if place.segment == 0 {
            return Ok(false);
        }
        // Its promises, and the entry, must not be less durable than the word that nothing else counts.
        self.sync()?;
        let members = self.roster.at(first).clone();
        self.write_members(&members)?;
        let (promised, segment) = (self.promised, self.segments[place.segment as usize].number);
        let before = first.checked_sub(1).and_then(|before| self.stamps.at(before)).unwrap_or_default();
        let offset = place.offset.into();
        self.write_beginning(Beginning { first, before, promised, segment, offset, sequence })?;
        for old in self.segments.drain(..place.segment as usize) {
            self.disk.discard(&segment_name(old.number));
        }
        self.points.cut(first, place);
        self.stamps.cut(first);
        Ok(true)
    }

    /// Begins the log anew with a decided entry, after which it has one entry. On [`LogError::Full`] nothing has changed.
    pub(super) fn begin_anew(&mut self, write: &Write) -> Result<(), LogError> {
        let Write::Anew { first, entry, previous, promised, members } = write else { return Ok(()) };
        let (first, before) = (*first, *previous);
        self.sync()?;
        self.write_members(members)?;
        let number = self.segments.last().map_or(1, |segment| segment.number + 1);
        let salt = record::salt(self.options.cluster, number);
        let sequence = self.next_sequence;
        let (header, value) = record::header_for(write, first, sequence, sequence, salt);
        let bytes = record::record_bytes(value.len());
        let size = self.options.segment_bytes.max(SEGMENT_HEADER_BYTES + bytes);
        let mut file = self.create_file(ANEW, number, size)?;
        file.write_at(SEGMENT_HEADER_BYTES + record::RECORD_HEADER_BYTES as u64, value)
            .and_then(|()| file.write_at(SEGMENT_HEADER_BYTES, header.as_bytes()))
            .and_then(|()| match self.options.durability {
                Durability::Memory => Ok(()),
                Durability::Disk => file.sync().and_then(|()| self.disk.sync_names()),
            })
            .map_err(io_error(&self.disk, "write", ANEW))?;
        let promised = self.promised.max(*promised).max(entry.ballot);
        let offset = SEGMENT_HEADER_BYTES;
        self.write_beginning(Beginning { first, before, promised, segment: number, offset, sequence })?;
        self.name_anew(number)?;
        for old in std::mem::take(&mut self.segments) {
            self.disk.discard(&segment_name(old.number));
        }
        self.active.replace(file).into_iter().for_each(|file| self.disk.retire(file));
        self.segments.push(Segment { number, end: offset + bytes });
        self.salt = salt;
        self.promised = promised;
        self.stamps = Runs::starting_at(first, before);
        self.stamps.push(entry.ballot);
        self.roster = Roster::new(members.clone());
        self.points = Points::default();
        self.points.note(first, Place { segment: 0, offset: offset as u32 }, true);
        self.next_sequence = sequence + 1;
        self.durable = self.next_sequence;
        self.prepared = false;
        Ok(())
    }

    fn name_anew(&self, number: u64) -> Result<(), LogError> {
        let renamed = self.disk.rename(ANEW, &segment_name(number)).and_then(|()| self.disk.sync_names());
        renamed.map_err(io_error(&self.disk, "rename", ANEW))
    }

    fn write_beginning(&self, beginning: Beginning) -> Result<(), LogError> {
        let mut file = CutFile {
            magic: MAGIC,
            version: VERSION.into(),
            crc: 0.into(),
            cluster: self.options.cluster,
            first: beginning.first.into(),
            before: beginning.before.0.into(),
            promised: beginning.promised.0.into(),
            segment: beginning.segment.into(),
            offset: beginning.offset.into(),
            sequence: beginning.sequence.into(),
        };
        file.crc = checksum(file.as_bytes()).into();
        let written = match self.options.durability {
            Durability::Memory => self.disk.write_small_unsynced(CUT, file.as_bytes()),
            Durability::Disk => self.disk.write_small(CUT, file.as_bytes()),
        };
        written.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                LogError::Full { file: self.disk.describe(CUT) }
            }
            _ => io_error(&self.disk, "write", CUT)(error),
        })
    }

    /// Memory durability did not wait for the disk when the log was cut.
    pub(super) fn sync_beginning(&self) -> Result<(), LogError> {
        for name in [MEMBERS, CUT] {
            if let Some(bytes) = self.disk.read_small(name).map_err(io_error(&self.disk, "read", name))? {
                self.disk.write_small(name, &bytes).map_err(io_error(&self.disk, "sync", name))?;
            }
        }
        Ok(())
    }

    fn read_beginning(&self) -> Result<Option<Beginning>, LogError> {
        let bytes = self.disk.read_small(CUT).map_err(io_error(&self.disk, "read", CUT))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let name = self.disk.describe(CUT);
        let bad =
            |offset: usize, why: String| LogError::Corrupt { file: name.clone(), offset: offset as u64, why };
        let expected = size_of::<CutFile>();
        // A version is believed if the checksum, which stands in the same place in all versions, is right.
        let sum = checksum(&bytes);
        let other =
            |version: u32| LogError::Version { file: name.clone(), found: version, expected: VERSION };
        if let Some((found, _)) =
            version_and_sum(&bytes).filter(|&(found, crc)| found != VERSION && crc == sum)
        {
            return Err(other(found));
        }
        let file = CutFile::read_from_bytes(&bytes).map_err(|_| {
            bad(bytes.len().min(expected), format!("expected {expected} bytes, found {}", bytes.len()))
        })?;
        if file.magic != MAGIC {
            let found = file.magic.escape_ascii();
            return Err(bad(0, format!("expected \"{}\", found \"{found}\"", MAGIC.escape_ascii())));
        }
        if file.crc.get() != sum {
            return Err(bad(12, format!("expected CRC {:08x}, found {sum:08x}", file.crc.get())));
        }
        if file.cluster != self.options.cluster {
            return Err(LogError::Cluster { file: name });
        }
        Ok(Some(Beginning {
            first: file.first.get(),
            before: Ballot(file.before.get()),
            promised: Ballot(file.promised.get()),
            segment: file.segment.get(),
            offset: file.offset.get(),
            sequence: file.sequence.get(),
        }))
    }

    /// Of a log that was cut: where it begins. Finishes a cut that a crash broke off, and takes the files out of `names` that do not
    /// belong to the log.
    pub(super) fn recover_beginning(
        &mut self,
        names: &mut Vec<String>,
    ) -> Result<Option<Beginning>, LogError> {
        let beginning = self.read_beginning()?;
        let segment = beginning.map_or(1, |beginning| beginning.segment);
        if names.iter().any(|name| name == ANEW) {
            let first = segment_name(segment);
            if beginning.is_some() && !names.contains(&first) {
                self.name_anew(segment)?;
                names.push(first);
                names.sort();
            } else {
                self.disk.remove(ANEW).map_err(io_error(&self.disk, "remove", ANEW))?;
            }
        }
        let Some(beginning) = beginning else { return Ok(None) };
        let old = |name: &String| segment_number(name).is_some_and(|number| number < segment);
        for name in names.iter().filter(|name| old(name)) {
            self.disk.remove(name).map_err(io_error(&self.disk, "remove", name))?;
        }
        names.retain(|name| !old(name));
        self.promised = beginning.promised;
        self.stamps = Runs::starting_at(beginning.first, beginning.before);
        self.next_sequence = beginning.sequence;
        Ok(Some(beginning))
    }

    /// Makes the file of a segment under a name that may be temporary, with its header.
    pub(super) fn create_file(&self, name: &str, number: u64, size: u64) -> Result<D::File, LogError> {
        let mut file = self.disk.create(name, size).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                LogError::Full { file: self.disk.describe(&segment_name(number)) }
            }
            _ => io_error(&self.disk, "create", name)(error),
        })?;
        let header = SegmentHeader::new(self.options.cluster, number, self.next_sequence, size);
        file.write_at(0, header.as_bytes()).map_err(io_error(&self.disk, "write", name))?;
        Ok(file)
    }
}
