//! The boot mark: which boot of the machine a log of memory durability belongs to.
//!
//! Without a sync, a reboot may lose promises, and a replica that forgot a promise can break the consensus. So the mark
//! stands from the first use in memory durability until everything has been synced.

use std::{fs, io};

use super::disk::Disk;
use super::error::LogError;
use super::{Durability, Options, io_error};

const NAME: &str = "boot_id";

/// The kernel's name for this boot of the machine.
pub fn current_boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Refuses a log that another boot may have left without its last writes.
pub(super) fn check<D: Disk>(disk: &D, options: &Options) -> Result<(), LogError> {
    match disk.read_small(NAME).map_err(io_error(disk, "read", NAME))? {
        Some(mark) if mark != options.boot_id.as_bytes() => {
            Err(LogError::OtherBoot { directory: disk.describe("") })
        }
        _ => Ok(()),
    }
}

/// Sets the mark if writes will not be synced.
pub(super) fn mark<D: Disk>(disk: &D, options: &Options) -> Result<(), LogError> {
    match options.durability {
        Durability::Disk => Ok(()),
        Durability::Memory => {
            disk.write_small(NAME, options.boot_id.as_bytes()).map_err(io_error(disk, "write", NAME))
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
