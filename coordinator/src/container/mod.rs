//! The container of one replica: namespaces, an overlay of the host's file system, and init with the server in it.
//!
//! [`Container::start`] is for the replica's coordinator. It returns when the server's `execve` has succeeded, or with
//! the exact reason why not, and then nothing is left behind: mounts belong to a mount namespace that dies with init.
//! Everything in the container dies when init dies, and init dies with the *thread* that called `start`
//! (`PR_SET_PDEATHSIG`), so call it from a thread that lives as long as the process. Where the process has a [`starter`], that
//! is its first thread.

mod copies;
pub mod criu;
mod deaths;
mod directory;
mod error;
mod freed;
mod init;
mod killed;
mod limits;
mod marks;
mod mounts;
pub mod namespaces;
mod network;
mod orphans;
pub mod probe;
mod replaced;
mod server;
mod shared;
mod spawn;
pub mod starter;
pub mod system_files;
mod system_sums;
pub mod watchdog;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::channel::{Channel, Received};
pub use directory::{LAYERS_DIRECTORY, OUTPUT_DIRECTORY, prepare, remove_tree};
pub use error::ContainerError;
pub use init::main as init_main;
pub use limits::Limits;
pub use network::Interface;
pub use shared::{ArenaMapping, SharedDirectory};

/// Process id of the server inside the container, the same on every replica.
pub const SERVER_PID: i32 = 1000;
/// Host name inside the container, the same on every replica.
pub const HOST_NAME: &str = "brolga";
/// Number of the kick eventfd in the server: the highest, far from any number that a server would choose.
pub const KICK_FD: RawFd = dmt::bounds::MAX_FDS as RawFd - 1;
/// Where the container sees the shared directory.
pub const SHARED_MOUNT: &str = "/run/brolga";
/// Name of the arena in the shared directory.
pub const ARENA_FILE: &str = "arena";
/// Name of the preload library in the shared directory and beside the executable.
pub const PRELOAD_FILE: &str = "libbrolga_preload.so";
/// A variable of the server's environment by which its own waiting for the disk (`fsync` and its kin) is real. Without it that
/// costs nothing: a replica's files are made anew from the log.
pub const SYNC_VARIABLE: &str = "BROLGA_SYNC";
/// Name of the hidden subcommand that is init.
pub const INIT_COMMAND: &str = "container-init";

/// What to run, and where.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// The replica's own directory on the host (`<state>/replica-<id>`): upper layers and the server's output go there.
    /// Upper layers of an earlier start are wiped.
    pub directory: PathBuf,
    /// Host directories that the server must not see (keys, the other replicas).
    pub hidden: Vec<PathBuf>,
    /// What [`system_files::keep`] made, in the place of the host's; all are the host's if it is not there.
    pub system: Option<PathBuf>,
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Arguments, the name of the program first.
    pub arguments: Vec<OsString>,
    /// The server's whole environment but for what [`Container::start`] adds when `shared` is given.
    pub environment: Vec<(OsString, OsString)>,
    /// Its limits.
    pub limits: Limits,
    /// Working directory.
    pub working_directory: PathBuf,
    /// The network interfaces that the server sees, besides loopback.
    pub interfaces: Vec<Interface>,
    /// Host path of the [`SharedDirectory`]; `None` runs a plain program without preload, arena and watchdog.
    pub shared: Option<PathBuf>,
    /// The executable that has the init subcommand; `/proc/self/exe` but in tests.
    pub init_program: PathBuf,
}

/// News from init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The server's image was loaded, or it was restored; beside it is the kick eventfd of a restored one. (Consumed by
    /// [`Container::start`].)
    Started,
    /// All is ready for a restore but what the coordinator puts in place. (Consumed by [`Container::restore`].)
    Prepared,
    /// The helper of a dump has ended, and the server's process ids go on as before; or that could not be brought about.
    HelperEnded(Result<ExitStatus, String>),
    /// The container could not be set up. (Consumed by [`Container::start`].)
    Failed(String),
    /// The server has ended and nothing of it is left.
    ServerExited(ExitStatus),
    /// A process of the server that lives in dmt's eyes is dead in the kernel's.
    ProcessDied {
        /// Its id in the container.
        pid: i32,
        /// How.
        status: ExitStatus,
    },
}

/// How the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It called exit.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
}

impl ExitStatus {
    /// Out of what `waitpid` gives.
    pub fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Code(libc::WEXITSTATUS(status))
        }
    }

    /// As `waitpid` gives it.
    pub fn wait_status(self) -> i32 {
        match self {
            Self::Code(code) => (code & 0xff) << 8,
            Self::Signal(signal) => signal,
        }
    }

    /// As a shell shows it.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => match Signal::try_from(*signal) {
                Ok(name) => write!(f, "signal {name}"),
                Err(_) => write!(f, "signal {signal}"),
            },
        }
    }
}

/// What init needs to know; travels through a memfd.
#[derive(Debug, Serialize, Deserialize)]
struct InitConfig {
    directory: Vec<u8>,
    hidden: Vec<Vec<u8>>,
    system: Option<Vec<u8>>,
    program: Vec<u8>,
    arguments: Vec<Vec<u8>>,
    environment: Vec<(Vec<u8>, Vec<u8>)>,
    limits: Limits,
    working_directory: Vec<u8>,
    interfaces: Vec<Interface>,
    shared: Option<Vec<u8>>,
    /// The caller's ids, if the container is in a user namespace.
    outer_ids: Option<(u32, u32)>,
    has_kick: bool,
    /// The server is restored by CRIU instead of started.
    restores: bool,
}

/// What CRIU needs for a restore.
#[derive(Clone, Copy, Debug)]
pub struct Restore<'a> {
    /// Its executable.
    pub criu: &'a std::path::Path,
    /// The directory of its images.
    pub images: BorrowedFd<'a>,
    /// The last process id that the container had given out at the checkpoint.
    pub last_pid: i32,
}

/// A running container. Dropping it kills everything in it and waits for the end.
#[derive(Debug)]
pub struct Container {
    init: Pid,
    /// Of init: its number may be another's when it is gone.
    handle: OwnedFd,
    channel: Channel,
    reaped: bool,
}

impl Container {
    /// Starts the server in a new container. `kick` is an eventfd that the server writes to wake a sleeping
    /// coordinator; the server gets it as number [`KICK_FD`].
    pub fn start(spec: &ContainerSpec, kick: Option<BorrowedFd<'_>>) -> Result<Self, ContainerError> {
        directory::prepare(&spec.directory)?;
        let mut container = Self::spawn(spec, kick, false)?;
        container.await_start()?;
        Ok(container)
    }

    /// Brings a server back in a new container. The caller has put layers and output files in place ([`prepare`]); it puts the
    /// rest in place in `ready`, which gets init's process id, when the container's mounts are made. `images`: the directory of CRIU's
    /// images. Also returns the eventfd that the server kicks now.
    pub fn restore(
        spec: &ContainerSpec,
        kick: BorrowedFd<'_>,
        restore: &Restore<'_>,
        ready: impl FnOnce(i32) -> Result<(), ContainerError>,
    ) -> Result<(Self, OwnedFd), ContainerError> {
        let mut container = Self::spawn(spec, Some(kick), true)?;
        match container.await_report()? {
            (Report::Prepared, _) => {}
            (report, _) => return Err(ContainerError::InitDied(format!("{report:?}"))),
        }
        ready(container.init_pid())?;
        let order = criu::Order {
            task: criu::Task::Restore,
            criu: restore.criu.as_os_str().as_bytes().to_vec(),
            last_pid: restore.last_pid,
        };
        let helper = criu::order(&container.channel, &order, restore.images)
            .map_err(ContainerError::system("order a restore"))?;
        // A helper that dies without a word shows in what init reports.
        if let Ok(Received::Message(criu::Word::Done(Err(message)), _)) = helper.receive::<criu::Word>() {
            return Err(ContainerError::Setup(message));
        }
        let kick = container.await_start()?.pop();
        let kick =
            kick.ok_or_else(|| ContainerError::Setup("the restored server has no eventfd".to_owned()))?;
        Ok((container, kick))
    }

    /// Has CRIU dump the server's processes into the directory `images`. What happens comes by the channel that is returned, and
    /// at the end by [`Report::HelperEnded`].
    pub fn dump(&self, criu: &std::path::Path, images: BorrowedFd<'_>) -> io::Result<Channel> {
        let criu = criu.as_os_str().as_bytes().to_vec();
        criu::order(&self.channel, &criu::Order { task: criu::Task::Dump, criu, last_pid: 0 }, images)
    }

    fn spawn(
        spec: &ContainerSpec,
        kick: Option<BorrowedFd<'_>>,
        restores: bool,
    ) -> Result<Self, ContainerError> {
        spawn::check_open_files()?;
        let (channel, theirs) = Channel::pair().map_err(ContainerError::system("make a socket pair"))?;
        let init = match starter::of_process() {
            Some(starter) => starter.start(&theirs, kick, restores)?,
            None => spawn::spawn_init(spec, theirs, kick, restores, spawn::Parent::Us)?,
        };
        let mut container = Self { init: init.pid, handle: init.handle, channel, reaped: false };
        let mut error = [0; 4];
        if File::from(init.failed).read_exact(&mut error).is_ok() {
            let source = io::Error::from_raw_os_error(i32::from_ne_bytes(error));
            container.wait_for_init();
            return Err(ContainerError::System { what: "execute the container's init", source });
        }
        Ok(container)
    }

    /// Waits until the server runs; returns the descriptors that came with that word.
    fn await_start(&mut self) -> Result<Vec<OwnedFd>, ContainerError> {
        match self.await_report()? {
            (Report::Started, fds) => {
                let set = self.channel.set_nonblocking(true);
                set.map_err(ContainerError::system("set up the container's channel"))?;
                Ok(fds)
            }
            (report, _) => Err(ContainerError::InitDied(format!("{report:?}"))),
        }
    }

    fn await_report(&mut self) -> Result<(Report, Vec<OwnedFd>), ContainerError> {
        match self.channel.receive::<Report>() {
            Ok(Received::Message(Report::Failed(message), _)) => Err(ContainerError::Setup(message)),
            Ok(Received::Message(report, fds)) => Ok((report, fds)),
            Ok(Received::Empty | Received::Closed) => Err(ContainerError::InitDied(self.wait_for_init())),
            Err(source) => Err(ContainerError::System { what: "hear from the container's init", source }),
        }
    }

    /// Readable when [`Container::report`] has news: register it with epoll.
    pub fn report_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// The next report, `None` if there is none now. After the server's exit, or the death of init by other hands (then
    /// the status is the signal of init), the container is empty and should be dropped.
    pub fn report(&mut self) -> io::Result<Option<Report>> {
        match self.channel.receive::<Report>()? {
            Received::Message(report, _) => Ok(Some(report)),
            Received::Empty => Ok(None),
            Received::Closed => {
                self.kill();
                Ok(Some(Report::ServerExited(ExitStatus::Signal(Signal::SIGKILL as i32))))
            }
        }
    }

    /// Process id of init on the host.
    pub fn init_pid(&self) -> i32 {
        self.init.as_raw()
    }

    /// Kills everything in the container, and returns when nothing of it is left.
    pub fn kill(&mut self) {
        if !self.reaped {
            // The kernel kills a pid namespace with its init, and lets us reap init only when all others are gone.
            // SAFETY: a descriptor of our own child; no information goes with the signal.
            unsafe {
                let no_information = std::ptr::null::<libc::siginfo_t>();
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    self.handle.as_raw_fd(),
                    libc::SIGKILL,
                    no_information,
                    0,
                );
            }
            let _ = self.wait_for_init();
        }
    }

    fn wait_for_init(&mut self) -> String {
        loop {
            match waitid(Id::PIDFd(self.handle.as_fd()), WaitPidFlag::WEXITED) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::Exited(_, code)) => break self.reaped(format!("exit code {code}")),
                Ok(WaitStatus::Signaled(_, signal, _)) => break self.reaped(format!("signal {signal}")),
                other => break self.reaped(format!("{other:?}")),
            }
        }
    }

    fn reaped(&mut self, how: String) -> String {
        self.reaped = true;
        how
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill();
    }
}
