//! Copies of directories with all that is in them.
//!
//! As `cp -a` makes them, but in this process: to start one takes longer than to copy most upper layers, and a server stands still
//! meanwhile.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Whence, lseek};

/// Bytes of the names of a directory's extended attributes, and of one's value, at the most: the kernel's limit.
const ATTRIBUTES_BYTES: usize = 64 << 10;
/// Bytes that are copied at once; others may go first in between.
const PIECE_BYTES: u64 = 1 << 20;

/// Copies of files that have several names, by device and inode of the original.
type Linked = BTreeMap<(u64, u64), PathBuf>;

/// Copies all that is in each first directory into the second one: contents, types, names of one file, holes, owners, rights, times and
/// extended attributes; shares the blocks where the file system can.
pub(super) fn copy_all(trees: &[(PathBuf, PathBuf)]) -> io::Result<()> {
    trees.iter().try_for_each(|(from, to)| {
        fs::create_dir_all(to)?;
        copy_directory(from, to, &mut Linked::new())
    })
}

/// What is in `from`, and its attributes. An error names the file.
fn copy_directory(from: &Path, to: &Path, linked: &mut Linked) -> io::Result<()> {
    let named =
        |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    // Before it is read, which may change its access time.
    let own = fs::symlink_metadata(from).map_err(|error| named(from, error))?;
    for entry in fs::read_dir(from).map_err(|error| named(from, error))? {
        let from = entry.map_err(|error| named(from, error))?.path();
        let to = to.join(from.file_name().unwrap_or_default());
        let data = fs::symlink_metadata(&from).map_err(|error| named(&from, error))?;
        if data.is_dir() {
            let made = fs::create_dir(&to);
            made.or_else(|error| if to.is_dir() { Ok(()) } else { Err(named(&to, error)) })?;
            copy_directory(&from, &to, linked)?;
        } else {
            copy_file(&from, &to, &data, linked).map_err(|error| named(&from, error))?;
        }
    }
    copy_attributes(from, to, &own).map_err(|error| named(from, error))
}

fn copy_file(from: &Path, to: &Path, data: &fs::Metadata, linked: &mut Linked) -> io::Result<()> {
    if data.nlink() > 1 {
        let number = (data.dev(), data.ino());
        if let Some(copied) = linked.get(&number) {
            return fs::hard_link(copied, to);
        }
        linked.insert(number, to.to_owned());
    }
    if data.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if data.is_file() {
        copy_contents(&File::open(from)?, &File::create(to)?)?;
    } else {
        let kind = SFlag::from_bits_truncate(data.mode() & libc::S_IFMT);
        mknod(to, kind, Mode::empty(), data.rdev())?;
    }
    copy_attributes(from, to, data)
}

/// The data of a file, and the holes between them.
fn copy_contents(from: &File, to: &File) -> io::Result<()> {
    // SAFETY: two open descriptors.
    if unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) } == 0 {
        return Ok(());
    }
    let len = from.metadata()?.len();
    to.set_len(len)?;
    let mut at = 0;
    while let Some(start) = next_data(from, at)? {
        let end = lseek(from, start as i64, Whence::SeekHole)? as u64;
        (&*from).seek(SeekFrom::Start(start))?;
        (&*to).seek(SeekFrom::Start(start))?;
        at = start;
        while at < end {
            // Within the kernel, where it can.
            match io::copy(&mut io::Read::take(from, PIECE_BYTES.min(end - at)), &mut &*to)? {
                // It became shorter.
                0 => return Ok(()),
                count => at += count,
            }
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// Where data begin, from `at` on.
fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match lseek(file, at as i64, Whence::SeekData) {
        Ok(start) => Ok(Some(start as u64)),
        Err(nix::errno::Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Owner, rights, extended attributes and times.
fn copy_attributes(from: &Path, to: &Path, data: &fs::Metadata) -> io::Result<()> {
    lchown(to, Some(data.uid()), Some(data.gid()))?;
    if !data.is_symlink() {
        fs::set_permissions(to, data.permissions())?;
    }
    copy_extended(from, to)?;
    let (read, written) =
        (TimeSpec::new(data.atime(), data.atime_nsec()), TimeSpec::new(data.mtime(), data.mtime_nsec()));
    Ok(utimensat(AT_FDCWD, to, &read, &written, UtimensatFlags::NoFollowSymlink)?)
}

fn copy_extended(from: &Path, to: &Path) -> io::Result<()> {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let (from, to) = (name(from)?, name(to)?);
    let (mut names, mut value) = (vec![0_u8; ATTRIBUTES_BYTES], vec![0_u8; ATTRIBUTES_BYTES]);
    // SAFETY: the path is a C string, and the kernel writes no more than the buffer's length.
    let len = unsafe { libc::llistxattr(from.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let Ok(len) = usize::try_from(len) else {
        return match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            error => Err(error),
        };
    };
    for name in names[..len].split_inclusive(|&byte| byte == 0) {
        let name = name.as_ptr().cast();
        // SAFETY: as above; the names end with a zero byte each.
        let set = unsafe {
            let len = libc::lgetxattr(from.as_ptr(), name, value.as_mut_ptr().cast(), value.len());
            let Ok(len) = usize::try_from(len) else { return Err(io::Error::last_os_error()) };
            libc::lsetxattr(to.as_ptr(), name, value.as_ptr().cast(), len, 0)
        };
        if set == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::copy_all;
    use std::collections::BTreeMap;
    use std::ffi::CString;
    use std::fs::{self, File};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    const NAME: &std::ffi::CStr = c"user.brolga";
    /// What gets times of long ago.
    const OLD: [&str; 5] = ["some/text", "empty", "sparse", "some", "."];
    /// Bytes of a file with a hole.
    const SPARSE: u64 = 8 << 20;

    fn path(path: &Path) -> CString {
        CString::new(path.as_os_str().as_bytes()).unwrap()
    }

    /// Value of the attribute, if the file system has any.
    fn attribute(of: &Path) -> Option<Vec<u8>> {
        let mut value = vec![0; 16];
        // SAFETY: C strings, and a buffer of that length.
        let len = unsafe {
            libc::lgetxattr(path(of).as_ptr(), NAME.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        value.truncate(usize::try_from(len).ok()?);
        Some(value)
    }

    fn set_attribute(of: &Path) {
        // SAFETY: C strings, and a value of that length. Not every file system has such attributes.
        unsafe { libc::lsetxattr(path(of).as_ptr(), NAME.as_ptr(), b"value".as_ptr().cast(), 5, 0) };
    }

    fn old(of: &Path) {
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_234_567_891);
        let times = fs::FileTimes::new().set_accessed(time).set_modified(time);
        File::open(of).unwrap().set_times(times).unwrap();
    }

    fn make(top: &Path) {
        fs::create_dir_all(top.join("some/deep")).unwrap();
        fs::create_dir_all(top.join("empty")).unwrap();
        fs::write(top.join("some/text"), "text").unwrap();
        fs::hard_link(top.join("some/text"), top.join("some/deep/same")).unwrap();
        let sparse = File::create(top.join("sparse")).unwrap();
        sparse.set_len(SPARSE).unwrap();
        sparse.write_all_at(b"in the middle", SPARSE / 2 + 100).unwrap();
        symlink("nowhere", top.join("link")).unwrap();
        nix::unistd::mkfifo(&top.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        drop(UnixListener::bind(top.join("socket")).unwrap());
        fs::set_permissions(top.join("some/text"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::set_permissions(top.join("empty"), fs::Permissions::from_mode(0o1711)).unwrap();
        // Only root can: the mark of an overlay for a file that was removed.
        let device = nix::sys::stat::SFlag::S_IFCHR;
        let _ = nix::sys::stat::mknod(&top.join("whiteout"), device, nix::sys::stat::Mode::empty(), 0);
        for name in OLD {
            set_attribute(&top.join(name));
            old(&top.join(name));
        }
    }

    type Seen = (u32, u32, u32, u64, u64, i64, i64, Option<Vec<u8>>, Vec<u8>);

    fn seen(top: &Path) -> BTreeMap<PathBuf, Seen> {
        let mut found = BTreeMap::new();
        let mut left = vec![top.to_owned()];
        while let Some(at) = left.pop() {
            let data = fs::symlink_metadata(&at).unwrap();
            let contents = match () {
                () if data.is_symlink() => fs::read_link(&at).unwrap().as_os_str().as_bytes().to_vec(),
                () if data.is_file() => fs::read(&at).unwrap(),
                () => Vec::new(),
            };
            let links = if data.is_dir() { 0 } else { data.nlink() };
            // A link's own time is that of its copy's making with `cp`, too, if nothing else is asked for.
            let what = (
                data.mode(),
                data.uid(),
                data.gid(),
                links,
                data.rdev(),
                data.mtime(),
                data.mtime_nsec(),
                attribute(&at),
                contents,
            );
            found.insert(at.strip_prefix(top).unwrap().to_owned(), what);
            if data.is_dir() {
                left.extend(fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        found
    }

    #[test]
    fn copies_are_those_that_cp_makes() {
        let top = std::env::temp_dir().join(format!("brolga-cp-{}", std::process::id()));
        let [from, ours, theirs] = ["from", "ours", "theirs"].map(|name| top.join(name));
        make(&from);
        copy_all(&[(from.clone(), ours.clone())]).unwrap();
        for name in OLD {
            let data = fs::symlink_metadata(ours.join(name)).unwrap();
            assert_eq!((data.atime(), data.mtime()), (1, 1), "{name}");
        }
        fs::create_dir(&theirs).unwrap();
        let copied = Command::new("cp").args(["-a", "--"]).arg(from.join(".")).arg(&theirs).status().unwrap();
        assert!(copied.success());
        assert_eq!(seen(&ours), seen(&from));
        assert_eq!(seen(&ours), seen(&theirs));
        let blocks = |top: &Path| fs::metadata(top.join("sparse")).unwrap().blocks() * 512;
        assert!(blocks(&ours) <= blocks(&from).max(1 << 20), "{} of {SPARSE} bytes are there", blocks(&ours));
        let numbers = |name: &str| fs::metadata(ours.join(name)).unwrap().ino();
        assert_eq!(numbers("some/text"), numbers("some/deep/same"));
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn an_error_names_the_file() {
        let top = std::env::temp_dir().join(format!("brolga-no-cp-{}", std::process::id()));
        let error = copy_all(&[(top.join("missing"), top.join("to"))]).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        fs::remove_dir_all(&top).unwrap();
    }
}
