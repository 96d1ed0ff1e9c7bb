//! The process that starts containers, and copies files, for a coordinator that may not.
//!
//! A coordinator parses bytes from the network, so it has a filter that lets it start no program ([`crate::filter`]). Before it takes that
//! filter it forks this process, which hears nothing but its orders. An order says *that* the server is to be started, not
//! what: the container's description was fixed before. Init becomes a child of the coordinator (`CLONE_PARENT`), which ends it and
//! reaps it by a descriptor; it dies with the coordinator's first thread, and so does this process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::copies;
use super::spawn::{self, Init, Parent};
use super::{ContainerError, ContainerSpec};
use crate::channel::{Channel, Received};
use crate::process_name::STARTER;
use crate::slices::{briefly, modestly};

/// Coordinator to starter. The first descriptor beside it is a channel for the answer.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Start init; beside it: init's channel, and the server's kick eventfd.
    Start {
        /// The server will be restored by CRIU.
        restores: bool,
    },
    /// Copy directories with all that is in them: where from, and where to.
    Copy(Vec<(Vec<u8>, Vec<u8>)>),
    /// Have CRIU look at the kernel ([`super::probe`]).
    Probe { criu: Vec<u8>, shared: Vec<u8> },
}

/// Answer to [`Order::Start`]; beside it the descriptors of [`Init`].
type Started = Result<i32, String>;
/// Answer to [`Order::Copy`] and to [`Order::Probe`].
type Copied = Result<(), String>;

/// A process that starts containers for this one.
#[derive(Debug)]
pub struct Starter {
    channel: Channel,
    process: Pid,
}

/// A filter is that of a whole process, and so is this.
static OF_PROCESS: OnceLock<Starter> = OnceLock::new();

/// Forks the starter of this process, which must have no other threads yet. It starts what `spec` says, `shared` included.
pub fn launch(spec: &ContainerSpec) -> io::Result<()> {
    let (ours, theirs) = Channel::pair()?;
    let parent = std::process::id();
    // SAFETY: there is one thread, so the child is a whole process.
    let process = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            drop(ours);
            run(&theirs, spec, parent)
        }
        process => Pid::from_raw(process),
    };
    OF_PROCESS.set(Starter { channel: ours, process }).map_err(|_| io::ErrorKind::AlreadyExists.into())
}

/// Ends the starter of this process, if it has one, and waits for that.
pub fn end() {
    if let Some(starter) = of_process() {
        let told = shutdown(starter.channel.as_fd().as_raw_fd(), Shutdown::Both);
        while told.is_ok() && waitid(Id::Pid(starter.process), WaitPidFlag::WEXITED) == Err(Errno::EINTR) {}
    }
}

/// The starter of this process, if it has one: then it can start nothing itself.
pub fn of_process() -> Option<&'static Starter> {
    OF_PROCESS.get()
}

impl Starter {
    /// Starts init as a child of this process.
    pub(super) fn start(
        &self,
        channel: &Channel,
        kick: Option<BorrowedFd<'_>>,
        restores: bool,
    ) -> Result<Init, ContainerError> {
        let fds: Vec<_> = std::iter::once(channel.as_fd()).chain(kick).collect();
        let asked = self.ask::<Started>(&Order::Start { restores }, &fds);
        let (started, fds) = asked.map_err(ContainerError::system("have a container started"))?;
        let pid = Pid::from_raw(started.map_err(ContainerError::Setup)?);
        let mut fds = fds.into_iter();
        match (fds.next(), fds.next()) {
            (Some(handle), Some(failed)) => Ok(Init { pid, handle, failed }),
            _ => Err(ContainerError::Setup("the starter of containers left descriptors out".to_owned())),
        }
    }

    /// Copies all that is in each first directory into the second one.
    pub fn copy(&self, trees: &[(PathBuf, PathBuf)]) -> io::Result<()> {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let trees = trees.iter().map(|(from, to)| (bytes(from), bytes(to))).collect();
        let (copied, _) = self.ask::<Copied>(&Order::Copy(trees), &[])?;
        copied.map_err(io::Error::other)
    }

    /// Has CRIU look at the kernel, and leave what it finds in the directory `shared`.
    pub fn probe(&self, criu: &Path, shared: &Path) -> io::Result<()> {
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let order = Order::Probe { criu: bytes(criu), shared: bytes(shared) };
        let (probed, _) = self.ask::<Copied>(&order, &[])?;
        probed.map_err(io::Error::other)
    }

    /// Each order has a channel of its own for the answer: a copy takes long, and others do not wait for it.
    fn ask<T: serde::de::DeserializeOwned>(
        &self,
        order: &Order,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<(T, Vec<OwnedFd>)> {
        let (ours, theirs) = Channel::pair()?;
        let fds: Vec<_> = std::iter::once(theirs.as_fd()).chain(fds.iter().copied()).collect();
        self.channel.send_with(order, &fds)?;
        drop(fds);
        drop(theirs);
        match ours.receive()? {
            Received::Message(answer, fds) => Ok((answer, fds)),
            Received::Empty | Received::Closed => {
                Err(io::Error::new(io::ErrorKind::BrokenPipe, "the starter of containers has ended"))
            }
        }
    }
}

/// The calling process ends when its parent does.
pub(super) fn end_with_parent() -> bool {
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 }
}

/// The starter itself: until the coordinator is gone.
fn run(channel: &Channel, spec: &ContainerSpec, parent: u32) -> ! {
    let own = channel.as_fd().as_raw_fd() as u32;
    // SAFETY: no pointers but a valid name; nothing in this process uses the other descriptors any more, and nothing that owns them is dropped.
    let alone = unsafe {
        end_with_parent()
            && libc::prctl(libc::PR_SET_NAME, STARTER.as_ptr()) == 0
            && (own == 3 || libc::close_range(3, own - 1, 0) == 0)
            && libc::close_range(own + 1, u32::MAX, 0) == 0
            && libc::getppid() as u32 == parent
    };
    if alone {
        hear(channel, spec);
    }
    // SAFETY: what the coordinator set up is not ours to end in order.
    unsafe { libc::_exit(i32::from(!alone)) }
}

fn hear(channel: &Channel, spec: &ContainerSpec) {
    loop {
        match channel.receive::<Order>() {
            Ok(Received::Message(order, fds)) => perform(spec, order, fds),
            Ok(Received::Empty | Received::Closed) => return,
            Err(error) => {
                return crate::stderr::say(&format!("the starter of containers ends: {error}"));
            }
        }
        // Processes that copied.
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
    }
}

fn perform(spec: &ContainerSpec, order: Order, fds: Vec<OwnedFd>) {
    let mut fds = fds.into_iter();
    let Some(answer) = fds.next().map(Channel::from_socket) else { return };
    let path = |bytes: &[u8]| Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned();
    match order {
        Order::Start { restores } => {
            let Some(theirs) = fds.next().map(Channel::from_socket) else { return };
            let kick = fds.next();
            let kick = kick.as_ref().map(AsFd::as_fd);
            // A coordinator that does not listen any more is dead, and so is what was started for it.
            let _ = match spawn::spawn_init(spec, theirs, kick, restores, Parent::Ours) {
                Ok(init) => answer.send_with::<Started>(
                    &Ok(init.pid.as_raw()),
                    &[init.handle.as_fd(), init.failed.as_fd()],
                ),
                Err(error) => answer.send::<Started>(&Err(error.to_string())),
            };
        }
        Order::Copy(trees) => apart(&answer, || {
            briefly();
            let trees: Vec<_> = trees.iter().map(|(from, to)| (path(from), path(to))).collect();
            copies::copy_all(&trees)
        }),
        Order::Probe { criu, shared } => apart(&answer, || {
            modestly();
            super::probe::run(&path(&criu), &path(&shared))
        }),
    }
}

/// Does something in a process of its own, which answers when it is done. It does not outlive the coordinator: what it is about to
/// make is the next one's to clear away.
fn apart(answer: &Channel, act: impl FnOnce() -> io::Result<()>) {
    let starter = std::process::id();
    // SAFETY: this process has one thread, so the child is a whole process.
    match unsafe { libc::fork() } {
        -1 => {
            let error = io::Error::last_os_error();
            let _ = answer.send::<Copied>(&Err(format!("no process to work in: {error}")));
        }
        0 => {
            // SAFETY: no pointers.
            let orphan = unsafe { !end_with_parent() || libc::getppid() as u32 != starter };
            if orphan {
                // SAFETY: as above.
                unsafe { libc::_exit(1) }
            }
            let sent = answer.send::<Copied>(&act().map_err(|error| error.to_string()));
            // SAFETY: as above.
            unsafe { libc::_exit(i32::from(sent.is_err())) }
        }
        _ => {}
    }
}

/// Copies all that is in each first directory into the second one, times, owners and extended attributes included; shares the blocks
/// where the file system can. By the starter, if this process has one: in one process of its own.
pub fn copy_trees(trees: &[(PathBuf, PathBuf)]) -> io::Result<()> {
    match of_process() {
        Some(starter) => starter.copy(trees),
        None => copies::copy_all(trees),
    }
}
