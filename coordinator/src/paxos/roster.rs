//! The configurations of a log: where each stands, which one counts, which one is decided.

use std::sync::Arc;

use super::members::Members;

/// Finds the configuration in a value. An error is the version of a format that this binary does not know.
pub type MembersOf = fn(&[u8]) -> Result<Option<Members>, u64>;

/// For logs that never have one.
pub fn no_members(_: &[u8]) -> Result<Option<Members>, u64> {
    Ok(None)
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Roster {
    /// What counts before the first change in the log.
    base: Arc<Members>,
    /// Index and configuration, ascending.
    changes: Vec<(u64, Arc<Members>)>,
}

impl Roster {
    /// A log without changes.
    pub fn new(base: Members) -> Self {
        Self { base: Arc::new(base), changes: Vec::new() }
    }

    /// With these changes in the log.
    pub fn with(base: Members, changes: Vec<(u64, Arc<Members>)>) -> Self {
        Self { base: Arc::new(base), changes }
    }

    /// What counts before the first change.
    pub fn base(&self) -> &Members {
        &self.base
    }

    /// All changes in the log.
    pub fn changes(&self) -> &[(u64, Arc<Members>)] {
        &self.changes
    }

    /// What counts.
    pub fn latest(&self) -> &Arc<Members> {
        self.changes.last().map_or(&self.base, |(_, members)| members)
    }

    /// What counts in a log of `len` entries.
    pub fn at(&self, len: u64) -> &Arc<Members> {
        let before = self.changes.partition_point(|(index, _)| *index < len);
        before.checked_sub(1).map_or(&self.base, |last| &self.changes[last].1)
    }

    /// All that count from `len` entries on.
    pub fn from(&self, len: u64) -> impl Iterator<Item = &Arc<Members>> {
        let later = self.changes.iter().filter(move |(index, _)| *index >= len).map(|(_, members)| members);
        std::iter::once(self.at(len)).chain(later)
    }

    /// Whether a change stands at `len` or behind it.
    pub fn changes_from(&self, len: u64) -> bool {
        self.changes.last().is_some_and(|(index, _)| *index >= len)
    }

    /// A configuration was found in the value at `index`, the last of the log. One that does not follow the latest (it was made
    /// under an earlier leadership, and came too late) means nothing, on all replicas. True if it counts.
    pub fn note(&mut self, index: u64, members: Members) -> bool {
        let follows = members.epoch == self.latest().epoch + 1;
        if follows {
            self.changes.push((index, Arc::new(members)));
        }
        follows
    }

    /// The log is cut to `len` entries. True if another configuration counts now.
    pub fn cut(&mut self, len: u64) -> bool {
        let before = self.changes.len();
        self.changes.truncate(self.changes.partition_point(|(index, _)| *index < len));
        self.changes.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::super::members::{Change, Members};
    use super::Roster;

    #[test]
    fn what_counts_goes_with_the_log() {
        let founders = Members::founders(&[1, 2, 3]);
        let two = founders.after(&Change::Remove(3)).unwrap();
        let one = two.after(&Change::Remove(2)).unwrap();
        let mut roster = Roster::new(founders);
        assert!(!roster.note(4, one.clone()), "it does not follow");
        assert!(roster.note(5, two) && roster.note(9, one));
        let epochs = |len| roster.from(len).map(|members| members.epoch).collect::<Vec<_>>();
        assert_eq!((epochs(5), epochs(6), epochs(10)), (vec![0, 1, 2], vec![1, 2], vec![2]));
        assert!(roster.changes_from(9) && !roster.changes_from(10));
        assert!(!roster.cut(10) && roster.cut(9));
        assert_eq!(roster.latest().epoch, 1);
    }
}
