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
mod disk;
mod fetching;
mod files;
mod lending;
mod listing;
mod log_end;
pub mod manifest;
mod memory;
mod room;
mod store;
mod take;

use std::io;
use std::path::PathBuf;

pub use bring::{Brought, bring, verify_files};
pub use fetching::{Expected, Fetcher, Told};
pub use lending::Lender;
#[cfg(fuzzing)]
pub(crate) use listing::fuzz as fuzz_listing;
pub use log_end::LogEnd;
pub use manifest::Manifest;
pub use room::{LOG_RESERVE_BYTES, check_room};
pub use store::{Store, Stored};
pub use take::{Phases, Plan, Site, Taken, take};

/// Checkpoints that are kept.
pub const KEEP: usize = 2;
/// Bytes of a piece in which checkpoints go to other replicas: what clients may have to wait for on the way.
pub const PIECE_BYTES: u64 = 128 << 10;

/// Which piece of a checkpoint a replica wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Want {
    /// Entry of the checkpoint.
    pub entry: u64,
    /// Which one it is ([`Stored::id`]).
    pub id: u32,
    /// Of the listing of its files, or of their contents.
    pub listing: bool,
    /// From here on.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
}

/// A piece of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which.
    pub want: Want,
    /// Bytes of all pieces together.
    pub total: u64,
    /// CRC-32 of `bytes`.
    pub crc: u32,
    /// As many as were wanted, or fewer.
    pub bytes: Vec<u8>,
}

impl Piece {
    /// Whether its bytes are those that were sent.
    pub fn is_whole(&self) -> bool {
        crc32fast::hash(&self.bytes) == self.crc
    }
}

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
    /// Several of its files are.
    #[error("{}", told(.0))]
    Several(Vec<Self>),
    /// It was made by another version of Brolga, or for another cluster.
    #[error("{path}: {reason}")]
    Foreign {
        /// Which checkpoint.
        path: PathBuf,
        /// In what it differs.
        reason: String,
    },
}

/// Damaged files that a message names.
const MOST_TOLD: usize = 16;

fn told(errors: &[CheckpointError]) -> String {
    let mut lines: Vec<_> = errors.iter().take(MOST_TOLD).map(ToString::to_string).collect();
    if errors.len() > MOST_TOLD {
        lines.push(format!("and {} more", errors.len() - MOST_TOLD));
    }
    lines.join("; ")
}

impl CheckpointError {
    /// Whether the same may work a little later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Criu(_) | Self::Helper(_) | Self::File { .. })
    }

    fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
