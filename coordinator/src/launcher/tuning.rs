//! What `brolga run` and `brolga init` are asked for alike, and what has good defaults.

use super::state_fs::Size;
use crate::replica::config::Admission;
use crate::replica::schedule::Every;

/// See the module.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Who orders inputs.
    pub admission: Admission,
    /// The server's own waiting for the disk costs nothing.
    pub elide_fsync: bool,
    /// Operations after which a thread passes the turn on.
    pub quantum: u32,
    /// CPU time without an operation before a preemption, microseconds.
    pub spin_limit_us: u32,
    /// How long a replica looks for news before it sleeps, microseconds.
    pub poll_us: u32,
    /// How often one of the replicas takes a checkpoint.
    pub checkpoint_every: Option<Every>,
    /// The state directory gets a file system of its own.
    pub state_fs: Option<Size>,
}
