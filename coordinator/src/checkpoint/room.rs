//! Whether there is room for a checkpoint. The log comes first: a replica without room for it acknowledges nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::{CheckpointError, SHM_INSIDE, Site};
use crate::container::{LAYERS_DIRECTORY, OUTPUT_DIRECTORY};
use crate::log::SEGMENT_BYTES;

/// Bytes of a file system that checkpoints leave to the log: some of its segments, of which the next is made ahead.
pub const LOG_RESERVE_BYTES: u64 = 8 * SEGMENT_BYTES;

/// Refuses a checkpoint that might not fit.
pub fn check_room(site: &Site) -> Result<(), CheckpointError> {
    let shm = site.shm();
    let files = [site.replica.join(LAYERS_DIRECTORY), site.replica.join(OUTPUT_DIRECTORY), shm];
    let files: u64 = files.iter().map(|path| stored_bytes(path)).sum();
    let arena = fs::metadata(&site.arena).map_or(0, |data| data.blocks() * 512);
    require(site.store.directory(), files + arena + memory_bytes(site.init))
}

/// Refuses it if `bytes` more would not leave the log its part.
pub(super) fn require(directory: &Path, bytes: u64) -> Result<(), CheckpointError> {
    let above = directory.ancestors().find(|path| path.is_dir()).unwrap_or(directory);
    let data = statvfs(above).map_err(io::Error::from);
    let data = data.map_err(CheckpointError::file("look for free space in", above))?;
    let free = data.blocks_available() * data.fragment_size();
    match free >= bytes + LOG_RESERVE_BYTES {
        true => Ok(()),
        false => Err(CheckpointError::NoRoom {
            path: above.to_owned(),
            free: free >> 20,
            need: bytes >> 20,
            reserve: LOG_RESERVE_BYTES >> 20,
        }),
    }
}

/// Bytes that files take on their disk. What goes away meanwhile is not counted.
fn stored_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let each = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => stored_bytes(&entry.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    });
    each.sum()
}

/// Bytes of memory that CRIU stores of the processes in a container at the most; `init` is its first process.
fn memory_bytes(init: i32) -> u64 {
    let processes = fs::read_dir(format!("/proc/{init}/root/proc")).into_iter().flatten().flatten();
    let sums = processes.filter_map(|process| fs::read_to_string(process.path().join("smaps_rollup")).ok());
    let kilobytes = |text: &str, field: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    // Each process's own pages are stored with it, those of shared memory once.
    let stored = |text: String| {
        kilobytes(&text, "Anonymous:").unwrap_or(0) + kilobytes(&text, "Pss_Shmem:").unwrap_or(0)
    };
    sums.map(stored).sum::<u64>() << 10
}

impl Site {
    /// The container's `/dev/shm`.
    pub(super) fn shm(&self) -> std::path::PathBuf {
        Path::new("/proc").join(self.init.to_string()).join("root").join(SHM_INSIDE)
    }
}

#[cfg(test)]
mod tests {
    use super::{LOG_RESERVE_BYTES, memory_bytes, require, stored_bytes};

    #[test]
    fn the_log_keeps_its_part() {
        let directory = std::env::temp_dir();
        require(&directory, 0).unwrap();
        let error = require(&directory.join("not/there"), u64::MAX / 2).unwrap_err().to_string();
        let reserve = format!("{} MB are left to the log", LOG_RESERVE_BYTES >> 20);
        assert!(error.contains("free") && error.contains(&reserve), "{error}");
    }

    #[test]
    fn files_and_processes_are_counted() {
        let directory = std::env::temp_dir().join(format!("brolga-room-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("d")).unwrap();
        std::fs::write(directory.join("d/file"), vec![1; 100_000]).unwrap();
        assert!(stored_bytes(&directory) >= 100_000);
        let memory = vec![1_u8; 4 << 20];
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(memory_bytes(own) >= memory.len() as u64);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
