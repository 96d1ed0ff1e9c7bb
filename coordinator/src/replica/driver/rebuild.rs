//! Why a server's state is worthless.

use std::fmt;

use super::Phase;
use crate::paxos::ProposeError;

/// The server must be ended and started from nothing, because ...
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebuild {
    /// This replica leads, and its server applied entries that are not in its log: nobody else will ever be in that state.
    NotInLog,
    /// Another entry was decided at this index than the server applied, or may have been.
    Overruled(u64),
    /// The server made an entry when it led no more, or for another leadership, or out of order.
    Late {
        /// Which one.
        index: u64,
        /// Ballot under which it was made.
        made_in: u64,
        /// The entry that was to come next.
        next: u64,
        /// What this replica did then.
        phase: Phase,
    },
    /// The entry at this index, which the server made or which held its inputs, was not proposed.
    NotProposed(u64, ProposeError),
    /// Its digest differs in the bubble of this entry.
    Diverged(u64),
    /// A checkpoint of it was broken off in the middle.
    Checkpoint(String),
    /// The log goes on behind a checkpoint of another replica, at this entry.
    Behind(u64),
}

impl fmt::Display for Rebuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInLog => f.write_str("it ran entries that are not in the log under which it leads"),
            Self::Overruled(index) => {
                write!(f, "entry {index}, which it ran, was not decided as far as is known")
            }
            Self::Late { index, made_in, next, phase } => {
                let name = |ballot: u64| format!("{}.{}", ballot >> 8, ballot & 0xff);
                let does = match phase {
                    Phase::Follower => "follows".to_owned(),
                    Phase::TakingOver { ballot, .. } => format!("takes over under ballot {}", name(*ballot)),
                    Phase::Leading { ballot } => format!("leads under ballot {}", name(*ballot)),
                };
                let made_in = name(*made_in);
                write!(
                    f,
                    "its server made entry {index} under ballot {made_in}, but entry {next} is next and the replica {does}"
                )
            }
            Self::NotProposed(index, error) => write!(f, "entry {index} was not proposed: {error}"),
            Self::Checkpoint(reason) => write!(f, "a checkpoint of it went wrong: {reason}"),
            Self::Behind(entry) => write!(f, "the log goes on behind a checkpoint at entry {entry}"),
            Self::Diverged(entry) => write!(f, "it diverged at entry {entry}"),
        }
    }
}
