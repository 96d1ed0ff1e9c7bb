//! Who must have an entry before it may be decided: the checkers' own account of the members, and of what is durable where.

use std::sync::Arc;

use coordinator::paxos::Members;
use coordinator::replica::membership::members_of;

/// One replica's log as far as it is durable.
#[derive(Debug, Default)]
struct Durable {
    /// Entries before this one are cut off: they were decided.
    first: u64,
    log: Vec<Arc<[u8]>>,
}

impl Durable {
    fn len(&self) -> u64 {
        self.first + self.log.len() as u64
    }

    fn get(&self, index: u64) -> Option<&Arc<[u8]>> {
        self.log.get(index.checked_sub(self.first)? as usize)
    }

    fn truncate(&mut self, len: u64) {
        self.log.truncate(len.saturating_sub(self.first) as usize);
    }

    fn cut(&mut self, first: u64) {
        if first >= self.len() {
            self.log.clear();
        } else if first > self.first {
            self.log.drain(..(first - self.first) as usize);
        }
        self.first = first;
    }
}

/// See the module.
#[derive(Debug)]
pub struct Quorums {
    /// By replica id - 1.
    durable: Vec<Durable>,
    /// The last configuration that is decided.
    members: Members,
    /// Later ones that stand in some log, durable or not.
    coming: Vec<Members>,
}

/// The configuration in an entry, if it follows `before`.
fn next_of(value: &[u8], before: &Members) -> Option<Members> {
    members_of(value).ok().flatten().filter(|next| next.epoch == before.epoch + 1)
}

impl Quorums {
    /// For a cluster that was made with so many replicas.
    pub fn new(replicas: usize) -> Self {
        let ids: Vec<u8> = (1..=replicas as u8).collect();
        Self { durable: Vec::new(), members: Members::founders(&ids), coming: Vec::new() }
    }

    /// The last configuration that is decided.
    pub fn members(&self) -> &Members {
        &self.members
    }

    fn of(&mut self, id: u8) -> &mut Durable {
        let at = id as usize - 1;
        if self.durable.len() <= at {
            self.durable.resize_with(at + 1, Durable::default);
        }
        &mut self.durable[at]
    }

    /// Replica `id` made its log durable: `value(i)` for `i` in `first..len`.
    pub fn durable(&mut self, id: u8, first: u64, len: u64, value: impl Fn(u64) -> Option<Arc<[u8]>>) {
        let shadow = self.of(id);
        shadow.cut(first);
        shadow.truncate(len);
        // Logs that have an entry in common have all before it in common.
        let mut same = shadow.len();
        while same > first && value(same - 1).is_some_and(|now| Some(&now) != shadow.get(same - 1)) {
            same -= 1;
        }
        shadow.truncate(same);
        for index in same..len {
            let Some(value) = value(index) else { break };
            shadow.log.push(value);
        }
    }

    /// Replica `id` came back with this log, which begins at `first`.
    pub fn recovered(&mut self, id: u8, first: u64, log: Vec<Arc<[u8]>>) {
        *self.of(id) = Durable { first, log };
    }

    /// `value` is decided behind all that was decided before. An error says what is wrong with the configuration in it.
    pub fn decided(&mut self, value: &[u8]) -> Result<(), String> {
        let Some(next) = next_of(value, &self.members) else { return Ok(()) };
        if !self.members.leads_to(&next) {
            return Err(format!("{next:?} was decided behind {:?}", self.members));
        }
        self.coming.retain(|later| later.epoch > next.epoch);
        self.members = next;
        Ok(())
    }

    /// A leader has this value in its log, and counts by the configuration in it, if there is one.
    pub fn coming(&mut self, value: &[u8]) {
        let later = members_of(value).ok().flatten().filter(|later| later.epoch > self.members.epoch);
        if let Some(later) = later.filter(|later| !self.coming.contains(later)) {
            self.coming.push(later);
        }
    }

    fn is_majority(&self, members: &Members, has: impl Fn(&Durable) -> bool) -> bool {
        let voters = members.voters().filter_map(|id| self.durable.get(id as usize - 1));
        voters.filter(|log| has(log)).count() >= members.quorum()
    }

    /// Whether a majority has `value` at `index`. `decided`: the entries that are. Who has cut its log behind the entry has it in a
    /// checkpoint.
    ///
    /// What counts is the last configuration before the entry, or in it; or the one that follows that and is on its way: a leader
    /// counts by it from the moment at which it has it in its log. Majorities of the two have a replica in common.
    pub fn is_on_majority(&self, decided: &[Arc<[u8]>], index: u64, value: &Arc<[u8]>) -> bool {
        let known = decided.get(index as usize);
        let has = |log: &Durable| match index < log.first {
            true => known == Some(value),
            false => log.get(index) == Some(value),
        };
        let own = if known.is_none() { next_of(value, &self.members) } else { None };
        let members = own.as_ref().unwrap_or(&self.members);
        if self.is_majority(members, has) {
            return true;
        }
        let mut next = self.coming.iter().filter(|next| members.leads_to(next));
        next.any(|next| self.is_majority(next, has))
    }
}
