//! Copies and sums of the files in a checkpoint.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};

use super::CheckpointError;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// One file or directory of a checkpoint. Two are the same if these are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Path in the checkpoint; bytes that are not ASCII are escaped.
    pub path: String,
    /// Type and rights, octal.
    pub mode: String,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Bytes of a file's contents or of a link's target; the number of a device.
    pub size: u64,
    /// CRC-32 of contents or target, hexadecimal.
    pub crc: String,
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (user, group) = self.owner;
        write!(f, "mode {}, owner {user}:{group}, size {}, CRC {}", self.mode, self.size, self.crc)
    }
}

/// Copies a directory with all that is in it, times, owners and extended attributes included; shares the blocks where
/// the file system can.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    let copy = || -> io::Result<()> {
        fs::create_dir_all(to)?;
        let mut command = Command::new("cp");
        command.args(["-a", "--reflink=auto", "--"]).arg(from.join(".")).arg(to);
        let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        }
    };
    copy().map_err(CheckpointError::file("copy", from))
}

/// Gives the directories under `to` the times that those under `from` have.
pub(super) fn restore_times(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    let entries = fs::read_dir(from).map_err(CheckpointError::file("list", from))?;
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        restore_times(&from, &to)?;
        let set = fs::symlink_metadata(&from).and_then(|data| {
            let (read, written) = (
                TimeSpec::new(data.atime(), data.atime_nsec()),
                TimeSpec::new(data.mtime(), data.mtime_nsec()),
            );
            Ok(utimensat(AT_FDCWD, &to, &read, &written, UtimensatFlags::NoFollowSymlink)?)
        });
        set.map_err(CheckpointError::file("set the times of", &to))?;
    }
    Ok(())
}

/// The sums of all that is in `top`, but for the file `but`, in the order of their paths.
pub(super) fn sums(top: &Path, but: &str) -> Result<Vec<Sum>, CheckpointError> {
    let mut found = Vec::new();
    let mut buffer = vec![0; CHUNK];
    walk(top, top, &mut buffer, &mut found)?;
    found.retain(|sum| sum.path != but);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(
    top: &Path,
    directory: &Path,
    buffer: &mut [u8],
    found: &mut Vec<Sum>,
) -> Result<(), CheckpointError> {
    let entries = fs::read_dir(directory).map_err(CheckpointError::file("list", directory))?;
    for entry in entries {
        let path = entry.map_err(CheckpointError::file("list", directory))?.path();
        let data = fs::symlink_metadata(&path).map_err(CheckpointError::file("look at", &path))?;
        found.push(sum(top, &path, &data, buffer).map_err(CheckpointError::file("read", &path))?);
        if data.is_dir() {
            walk(top, &path, buffer, found)?;
        }
    }
    Ok(())
}

fn sum(top: &Path, path: &Path, data: &fs::Metadata, buffer: &mut [u8]) -> io::Result<Sum> {
    let mut hash = crc32fast::Hasher::new();
    let mut size = 0;
    if data.is_file() {
        let mut file = File::open(path)?;
        loop {
            let count = file.read(buffer)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            size += count as u64;
        }
    } else if data.is_symlink() {
        let target = fs::read_link(path)?;
        hash.update(target.as_os_str().as_bytes());
        size = target.as_os_str().len() as u64;
    } else if !data.is_dir() {
        size = data.rdev();
    }
    let name = path.strip_prefix(top).unwrap_or(path);
    Ok(Sum {
        path: name.as_os_str().as_bytes().escape_ascii().to_string(),
        mode: format!("{:o}", data.mode()),
        owner: (data.uid(), data.gid()),
        size,
        crc: format!("{:08x}", hash.finalize()),
    })
}

/// CRC-32 of a whole file.
pub(super) fn crc_of(path: &Path) -> Result<u32, CheckpointError> {
    fs::read(path).map(|bytes| crc32fast::hash(&bytes)).map_err(CheckpointError::file("read", path))
}

/// Compares what a checkpoint holds with what it should.
pub(super) fn compare(top: &Path, expected: &[Sum], found: &[Sum]) -> Result<(), CheckpointError> {
    let damaged = |path: &str, expected: &str, found: &str| CheckpointError::Damaged {
        path: top.join(path),
        expected: expected.to_owned(),
        found: found.to_owned(),
    };
    let (mut expected, mut found) = (expected.iter().peekable(), found.iter().peekable());
    loop {
        match (expected.peek(), found.peek()) {
            (None, None) => return Ok(()),
            (Some(one), Some(other)) if one == other => (_, _) = (expected.next(), found.next()),
            (Some(one), Some(other)) if one.path == other.path => {
                return Err(damaged(&one.path, &one.to_string(), &other.to_string()));
            }
            (Some(one), other) if other.is_none_or(|other| one.path < other.path) => {
                return Err(damaged(&one.path, &one.to_string(), "nothing"));
            }
            (_, Some(other)) => return Err(damaged(&other.path, "nothing", &other.to_string())),
            (Some(_), None) => unreachable!("the case before holds for it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{compare, copy_tree, restore_times, sums};
    use std::fs;
    use std::path::Path;

    #[test]
    fn directories_get_their_times_back() {
        let directory = std::env::temp_dir().join(format!("brolga-times-{}", std::process::id()));
        let (one, other) = (directory.join("one"), directory.join("other"));
        fs::create_dir_all(one.join("a/b")).unwrap();
        copy_tree(&one, &other).unwrap();
        fs::write(other.join("a/b/file"), "").unwrap();
        fs::remove_file(other.join("a/b/file")).unwrap();
        let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        assert_ne!(time(&one.join("a/b")), time(&other.join("a/b")));
        restore_times(&one, &other).unwrap();
        assert_eq!(time(&one.join("a/b")), time(&other.join("a/b")));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_copy_is_the_same_and_any_change_is_named() {
        let directory = std::env::temp_dir().join(format!("brolga-sums-{}", std::process::id()));
        let (one, other) = (directory.join("one"), directory.join("other"));
        fs::create_dir_all(one.join("d")).unwrap();
        fs::write(one.join("d/file"), "contents").unwrap();
        fs::write(one.join("g"), "").unwrap();
        std::os::unix::fs::symlink("file", one.join("d/link")).unwrap();
        copy_tree(&one, &other).unwrap();
        let expected = sums(&one, "").unwrap();
        assert_eq!(expected.len(), 4);
        compare(&other, &expected, &sums(&other, "").unwrap()).unwrap();
        let named = |change: &dyn Fn()| {
            change();
            compare(&other, &expected, &sums(&other, "").unwrap()).unwrap_err().to_string()
        };
        let flipped = named(&|| fs::write(other.join("d/file"), "cOntents").unwrap());
        assert!(flipped.contains("d/file: expected") && flipped.contains("found mode"), "{flipped}");
        let gone = named(&|| fs::remove_file(other.join("d/file")).unwrap());
        assert!(gone.contains("d/file") && gone.contains("found nothing"), "{gone}");
        fs::write(other.join("d/file"), "contents").unwrap();
        let more = named(&|| fs::write(other.join("z"), "").unwrap());
        assert!(more.contains("z: expected nothing"), "{more}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
