//! The digest at the end of each entry's bubble, in a file beside the log, so that a replay at any later time can be held
//! against what happened: `brolga replay`, `brolga explain`, `brolga verify`.
//!
//! A row of fixed size for each entry; a server that is rebuilt writes the same rows again. Only a help for people: what
//! cannot be written is left out, and what was not written when the process died is missing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::digests::Digest;

/// Name of the file in the replica's directory.
pub const DIGEST_FILE: &str = "digests";
/// Bytes of a row: tick, digest, and a checksum over these and the entry's number; four bytes are zero.
const ROW_BYTES: usize = 24;
/// Rows that wait before they are written.
const WAITING_ROWS: usize = 4096;

/// Writes the file.
#[derive(Debug)]
pub struct DigestWriter {
    file: Option<File>,
    /// Entry of the first row that waits.
    first: u64,
    waiting: Vec<u8>,
}

impl DigestWriter {
    /// The file beside the log directory of a replica.
    pub fn beside(log_directory: &Path) -> Self {
        let path = log_directory.with_file_name(DIGEST_FILE);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.inspect_err(|error| tracing::warn!("cannot write {}: {error}", path.display())).ok();
        Self { file, first: 0, waiting: Vec::new() }
    }

    /// Notes the digest at the end of an entry's bubble.
    pub fn note(&mut self, digest: Digest) {
        let next = self.first + (self.waiting.len() / ROW_BYTES) as u64;
        if digest.entry != next || self.waiting.len() >= WAITING_ROWS * ROW_BYTES {
            self.flush();
            self.first = digest.entry;
        }
        self.waiting.extend_from_slice(&row(digest));
    }

    /// Writes what waits.
    pub fn flush(&mut self) {
        let rows = (self.waiting.len() / ROW_BYTES) as u64;
        if let Some(file) = self.file.as_ref().filter(|_| rows > 0)
            && let Err(error) = file.write_all_at(&self.waiting, self.first * ROW_BYTES as u64)
        {
            tracing::warn!("the digests of entries {} and later are not kept: {error}", self.first);
        }
        self.first += rows;
        self.waiting.clear();
    }
}

impl Drop for DigestWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

fn row(digest: Digest) -> [u8; ROW_BYTES] {
    let mut row = [0; ROW_BYTES];
    row[..8].copy_from_slice(&digest.tick.to_le_bytes());
    row[8..16].copy_from_slice(&digest.value.to_le_bytes());
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&digest.entry.to_le_bytes());
    checksum.update(&row[..16]);
    row[16..20].copy_from_slice(&checksum.finalize().to_le_bytes());
    row
}

/// What a replica's directory knows of its past; a file that is not there knows nothing.
pub fn read(replica_directory: &Path) -> io::Result<Vec<Digest>> {
    let bytes = match std::fs::read(replica_directory.join(DIGEST_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let (rows, _) = bytes.as_chunks::<ROW_BYTES>();
    let word = |half: &[u8]| half.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    let mut digests = Vec::with_capacity(rows.len());
    for (entry, found) in (0..).zip(rows) {
        // A hole is a row that was not written.
        if *found == [0; ROW_BYTES] {
            continue;
        }
        let digest = Digest { entry, tick: word(&found[..8]), value: word(&found[8..16]) };
        let expected = row(digest);
        if *found != expected {
            let (file, offset) = (replica_directory.join(DIGEST_FILE), entry * ROW_BYTES as u64);
            let (expected, found) = (word(&expected[16..]), word(&found[16..]));
            return Err(io::Error::other(format!(
                "{} is corrupt at byte {offset}: the row of entry {entry} has checksum {found:x} instead of {expected:x}; the \
                 file only helps people: remove it, and the replica writes it anew when it starts",
                file.display()
            )));
        }
        digests.push(digest);
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use super::{DIGEST_FILE, DigestWriter, ROW_BYTES, read};
    use crate::replica::digests::Digest;
    use proptest::prelude::*;

    fn digest(entry: u64, value: u64) -> Digest {
        Digest { entry, tick: entry * 10, value }
    }

    #[test]
    fn rows_come_back_and_a_rebuilt_server_writes_over_them() {
        let directory = std::env::temp_dir().join(format!("brolga-digests-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        assert_eq!(read(&directory).unwrap(), []);
        let mut writer = DigestWriter::beside(&directory.join("log"));
        (0..3).for_each(|entry| writer.note(digest(entry, 7)));
        writer.note(digest(0, 8));
        writer.note(digest(4, 9));
        drop(writer);
        assert_eq!(read(&directory).unwrap(), [digest(0, 8), digest(1, 7), digest(2, 7), digest(4, 9)]);
        let file = directory.join(DIGEST_FILE);
        let whole = std::fs::read(&file).unwrap();
        for byte in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[byte] ^= 1 << (byte % 8);
            std::fs::write(&file, bytes).unwrap();
            let error = read(&directory).expect_err("a flipped bit").to_string();
            assert!(error.contains(&format!("byte {}:", byte / ROW_BYTES * ROW_BYTES)), "{byte}: {error}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_digests(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let directory = std::env::temp_dir().join(format!("brolga-digests-any-{}", std::process::id()));
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(DIGEST_FILE), &bytes).unwrap();
            let found = read(&directory);
            prop_assert!(found.is_err() || found.is_ok_and(|digests| digests.len() <= bytes.len() / ROW_BYTES));
        }
    }
}
