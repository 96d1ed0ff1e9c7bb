//! Why a replica ends.

use std::io;

use super::tls::TlsError;
use crate::container::ContainerError;
use crate::log::LogError;

/// An error that ends the replica. Its supervisor starts it again, or reports it.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The operating system refused something that always works.
    #[error("cannot {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// See [`LogError`].
    #[error(transparent)]
    Log(#[from] LogError),
    /// See [`ContainerError`].
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// See [`TlsError`].
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Peers cannot reach this replica.
    #[error("cannot listen for peers on {address}: {source}; is another replica still running?")]
    PeerAddress {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The rings in the arena do not hold what dmt writes there.
    #[error(
        "the server overwrote memory that it shares with Brolga; a program with such a fault cannot be replicated (run it \
         under a memory checker)"
    )]
    Damaged,
    /// It is no member any more.
    #[error(
        "replica {id} was removed from the cluster (epoch {epoch} of its members) and ends; a machine that is to take part again \
         gets a new id with `brolga member add`"
    )]
    Removed {
        /// Which.
        id: u8,
        /// Since when.
        epoch: u64,
    },
    /// The log was written for something else.
    #[error(
        "the log in {directory} belongs to another command, environment or cluster; use the same as before, or start over with --fresh"
    )]
    OtherCommand {
        /// The log's directory.
        directory: String,
    },
    /// The log begins late, and there is no checkpoint to go with it.
    #[error(
        "the log in {directory} begins at entry {first}, and no checkpoint beside it can be used to come to that place (the log \
         above says why): put a copy of one into `checkpoints` there, or start over with --fresh"
    )]
    NoState {
        /// The log's directory.
        directory: String,
        /// Its first entry.
        first: u64,
    },
    /// Entry 0 is not what it must be.
    #[error(
        "entry 0 of the log in {directory} is not the start of a run by this version; start over with --fresh"
    )]
    NoGenesis {
        /// The log's directory.
        directory: String,
    },
}

impl ReplicaError {
    /// Wraps an error of the operating system.
    pub fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
