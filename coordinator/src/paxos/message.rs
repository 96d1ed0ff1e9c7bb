//! Messages between replicas. Their bytes are in [`super::wire`].

use super::types::{Ballot, Entry};

/// A message of one replica to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Leader to follower: accept these entries (none: a heartbeat) if your log has the entry before them.
    Accept {
        /// The leadership.
        ballot: Ballot,
        /// Index of the first entry.
        first: u64,
        /// Stamp of the entry at `first - 1`; zero if `first` is 0.
        previous: Ballot,
        /// All entries below are decided.
        commit: u64,
        /// The entries, contiguous.
        entries: Vec<Entry>,
    },
    /// Follower to leader: my log equals yours below `len`, durably.
    Accepted {
        /// The leadership.
        ballot: Ballot,
        /// Length of the equal part.
        len: u64,
    },
    /// Follower to leader: my log has no entry at `first - 1` with the stamp that you named.
    Rejected {
        /// The leadership.
        ballot: Ballot,
        /// `first` of the refused message.
        first: u64,
        /// Try from here.
        hint: u64,
    },
    /// As `Accepted` and `Rejected`, of a follower that lost its log and has no vote.
    Learned {
        /// The leadership.
        ballot: Ballot,
        /// Whether the logs are equal below `len`, durably; else the entries from there on are wanted.
        fits: bool,
        /// See `fits`.
        len: u64,
    },
    /// Leader to follower: I have the entries from here on alone, those before are cut off.
    Cut {
        /// The leadership.
        ballot: Ballot,
        /// The first entry that can be sent.
        first: u64,
    },
    /// To a leader: I have promised a higher ballot.
    Nack {
        /// What is promised.
        promised: Ballot,
    },
    /// Phase 1: promise me this ballot. A trial asks only whether you would, and changes nothing.
    Prepare {
        /// The ballot wanted.
        ballot: Ballot,
        /// Pre-vote.
        trial: bool,
        /// Stamp of the candidate's last entry.
        last: Ballot,
        /// Length of the candidate's log.
        len: u64,
    },
    /// The answer to `Prepare`.
    Promise {
        /// The ballot asked for.
        ballot: Ballot,
        /// Pre-vote.
        trial: bool,
        /// Whether it is promised.
        granted: bool,
        /// The highest ballot that the answering replica has promised.
        promised: Ballot,
    },
}
