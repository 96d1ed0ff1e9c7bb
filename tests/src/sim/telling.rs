//! What the checkers are told of a simulated replica, and people.

use std::sync::Arc;

use super::check::{Checker, header, rule};
use super::mail::Around;
use super::replica::Replica;

impl Replica {
    pub(super) fn tell_durable(&mut self, around: &mut Around<'_>) {
        let (paxos, log) = (self.driver.consensus.paxos(), self.driver.consensus.log());
        let blocked = self.driver.consensus.disk_full();
        let (first, len) = if blocked { (log.first(), log.len()) } else { (paxos.first(), paxos.len()) };
        around.checker.quorums.durable(self.id, first, len, |index| match paxos.entry(index) {
            // While writes wait for space, Paxos knows more than the disk.
            Some(entry) if !blocked => Some(entry.value.clone()),
            _ => {
                let mut entries = Vec::new();
                log.read(index, index + 1, 1, &mut entries).ok()?;
                entries.pop().map(|entry| entry.value)
            }
        });
    }

    pub(super) fn tell_decided(&mut self, around: &mut Around<'_>) {
        let commit = self.driver.consensus.paxos().commit();
        let paxos = self.driver.consensus.paxos();
        if self.driver.leads() && paxos.members().epoch > around.checker.quorums.members().epoch {
            self.tell_coming(paxos.len(), around);
        }
        // Who goes on behind a checkpoint knows of the entries before by its server, which is looked at as ever.
        self.told = self.told.max(self.driver.consensus.paxos().first());
        while self.told < commit {
            match self.driver.consensus.read(self.told, commit, 1) {
                Ok(values) if !values.is_empty() => {
                    for value in values {
                        around.checker.decided(self.id, self.told, &value);
                        self.told += 1;
                    }
                }
                _ => {
                    let detail = format!("replica {} decided entry {} without it", self.id, self.told);
                    return around.checker.fail(rule::AGREEMENT, detail);
                }
            }
        }
    }

    /// The configurations in its undecided entries.
    fn tell_coming(&self, len: u64, around: &mut Around<'_>) {
        let mut at = self.told;
        // Of many entries the first are read from the log alone.
        while let Ok(values) = self.driver.consensus.read(at, len, usize::MAX)
            && !values.is_empty()
        {
            at += values.len() as u64;
            values.iter().for_each(|value| around.checker.quorums.coming(value));
        }
    }

    /// Where its server stands, for people.
    pub fn describe(&self) -> String {
        let Some(server) = &self.server else { return "no server".to_owned() };
        let next: Option<&Arc<[u8]>> = self.tap.applied(server.kernel().sched.applied);
        format!("{}\n    next entry {:?}", server.describe(), next.map(|value| header(value)))
    }

    /// What must hold whenever the server has run.
    pub fn check_server(&mut self, checker: &mut Checker) {
        let Some(server) = &self.server else { return };
        let sched = &server.kernel().sched;
        if sched.applied > 0 {
            let last = self.tap.applied(sched.applied - 1);
            checker.at(self.id, sched.applied, sched.tick, sched.stamp, sched.bubble_end, last);
        }
    }
}
