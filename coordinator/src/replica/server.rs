//! The server of this replica: its container, its arena, and our end of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use dmt::arena::{ARENA_BYTES, Arena};
use dmt::disk::mounts::Reader;
use dmt::link::{Link, Shared};
use dmt::tracing::Tracing;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::checkpoint::{CheckpointError, Stored, bring};
use crate::container::{ArenaMapping, Container, ContainerError, ContainerSpec, SharedDirectory};

/// What it takes to start the server.
#[derive(Debug)]
pub struct Recipe {
    /// The container; `shared` is filled in here.
    pub spec: ContainerSpec,
    /// The preload library.
    pub preload: PathBuf,
    /// Name of the cluster.
    pub cluster: String,
    /// Replica.
    pub id: u8,
    /// Trace from this tick on, and what.
    pub trace: Option<(u64, Tracing)>,
    /// Fingerprint of cluster and command.
    pub fingerprint: [u8; 16],
}

/// A running server. Fields are dropped in this order: the container dies before the arena goes.
pub struct Server {
    container: Container,
    /// Our end of the arena.
    pub link: Link,
    mapping: ArenaMapping,
    /// The eventfd that a restored server kicks; others kick the one that they were given.
    kick: Option<OwnedFd>,
    directory: SharedDirectory,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("container", &self.container).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts the server in a new container with a zeroed arena and empty upper layers.
    pub fn start(recipe: &Recipe, kick: &EventFd) -> Result<Self, ContainerError> {
        let directory =
            SharedDirectory::create(&recipe.cluster, u32::from(recipe.id), &recipe.preload, ARENA_BYTES)?;
        let mapping = directory
            .map_arena()
            .map_err(|source| ContainerError::Directory { path: directory.path().to_owned(), source })?;
        // SAFETY: the mapping is a fresh arena, this is the only Link to it, and the Link is dropped before the mapping.
        let mut link = unsafe { Link::attach(mapping.as_ptr::<Shared>()) };
        link.initialise();
        if let Some((from, what)) = recipe.trace {
            link.trace(from, what);
        }
        let mut spec = recipe.spec.clone();
        spec.shared = Some(directory.path().to_owned());
        let container = Container::start(&spec, Some(kick.as_fd()))?;
        Ok(Self { container, link, mapping, kick: None, directory })
    }

    /// Brings a server back from a checkpoint.
    pub fn restore(recipe: &Recipe, kick: &EventFd, stored: &Stored) -> Result<Self, CheckpointError> {
        let failed = |error: ContainerError| CheckpointError::Helper(format!("cannot start: {error}"));
        let directory =
            SharedDirectory::create(&recipe.cluster, u32::from(recipe.id), &recipe.preload, ARENA_BYTES)
                .map_err(failed)?;
        let mapping = directory.map_arena().map_err(|source| CheckpointError::File {
            what: "map the arena in",
            path: directory.path().to_owned(),
            source,
        })?;
        let mut spec = recipe.spec.clone();
        spec.shared = Some(directory.path().to_owned());
        let mut link = None;
        let mark = || {
            // SAFETY: the mapping is an arena, this is the only Link to it, and the Link is dropped before the mapping.
            let restored = link.insert(unsafe { Link::attach(mapping.as_ptr::<Shared>()) });
            restored.restored();
        };
        let what = (&spec, recipe.preload.as_path(), &recipe.fingerprint);
        let mounted = |mountinfo: &[u8]| {
            let mut reader = Reader::new();
            let mounts = mountinfo.iter().filter_map(|&byte| reader.feed(byte));
            // SAFETY: the mapping is an arena; no process of the server is there yet, and nobody else looks at its kernel.
            unsafe { (*(*mapping.as_ptr::<Arena>()).kernel()).disk.devices.mounted_anew(mounts) };
        };
        let brought = bring(stored, what, kick, &directory, mark, mounted)?;
        let link = link.ok_or_else(|| CheckpointError::Helper("left the arena out".to_owned()))?;
        Ok(Self { container: brought.container, link, mapping, kick: Some(brought.kick), directory })
    }

    /// The eventfd that it kicks, if that is not the one that it was given.
    pub fn kick(&self) -> Option<BorrowedFd<'_>> {
        self.kick.as_ref().map(AsFd::as_fd)
    }

    /// The directory that it shares with us.
    pub fn shared_path(&self) -> &Path {
        self.directory.path()
    }

    /// Readable when the container has news.
    pub fn report_fd(&self) -> BorrowedFd<'_> {
        self.container.report_fd()
    }

    /// The container.
    pub fn container(&mut self) -> &mut Container {
        &mut self.container
    }

    /// Process id of the container's init.
    pub fn init_pid(&self) -> i32 {
        self.container.init_pid()
    }

    /// Wakes the server if it sleeps and has to look at what changed.
    pub fn wake(&self) {
        if self.link.wants_wake() {
            // SAFETY: the word lives as long as the mapping; FUTEX_WAKE reads nothing else.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.link.wake_word().as_ptr(),
                    libc::FUTEX_WAKE,
                    i32::MAX,
                    std::ptr::null::<libc::timespec>(),
                );
            }
        }
    }

    /// Ends the server and writes its last operations to `trace`.
    pub fn end_with_trace(self, trace: &Path) -> io::Result<()> {
        let Self { container, link: _, mapping, kick: _, directory: _directory } = self;
        drop(container);
        // SAFETY: the mapping is an arena, and with the container all processes of the server have ended.
        unsafe { super::trace::dump(&*mapping.as_ptr::<Arena>(), trace) }
    }

    /// Stops the server's execution for good: it is fenced.
    pub fn halt(&self) {
        self.link.control().halt.store(1, Ordering::SeqCst);
        self.wake();
    }
}

/// The eventfd that the server writes to wake us.
pub fn make_kick() -> nix::Result<EventFd> {
    EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
}
