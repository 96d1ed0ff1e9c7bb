//! Copies and sums of the files in a checkpoint.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};

use super::CheckpointError;
use crate::container::starter;

/// Bytes of a file that have a CRC of their own.
const BLOCK: usize = 1 << 20;
/// Bytes that are read at once: others may go first in between.
const PIECE: usize = 128 << 10;

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
    /// CRC-32 of each MiB of the contents, or of the target, hexadecimal.
    pub crc: String,
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (user, group) = self.owner;
        write!(f, "mode {}, owner {user}:{group}, size {}, CRC {}", self.mode, self.size, self.crc)
    }
}

/// Copies a directory with all that is in it.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    copy_trees(from, &[(from.to_owned(), to.to_owned())])
}

/// Copies each first directory, all of them of `what`, into the second one with all that is in it.
pub(super) fn copy_trees(what: &Path, trees: &[(PathBuf, PathBuf)]) -> Result<(), CheckpointError> {
    starter::copy_trees(trees).map_err(CheckpointError::file("copy", what))
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
    let mut buffer = vec![0; PIECE];
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
    let (mut crcs, mut size) = (Vec::new(), 0);
    if data.is_file() {
        let mut file = File::open(path)?;
        while let Some((crc, bytes)) = block(&mut file, buffer)? {
            crcs.push(format!("{crc:08x}"));
            size += bytes;
        }
    } else if data.is_symlink() {
        let target = fs::read_link(path)?;
        crcs.push(crc_text(target.as_os_str().as_bytes()));
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
        crc: crcs.join(" "),
    })
}

/// CRC and bytes of the next [`BLOCK`], which is shorter at the end of the file; `None` after it.
fn block(file: &mut File, buffer: &mut [u8]) -> io::Result<Option<(u32, u64)>> {
    let (mut crc, mut bytes) = (crc32fast::Hasher::new(), 0);
    while bytes < BLOCK {
        let most = buffer.len().min(BLOCK - bytes);
        match file.read(&mut buffer[..most])? {
            0 => break,
            count => {
                crc.update(&buffer[..count]);
                bytes += count;
            }
        }
        std::thread::yield_now();
    }
    Ok((bytes > 0).then(|| (crc.finalize(), bytes as u64)))
}

fn crc_text(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

/// CRC-32 of a whole file.
pub(super) fn crc_of(path: &Path) -> Result<u32, CheckpointError> {
    fs::read(path).map(|bytes| crc32fast::hash(&bytes)).map_err(CheckpointError::file("read", path))
}

/// Compares what a checkpoint holds with what it should; each file that differs is named.
pub(super) fn compare(top: &Path, expected: &[Sum], found: &[Sum]) -> Result<(), CheckpointError> {
    let damaged = |path: String, expected: String, found: String| CheckpointError::Damaged {
        path: top.join(path),
        expected,
        found,
    };
    let nothing = || "nothing".to_owned();
    let mut all = Vec::new();
    let (mut expected, mut found) = (expected.iter().peekable(), found.iter().peekable());
    loop {
        match (expected.peek(), found.peek()) {
            (None, None) => break,
            (Some(one), Some(other)) if one.path == other.path => {
                if one != other {
                    let (path, wanted, had) = difference(one, other);
                    all.push(damaged(path, wanted, had));
                }
                (_, _) = (expected.next(), found.next());
            }
            (Some(one), other) if other.is_none_or(|other| one.path < other.path) => {
                all.push(damaged(one.path.clone(), one.to_string(), nothing()));
                expected.next();
            }
            (_, Some(other)) => {
                all.push(damaged(other.path.clone(), nothing(), other.to_string()));
                found.next();
            }
            (Some(_), None) => unreachable!("the case before holds for it"),
        }
    }
    match all.len() {
        0 => Ok(()),
        1 => Err(all.remove(0)),
        _ => Err(CheckpointError::Several(all)),
    }
}

/// Where two files of one path differ, and by what: the bytes, if all else is the same.
fn difference(one: &Sum, other: &Sum) -> (String, String, String) {
    let rest = Sum { crc: one.crc.clone(), ..other.clone() };
    let blocks = || one.crc.split(' ').zip(other.crc.split(' ')).zip(0..);
    match blocks().find(|((one, other), _)| one != other) {
        Some(((wanted, had), number)) if rest == *one => {
            let from = number * BLOCK as u64;
            let place = format!("{}, bytes {from} to {}", one.path, one.size.min(from + BLOCK as u64));
            (place, format!("CRC {wanted}"), format!("CRC {had}"))
        }
        _ => (one.path.clone(), one.to_string(), other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, compare, copy_tree, restore_times, sums};
    use std::fs;
    use std::path::Path;

    #[test]
    fn directories_get_their_times_back() {
        let directory = std::env::temp_dir().join(format!("brolga-times-{}", std::process::id()));
        let (one, other) = (directory.join("one"), directory.join("other"));
        fs::create_dir_all(one.join("a/b")).unwrap();
        fs::File::open(one.join("a/b")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
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
        assert!(
            flipped.contains("d/file, bytes 0 to 8: expected CRC") && flipped.contains("found CRC"),
            "{flipped}"
        );
        let gone = named(&|| fs::remove_file(other.join("d/file")).unwrap());
        assert!(gone.contains("d/file") && gone.contains("found nothing"), "{gone}");
        fs::write(other.join("d/file"), "contents").unwrap();
        let more = named(&|| fs::write(other.join("z"), "").unwrap());
        assert!(more.contains("z: expected nothing"), "{more}");
        let several = named(&|| fs::write(other.join("g"), "longer").unwrap());
        assert!(several.contains("g: expected mode") && several.contains("z: expected"), "{several}");
        fs::remove_dir_all(&directory).unwrap();
    }

    /// A file that is larger than any bound for other things here, most of it holes, goes to a checkpoint and back.
    #[test]
    fn a_large_file_with_holes_comes_back_whole() {
        use std::os::unix::fs::FileExt;
        const BYTES: u64 = (64 << 20) + 3 * BLOCK as u64 + 100;
        let directory = std::env::temp_dir().join(format!("brolga-large-{}", std::process::id()));
        let [one, kept, back] = ["one", "kept", "back"].map(|name| directory.join(name));
        fs::create_dir_all(&one).unwrap();
        let file = fs::File::create_new(one.join("large")).unwrap();
        file.set_len(BYTES).unwrap();
        for (at, byte) in [(0, 1), (BYTES / 2 - 7, 2), (64 << 20, 3), (BYTES - 20, 4)] {
            file.write_all_at(&[byte; 20], at).unwrap();
        }
        copy_tree(&one, &kept).unwrap();
        crate::checkpoint::disk::store(&kept).unwrap();
        let expected = sums(&kept, "").unwrap();
        assert_eq!((expected[0].size, expected[0].crc.split(' ').count()), (BYTES, 68));
        copy_tree(&kept, &back).unwrap();
        for copy in [&one, &back] {
            compare(copy, &expected, &sums(copy, "").unwrap()).unwrap();
        }
        fs::OpenOptions::new().write(true).open(back.join("large")).unwrap().set_len(BYTES - 1).unwrap();
        assert!(compare(&back, &expected, &sums(&back, "").unwrap()).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }

    /// Each byte of a file of several blocks, and of its neighbours, is covered by the sum of its block.
    #[test]
    fn the_damaged_block_is_named() {
        let directory = std::env::temp_dir().join(format!("brolga-blocks-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (path, bytes) = (directory.join("file"), vec![7_u8; 2 * BLOCK + 100]);
        fs::write(&path, &bytes).unwrap();
        let expected = sums(&directory, "").unwrap();
        let last = bytes.len() - 1;
        for at in [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK, last] {
            let mut bad = bytes.clone();
            bad[at] ^= 0x80;
            fs::write(&path, &bad).unwrap();
            let error = compare(&directory, &expected, &sums(&directory, "").unwrap()).unwrap_err();
            let from = at / BLOCK * BLOCK;
            let place = format!("file, bytes {from} to {}", bytes.len().min(from + BLOCK));
            assert!(error.to_string().contains(&place), "byte {at}: {error}");
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
