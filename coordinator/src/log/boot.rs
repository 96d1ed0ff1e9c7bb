//! The boot mark: which boot of the machine a log of memory durability belongs to.
//!
//! Without a sync, a reboot may lose promises, and a replica that forgot a promise can break the consensus. So the mark
//! stands from the first use in memory durability until everything has been synced.

use std::{fs, io};

use super::disk::Disk;
use super::error::LogError;
use super::{Durability, Options, io_error};

pub(super) const NAME: &str = "boot_id";

/// The kernel's name for this boot of the machine.
pub fn current_boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Bytes of a mark's checksum, eight digits behind a space. A damaged mark must not pass for that of another boot, whose log cannot
/// be mended.
const SUM_BYTES: usize = 9;

fn sum(boot: &[u8]) -> String {
    format!(" {:08x}", crc32fast::hash(boot))
}

/// Refuses a log that another boot may have left without its last writes.
pub(super) fn check<D: Disk>(disk: &D, options: &Options) -> Result<(), LogError> {
    let Some(mark) = disk.read_small(NAME).map_err(io_error(disk, "read", NAME))? else { return Ok(()) };
    let own = options.boot_id.as_bytes();
    // Builds before had marks without checksums.
    if mark == own || mark == [own, sum(own).as_bytes()].concat() {
        return Ok(());
    }
    let (boot, found) = mark.split_at(mark.len().saturating_sub(SUM_BYTES));
    if mark.len() != own.len() && sum(boot).as_bytes() != found {
        let (expected, found) = (sum(boot), found.escape_ascii());
        let why = format!("expected the checksum \"{expected}\" behind a boot's name, found \"{found}\"");
        return Err(LogError::Corrupt { file: disk.describe(NAME), offset: boot.len() as u64, why });
    }
    Err(LogError::OtherBoot { directory: disk.describe("") })
}

/// Sets the mark if writes will not be synced.
pub(super) fn mark<D: Disk>(disk: &D, options: &Options) -> Result<(), LogError> {
    match options.durability {
        Durability::Disk => Ok(()),
        Durability::Memory => {
            let mark = options.boot_id.clone() + &sum(options.boot_id.as_bytes());
            disk.write_small(NAME, mark.as_bytes()).map_err(io_error(disk, "write", NAME))
        }
    }
}

/// Whether the log was used in memory durability and not synced since.
pub(super) fn is_marked<D: Disk>(disk: &D) -> Result<bool, LogError> {
    Ok(disk.read_small(NAME).map_err(io_error(disk, "read", NAME))?.is_some())
}

/// Removes the mark: everything is synced.
pub(super) fn unmark<D: Disk>(disk: &D) -> Result<(), LogError> {
    if is_marked(disk)? {
        disk.remove(NAME).and_then(|()| disk.sync_names()).map_err(io_error(disk, "remove", NAME))?;
    }
    Ok(())
}
