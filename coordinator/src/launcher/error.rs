//! What can go wrong with a cluster as a whole: one line each, with what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::cluster_file_error::ClusterFileError;
use super::program::ProgramError;
use super::state_fs::StateFsError;
use crate::container::ContainerError;

/// Why `brolga` gives up.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// The command cannot be replicated.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The cluster file, its keys, or this machine.
    #[error(transparent)]
    ClusterFile(#[from] ClusterFileError),
    /// A file's new content cannot be taken.
    #[error("{0}")]
    Replacement(String),
    /// No container can be made here.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The file system for the state directory cannot be made or mounted.
    #[error(transparent)]
    StateFs(#[from] StateFsError),
    /// The state directory cannot be used.
    #[error("cannot use {path}: {source}")]
    State {
        /// Which path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Nobody can join.
    #[error(
        "cannot use {path}: {source}; it is the key that lets replicas join, and stays in the directory where `brolga init` or \
         `brolga run` made the cluster's keys"
    )]
    NoAuthority {
        /// Where it should be.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The state directory belongs to something else.
    #[error(
        "the state directory {state} belongs to {what}; use another --name or --state, or --fresh to discard its data"
    )]
    Mismatch {
        /// The directory.
        state: PathBuf,
        /// To what.
        what: String,
    },
    /// A file that says what the state directory belongs to is damaged.
    #[error(
        "{path} is damaged: {why}; put a whole copy of it in its place, or discard the cluster's data with --fresh"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, what was expected, what was found.
        why: String,
    },
    /// Another supervisor has the directory.
    #[error("a cluster is running on {0} already; `brolga stop` ends it, another --name starts a second one")]
    Running(PathBuf),
    /// No supervisor answers.
    #[error("no cluster is running on {0}; start one with `brolga run`")]
    NotRunning(PathBuf),
    /// A port of the host is taken.
    #[error(
        "cannot listen on {address} for the server's port {port}: {source}; free it, or choose another with --publish ADDRESS:PORT:{port} (`publish` in cluster.toml)"
    )]
    Port {
        /// Where.
        address: SocketAddr,
        /// The server's own port.
        port: u16,
        /// The system's reason.
        source: io::Error,
    },
    /// A host that the server may connect to has no address.
    #[error(
        "--allow-outbound {host}: cannot find its address: {source}; give it as an address, or see to it that this machine can resolve it"
    )]
    Resolve {
        /// The destination as it was given.
        host: String,
        /// The resolver's reason.
        source: io::Error,
    },
    /// The rules for outbound connections do not fit.
    #[error("--allow-outbound names {count} addresses, but there is room for {most}; use *:PORT")]
    TooManyOutbound {
        /// Addresses.
        count: usize,
        /// Room.
        most: usize,
    },
    /// The preload library is missing.
    #[error(
        "libbrolga_preload.so is not beside the executable, nor in ../lib/brolga; build it, or name it in BROLGA_PRELOAD"
    )]
    NoPreload,
    /// The preload library shares its memory with another build of the coordinator.
    #[error(
        "{} is of another build than this executable, and they lay out their shared memory differently: install both from one build",
        path.display()
    )]
    OtherPreload {
        /// The library.
        path: std::path::PathBuf,
    },
    /// A replica cannot start at all.
    #[error("replica {id} cannot start: {message}")]
    Replica {
        /// Which.
        id: u8,
        /// Its own words.
        message: String,
    },
    /// Too many replicas die again and again.
    #[error("{given_up} of {count} replicas keep dying (last: {last}); see {log}")]
    CrashLoop {
        /// Replicas that are not restarted any more.
        given_up: usize,
        /// All.
        count: u8,
        /// How the last one died.
        last: String,
        /// The coordinator's log of that one.
        log: PathBuf,
    },
    /// The supervisor refused a request.
    #[error("{0}")]
    Refused(String),
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

impl LauncherError {
    /// For `map_err`.
    pub fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}
