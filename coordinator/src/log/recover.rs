//! Opening a log: read every record, cut a torn tail, refuse corruption.

use super::disk::{Disk, DiskFile};
use super::error::LogError;
use super::points::Place;
use super::reader::Reader;
use super::record::{
    self, ALIGN, FORMAT_VERSION, HeaderFault, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader,
    announced_numbers, announced_size,
};
use super::{Log, Segment, TEMPORARY_NAME, boot, io_error, segment_name, segment_number};
use crate::paxos::Ballot;

/// Behind a bad record so many times the file's length is checksummed at the most, in places that look like records.
const CHECKED_LENGTHS: u64 = 4;
/// Zeros are written in pieces of this size.
const ZEROS: [u8; 4096] = [0; 4096];

impl<D: Disk> Log<D> {
    pub(super) fn recover(&mut self) -> Result<(), LogError> {
        let mut names = self.disk.list().map_err(io_error(&self.disk, "list", ""))?;
        if names.iter().any(|name| name == TEMPORARY_NAME) {
            self.disk.remove(TEMPORARY_NAME).map_err(io_error(&self.disk, "remove", TEMPORARY_NAME))?;
        }
        self.read_members()?;
        let beginning = self.recover_beginning(&mut names)?;
        let lowest = beginning.map_or(1, |beginning| beginning.segment);
        let numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
        let mut headers = Vec::new();
        for (at, number) in numbers.iter().enumerate() {
            let header = self.read_header(*number)?;
            if *number != at as u64 + lowest {
                return Err(self.bad(*number, 0, "the log file before it is missing"));
            }
            headers.push(header);
        }
        if beginning.is_some() && numbers.is_empty() {
            return Err(self.bad(lowest, 0, "the log was cut to begin in this file, and it is missing"));
        }
        for (at, number) in numbers.iter().enumerate() {
            let start =
                beginning.filter(|_| at == 0).map_or(SEGMENT_HEADER_BYTES, |beginning| beginning.offset);
            self.segments.push(Segment { number: *number, end: start });
            match headers.get(at + 1) {
                Some(next) => self.recover_full(*number, start, next.first_sequence())?,
                None => self.recover_last(*number, start, headers[at].size())?,
            }
        }
        self.break_seal()?;
        self.sync_recovered()
    }

    fn bad(&self, number: u64, offset: u64, why: impl Into<String>) -> LogError {
        LogError::Corrupt { file: self.disk.describe(&segment_name(number)), offset, why: why.into() }
    }

    /// The record at `offset` is bad, and `why` says that it was whole once.
    fn bad_record(&self, number: u64, file: &D::File, offset: u64, why: &str) -> LogError {
        let salt = record::salt(self.options.cluster, number);
        match Reader::new(file).fault(offset, salt, self.next_sequence) {
            Ok(fault) => self.bad(number, offset, format!("{fault}; {why}")),
            Err(error) => io_error(&self.disk, "read", &segment_name(number))(error),
        }
    }

    fn read_header(&self, number: u64) -> Result<SegmentHeader, LogError> {
        let name = segment_name(number);
        let file = self.disk.open(&name).map_err(io_error(&self.disk, "open", &name))?;
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        if file.len() < SEGMENT_HEADER_BYTES {
            return Err(self.bad(number, file.len(), "the file ends inside its header"));
        }
        file.read_at(0, &mut bytes).map_err(io_error(&self.disk, "read", &name))?;
        SegmentHeader::parse(&bytes, self.options.cluster, number).map_err(|fault| match fault {
            HeaderFault::Broken(what) => self.bad(number, 0, format!("the file's header is damaged: {what}")),
            HeaderFault::Version(found) => {
                LogError::Version { file: self.disk.describe(&name), found, expected: FORMAT_VERSION }
            }
            HeaderFault::Cluster => LogError::Cluster { file: self.disk.describe(&name) },
        })
    }

    /// A file that others follow: all records up to the next file's first one must be there.
    fn recover_full(&mut self, number: u64, start: u64, next_sequence: u64) -> Result<(), LogError> {
        let name = segment_name(number);
        let file = self.disk.open(&name).map_err(io_error(&self.disk, "open", &name))?;
        let end = self.read_records(number, start, &file)?;
        if self.next_sequence != next_sequence {
            return Err(self.bad_record(number, &file, end, "a record is damaged, and later files follow"));
        }
        Ok(())
    }

    fn recover_last(&mut self, number: u64, start: u64, size: u64) -> Result<(), LogError> {
        let name = segment_name(number);
        let mut file = self.disk.open_writable(&name).map_err(io_error(&self.disk, "open", &name))?;
        // All of its room was taken before it got its name, so no crash makes it shorter.
        if file.len() < size {
            let why = format!("the file was cut off: expected {size} bytes, found {}", file.len());
            return Err(self.bad(number, file.len(), why));
        }
        let end = self.read_records(number, start, &file)?;
        if self.was_durable(number, &file, end)? {
            return Err(self.bad_record(
                number,
                &file,
                end,
                "a record is damaged, and later records are whole",
            ));
        }
        // Before the evidence is gone.
        self.break_seal()?;
        self.erase(number, &mut file, end)?;
        self.salt = record::salt(self.options.cluster, number);
        self.active = Some(file);
        Ok(())
    }

    /// Takes records into the log until one is missing or bad; the end of the last good one.
    fn read_records(&mut self, number: u64, start: u64, file: &D::File) -> Result<u64, LogError> {
        let name = segment_name(number);
        let salt = record::salt(self.options.cluster, number);
        let segment = (self.segments.len() - 1) as u32;
        let mut reader = Reader::new(file);
        let mut offset = start;
        loop {
            let record = reader.record(offset, salt).map_err(io_error(&self.disk, "read", &name))?;
            let Some(record) = record.filter(|record| record.sequence == self.next_sequence) else { break };
            match record.entry {
                None => self.promised = self.promised.max(record.ballot),
                Some((index, value)) => {
                    let before = index.checked_sub(1).and_then(|before| self.stamps.at(before));
                    let inside = index <= self.stamps.len() && index >= self.stamps.first();
                    if !inside || record.ballot < before.unwrap_or(Ballot::ZERO) {
                        return Err(self.bad(number, offset, "an entry does not fit the entries before it"));
                    }
                    self.note_entry(index, record.ballot, Place { segment, offset: offset as u32 });
                    self.note_members(index, value).map_err(|version| {
                        let file = self.disk.describe(&name);
                        LogError::Members { file, offset, version }
                    })?;
                }
            }
            self.next_sequence += 1;
            offset += record.size;
        }
        if let Some(last) = self.segments.last_mut() {
            last.end = offset;
        }
        if self.stamps.first() > 0 && self.stamps.is_empty() {
            let why = "the entry with which the log begins since it was cut is damaged";
            return Err(self.bad_record(number, file, offset, why));
        }
        Ok(offset)
    }

    /// Whether a later record proves that the bad record at `bad` was durable once.
    fn was_durable(&self, number: u64, file: &D::File, bad: u64) -> Result<bool, LogError> {
        let name = segment_name(number);
        let salt = record::salt(self.options.cluster, number);
        let missing = self.next_sequence;
        let most = missing + file.len() / RECORD_HEADER_BYTES as u64;
        let mut reader = Reader::new(file);
        let mut left = CHECKED_LENGTHS * file.len();
        let mut offset = bad + ALIGN;
        while let Some(head) =
            reader.view(offset, RECORD_HEADER_BYTES as u64).map_err(io_error(&self.disk, "read", &name))?
        {
            // The numbers tell most places apart from records without a checksum. Values come from clients, so many others may look
            // like long records that overlap.
            let (sequence, durable) = announced_numbers(head);
            if (missing + 1..=most).contains(&sequence) && durable > missing {
                let Some(rest) = left.checked_sub(announced_size(head).unwrap_or(0)) else {
                    let why = "a record is damaged, and too many places behind it look like records to tell whether one is";
                    return Err(self.bad_record(number, file, bad, why));
                };
                left = rest;
                let record = reader.record(offset, salt).map_err(io_error(&self.disk, "read", &name))?;
                if record.is_some_and(|record| record.durable > missing) {
                    return Ok(true);
                }
            }
            offset += ALIGN;
        }
        Ok(false)
    }

    /// Clears what a torn write left, so that it can never be taken for a record later.
    fn erase(&self, number: u64, file: &mut D::File, from: u64) -> Result<(), LogError> {
        let name = segment_name(number);
        let mut piece = ZEROS;
        let mut offset = from;
        while offset < file.len() {
            let len = (file.len() - offset).min(ZEROS.len() as u64) as usize;
            file.read_at(offset, &mut piece[..len]).map_err(io_error(&self.disk, "read", &name))?;
            if piece[..len] != ZEROS[..len] {
                file.write_at(offset, &ZEROS[..len]).map_err(io_error(&self.disk, "write", &name))?;
            }
            offset += len as u64;
        }
        Ok(())
    }

    /// In disk durability everything recovered is made durable before anything is built on it.
    fn sync_recovered(&mut self) -> Result<(), LogError> {
        if self.options.durability == super::Durability::Memory {
            return Ok(());
        }
        // Erased bytes and records that only the page cache held count as written since the last sync.
        self.durable = 0;
        self.sync_active()?;
        if boot::is_marked(&self.disk)? {
            self.sync_full_segments()?;
            boot::unmark(&self.disk)?;
        }
        Ok(())
    }
}
