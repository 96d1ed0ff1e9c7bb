//! Which checkpoints the replicas hold, and how far that lets the log be cut. Pure.
//!
//! A replica can start its server from its own checkpoints only if the log goes on from there. So the log is cut at the oldest
//! checkpoint that a majority can still use as their *oldest*: whichever minority is lost, somebody is left who has a checkpoint for
//! all, and if its newest is damaged, it has another. Only replicas that are connected count, and only with all that they keep.
//!
//! A leader takes none, so with no more followers than a majority needs beside it nothing could be cut. It copies a follower's then
//! ([`Holdings::to_copy`]), which serves it as well as one of its own: it compared the copy with its sums. So a log is bounded
//! as long as a majority is there to write it: it holds [`COPY_LOG_BYTES`], or the entries of three rounds (a round is one stretch of
//! the schedule for each member), those of the time that a copy takes, and two segments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checkpoint::KEEP;
use crate::log::SEGMENT_BYTES;

/// How long the entries are kept that a replica needs which fetches a checkpoint, after it was heard last, nanoseconds.
pub const NEED_NS: u64 = 300_000_000_000;

/// Bytes of a log from which on a leader copies a checkpoint. A follower that is away for a moment is no reason.
pub const COPY_LOG_BYTES: u64 = 4 * SEGMENT_BYTES;
/// The same if enough followers could have taken some, and did not, bytes.
pub const LONG_LOG_BYTES: u64 = 16 * SEGMENT_BYTES;

/// A checkpoint that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Held {
    /// Entry from which on the log is replayed.
    pub entry: u64,
    /// Which one it is: the sum of its manifest.
    pub id: u32,
}

/// What a replica tells the others of its checkpoints and its log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// Index of the first entry of its log.
    pub first: u64,
    /// Its checkpoints, the newest first.
    pub kept: Vec<Held>,
    /// It needs the entries from here on, behind a checkpoint that it fetches.
    pub needs: Option<u64>,
}

#[derive(Debug)]
struct Heard {
    holds: Holds,
    at: u64,
    connected: bool,
}

/// What all have told.
#[derive(Debug, Default)]
pub struct Holdings(BTreeMap<u8, Heard>);

impl Holdings {
    /// A peer has told.
    pub fn hear(&mut self, now: u64, from: u8, holds: Holds) {
        self.0.insert(from, Heard { holds, at: now, connected: true });
    }

    /// A peer is gone.
    pub fn lose(&mut self, peer: u8) {
        if let Some(heard) = self.0.get_mut(&peer) {
            heard.connected = false;
        }
    }

    /// What connected peers hold.
    pub fn of_peers(&self) -> impl Iterator<Item = (u8, &Holds)> {
        let connected = self.0.iter().filter(|(_, heard)| heard.connected);
        connected.map(|(&peer, heard)| (peer, &heard.holds))
    }

    /// Leader: it is to copy a checkpoint at this entry or later, because a majority that holds enough of them is not to be had
    /// without it. `log`: bytes of its log.
    pub fn to_copy(&self, own: &Holds, quorum: usize, log: u64, votes: impl Fn(u8) -> bool) -> Option<u64> {
        let others: Vec<_> =
            self.of_peers().filter(|(peer, _)| votes(*peer)).map(|(_, holds)| holds).collect();
        let holders = others.iter().filter(|holds| holds.kept.len() >= KEEP).count();
        let from = if others.len() >= quorum { LONG_LOG_BYTES } else { COPY_LOG_BYTES };
        if holders + 1 != quorum || log < from {
            return None;
        }
        let least = own.kept.first().map_or(0, |held| held.entry + 1);
        let newest = others.iter().filter_map(|holds| holds.kept.first()).map(|held| held.entry).max();
        newest.is_some_and(|newest| newest >= least).then_some(least)
    }

    /// The first entry that must stay in the log; 0 if nothing may go. `own`: what this replica holds. `votes`: of learners nothing
    /// counts.
    pub fn cut_at(&self, now: u64, own: &Holds, quorum: usize, votes: impl Fn(u8) -> bool) -> u64 {
        let voters = self.of_peers().filter(|(peer, _)| votes(*peer));
        let all = voters.map(|(_, holds)| holds).chain([own]);
        let oldest = all.filter(|holds| holds.kept.len() >= KEEP).filter_map(|holds| holds.kept.last());
        let mut oldest: Vec<u64> = oldest.map(|held| held.entry).collect();
        oldest.sort_unstable_by_key(|entry| std::cmp::Reverse(*entry));
        let Some(entry) = quorum.checked_sub(1).and_then(|at| oldest.get(at)).copied() else { return 0 };
        let fresh = self.0.values().filter(|heard| now < heard.at.saturating_add(NEED_NS));
        let needs = fresh.filter_map(|heard| heard.holds.needs).chain(own.needs);
        // The entry before a checkpoint says that the checkpoint is of this log.
        needs.fold(entry, u64::min).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{COPY_LOG_BYTES, Held, Holdings, Holds, LONG_LOG_BYTES, NEED_NS};

    fn holds(entries: &[u64]) -> Holds {
        let kept = entries.iter().map(|&entry| Held { entry, id: 1 }).collect();
        Holds { first: 0, kept, needs: None }
    }

    #[test]
    fn a_majority_must_be_able_to_use_its_oldest() {
        let mut all = Holdings::default();
        assert_eq!(all.cut_at(0, &holds(&[90, 50]), 1, |_| true), 49, "a replica alone");
        assert_eq!(all.cut_at(0, &holds(&[90, 50]), 2, |_| true), 0);
        all.hear(0, 2, holds(&[80, 70]));
        assert_eq!(all.cut_at(0, &holds(&[90, 50]), 2, |_| true), 49);
        assert_eq!(all.cut_at(0, &holds(&[]), 2, |_| true), 0, "one of three");
        all.hear(0, 3, holds(&[60, 55]));
        assert_eq!(all.cut_at(0, &holds(&[]), 2, |_| true), 54, "a leader takes none");
        assert_eq!(all.cut_at(0, &holds(&[99, 98]), 2, |_| true), 69);
        all.hear(0, 3, holds(&[60]));
        assert_eq!(
            all.cut_at(0, &holds(&[]), 2, |_| true),
            0,
            "one that has no other to fall back on does not count"
        );
    }

    #[test]
    fn a_leader_copies_if_no_majority_can_be_had_without_it() {
        let mut all = Holdings::default();
        let long = COPY_LOG_BYTES;
        let copy = |all: &Holdings, own: &[u64], log| all.to_copy(&holds(own), 2, log, |_| true);
        assert_eq!(copy(&all, &[], long), None, "nobody has one");
        all.hear(0, 2, holds(&[70]));
        assert_eq!(copy(&all, &[], long), None, "a follower with one does not count yet");
        all.hear(0, 2, holds(&[80, 70]));
        assert_eq!(copy(&all, &[], long), Some(0));
        assert_eq!(copy(&all, &[], long - 1), None, "the log is short");
        assert_eq!(copy(&all, &[75], long), Some(76));
        assert_eq!(copy(&all, &[80], long), None, "it has the newest");
        assert_eq!(all.cut_at(0, &holds(&[80]), 2, |_| true), 0);
        all.hear(0, 2, holds(&[90, 80]));
        assert_eq!(copy(&all, &[80], long), Some(81));
        assert_eq!(all.cut_at(0, &holds(&[90, 80]), 2, |_| true), 79, "and now the log is cut");
        all.hear(0, 3, holds(&[]));
        assert_eq!(copy(&all, &[80], long), None, "the other will take one");
        assert_eq!(copy(&all, &[80], LONG_LOG_BYTES), Some(81), "it does not");
        all.hear(0, 3, holds(&[95, 85]));
        assert_eq!(copy(&all, &[80], LONG_LOG_BYTES), None, "a majority without it");
        all.lose(3);
        assert_eq!(all.to_copy(&holds(&[]), 2, long, |id| id == 3), None, "of learners nothing counts");
        assert_eq!(
            all.to_copy(&holds(&[]), 3, long, |_| true),
            None,
            "its copy would not make up the majority"
        );
    }

    #[test]
    fn what_a_replica_needs_stays_for_a_while_and_who_is_gone_does_not_count() {
        let mut all = Holdings::default();
        all.hear(0, 2, holds(&[80, 70]));
        all.hear(5, 3, Holds { needs: Some(40), ..holds(&[]) });
        assert_eq!(all.cut_at(6, &holds(&[90, 50]), 2, |_| true), 39);
        all.lose(3);
        assert_eq!(all.cut_at(6, &holds(&[90, 50]), 2, |_| true), 39, "it may go on soon");
        assert_eq!(all.cut_at(5 + NEED_NS, &holds(&[90, 50]), 2, |_| true), 49);
        all.lose(2);
        assert_eq!(all.cut_at(5 + NEED_NS, &holds(&[90, 50]), 2, |_| true), 0);
    }
}
