//! What a replica tells of its checkpoints.

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Phases, Stored};

/// What is known of a replica's checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointStatus {
    /// Those that are kept, the newest first.
    pub kept: Vec<Kept>,
    /// Taken since the coordinator started.
    pub taken: u64,
    /// That failed since then.
    pub failed: u64,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// One is being taken.
    pub running: bool,
    /// How long the server stood still for the last one, milliseconds: from the last look at which it still had entries to apply.
    pub pause_ms: u64,
    /// What of that took how long.
    pub phases: Phases,
    /// Entry at which a checkpoint was restored when the server was last started; `None` if it replayed from entry 0.
    pub restored_from: Option<u64>,
    /// Why a checkpoint could not be restored then.
    pub restore_error: Option<String>,
}

/// A checkpoint that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Entry from which on the log is replayed.
    pub entry: u64,
    /// Logical time.
    pub tick: u64,
    /// Rolling digest, sixteen hexadecimal digits.
    pub digest: String,
    /// Bytes.
    pub bytes: u64,
    /// [`Stored::id`].
    pub id: u32,
}

impl From<&Stored> for Kept {
    fn from(stored: &Stored) -> Self {
        let place = &stored.manifest.place;
        Self {
            entry: place.next,
            tick: place.tick,
            digest: format!("{:016x}", place.digest),
            bytes: stored.manifest.bytes(),
            id: stored.id,
        }
    }
}
