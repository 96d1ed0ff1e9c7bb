//! The stamps of a log, run-length encoded: one item for each change of leader, so all of them stay in memory.

use super::types::Ballot;

/// Stamp of every entry `first..len`. Stamps never fall along a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    runs: Vec<Run>,
    /// Stamp of the entry before `first`, zero if there is none or it is not known.
    before: Ballot,
    first: u64,
    len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u64,
    ballot: Ballot,
}

impl Runs {
    /// Of a log that was cut: its first entry, which is not known yet, is `first`, behind one with the stamp `before`.
    pub fn starting_at(first: u64, before: Ballot) -> Self {
        Self { runs: Vec::new(), before, first, len: first }
    }

    /// Stamp of the entry before the first, zero if it is not known.
    pub fn before(&self) -> Ballot {
        self.before
    }

    /// Index of the first entry whose stamp is known.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// One past the last entry.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no stamp is known.
    pub fn is_empty(&self) -> bool {
        self.len == self.first
    }

    /// Forgets the stamps of the entries before `first`, which must be one of those that are known.
    pub fn cut(&mut self, first: u64) {
        assert!(
            first >= self.first && first < self.len,
            "a log of entries {}..{} is not cut at {first}",
            self.first,
            self.len
        );
        if first == self.first {
            return;
        }
        self.before = self.at(first - 1).unwrap_or_default();
        let keep = self.run_of(first);
        self.runs.drain(..keep);
        self.runs[0].first = first;
        self.first = first;
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

    /// Cuts off the entries from `len` on.
    pub fn truncate(&mut self, len: u64) {
        debug_assert!(len >= self.first, "what is before the first entry is decided");
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
        if index >= self.len || index < self.first {
            let is_before = index + 1 == self.first && self.before != Ballot::ZERO;
            return is_before.then_some(self.before);
        }
        // Nearly every question is about the last run.
        let last = self.runs.last()?;
        if index >= last.first {
            return Some(last.ballot);
        }
        Some(self.runs[self.run_of(index)].ballot)
    }

    /// First index that is known to have the same stamp as `index`.
    pub fn run_start(&self, index: u64) -> u64 {
        if self.runs.is_empty() { 0 } else { self.runs[self.run_of(index)].first }
    }

    fn run_of(&self, index: u64) -> usize {
        self.runs.partition_point(|run| run.first <= index).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ballot, Runs};

    #[test]
    fn what_is_left_after_a_cut_is_as_before() {
        let rounds = [1, 1, 2, 2, 2, 5, 7, 7];
        let whole = || {
            let mut runs = Runs::default();
            rounds.iter().for_each(|&round| runs.push(Ballot::new(round, 1)));
            runs
        };
        for first in 0..rounds.len() as u64 {
            let (mut runs, all) = (whole(), whole());
            runs.cut(first);
            assert_eq!((runs.first(), runs.len(), runs.last()), (first, 8, all.last()));
            for index in 0..10 {
                assert_eq!(
                    runs.at(index),
                    all.at(index).filter(|_| index + 1 >= first),
                    "cut at {first}: {index}"
                );
            }
            for index in first..8 {
                assert_eq!(runs.run_start(index), all.run_start(index).max(first));
            }
            runs.truncate(first);
            assert!(runs.is_empty());
            let before = first.checked_sub(1).and_then(|before| all.at(before)).unwrap_or_default();
            assert_eq!(runs, Runs::starting_at(first, before));
        }
    }
}
