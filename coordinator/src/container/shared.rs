//! The host tmpfs directory that coordinator and server share: the arena, and a copy of the preload library.
//!
//! It is a named directory under `/dev/shm`, not a memfd, so that a process outside the container's tree and a restored
//! one find it by its path. A server that became another user must be able to open the arena again, so the arena is open to
//! all; what keeps the host's other users out is a directory around it that only its owner can enter. The container sees the inner
//! one alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{ARENA_FILE, ContainerError, PRELOAD_FILE, remove_tree};

/// Where the directories stand; [`SharedDirectory::create`] makes `brolga-<cluster>-<id>/in` in it.
pub const SHARED_PARENT: &str = "/dev/shm";

/// The directory that the container sees, in the one that is closed to others.
const INNER: &str = "in";

/// Removes itself when dropped.
#[derive(Debug)]
pub struct SharedDirectory {
    outer: PathBuf,
    path: PathBuf,
}

impl SharedDirectory {
    /// Where all that a replica shares stands, to be removed.
    pub fn path_of(cluster: &str, id: u32) -> PathBuf {
        Path::new(SHARED_PARENT).join(format!("brolga-{cluster}-{id}"))
    }

    /// What the container of a replica sees of it.
    pub fn inner_path_of(cluster: &str, id: u32) -> PathBuf {
        Self::path_of(cluster, id).join(INNER)
    }

    /// Makes the directory of a replica, with a zeroed arena of `arena_bytes`; one that a killed coordinator left is
    /// replaced.
    pub fn create(
        cluster: &str,
        id: u32,
        preload: &Path,
        arena_bytes: usize,
    ) -> Result<Self, ContainerError> {
        let outer = Self::path_of(cluster, id);
        let path = Self::inner_path_of(cluster, id);
        let made = fill(&outer, &path, preload, arena_bytes);
        let directory = Self { outer, path };
        match made {
            Ok(()) => Ok(directory),
            Err(source) => Err(ContainerError::Directory { path: directory.path.clone(), source }),
        }
    }

    /// Its path on the host.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Maps the arena, at any address.
    pub fn map_arena(&self) -> io::Result<ArenaMapping> {
        ArenaMapping::open(&self.path.join(ARENA_FILE))
    }
}

fn fill(outer: &Path, path: &Path, preload: &Path, arena_bytes: usize) -> io::Result<()> {
    remove_tree(outer)?;
    fs::DirBuilder::new().mode(0o700).create(outer)?;
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    let copy = path.join(PRELOAD_FILE);
    fs::copy(preload, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644))?;
    let arena =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path.join(ARENA_FILE))?;
    // The server may drop its privileges before a child of its opens the arena again after an exec.
    arena.set_permissions(fs::Permissions::from_mode(0o666))?;
    arena.set_len(arena_bytes as u64)
}

impl Drop for SharedDirectory {
    fn drop(&mut self) {
        let _ = remove_tree(&self.outer);
    }
}

/// A shared mapping of a whole arena.
#[derive(Debug)]
pub struct ArenaMapping {
    address: NonNull<libc::c_void>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and this type reads or writes nothing through it.
unsafe impl Send for ArenaMapping {}
// SAFETY: as above.
unsafe impl Sync for ArenaMapping {}

impl ArenaMapping {
    /// Maps the file at `path` for reading and writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file: File = OpenOptions::new().read(true).write(true).open(path)?;
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let length = std::num::NonZeroUsize::new(bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice, of a file that is that long.
        let address = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok(Self { address, bytes })
    }

    /// Its first byte; page-aligned. The control page stands there.
    pub fn as_ptr<T>(&self) -> *const T {
        assert!(size_of::<T>() <= self.bytes, "the arena is smaller than what is looked for in it");
        self.address.as_ptr().cast()
    }

    /// Its length.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for ArenaMapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `open` mapped; whoever took a pointer promised not to outlive the mapping.
        let _ = unsafe { munmap(self.address, self.bytes) };
    }
}
