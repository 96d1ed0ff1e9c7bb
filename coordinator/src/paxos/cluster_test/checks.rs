//! What must hold of every schedule.

use super::*;

impl Cluster {
    pub(super) fn value_at(&self, id: ReplicaId, index: u64) -> Arc<[u8]> {
        let node = &self.nodes[&id];
        match node.paxos.entry(index) {
            Some(entry) => entry.value.clone(),
            None => {
                let mut entries = Vec::new();
                node.log.read(index, index + 1, 0, &mut entries).expect("a decided entry is in the log");
                entries[0].value.clone()
            }
        }
    }

    pub(super) fn check_decided(&mut self, id: ReplicaId, from: u64, to: u64) {
        let learned = self.nodes[&id].learned;
        let begins = from > learned && from == self.nodes[&id].paxos.first();
        assert!(from == learned || begins, "seed {}: replica {id} learned out of order", self.seed);
        for index in from..to {
            let value = self.value_at(id, index);
            match self.decided.get(index as usize) {
                Some((known, _)) => {
                    assert_eq!(known, &value, "seed {}: entry {index} changed at {id}", self.seed)
                }
                None => {
                    let members = members_of(&value).expect("one format");
                    self.decided.push((value, self.nodes[&id].paxos.ballot()));
                    if let Some(members) = members.filter(|next| next.epoch == self.members.epoch + 1) {
                        self.renewed(members);
                    }
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.learned = to;
        }
    }

    pub(super) fn check_leader(&mut self, id: ReplicaId, ballot: Ballot, next: u64) {
        let life = self.lives[&id];
        let known = self.leaders.insert(ballot, life);
        assert_eq!(known, None, "seed {}: ballot {ballot} led twice", self.seed);
        // A leader of an old ballot may still be made, out of old promises. It can decide nothing.
        let before = self.decided.iter().enumerate().filter(|(_, (_, decided_in))| *decided_in < ballot);
        let first = self.nodes[&id].paxos.first();
        for (index, (value, _)) in before {
            assert!(next > index as u64, "seed {}: leader {id} lacks decided entry {index}", self.seed);
            if (index as u64) < first {
                // Of these the server's state tells.
                continue;
            }
            let own = self.value_at(id, index as u64);
            assert_eq!(&own, value, "seed {}: leader {id} has another entry {index}", self.seed);
        }
    }

    /// All members have all entries and a vote, and nothing that was asked for is left to do.
    pub(super) fn is_well(&self, target: u64) -> bool {
        let whole = |id: ReplicaId| {
            let level = |node: &Node| {
                let applied = node.server.map_or(0, |state| state.next);
                node.learned >= target && applied >= target && node.paxos.has_vote()
            };
            self.nodes.get(&id).is_some_and(level)
        };
        self.members.list.iter().all(|member| member.voter && member.replaces == 0 && whole(member.id))
    }
}
