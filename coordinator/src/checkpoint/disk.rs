//! Brings a checkpoint to the disk, file by file and piece by piece.
//!
//! `syncfs` would write what anybody has changed on the file system, the replica's own log included, which it could not write to
//! meanwhile; and one large write would keep others' small ones waiting.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Bytes that are written to the disk at once.
const PIECE: i64 = 2 << 20;

/// Returns when all files and directories in `top`, and `top` itself, are on the disk.
pub(super) fn store(top: &Path) -> io::Result<()> {
    // What the names and sizes of one file need goes to the disk with those of all, so the contents of all go first.
    each(top, &|path, data| if data.is_file() { write(&File::open(path)?, data.len()) } else { Ok(()) })?;
    each(top, &|path, data| {
        if data.is_file() || data.is_dir() { File::open(path)?.sync_all() } else { Ok(()) }
    })?;
    File::open(top)?.sync_all()
}

fn each(directory: &Path, act: &dyn Fn(&Path, &fs::Metadata) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let data = fs::symlink_metadata(&path)?;
        if data.is_dir() {
            each(&path, act)?;
        }
        act(&path, &data)?;
    }
    Ok(())
}

/// Writes the contents of a file piece by piece.
fn write(file: &File, bytes: u64) -> io::Result<()> {
    let now = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    for at in (0..bytes as i64).step_by(PIECE as usize) {
        // SAFETY: no pointers.
        let written = unsafe { libc::sync_file_range(file.as_raw_fd(), at, PIECE, now) };
        // Some file systems write whole files only, which the caller has them do.
        if written == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EIO) {
            return Err(io::Error::last_os_error());
        }
        std::thread::yield_now();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PIECE, store};
    use std::fs;

    #[test]
    fn stores_files_of_all_kinds() {
        let top = std::env::temp_dir().join(format!("brolga-disk-{}", std::process::id()));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/large"), vec![1; 2 * PIECE as usize + 1]).unwrap();
        fs::write(top.join("a/b/empty"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", top.join("link")).unwrap();
        let fifo = nix::unistd::mkfifo(&top.join("fifo"), nix::sys::stat::Mode::S_IRUSR);
        fifo.unwrap();
        store(&top).unwrap();
        assert!(store(&top.join("nowhere")).is_err());
        fs::remove_dir_all(&top).unwrap();
    }
}
