//! Directories and files that init makes or touches get fixed times and numbers, as if they had been there for ever: each
//! replica makes its own, at another time and with another inode. How a file carries that: `dmt::disk::mark`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dmt::disk::{Mark, Time};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::SHARED_MOUNT;
use super::directory::OUTPUT_DIRECTORY;

/// The time that they show: the earliest that a mark can say, in 2004.
const MADE: Time = Time { seconds: 1 << 30, nanoseconds: 0 };
/// Directories that every container has, above those of the mounts.
const DIRECTORIES: &[&str] = &["/", "/run", "/dev", "/dev/shm", "/dev/pts", SHARED_MOUNT];
/// Most directories that get a number here; those of files that the server makes are higher.
const MAX_MARKS: u32 = FIRST_KEPT - 1;
/// Numbers of kept system files begin here.
const FIRST_KEPT: u32 = dmt::bounds::FIRST_VIRTUAL_INODE - 1000;

/// Number of the file that takes the server's output.
pub(super) const STDOUT: u32 = 1;
/// Number of the file that takes the server's errors.
pub(super) const STDERR: u32 = 2;

/// Whether the file system of `path`, which has been marked, stores marks.
pub(super) fn are_stored(path: &Path) -> bool {
    let stored = |data: fs::Metadata| Time { seconds: data.atime(), nanoseconds: data.atime_nsec() };
    fs::symlink_metadata(path).is_ok_and(|data| Mark::decode(stored(data)).is_some())
}

/// Marks a file or directory. One that cannot be marked keeps what the kernel gave it.
pub(super) fn mark(path: &Path, inode: u32) {
    let spec = |time: Time| TimeSpec::new(time.seconds, time.nanoseconds);
    let mark = Mark { inode, changed: MADE.seconds }.encode();
    let _ = utimensat(AT_FDCWD, path, &spec(mark), &spec(MADE), UtimensatFlags::NoFollowSymlink);
}

/// Marks the system file, or directory of such, number `number`, below 1000; more keep what the kernel gave them.
pub(super) fn mark_kept(path: &Path, number: usize) {
    if let Some(inode) = u32::try_from(number).ok().map(|number| FIRST_KEPT + number)
        && inode < dmt::bounds::FIRST_VIRTUAL_INODE
    {
        mark(path, inode);
    }
}

/// Numbers are given out in the order of the calls.
pub(super) struct Marks {
    given: u32,
    /// The layers are those of a checkpoint, which have their marks: only what no layer holds is marked.
    restored: bool,
}

impl Marks {
    /// Before the first.
    pub(super) fn new(restored: bool) -> Self {
        Self { given: STDERR, restored }
    }

    /// Marks the container's own directories and `others`. Runs inside, before the server.
    pub(super) fn directories(&mut self, others: &[PathBuf]) {
        let own =
            DIRECTORIES.iter().map(PathBuf::from).chain([Path::new(SHARED_MOUNT).join(OUTPUT_DIRECTORY)]);
        for path in own.chain(others.iter().cloned()) {
            self.mark(&path);
        }
    }

    /// Marks `top` and all that is below it on the same file system, with what is mounted there: a root that was planted.
    pub(super) fn tree(&mut self, top: &Path) {
        let Ok(device) = fs::symlink_metadata(top).map(|data| data.dev()) else { return };
        self.mark(top);
        let Ok(entries) = fs::read_dir(top) else { return };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            match fs::symlink_metadata(&path) {
                Ok(data) if data.dev() == device && data.is_dir() => self.tree(&path),
                // Also the root of what is mounted there: it shows the inode of a replica's layer.
                Ok(data) if data.dev() == device || data.is_dir() => self.mark(&path),
                _ => {}
            }
        }
    }

    /// Marks one more.
    pub(super) fn mark(&mut self, path: &Path) {
        if self.given < MAX_MARKS {
            self.given += 1;
            if !self.restored || path.starts_with("/dev") || path.starts_with(SHARED_MOUNT) {
                mark(path, self.given);
            }
        }
    }
}
