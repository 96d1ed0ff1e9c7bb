//! The configurations of the cluster's members in a log. Of a log that was cut, the one that counts where it begins stands in a small
//! file: version, CRC-32, and the configuration. It is written before the log is cut, so it may be that of a later beginning, which is
//! the same: those entries are decided, and what they bring is not taken twice, because its epoch does not follow.

use super::disk::Disk;
use super::error::LogError;
use super::{Durability, Log, io_error};
use crate::paxos::{Members, Roster};

/// Name of the small file.
pub(super) const MEMBERS: &str = "members";
/// Version of the small file; another one is refused.
const VERSION: u32 = 1;
/// Bytes before the configuration.
const HEAD: usize = 8;

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
        let bytes = [&VERSION.to_le_bytes()[..], &crc32fast::hash(&body).to_le_bytes(), &body].concat();
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
            return Err(bad(bytes.len(), format!("it has {} bytes, less than its head", bytes.len())));
        };
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if word(0) != VERSION {
            return Err(LogError::Version { file, found: word(0), expected: VERSION });
        }
        let crc = crc32fast::hash(body);
        if word(4) != crc {
            return Err(bad(4, format!("its checksum is {:08x}, its bytes have {crc:08x}", word(4))));
        }
        let members = postcard::from_bytes(body).map_err(|error| bad(HEAD, error.to_string()))?;
        self.roster = Roster::new(members);
        Ok(())
    }
}
