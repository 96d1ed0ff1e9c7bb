//! All that is in a checkpoint, as another replica needs it to make the same: names, owners, times, attributes, links. The contents of
//! the files follow each other in this order, so that a place in all of them is one number.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};

use crate::container::criu::CRIU_LOG;
use crate::private::make_private;

/// Bytes of a listing at the most: about half a million files.
pub(super) const MAX_LISTING_BYTES: u64 = 64 << 20;
/// Bytes of the names, or of one value, of a file's extended attributes at the most: the kernel's bound.
const ATTRIBUTE_BYTES: usize = 64 << 10;
/// What CRIU's restore writes beside the images.
const OF_RESTORES: [&str; 2] = [CRIU_LOG, "stats-restore"];

/// One file, directory, link or device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    /// Path in the checkpoint.
    path: Vec<u8>,
    /// Type and rights.
    mode: u32,
    owner: (u32, u32),
    /// Bytes of its contents; 0 for what has none of its own.
    pub(super) size: u64,
    /// Modification time: seconds, nanoseconds.
    time: (i64, i64),
    /// Access time, in which the server's files carry their numbers.
    accessed: (i64, i64),
    /// Number of a device.
    device: u64,
    /// Target of a symbolic link.
    target: Vec<u8>,
    /// Another name of an earlier item.
    same_as: Option<u32>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Lists a checkpoint.
pub(super) fn list(top: &Path) -> io::Result<Vec<Item>> {
    let (mut items, mut known) = (Vec::new(), BTreeMap::new());
    walk(top, top, &mut items, &mut known)?;
    Ok(items)
}

fn walk(
    top: &Path,
    directory: &Path,
    items: &mut Vec<Item>,
    known: &mut BTreeMap<(u64, u64), u32>,
) -> io::Result<()> {
    let mut paths =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    paths.retain(|path| !OF_RESTORES.iter().any(|name| path.ends_with(name)));
    for path in paths {
        let data = fs::symlink_metadata(&path)?;
        let number = items.len() as u32;
        let shared = data.nlink() > 1 && !data.is_dir();
        let first = if shared { *known.entry((data.dev(), data.ino())).or_insert(number) } else { number };
        let same_as = Some(first).filter(|first| *first != number);
        let target = if data.is_symlink() { fs::read_link(&path)? } else { PathBuf::new() };
        items.push(Item {
            path: path.strip_prefix(top).unwrap_or(&path).as_os_str().as_bytes().to_vec(),
            mode: data.mode(),
            owner: (data.uid(), data.gid()),
            size: if data.is_file() && same_as.is_none() { data.len() } else { 0 },
            time: (data.mtime(), data.mtime_nsec()),
            accessed: (data.atime(), data.atime_nsec()),
            device: data.rdev(),
            target: target.as_os_str().as_bytes().to_vec(),
            same_as,
            attributes: attributes(&path)?,
        });
        if data.is_dir() {
            walk(top, &path, items, known)?;
        }
    }
    Ok(())
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn attributes(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = c_path(path)?;
    let mut names = vec![0_u8; ATTRIBUTE_BYTES];
    // SAFETY: the path ends with a zero, the buffer is as long as told.
    let count = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let Ok(count) = usize::try_from(count) else {
        return match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOTSUP) => Ok(Vec::new()),
            error => Err(error),
        };
    };
    let mut found = Vec::new();
    for name in names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let c_name = CString::new(name).map_err(io::Error::other)?;
        let mut value = vec![0_u8; ATTRIBUTE_BYTES];
        // SAFETY: as above, with a name that ends with a zero, too.
        let bytes = unsafe {
            libc::lgetxattr(path.as_ptr(), c_name.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        value.truncate(usize::try_from(bytes).map_err(|_| io::Error::last_os_error())?);
        found.push((name.to_vec(), value));
    }
    Ok(found)
}

/// Refuses a listing that would lead out of its directory, or whose parts do not fit each other. It came from a peer.
pub(super) fn check(items: &[Item]) -> Result<(), &'static str> {
    let (mut directories, mut names) = (BTreeSet::from([Path::new("")]), BTreeSet::new());
    let mut total = 0_u64;
    for (number, item) in items.iter().enumerate() {
        let path = item.relative();
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || item.path.is_empty() || item.path.contains(&0) {
            return Err("a path in it is not one inside of it");
        }
        let above = path.parent().unwrap_or(Path::new(""));
        if !directories.contains(above) || !names.insert(path) {
            return Err("a path in it is there twice, or has no directory");
        }
        if item.kind() == SFlag::S_IFDIR {
            directories.insert(path);
        }
        if item.size > 0 && !item.is_file() {
            return Err("something in it has contents that can have none");
        }
        // An overlay marks so what was removed; a server can make no others.
        if [SFlag::S_IFCHR, SFlag::S_IFBLK].contains(&item.kind()) && item.device != 0 {
            return Err("something in it is a device");
        }
        // Two names of one file have one mode. One that said another would have its rights set through a link that it is.
        let first = item.same_as.map(|at| items.get(at as usize).filter(|_| (at as usize) < number));
        let same = |first: &Item| {
            first.kind() != SFlag::S_IFDIR && first.mode == item.mode && first.same_as.is_none()
        };
        if first.is_some_and(|first| !first.is_some_and(same)) {
            return Err("a name in it is another one for nothing");
        }
        total = total.checked_add(item.size).ok_or("it is too large")?;
    }
    Ok(())
}

/// See [`crate::fuzzing`]: what passes the check lies inside of its directory.
#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(items) = postcard::from_bytes::<Vec<Item>>(bytes) else { return };
    if check(&items).is_ok() {
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_));
        assert!(items.iter().all(|item| item.relative().components().all(inside)));
        assert!(items.iter().try_fold(0_u64, |sum, item| sum.checked_add(item.size)).is_some());
    }
}

impl Item {
    pub(super) fn relative(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.mode & SFlag::S_IFMT.bits())
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind() == SFlag::S_IFREG && self.same_as.is_none()
    }

    /// Makes what has no contents. The order is that of the listing, so directories are there.
    pub(super) fn make(&self, top: &Path, items: &[Self]) -> io::Result<()> {
        let path = top.join(self.relative());
        if fs::symlink_metadata(&path).is_ok() {
            return Ok(());
        }
        if let Some(other) = self.same_as.and_then(|at| items.get(at as usize)) {
            return fs::hard_link(top.join(other.relative()), path);
        }
        match self.kind() {
            SFlag::S_IFDIR => make_private(&path),
            SFlag::S_IFLNK => std::os::unix::fs::symlink(OsStr::from_bytes(&self.target), path),
            SFlag::S_IFREG => Ok(()),
            kind => Ok(mknod(&path, kind, Mode::from_bits_truncate(0o600), self.device)?),
        }
    }

    /// Gives owner, rights, attributes and time, of directories after all in them.
    pub(super) fn finish(&self, top: &Path) -> io::Result<()> {
        let path = top.join(self.relative());
        std::os::unix::fs::lchown(&path, Some(self.owner.0), Some(self.owner.1))?;
        if self.kind() != SFlag::S_IFLNK {
            fs::set_permissions(&path, fs::Permissions::from_mode(self.mode & 0o7777))?;
        }
        let c = c_path(&path)?;
        for (name, value) in &self.attributes {
            let name = CString::new(name.as_slice()).map_err(io::Error::other)?;
            // SAFETY: path and name end with a zero, the value is as long as told.
            let set =
                unsafe { libc::lsetxattr(c.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
            if set != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let accessed = TimeSpec::new(self.accessed.0, self.accessed.1);
        let written = TimeSpec::new(self.time.0, self.time.1);
        Ok(utimensat(AT_FDCWD, &path, &accessed, &written, UtimensatFlags::NoFollowSymlink)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Item, check, list};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const FILE: u32 = 0o100_644;
    const DIRECTORY: u32 = 0o040_755;
    const LINK: u32 = 0o120_777;

    fn item(path: &str, mode: u32) -> Item {
        let path = path.as_bytes().to_vec();
        let (owner, time) = ((0, 0), (0, 0));
        Item {
            path,
            mode,
            owner,
            size: 0,
            time,
            accessed: time,
            device: 0,
            target: vec![],
            same_as: None,
            attributes: vec![],
        }
    }

    fn other_name(path: &str, mode: u32, of: u32) -> Item {
        Item { same_as: Some(of), ..item(path, mode) }
    }

    #[test]
    fn what_a_peer_lists_stays_in_its_directory() {
        let sound = [item("d", DIRECTORY), item("d/a", FILE), other_name("d/b", FILE, 1), item("l", LINK)];
        assert_eq!(check(&sound), Ok(()));
        for path in ["../a", "/etc/shadow", "d/../../a", "", "a\0b", "./a"] {
            assert!(check(&[item("d", DIRECTORY), item(path, FILE)]).is_err(), "{path:?}");
        }
        let refused: [&[Item]; 9] = [
            // A file in what is a link, or is not there.
            &[item("l", LINK), item("l/shadow", FILE)],
            &[item("a", FILE), item("a/b", FILE)],
            &[item("d/a", FILE)],
            &[item("a", FILE), item("a", LINK)],
            // Another name of itself, of nothing, of a directory, and of another kind.
            &[other_name("a", FILE, 0)],
            &[item("a", FILE), other_name("b", FILE, 7)],
            &[item("d", DIRECTORY), other_name("e", DIRECTORY, 0)],
            &[item("l", LINK), other_name("a", FILE, 0)],
            &[item("l", LINK), other_name("m", LINK, 0), other_name("a", FILE, 1)],
        ];
        for (number, items) in refused.into_iter().enumerate() {
            assert!(check(items).is_err(), "list {number}");
        }
        assert!(check(&[Item { device: 5, ..item("disk", 0o060_600) }]).is_err(), "a device");
        assert!(check(&[Item { size: 1, ..item("l", LINK) }]).is_err(), "contents of a link");
        let large = |path| Item { size: u64::MAX, ..item(path, FILE) };
        assert!(check(&[large("a"), large("b")]).is_err(), "more than there can be");
    }

    /// The list that gave this check its last rule: a link out of the tree, and a file that is another name of it.
    #[test]
    fn rights_are_not_set_through_a_link() {
        let directory = std::env::temp_dir().join(format!("brolga-links-{}", std::process::id()));
        let (inside, outside) = (directory.join("tree"), directory.join("outside"));
        fs::create_dir_all(&inside).unwrap();
        fs::write(&outside, "secret").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        fs::hard_link(inside.join("link"), inside.join("name")).unwrap();
        let honest = list(&inside).unwrap();
        assert_eq!(check(&honest), Ok(()));
        assert!(honest[1].same_as.is_some());
        honest.iter().for_each(|item| item.finish(&inside).unwrap());
        assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o600);
        let wild = [honest[0].clone(), Item { mode: 0o100_666, ..honest[1].clone() }];
        assert!(check(&wild).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}
