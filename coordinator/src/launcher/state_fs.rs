//! A file system of its own for the state directory (`--state-fs 20G`): XFS in a file beside it, mounted on it. Its files can share
//! blocks, so a checkpoint's copies of the server's files take neither time nor room.
//!
//! All of the file's room is taken when it is made: else a disk that is full under it would be a device that fails. It stays mounted when
//! the cluster has ended, because `brolga logs`, `restore` and `replay` read there.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

use super::loop_device::{self, CONTROL};
use super::state::LOCK;
use crate::log::allocate;
use crate::private::make_private;

/// The smallest one: XFS wants 300 MB, and a checkpoint leaves 128 MB to the log.
const LEAST_BYTES: u64 = 512 << 20;
const UNITS: [(&str, u64); 4] = [("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40), ("", 1 << 30)];
/// Where a program is looked for that is not in `PATH`, as for users who became root by `su`.
const SYSTEM_PROGRAMS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// How large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

impl FromStr for Size {
    type Err = String;

    /// `20G`, `20`, `700M`, `1T`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = UNITS
            .iter()
            .find_map(|&(unit, bytes)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(bytes));
        match bytes {
            Some(bytes) if bytes >= LEAST_BYTES && i64::try_from(bytes).is_ok() => Ok(Self(bytes)),
            _ => Err(format!("{text:?} is no size such as 20G or 700M, of {}M at least", LEAST_BYTES >> 20)),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS[..3].iter().rev().find(|(_, bytes)| self.0.is_multiple_of(*bytes));
        let (unit, bytes) = whole.unwrap_or(&UNITS[0]);
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum StateFsError {
    /// Only root may mount.
    #[error("--state-fs mounts a file system, which only root may: run it as root, or do without")]
    NotRoot,
    /// A program is missing.
    #[error("--state-fs needs {program}: install {package}, or do without (state_fs in cluster.toml)")]
    Missing {
        /// Which.
        program: &'static str,
        /// Debian's package.
        package: &'static str,
    },
    /// The kernel has none.
    #[error(
        "--state-fs needs loop devices, and there is no {CONTROL}: modprobe loop, or do without (state_fs in cluster.toml)"
    )]
    NoLoop,
    /// Not enough room.
    #[error(
        "there is no room for {path}: it takes {size}, and {free} MB are free; choose a smaller --state-fs (state_fs in cluster.toml)"
    )]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: Size,
        /// What is free.
        free: u64,
    },
    /// A program failed.
    #[error(
        "{program} failed with {path}: {why}; mend that, or do without --state-fs (state_fs in cluster.toml)"
    )]
    Failed {
        /// Which.
        program: &'static str,
        /// With what.
        path: PathBuf,
        /// Its own words.
        why: String,
    },
    /// The kernel refused.
    #[error(
        "--state-fs cannot mount {image} on {path}: {why}; mend that (loop devices, XFS), or do without (state_fs in cluster.toml)"
    )]
    NoMount {
        /// The file.
        image: PathBuf,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        why: io::Error,
    },
    /// There is something already.
    #[error(
        "{0} has files already, which a file system mounted there would hide: move them away, or do without --state-fs (state_fs in cluster.toml)"
    )]
    NotEmpty(PathBuf),
    /// A file operation failed.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Mounts the file system of the state directory `directory`, if it has one, and makes one of `size` before if that is wanted. Does nothing
/// if something is mounted there.
pub fn ensure(directory: &Path, size: Option<Size>) -> Result<(), StateFsError> {
    if size.is_some() && !directory.exists() {
        // What is refused leaves nothing behind.
        check()?;
    }
    make_private(directory).map_err(failed("make", directory))?;
    let directory = &directory.canonicalize().map_err(failed("find", directory))?;
    let image = image_of(directory);
    if is_mounted(directory) || (size.is_none() && !image.exists()) {
        return Ok(());
    }
    check()?;
    // `brolga stop` makes the lock also where nothing is mounted.
    let mut entries = fs::read_dir(directory).map_err(failed("list", directory))?.flatten();
    if entries.any(|entry| entry.file_name() != LOCK) {
        return Err(StateFsError::NotEmpty(directory.clone()));
    }
    if let Some(size) = size.filter(|_| !image.exists()) {
        make(&image, size)?;
    }
    attach_and_mount(&image, directory).map_err(|why| StateFsError::NoMount {
        image,
        path: directory.clone(),
        why,
    })
}

fn attach_and_mount(image: &Path, directory: &Path) -> io::Result<()> {
    let (device, _open) = loop_device::attach(image)?;
    let none: Option<&str> = None;
    mount(Some(&device), directory, Some("xfs"), MsFlags::empty(), none).map_err(io::Error::from)
}

/// Whether this machine could have one.
pub fn check() -> Result<(), StateFsError> {
    if !geteuid().is_root() {
        return Err(StateFsError::NotRoot);
    }
    command("mkfs.xfs", "xfsprogs")?;
    if Path::new(CONTROL).exists() { Ok(()) } else { Err(StateFsError::NoLoop) }
}

/// The file beside the state directory.
pub fn image_of(directory: &Path) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(".xfs");
    name.into()
}

/// Whether the directory is another file system's than the one above it.
pub fn is_mounted(directory: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|data| data.dev()).ok();
    directory.parent().is_some_and(|above| device(directory) != device(above))
}

/// It has its name when it is whole.
fn make(image: &Path, size: Size) -> Result<(), StateFsError> {
    let above = image.parent().unwrap_or(Path::new("/"));
    let space = statvfs(above).map_err(io::Error::from).map_err(failed("look for free space in", above))?;
    let free = space.blocks_available() * space.fragment_size();
    if free < size.0 {
        return Err(StateFsError::NoRoom { path: image.to_owned(), size, free: free >> 20 });
    }
    let mut unfinished = image.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let _ = fs::remove_file(&unfinished);
    let made = fill(&unfinished, image, size);
    if made.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    made
}

fn fill(unfinished: &Path, image: &Path, size: Size) -> Result<(), StateFsError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(unfinished);
    let file = file.map_err(failed("make", unfinished))?;
    allocate(&file, size.0).map_err(failed("take room for", unfinished))?;
    let mut mkfs = command("mkfs.xfs", "xfsprogs")?;
    // Blocks that are discarded would be given back.
    run("mkfs.xfs", mkfs.args(["-q", "-K", "-m", "reflink=1,bigtime=1"]), unfinished)?;
    let above = image.parent().unwrap_or(Path::new("/"));
    let kept = file.sync_all().and_then(|()| fs::rename(unfinished, image));
    kept.and_then(|()| File::open(above)?.sync_all()).map_err(failed("keep", image))
}

/// The program from `PATH` or where the system has its own.
fn command(program: &'static str, package: &'static str) -> Result<Command, StateFsError> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&search).chain(SYSTEM_PROGRAMS.map(PathBuf::from));
    let found = directories.map(|directory| directory.join(program)).find(|path| path.is_file());
    found.map(Command::new).ok_or(StateFsError::Missing { program, package })
}

fn run(program: &'static str, command: &mut Command, path: &Path) -> Result<(), StateFsError> {
    let output =
        command.arg(path).stdin(Stdio::null()).output().map_err(failed("run a program for", path))?;
    let why = || String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    match output.status.success() {
        true => Ok(()),
        false => Err(StateFsError::Failed { program, path: path.to_owned(), why: why() }),
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateFsError {
    let path = path.to_owned();
    move |source| StateFsError::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::{Size, StateFsError, command, image_of, make};
    use std::path::Path;

    #[test]
    fn sizes_have_a_unit_and_are_not_too_small() {
        let read = |text: &str| text.parse::<Size>();
        assert_eq!(
            (read("20G"), read("20"), read("512M")),
            (Ok(Size(20 << 30)), read("20G"), Ok(Size(512 << 20)))
        );
        for text in ["20G", "700M", "2T"] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        for text in ["", "G", "0", "511M", "-1G", "1.5G", "99999999999T", "9999999T"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = command("mkfs.of-nobody", "nothing").unwrap_err().to_string();
        assert!(error.contains("needs mkfs.of-nobody: install nothing"), "{error}");
        let image = image_of(&std::env::temp_dir().join(format!("brolga-image-{}.x", std::process::id())));
        assert_eq!(image.extension().unwrap(), "xfs");
        let error = make(&image, Size(1 << 60)).unwrap_err();
        assert!(matches!(error, StateFsError::NoRoom { .. }), "{error}");
        assert!(error.to_string().contains("it takes 1048576T, and "), "{error}");
        assert!(!image.exists() && image_of(Path::new("/a/b.c")) == Path::new("/a/b.c.xfs"));
    }
}
