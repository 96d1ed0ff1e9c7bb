//! Damage that cuts off what was promised: the files are set aside, a mark says that this replica forgot, and recovery starts
//! with an empty log. And a seal, which tells a tail that was damaged after an orderly stop from one that a crash tore.

use super::cut::{ANEW, CUT};
use super::disk::Disk;
use super::error::LogError;
use super::members::MEMBERS;
use super::{Log, boot, io_error, segment_number};

/// The mark: this replica may have promised and accepted what its log does not say.
const LOST: &str = "lost";
/// Says how far a log reached that was closed in order.
const SEAL: &str = "sealed";
/// What is appended to the names of files that are set aside.
const ASIDE: &str = ".damaged";

/// Sets all files of the log aside, so that it opens empty, and marks it as lost. Before each step the log is damaged or marked,
/// so a crash between two of them loses nothing of this.
pub fn set_aside<D: Disk>(disk: &D, why: &str) -> Result<(), LogError> {
    disk.write_small(LOST, why.as_bytes()).map_err(io_error(disk, "write", LOST))?;
    for name in disk.list().map_err(io_error(disk, "list", ""))? {
        if segment_number(&name).is_some() || [SEAL, CUT, ANEW, MEMBERS, boot::NAME].contains(&name.as_str())
        {
            disk.rename(&name, &format!("{name}{ASIDE}")).map_err(io_error(disk, "rename", &name))?;
        }
    }
    disk.sync_names().map_err(io_error(disk, "sync", ""))
}

impl<D: Disk> Log<D> {
    /// Why the log was set aside, if it was and its replica has not learned everything anew.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Everything was learned anew.
    pub fn found(&mut self) -> Result<(), LogError> {
        self.lost = None;
        self.remove_small(LOST)
    }

    pub(super) fn read_lost(&mut self) -> Result<(), LogError> {
        let mark = self.disk.read_small(LOST).map_err(io_error(&self.disk, "read", LOST))?;
        self.lost = mark.map(|why| String::from_utf8_lossy(&why).into_owned());
        Ok(())
    }

    /// Makes what was appended as durable as configured, and says how far the log reaches. Nothing may be appended any more.
    pub fn seal(&mut self) -> Result<(), LogError> {
        self.sync()?;
        let next = self.next_sequence.to_le_bytes();
        let bytes = [&next[..], &crc32fast::hash(&next).to_le_bytes()].concat();
        self.disk.write_small(SEAL, &bytes).map_err(io_error(&self.disk, "write", SEAL))
    }

    /// Holds what was recovered against the seal, if there is one, and breaks it.
    pub(super) fn break_seal(&self) -> Result<(), LogError> {
        let Some(bytes) = self.disk.read_small(SEAL).map_err(io_error(&self.disk, "read", SEAL))? else {
            return Ok(());
        };
        let file = self.disk.describe(SEAL);
        let Some((next, crc)) = bytes.split_at_checked(8).filter(|(_, crc)| crc.len() == 4) else {
            return Err(LogError::Corrupt {
                file,
                offset: bytes.len() as u64,
                why: format!("expected 12 bytes, found {}", bytes.len()),
            });
        };
        let (found, expected) = (crc32fast::hash(next).to_le_bytes(), crc);
        if found != expected {
            let why = format!("expected CRC {expected:02x?}, found {found:02x?}");
            return Err(LogError::Corrupt { file, offset: 0, why });
        }
        let sealed = next.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        if sealed != self.next_sequence {
            let why = format!(
                "record {} is damaged: expected {} records, as when the log was closed, found {}",
                self.next_sequence,
                sealed.saturating_sub(1),
                self.next_sequence - 1
            );
            let (number, offset) =
                self.segments.last().map_or((1, 0), |segment| (segment.number, segment.end));
            return Err(LogError::Corrupt {
                file: self.disk.describe(&super::segment_name(number)),
                offset,
                why,
            });
        }
        self.remove_small(SEAL)
    }

    fn remove_small(&self, name: &'static str) -> Result<(), LogError> {
        self.disk
            .remove(name)
            .and_then(|()| self.disk.sync_names())
            .map_err(io_error(&self.disk, "remove", name))
    }
}
