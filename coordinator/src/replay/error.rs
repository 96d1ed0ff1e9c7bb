//! What can go wrong with a replay.

use std::io;
use std::path::PathBuf;

use crate::container::ContainerError;
use crate::launcher::LauncherError;
use crate::log::LogError;

/// Why a log cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// No cluster has run there.
    #[error("there is no cluster in {0}; name one with --name or --state")]
    NoCluster(PathBuf),
    /// The replica has no log.
    #[error("replica {id} of {state} has no log; `brolga status` lists the replicas")]
    NoLog {
        /// Which.
        id: u8,
        /// Of which state directory.
        state: PathBuf,
    },
    /// Another version wrote it.
    #[error("the log in {state} was written by version {found} of Brolga, this is {ours}: use that version")]
    Version {
        /// The state directory.
        state: PathBuf,
        /// Theirs.
        found: String,
        /// Ours.
        ours: &'static str,
    },
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
    /// See [`ContainerError`].
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// See [`LauncherError`].
    #[error(transparent)]
    Launcher(#[from] LauncherError),
    /// The server made no progress.
    #[error(
        "the server made no operation for {seconds} s at entry {entry}, logical time {tick}; look at it with `brolga replay --gdb`"
    )]
    Stuck {
        /// How long.
        seconds: u64,
        /// Where.
        entry: u64,
        /// Where.
        tick: u64,
    },
    /// The arena is damaged.
    #[error("the server overwrote memory that it shares with Brolga; run it under a memory checker")]
    Damaged,
    /// Something else.
    #[error("{0}")]
    Refused(String),
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl ReplayError {
    /// For `map_err`.
    pub fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}
