//! The configurations of the cluster's members in a log. Of a log that was cut, the one that counts where it begins stands in a small
//! file: version, CRC-32 over that and the configuration, and the configuration. It is written before the log is cut, so it may be that of a later beginning, which is
//! the same: those entries are decided, and what they bring is not taken twice, because its epoch does not follow.

use super::disk::Disk;
use super::error::LogError;
use super::{Durability, Log, io_error};
use crate::paxos::{Members, Roster};

/// Name of the small file.
pub(super) const MEMBERS: &str = "members";
/// Version of the small file; another one is refused.
const VERSION: u32 = 2;
/// The one before, whose checksum is over the configuration alone.
const BODY_SUM_VERSION: u32 = 1;
/// Bytes before the configuration.
const HEAD: usize = 8;

fn checksum(version: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    if version != BODY_SUM_VERSION {
        hasher.update(&version.to_le_bytes());
    }
    hasher.update(body);
    hasher.finalize()
}

impl<D: Disk> Log<D> {
    /// Takes notice of the configuration in the entry at `index`, the last one, if it has one.
    pub(super) fn note_members(&mut self, index: u64, value: &[u8]) -> Result<(), u64> {
        self.roster.cut(index);
        if let Some(members) = (self.options.members_of)(value)? {
            self.roster.note(index, members);
        }
        Ok(())
    }

    /// Says, durably, which configuration counts where the log is about to begin.
    pub(super) fn write_members(&self, members: &Members) -> Result<(), LogError> {
        if members.epoch == 0 {
            return Ok(());
        }
        let body = postcard::to_stdvec(members).unwrap_or_default();
        let bytes = [&VERSION.to_le_bytes()[..], &checksum(VERSION, &body).to_le_bytes(), &body].concat();
        let written = match self.options.durability {
            Durability::Memory => self.disk.write_small_unsynced(MEMBERS, &bytes),
            Durability::Disk => self.disk.write_small(MEMBERS, &bytes),
        };
        written.map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                LogError::Full { file: self.disk.describe(MEMBERS) }
            }
            _ => io_error(&self.disk, "write", MEMBERS)(error),
        })
    }

    /// Reads what [`Log::write_members`] wrote, before the entries are read.
    pub(super) fn read_members(&mut self) -> Result<(), LogError> {
        let bytes = self.disk.read_small(MEMBERS).map_err(io_error(&self.disk, "read", MEMBERS))?;
        let Some(bytes) = bytes else { return Ok(()) };
        let file = self.disk.describe(MEMBERS);
        let bad =
            |offset: usize, why: String| LogError::Corrupt { file: file.clone(), offset: offset as u64, why };
        let Some((head, body)) = bytes.split_at_checked(HEAD) else {
            return Err(bad(bytes.len(), format!("expected {HEAD} bytes or more, found {}", bytes.len())));
        };
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (version, wanted) = (word(0), word(4));
        let crc = checksum(version, body);
        if wanted != crc {
            return Err(bad(4, format!("expected CRC {wanted:08x}, found {crc:08x}")));
        }
        if ![VERSION, BODY_SUM_VERSION].contains(&version) {
            return Err(LogError::Version { file, found: version, expected: VERSION });
        }
        let members = postcard::from_bytes(body).map_err(|error| bad(HEAD, error.to_string()))?;
        self.roster = Roster::new(members);
        Ok(())
    }
}
