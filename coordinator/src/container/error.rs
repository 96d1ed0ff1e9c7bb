//! What can go wrong with a container, each with what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a container could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The kernel refused the namespaces.
    #[error("cannot make namespaces: {why}; {remedy}", why = .0, remedy = super::namespaces::remedy(.0))]
    Namespaces(#[source] io::Error),
    /// The replica's directory could not be made ready.
    #[error("cannot prepare {path}: {source}")]
    Directory {
        /// Which path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The hard limit of open files is below what the server's table needs.
    #[error(
        "the limit of open files is {have}, Brolga needs {need}; raise it (`ulimit -Hn {need}`, or nofile in your container runtime)"
    )]
    OpenFiles {
        /// The hard limit found.
        have: u64,
        /// `dmt::bounds::MAX_FDS`.
        need: u64,
    },
    /// A path cannot be given to overlayfs.
    #[error(
        "the path {0} contains one of `,` `:` `\\`, which the overlay file system cannot take; choose another state directory"
    )]
    OverlayPath(PathBuf),
    /// Init, inside the namespaces, could not set the container up.
    #[error("{0}")]
    Setup(String),
    /// A system call on the coordinator's side failed.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// Init died before it said anything.
    #[error("the container's init died while it set the replica up ({0})")]
    InitDied(String),
}

impl ContainerError {
    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
