//! Files of the host that libraries read behind a server's back, as they were when the cluster was made.
//!
//! The dynamic loader maps its cache, and the size of that moves everything that is mapped afterwards; name look-ups read the tables of
//! users and hosts, and their lengths are seen. Each installation of a package changes some of them. A server that is replayed later
//! must find them as they were, or it goes another way. So their copies lie beside the replicas' directories, and a container has
//! them as a layer between its own and the host's.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use nix::mount::MsFlags;

use super::copies::copy_all;
use super::directory::remove_tree;
use super::marks;
use super::mounts::{Failure, because, tmpfs};
use super::system_sums;
pub use super::system_sums::beside as sums_of;

/// The loader's list of libraries.
const LOADER_CACHE: &str = "/etc/ld.so.cache";
/// What is kept, each with what it leads to if it is a symbolic link.
const FILES: &[&str] = &[
    LOADER_CACHE,
    "/etc/ld.so.preload",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/networks",
    "/etc/localtime",
    "/etc/timezone",
    "/usr/lib/ssl/openssl.cnf",
];
/// Symbolic links in a row, at the most: the kernel's limit.
const MAX_LINKS: usize = 40;
/// The loader's cache is as long as a multiple of this, bytes: the same on machines that do not have the same packages.
const LOADER_CACHE_UNIT: u64 = 1 << 20;
/// How much the copies can take, and more.
const LAYER_OPTIONS: &str = "mode=755,size=256m";
/// Bytes of a file that is kept, at the most. A longer one stays the host's.
const MAX_BYTES: u64 = 16 << 20;

/// Copies them to `directory`, which is there afterwards only if it is whole. With `safely` it is on the disk then.
pub fn keep(directory: &Path, safely: bool) -> io::Result<()> {
    let new = directory.with_extension("new");
    remove_tree(&new)?;
    remove_tree(directory)?;
    let mut copies = Copies { directory: &new, made: Vec::new() };
    copies.make_directory(Path::new("/"))?;
    FILES.iter().try_for_each(|path| copies.keep(Path::new(path)))?;
    // A directory's time changes with what is made in it.
    for (number, path) in copies.made.iter().enumerate() {
        marks::mark_kept(path, number);
        if safely && !path.is_symlink() {
            File::open(path)?.sync_all()?;
        }
    }
    system_sums::write(&new, directory, safely)?;
    fs::rename(&new, directory)?;
    match directory.parent() {
        Some(parent) if safely => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Mounts at `target` the layer of what [`keep`] made in `kept`, if it is there. It is on a file system of its own, because an overlay
/// takes no two layers of which one lies in the other.
pub(super) fn layer(kept: Option<PathBuf>, target: &Path) -> Result<Option<PathBuf>, Failure> {
    let Some(kept) = kept.filter(|kept| kept.is_dir()) else { return Ok(None) };
    tmpfs(target, MsFlags::empty(), LAYER_OPTIONS)?;
    because(copy_all(&[(kept.clone(), target.to_owned())]), "copy system files to", target)?;
    system_sums::check(target, &kept)?;
    Ok(Some(target.to_owned()))
}

/// The copy in `directory` of the host's `path`, if there is one.
pub(super) fn of(directory: Option<&Path>, path: &Path) -> Option<PathBuf> {
    let copy = directory?.join(path.strip_prefix("/").ok()?);
    fs::symlink_metadata(&copy).is_ok().then_some(copy)
}

struct Copies<'a> {
    directory: &'a Path,
    /// In the order in which they were made.
    made: Vec<PathBuf>,
}

impl Copies<'_> {
    /// Copies `path` of the host and what it leads to. What is not there, or not to be read, is left out.
    fn keep(&mut self, path: &Path) -> io::Result<()> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            // Links among the directories are the host's.
            let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
            let (Some(parent), Some(name)) = (parent, path.file_name()) else { return Ok(()) };
            path = parent.join(name);
            let Ok(data) = fs::symlink_metadata(&path) else { return Ok(()) };
            if data.is_file() {
                return self.copy(&path, &data);
            }
            let Ok(target) = fs::read_link(&path) else { return Ok(()) };
            if let Some(copy) = self.place(&path)? {
                symlink(&target, &copy)?;
                self.made.push(copy);
            }
            path = parent.join(target);
        }
        Ok(())
    }

    fn copy(&mut self, path: &Path, data: &fs::Metadata) -> io::Result<()> {
        let Ok(mut from) = File::open(path) else { return Ok(()) };
        if data.len() > MAX_BYTES {
            eprintln!(
                "brolga: warning: {} is longer than {MAX_BYTES} bytes and not kept for the server: do not change it",
                path.display()
            );
            return Ok(());
        }
        let Some(copy) = self.place(path)? else { return Ok(()) };
        let mut to = File::create_new(&copy)?;
        let bytes = io::copy(&mut from, &mut to)?;
        if path == Path::new(LOADER_CACHE) {
            to.set_len(bytes.next_multiple_of(LOADER_CACHE_UNIT))?;
        }
        own_as(&copy, data);
        self.made.push(copy);
        Ok(())
    }

    /// Where the copy of `path` goes; `None` if it is there.
    fn place(&mut self, path: &Path) -> io::Result<Option<PathBuf>> {
        if of(Some(self.directory), path).is_some() {
            return Ok(None);
        }
        self.make_directory(path.parent().unwrap_or(Path::new("/")))?;
        Ok(Some(inside(self.directory, path)))
    }

    /// Makes the copy of a directory, without what is in it, and those above it.
    fn make_directory(&mut self, path: &Path) -> io::Result<()> {
        let mut here = PathBuf::from("/");
        for component in path.components() {
            if let Component::Normal(name) = component {
                here.push(name);
            }
            let copy = inside(self.directory, &here);
            if !copy.exists() {
                fs::create_dir(&copy)?;
                own_as(&copy, &fs::metadata(&here)?);
                self.made.push(copy);
            }
        }
        Ok(())
    }
}

fn inside(directory: &Path, path: &Path) -> PathBuf {
    directory.join(path.strip_prefix("/").unwrap_or(path))
}

/// Owner and rights of the original, as far as the caller may give them.
fn own_as(copy: &Path, data: &fs::Metadata) {
    let _ = chown(copy, Some(data.uid()), Some(data.gid()));
    let _ = fs::set_permissions(copy, fs::Permissions::from_mode(data.mode() & 0o7777));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("brolga-system-files-{name}-{}", std::process::id()));
        remove_tree(&path).unwrap();
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn copies_are_what_the_host_has() {
        let scratch = scratch("copies");
        let directory = scratch.join("system");
        for safely in [true, false] {
            keep(&directory, safely).unwrap();
            let passwd = of(Some(&directory), Path::new("/etc/passwd")).unwrap();
            assert_eq!(fs::read(&passwd).unwrap(), fs::read("/etc/passwd").unwrap());
            assert_eq!(fs::metadata(&passwd).unwrap().mode(), fs::metadata("/etc/passwd").unwrap().mode());
            let cache = fs::read(of(Some(&directory), Path::new(LOADER_CACHE)).unwrap()).unwrap();
            let host = fs::read(LOADER_CACHE).unwrap();
            assert!(cache.starts_with(&host) && cache[host.len()..].iter().all(|byte| *byte == 0));
            assert_eq!(cache.len() as u64 % LOADER_CACHE_UNIT, 0);
            assert!(!scratch.join("system.new").exists());
        }
        assert_eq!(of(Some(&directory), Path::new("/etc/shadow")), None, "secrets stay where they are");
        assert_eq!(of(None, Path::new("/etc/passwd")), None);
        remove_tree(&scratch).unwrap();
    }

    #[test]
    fn a_link_is_kept_with_what_it_leads_to() {
        let scratch = scratch("links").canonicalize().unwrap();
        fs::create_dir_all(scratch.join("far/near")).unwrap();
        fs::write(scratch.join("far/near/file"), b"text").unwrap();
        symlink("near/file", scratch.join("far/second")).unwrap();
        symlink("far/second", scratch.join("first")).unwrap();
        symlink("nowhere", scratch.join("dangling")).unwrap();
        symlink("round", scratch.join("round")).unwrap();
        let directory = scratch.join("system");
        let mut copies = Copies { directory: &directory, made: Vec::new() };
        for name in ["first", "first", "far/second", "dangling", "round", "missing", "far"] {
            copies.keep(&scratch.join(name)).unwrap();
        }
        let copy = |name: &str| of(Some(&directory), &scratch.join(name));
        assert_eq!(fs::read_link(copy("first").unwrap()).unwrap(), Path::new("far/second"));
        assert_eq!(fs::read_link(copy("far/second").unwrap()).unwrap(), Path::new("near/file"));
        assert_eq!(fs::read(copy("far/near/file").unwrap()).unwrap(), b"text");
        assert!(copy("dangling").is_some() && copy("round").is_some() && copy("missing").is_none());
        remove_tree(&scratch).unwrap();
    }
}
