//! The durable log: what this replica promised and accepted, in segment files.
//!
//! Files have a fixed size, are allocated when made (so a full disk shows there, as [`LogError::Full`], with the log
//! intact), and are written through a shared mapping: what [`Log::append`] has copied survives the death of the process.
//! With [`Durability::Disk`] it survives a power failure once [`Log::sync`] has returned.
//!
//! Invariants
//! * Records have consecutive sequence numbers; recovery keeps the longest unbroken prefix of them.
//! * An entry at an index inside the log replaces it and cuts off what follows, in one record: there is no moment at which
//!   an accepted entry is gone and its successor not yet there, and no separate mark for a cut.
//! * A record says which records were durable when it was written. A bad record that was durable, or that others follow
//!   which were written after it was, is corruption and stops the replica. Anything else is a torn tail and is cut.
//! * A log that was cut ([`Log::cut`]) begins with a decided entry, and says so in a file with a checksum: one that begins late
//!   without it is corrupt.
//! * A log without its promises is worse than none: in memory durability a log of another boot is refused.

mod boot;
mod cut;
mod damage;
mod disk;
mod error;
#[cfg(fuzzing)]
mod fuzzing;
mod members;
mod memory;
mod points;
mod reader;
mod record;
mod recover;
mod spare;

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod cut_tests;
#[cfg(test)]
mod small_tests;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

pub use boot::current_boot_id;
pub use damage::set_aside;
pub use disk::{Directory, Disk, DiskFile, MappedFile, allocate};
pub use error::LogError;
#[cfg(fuzzing)]
pub(crate) use fuzzing::fuzz;
pub use memory::{MemoryDisk, MemoryFile};
pub use record::FORMAT_VERSION;

use crate::paxos::{Ballot, Entry, MAX_VALUE_BYTES, Members, MembersOf, Recovered, Roster, Runs, Write};
use points::{Place, Points};
use reader::Reader;
use record::{Record, SEGMENT_HEADER_BYTES};
use zerocopy::IntoBytes;

/// Default size of a segment file.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// What an acknowledged entry survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The death of processes: [`Log::sync`] does nothing.
    Memory,
    /// Power failures: [`Log::sync`] waits for the disk.
    Disk,
}

/// How to open a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster that the log belongs to. Best random: checksums are salted with it.
    pub cluster: [u8; 16],
    /// What acknowledged entries survive.
    pub durability: Durability,
    /// [`current_boot_id`], or anything else that changes when unsynced data is lost.
    pub boot_id: String,
    /// Size of new segment files.
    pub segment_bytes: u64,
    /// Finds the configurations of the cluster's members in the entries.
    pub members_of: MembersOf,
}

/// One file of the log, all but the last full.
#[derive(Clone, Copy, Debug)]
struct Segment {
    number: u64,
    /// Where its records end.
    end: u64,
}

/// An open log.
#[derive(Debug)]
pub struct Log<D: Disk> {
    disk: D,
    options: Options,
    segments: Vec<Segment>,
    active: Option<D::File>,
    salt: u32,
    promised: Ballot,
    stamps: Runs,
    /// The configurations in the log, and the one that counts where it begins.
    roster: Roster,
    points: Points,
    /// Sequence number of the next record.
    next_sequence: u64,
    /// Records below are durable.
    durable: u64,
    /// The next segment was begun.
    prepared: bool,
    /// See [`Log::lost`].
    lost: Option<String>,
}

impl<D: Disk> Log<D> {
    /// Opens the log in `disk`, or starts one; cuts a torn tail.
    pub fn open(disk: D, options: Options) -> Result<Self, LogError> {
        assert!(options.segment_bytes <= u64::from(u32::MAX), "segments are addressed by 32 bits");
        boot::check(&disk, &options)?;
        let mut log = Self {
            disk,
            salt: 0,
            segments: Vec::new(),
            active: None,
            promised: Ballot::ZERO,
            stamps: Runs::default(),
            roster: Roster::new(Members::default()),
            points: Points::default(),
            next_sequence: 1,
            durable: 1,
            prepared: false,
            lost: None,
            options,
        };
        log.recover()?;
        log.read_lost()?;
        boot::mark(&log.disk, &log.options)?;
        Ok(log)
    }

    /// One past the last entry.
    pub fn len(&self) -> u64 {
        self.stamps.len()
    }

    /// Whether the log has no entry.
    pub fn is_empty(&self) -> bool {
        self.stamps.is_empty()
    }

    /// Highest ballot promised.
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// The file access underneath.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Appends one write. On [`LogError::Full`] nothing has changed, and the same write can be tried again.
    pub fn append(&mut self, write: &Write) -> Result<(), LogError> {
        let (index, len) = match write {
            Write::Promise(_) => (self.len(), 0),
            Write::Entry { index, entry } => (*index, entry.value.len()),
            Write::Anew { .. } => return self.begin_anew(write),
        };
        let before = index.checked_sub(1).and_then(|before| self.stamps.at(before)).unwrap_or_default();
        let fits = match write {
            Write::Entry { entry, .. } => {
                let inside = index <= self.len() && index >= self.first();
                inside && len <= MAX_VALUE_BYTES && entry.ballot >= before
            }
            _ => true,
        };
        if !fits {
            return Err(LogError::WrongWrite { index, len: self.len() });
        }
        self.make_room(record::record_bytes(len))?;
        let durable = match self.options.durability {
            // Memory that survives has no order to lose: every record before this one is there if this one is.
            Durability::Memory => self.next_sequence,
            Durability::Disk => self.durable,
        };
        let (header, value) = record::header_for(write, self.len(), self.next_sequence, durable, self.salt);
        let at = (self.segments.len() - 1) as u32;
        let (Some(file), Some(segment)) = (&mut self.active, self.segments.last_mut()) else {
            unreachable!("make_room leaves an active segment")
        };
        let place = Place { segment: at, offset: segment.end as u32 };
        file.write_at(segment.end + record::RECORD_HEADER_BYTES as u64, value)
            .and_then(|()| file.write_at(segment.end, header.as_bytes()))
            .map_err(io_error(&self.disk, "write", &segment_name(segment.number)))?;
        segment.end += record::record_bytes(len);
        self.next_sequence += 1;
        if !self.prepared && segment.end > file.len() / 2 {
            let durable = self.options.durability == Durability::Disk;
            self.disk.prepare(TEMPORARY_NAME, self.options.segment_bytes, durable);
            self.prepared = true;
        }
        match write {
            Write::Promise(ballot) => self.promised = self.promised.max(*ballot),
            Write::Entry { entry, .. } => {
                self.note_entry(index, entry.ballot, place);
                // One that cannot be read stops the replica: Paxos finds it, too.
                let _ = self.note_members(index, &entry.value);
            }
            Write::Anew { .. } => {}
        }
        Ok(())
    }

    /// Waits until all that was appended is as durable as configured. After an error the replica must stop.
    pub fn sync(&mut self) -> Result<(), LogError> {
        match self.options.durability {
            Durability::Memory => Ok(()),
            Durability::Disk => self.sync_active(),
        }
    }

    /// Syncs everything, whatever the durability, so that even a log of memory durability can be used after a reboot.
    pub fn close(mut self) -> Result<(), LogError> {
        self.sync_active()?;
        self.sync_full_segments()?;
        self.seal()?;
        boot::unmark(&self.disk)
    }

    /// Memory durability never synced the segments that it filled.
    fn sync_full_segments(&self) -> Result<(), LogError> {
        for segment in &self.segments[..self.segments.len().saturating_sub(1)] {
            let name = segment_name(segment.number);
            let file = self.disk.open_writable(&name);
            file.and_then(|mut file| file.sync()).map_err(io_error(&self.disk, "sync", &name))?;
        }
        self.sync_beginning()?;
        self.disk.sync_names().map_err(io_error(&self.disk, "sync", ""))
    }

    /// Reads entries `from..to` into `entries`: at least one, then as many as stay within `max_bytes` of values.
    pub fn read(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
        entries: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        let (mut bytes, mut taken) = (0, 0);
        self.scan(from, to, |index, _, record| {
            let (true, Some((_, value))) = (index >= from, record.entry) else { return true };
            if taken > 0 && bytes + value.len() > max_bytes {
                return false;
            }
            (bytes, taken) = (bytes + value.len(), taken + 1);
            entries.push(Entry { ballot: record.ballot, value: Arc::from(value) });
            true
        })
    }

    /// Where the record of entry `index` stands, and its sequence number.
    fn place_of(&self, index: u64) -> Result<(Place, u64), LogError> {
        let mut found = None;
        self.scan(index, index + 1, |at, place, record| {
            found = (at == index).then_some((place, record.sequence));
            true
        })?;
        found.ok_or(LogError::NoEntry { index, first: self.first(), len: self.len() })
    }

    /// Calls `each` with the records of entries up to `to`, from one at or before `from` on, until it returns false.
    fn scan(
        &self,
        from: u64,
        to: u64,
        mut each: impl FnMut(u64, Place, &Record<'_>) -> bool,
    ) -> Result<(), LogError> {
        let Some((mut point, mut index, mut place)) =
            self.points.before(from).filter(|_| from < to && to <= self.len())
        else {
            let index = from.max(to.saturating_sub(1));
            let index = if from < self.first() { from } else { index };
            return Err(LogError::NoEntry { index, first: self.first(), len: self.len() });
        };
        while index < to {
            let segment = place.segment;
            let file = self.segment_file(segment as usize)?;
            let mut reader = Reader::new(file.get());
            while index < to && place.segment == segment {
                if u64::from(place.offset) >= self.segments[segment as usize].end {
                    place = Place { segment: segment + 1, offset: SEGMENT_HEADER_BYTES as u32 };
                    break;
                }
                let record = self.good_record(&mut reader, place)?;
                let at = place;
                place.offset += record.size as u32;
                let Some((found, _)) = record.entry else { continue };
                if found != index {
                    return Err(self.corrupt(at, "another entry stands where this one should"));
                }
                if !each(index, at, &record) {
                    return Ok(());
                }
                index += 1;
                // What stands next in the file may have been replaced: the next point knows.
                if let Some(next) = self.points.at(point + 1, index) {
                    (point, place) = (point + 1, next);
                }
            }
        }
        Ok(())
    }

    fn segment_file(&self, segment: usize) -> Result<SegmentFile<'_, D::File>, LogError> {
        let Some(info) = self.segments.get(segment) else {
            return Err(LogError::NoEntry { index: self.len(), first: self.first(), len: self.len() });
        };
        match &self.active {
            Some(active) if segment + 1 == self.segments.len() => Ok(SegmentFile::Active(active)),
            _ => {
                let name = segment_name(info.number);
                self.disk.open(&name).map(SegmentFile::Opened).map_err(io_error(&self.disk, "open", &name))
            }
        }
    }

    /// The record at `place`, which was good when it was written or recovered.
    fn good_record<'a>(
        &self,
        reader: &'a mut Reader<'_, D::File>,
        place: Place,
    ) -> Result<Record<'a>, LogError> {
        let number = self.segments[place.segment as usize].number;
        let record = reader.record(u64::from(place.offset), record::salt(self.options.cluster, number));
        record
            .map_err(io_error(&self.disk, "read", &segment_name(number)))?
            .ok_or_else(|| self.corrupt(place, "a record that was good before is bad now"))
    }

    fn corrupt(&self, place: Place, why: &'static str) -> LogError {
        let name = segment_name(self.segments[place.segment as usize].number);
        LogError::Corrupt {
            file: self.disk.describe(&name),
            offset: u64::from(place.offset),
            why: why.into(),
        }
    }

    /// What Paxos starts from: the last entries within `tail_entries` and `tail_bytes`, at least one.
    pub fn recovered(&self, tail_entries: u64, tail_bytes: usize) -> Result<Recovered, LogError> {
        let mut tail = Vec::new();
        let mut from = self.len().saturating_sub(tail_entries.max(1)).max(self.first());
        while from < self.len() {
            let before = tail.len() as u64;
            self.read(from, self.len(), tail_bytes.max(1), &mut tail)?;
            from += tail.len() as u64 - before;
        }
        let mut bytes = 0;
        let keep = tail.iter().rev().take_while(|entry| {
            bytes += entry.value.len();
            bytes <= tail_bytes
        });
        let keep = keep.count().max(1).min(tail.len());
        tail.drain(..tail.len() - keep);
        Ok(Recovered {
            promised: self.promised,
            stamps: self.stamps.clone(),
            tail,
            // The log was cut because the first entry that is left was decided.
            commit: if self.first() > 0 { self.first() + 1 } else { 0 },
            base: (self.roster.base().epoch > 0).then(|| self.roster.base().clone()),
            changes: self.roster.changes().to_vec(),
            lost: self.lost.is_some(),
        })
    }

    fn note_entry(&mut self, index: u64, ballot: Ballot, place: Place) {
        self.points.note(index, place, index < self.stamps.len());
        self.stamps.truncate(index);
        self.stamps.push(ballot);
    }

    /// Makes sure that the active segment has `bytes` left.
    fn make_room(&mut self, bytes: u64) -> Result<(), LogError> {
        if let (Some(file), Some(segment)) = (&self.active, self.segments.last())
            && segment.end + bytes <= file.len()
        {
            return Ok(());
        }
        // What recovery finds behind this segment proves that the segment was whole: so it must be.
        self.sync()?;
        let number = self.segments.last().map_or(1, |segment| segment.number + 1);
        let size = self.options.segment_bytes.max(SEGMENT_HEADER_BYTES + bytes);
        let full = self.active.replace(self.create_segment(number, size)?);
        full.into_iter().for_each(|file| self.disk.retire(file));
        self.prepared = false;
        self.segments.push(Segment { number, end: SEGMENT_HEADER_BYTES });
        self.salt = record::salt(self.options.cluster, number);
        Ok(())
    }

    /// Makes a segment file under a temporary name, so that a file with a segment's name always has its header.
    fn create_segment(&self, number: u64, size: u64) -> Result<D::File, LogError> {
        let (name, temporary) = (segment_name(number), TEMPORARY_NAME);
        let mut file = self.create_file(temporary, number, size)?;
        let named = match self.options.durability {
            Durability::Memory => self.disk.rename(temporary, &name),
            Durability::Disk => file
                .sync()
                .and_then(|()| self.disk.rename(temporary, &name))
                .and_then(|()| self.disk.sync_names()),
        };
        named.map_err(io_error(&self.disk, "write", &name))?;
        Ok(file)
    }

    fn sync_active(&mut self) -> Result<(), LogError> {
        let (Some(file), Some(segment)) = (&mut self.active, self.segments.last()) else { return Ok(()) };
        if self.durable < self.next_sequence {
            file.sync().map_err(io_error(&self.disk, "sync", &segment_name(segment.number)))?;
            self.durable = self.next_sequence;
        }
        Ok(())
    }
}

enum SegmentFile<'a, F> {
    Active(&'a F),
    Opened(F),
}

impl<F> SegmentFile<'_, F> {
    fn get(&self) -> &F {
        match self {
            Self::Active(file) => file,
            Self::Opened(file) => file,
        }
    }
}

/// A segment that is being made.
const TEMPORARY_NAME: &str = "new.tmp";

fn segment_name(number: u64) -> String {
    format!("{number:016}.log")
}

/// The number in a segment's file name.
fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

fn io_error<'a, D: Disk>(
    disk: &'a D,
    action: &'static str,
    name: &'a str,
) -> impl FnOnce(io::Error) -> LogError + 'a {
    move |source| LogError::Io { action, file: disk.describe(name), source }
}
