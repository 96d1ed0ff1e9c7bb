//! Checkpoints of a replica: the server's processes, its memory and files, and what the coordinator knows of its connections, at
//! a place in the log.
//!
//! A follower's server sleeps when it has applied all entries that it was given ([`dmt::link::Link::is_parked`]). There CRIU freezes
//! it and writes the images of its processes; the arena, the upper layers and the output files are copied while it stands still
//! ([`take()`]). The directory gets its name, the index of the next entry, when all of it is on the disk, so a checkpoint is whole
//! or not there. Before one is used, everything in it is compared with the sums in its manifest ([`bring()`]).

mod arena;
mod bring;
pub mod criu;
mod files;
pub mod manifest;
mod room;
mod store;
mod take;

use std::io;
use std::path::PathBuf;

pub use bring::{Brought, bring};
pub use manifest::Manifest;
pub use room::{LOG_RESERVE_BYTES, check_room};
pub use store::{Store, Stored};
pub use take::{Phases, Plan, Site, Taken, take};

/// Checkpoints that are kept.
pub const KEEP: usize = 2;

/// Directory of CRIU's images in a checkpoint.
const IMAGES: &str = "images";
/// File with the arena's pages in a checkpoint.
const ARENA: &str = "arena";
/// Directory of the upper layers in a checkpoint.
const LAYERS: &str = "files";
/// Directory of the server's output files in a checkpoint.
const OUTPUT: &str = "output";
/// Directory with what the container had in `/dev/shm`.
const SHM: &str = "shm";
/// The same, in the container.
const SHM_INSIDE: &str = "dev/shm";

/// Why a checkpoint could not be taken or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// CRIU is not there.
    #[error("there is no CRIU: {0}")]
    NoCriu(String),
    /// CRIU could not do it.
    #[error("CRIU failed: {0}")]
    Criu(String),
    /// The log needs the space.
    #[error(
        "{path} has {free} MB of free space: a checkpoint may need {need} MB, and {reserve} MB are left to the log"
    )]
    NoRoom {
        /// A directory on the file system.
        path: PathBuf,
        /// Megabytes.
        free: u64,
        /// Megabytes.
        need: u64,
        /// [`LOG_RESERVE_BYTES`] in megabytes.
        reserve: u64,
    },
    /// The helper inside the container did not do its part.
    #[error("the helper inside the container {0}")]
    Helper(String),
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
    /// A checkpoint is damaged.
    #[error("{path}: expected {expected}, found {found}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What is there.
        found: String,
    },
    /// It was made by another version of Brolga, or for another cluster.
    #[error("{path}: {reason}")]
    Foreign {
        /// Which checkpoint.
        path: PathBuf,
        /// In what it differs.
        reason: String,
    },
}

impl CheckpointError {
    fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
