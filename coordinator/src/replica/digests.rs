//! Comparison of the servers' digests: followers report theirs, the leader holds them against its own.
//!
//! Pure. Either side may be ahead, so both are kept until the pair is complete, within a bound; what falls out of the
//! bound is not compared, which only happens to a replica that is far behind, and its later digests cover the same
//! history because the digest rolls on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Digests that are kept for comparison, for the leader itself and for each follower.
pub const DIGEST_WINDOW: usize = 65_536;
/// A follower sends its digests when it has this many ...
pub const REPORT_ENTRIES: usize = 64;
/// ... or when the oldest has waited this long, milliseconds.
pub const REPORT_MS: u64 = 100;

/// The digest of one server at the end of the bubble of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Entry.
    pub entry: u64,
    /// Logical time there, ticks.
    pub tick: u64,
    /// The rolling digest.
    pub value: u64,
}

/// A follower's server did something else than the leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Who differs.
    pub replica: u8,
    /// What the leader has.
    pub expected: Digest,
    /// What the replica has.
    pub actual: Digest,
}

/// The leader's book of digests.
#[derive(Debug, Default)]
pub struct Book {
    own: BTreeMap<u64, Digest>,
    theirs: BTreeMap<u8, BTreeMap<u64, Digest>>,
    agreed: BTreeMap<u8, u64>,
}

impl Book {
    /// The own server's digest. Returns the replicas that differ.
    pub fn own(&mut self, digest: Digest) -> Vec<Mismatch> {
        insert_bounded(&mut self.own, digest);
        let mut wrong = Vec::new();
        for (&replica, reports) in &mut self.theirs {
            if let Some(actual) = reports.remove(&digest.entry) {
                note(&mut self.agreed, replica, digest, actual, &mut wrong);
            }
        }
        wrong
    }

    /// Digests that `replica` reported. Returns the first difference.
    pub fn theirs(&mut self, replica: u8, reports: &[Digest]) -> Option<Mismatch> {
        let mut wrong = Vec::new();
        for &actual in reports {
            match self.own.get(&actual.entry) {
                Some(&expected) => note(&mut self.agreed, replica, expected, actual, &mut wrong),
                None if self.own.last_key_value().is_some_and(|(&last, _)| last > actual.entry) => {}
                None => insert_bounded(self.theirs.entry(replica).or_default(), actual),
            }
        }
        wrong.first().copied()
    }

    /// First entry that was not compared with `replica`, if any was.
    pub fn agreed_until(&self, replica: u8) -> Option<u64> {
        self.agreed.get(&replica).copied()
    }

    /// Forgets what `replica` reported: it starts again.
    pub fn forget(&mut self, replica: u8) {
        self.theirs.remove(&replica);
        self.agreed.remove(&replica);
    }

    /// Forgets the own digests: the own server is rebuilt.
    pub fn forget_own(&mut self) {
        self.own.clear();
    }
}

fn note(
    agreed: &mut BTreeMap<u8, u64>,
    replica: u8,
    expected: Digest,
    actual: Digest,
    wrong: &mut Vec<Mismatch>,
) {
    if expected == actual {
        agreed.insert(replica, expected.entry + 1);
    } else {
        wrong.push(Mismatch { replica, expected, actual });
    }
}

fn insert_bounded(map: &mut BTreeMap<u64, Digest>, digest: Digest) {
    map.insert(digest.entry, digest);
    while map.len() > DIGEST_WINDOW {
        map.pop_first();
    }
}

/// A follower's digests that were not sent yet.
#[derive(Debug, Default)]
pub struct Report {
    waiting: Vec<Digest>,
    oldest_ms: u64,
    /// One past the last entry that was reported.
    reported: u64,
}

impl Report {
    /// Adds a digest at time `now_ms`.
    pub fn add(&mut self, digest: Digest, now_ms: u64) {
        if self.waiting.is_empty() {
            self.oldest_ms = now_ms;
        }
        self.waiting.push(digest);
    }

    /// When the report of entries below `decided` is due, milliseconds; `None` if there is nothing to report. A server
    /// that led may have run entries that are never decided: of those nothing is said.
    pub fn due_ms(&self, decided: u64) -> Option<u64> {
        match self.ready(decided) {
            0 => None,
            n if n >= REPORT_ENTRIES => Some(self.oldest_ms),
            _ => Some(self.oldest_ms + REPORT_MS),
        }
    }

    /// Takes the digests of entries below `decided` if they are due.
    pub fn take_due(&mut self, now_ms: u64, decided: u64) -> Option<Vec<Digest>> {
        if self.due_ms(decided)? > now_ms {
            return None;
        }
        let rest = self.waiting.split_off(self.ready(decided));
        self.oldest_ms = now_ms;
        let due = std::mem::replace(&mut self.waiting, rest);
        self.reported = due.last().map_or(self.reported, |last| self.reported.max(last.entry + 1));
        Some(due)
    }

    /// First entry whose digest was not reported.
    pub fn until(&self) -> u64 {
        self.reported
    }

    /// Whether the digest of `entry` may have been among those that were reported.
    pub fn covers(&self, entry: u64) -> bool {
        entry < self.reported
    }

    fn ready(&self, decided: u64) -> usize {
        self.waiting.partition_point(|digest| digest.entry < decided)
    }

    /// Drops what waits but for the last one, which covers the same history: while nobody is there to be told.
    pub fn keep_last(&mut self) {
        let last = self.waiting.len().saturating_sub(1);
        self.waiting.drain(..last);
    }

    /// Drops what waits.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(entry: u64, value: u64) -> Digest {
        Digest { entry, tick: entry * 10, value }
    }

    #[test]
    fn a_difference_is_found_whoever_is_ahead() {
        let mut book = Book::default();
        book.own(digest(1, 11));
        assert_eq!(book.theirs(2, &[digest(1, 11)]), None);
        assert_eq!(book.theirs(2, &[digest(2, 99)]), None, "the leader has not been there yet");
        let wrong = book.own(digest(2, 22));
        assert_eq!(wrong, [Mismatch { replica: 2, expected: digest(2, 22), actual: digest(2, 99) }]);
        assert_eq!(book.agreed_until(2), Some(2));
        let wrong = book.theirs(3, &[digest(1, 0), digest(2, 0)]).unwrap();
        assert_eq!(wrong.expected.entry, 1, "the first difference is the one to report");
    }

    #[test]
    fn another_tick_with_the_same_value_is_a_difference() {
        let mut book = Book::default();
        book.own(digest(1, 11));
        assert!(book.theirs(2, &[Digest { entry: 1, tick: 11, value: 11 }]).is_some());
    }

    #[test]
    fn the_book_is_bounded() {
        let mut book = Book::default();
        for entry in 0..(DIGEST_WINDOW as u64 + 10) {
            book.theirs(2, &[digest(entry, 1)]);
            book.own(digest(entry, 1));
        }
        assert_eq!(book.own.len(), DIGEST_WINDOW);
        assert_eq!(book.theirs(3, &[digest(0, 5)]), None, "too old to compare");
        assert!(book.theirs.get(&3).is_none_or(BTreeMap::is_empty));
    }

    #[test]
    fn a_report_covers_only_what_was_sent() {
        let mut report = Report::default();
        report.add(digest(6, 0), 0);
        assert!(!report.covers(6), "it was not sent");
        report.take_due(REPORT_MS, 10).unwrap();
        report.clear();
        assert!(report.covers(6) && !report.covers(7));
    }

    #[test]
    fn the_last_digest_waits_for_a_leader() {
        let mut report = Report::default();
        report.keep_last();
        (4..8).for_each(|entry| report.add(digest(entry, 0), 0));
        report.keep_last();
        assert_eq!(report.take_due(REPORT_MS, 10).unwrap(), [digest(7, 0)]);
    }

    #[test]
    fn nothing_is_said_of_entries_that_are_not_decided() {
        let mut report = Report::default();
        report.add(digest(4, 0), 0);
        report.add(digest(5, 0), 0);
        assert_eq!(report.due_ms(4), None);
        assert_eq!(report.take_due(REPORT_MS, 5).unwrap(), [digest(4, 0)]);
        assert_eq!(report.take_due(2 * REPORT_MS, 6).unwrap(), [digest(5, 0)]);
    }

    #[test]
    fn a_report_is_due_by_count_or_by_age() {
        let mut report = Report::default();
        assert_eq!(report.take_due(1000, 100), None);
        report.add(digest(0, 0), 5);
        assert_eq!(report.take_due(5 + REPORT_MS - 1, 100), None);
        assert_eq!(report.take_due(5 + REPORT_MS, 100).unwrap().len(), 1);
        for entry in 0..REPORT_ENTRIES as u64 {
            report.add(digest(entry, 0), 7);
        }
        assert_eq!(report.take_due(7, 100).unwrap().len(), REPORT_ENTRIES);
    }
}
