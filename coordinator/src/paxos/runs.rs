//! The stamps of a whole log, run-length encoded: one item for each change of leader, so it stays in memory for ever.

use super::types::Ballot;

/// Stamp of every entry `0..len`. Stamps never fall along a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    runs: Vec<Run>,
    len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u64,
    ballot: Ballot,
}

impl Runs {
    /// Entries covered.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the log has no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stamp of the last entry, zero if there is none.
    pub fn last(&self) -> Ballot {
        self.runs.last().map_or(Ballot::ZERO, |run| run.ballot)
    }

    /// Adds the stamp of entry `len`.
    ///
    /// # Panics
    /// If stamps would fall: the log is then not one that this protocol wrote.
    pub fn push(&mut self, ballot: Ballot) {
        assert!(ballot >= self.last(), "stamp {ballot} follows {} at entry {}", self.last(), self.len);
        if ballot != self.last() || self.runs.is_empty() {
            self.runs.push(Run { first: self.len, ballot });
        }
        self.len += 1;
    }

    /// Cuts to `len` entries.
    pub fn truncate(&mut self, len: u64) {
        if len >= self.len {
            return;
        }
        while self.runs.last().is_some_and(|run| run.first >= len) {
            self.runs.pop();
        }
        self.len = len;
    }

    /// Stamp of entry `index`.
    pub fn at(&self, index: u64) -> Option<Ballot> {
        if index >= self.len {
            return None;
        }
        // Nearly every question is about the last run.
        let last = self.runs.last()?;
        if index >= last.first {
            return Some(last.ballot);
        }
        Some(self.runs[self.run_of(index)].ballot)
    }

    /// First index that has the same stamp as `index`.
    pub fn run_start(&self, index: u64) -> u64 {
        if self.runs.is_empty() { 0 } else { self.runs[self.run_of(index)].first }
    }

    fn run_of(&self, index: u64) -> usize {
        self.runs.partition_point(|run| run.first <= index).saturating_sub(1)
    }
}
