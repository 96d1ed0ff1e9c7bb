//! Buffered reading of one log file, for recovery and for peers that lag.

use std::io;

use super::disk::DiskFile;
use super::record::{RECORD_HEADER_BYTES, Record, announced_size, fault, parse};

/// Bytes read at a time.
const BUFFER_BYTES: u64 = 256 << 10;

/// A window onto a file. What is written to the file after it was read is not seen in the window.
#[derive(Debug)]
pub(super) struct Reader<'a, F> {
    file: &'a F,
    buffer: Vec<u8>,
    start: u64,
}

impl<'a, F: DiskFile> Reader<'a, F> {
    pub(super) fn new(file: &'a F) -> Self {
        Self { file, buffer: Vec::new(), start: 0 }
    }

    /// `len` bytes at `offset`; `None` if the file ends before.
    pub(super) fn view(&mut self, offset: u64, len: u64) -> io::Result<Option<&[u8]>> {
        let Some(end) = offset.checked_add(len).filter(|end| *end <= self.file.len()) else {
            return Ok(None);
        };
        if offset < self.start || end > self.start + self.buffer.len() as u64 {
            let want = len.max(BUFFER_BYTES).min(self.file.len() - offset);
            self.buffer.resize(want as usize, 0);
            self.start = offset;
            self.file.read_at(offset, &mut self.buffer)?;
        }
        let from = (offset - self.start) as usize;
        Ok(Some(&self.buffer[from..from + len as usize]))
    }

    /// The record at `offset`; `None` if what stands there is not one.
    pub(super) fn record(&mut self, offset: u64, salt: u32) -> io::Result<Option<Record<'_>>> {
        let Some(head) = self.view(offset, RECORD_HEADER_BYTES as u64)? else { return Ok(None) };
        let Some(size) = announced_size(head) else { return Ok(None) };
        Ok(self.view(offset, size)?.and_then(|bytes| parse(bytes, salt)))
    }

    /// What stands at `offset`, where the record with this sequence number should: "expected ..., found ...".
    pub(super) fn fault(&mut self, offset: u64, salt: u32, sequence: u64) -> io::Result<String> {
        let Some(head) = self.view(offset, RECORD_HEADER_BYTES as u64)? else {
            return Ok(format!("expected record {sequence}, found the end of the file"));
        };
        if head.iter().all(|byte| *byte == 0) {
            return Ok(format!("expected record {sequence}, found zeros"));
        }
        let Some(size) = announced_size(head) else {
            return Ok(format!("expected the head of record {sequence}, found {:02x?}", &head[..16]));
        };
        let whole = self.view(offset, size)?.map(|bytes| fault(bytes, salt, sequence));
        let long = || format!("expected record {sequence}, found one of {size} bytes, beyond the file's end");
        Ok(whole.unwrap_or_else(long))
    }
}
