//! Members that come and go.

use super::*;

impl Cluster {
    /// A configuration is decided: new members start; those that were removed end, or stay and disturb for a while.
    pub(super) fn renewed(&mut self, members: Members) {
        assert!(self.members.leads_to(&members), "seed {}: {members:?}", self.seed);
        self.members = members;
        for id in self.members.list.iter().map(|member| member.id).collect::<Vec<_>>() {
            if !self.ids.contains(&id) {
                self.ids.push(id);
                self.disks.insert(id, MemoryDisk::default());
                let delay = self.rng.up_to(20 * MILLIS);
                self.schedule(delay, Event::Restart { at: id });
            }
        }
        for id in self.ids.clone() {
            if !self.members.has(id) && !self.gone.contains(&id) && self.rng.up_to(1) == 0 {
                self.gone.insert(id);
            }
        }
    }

    /// Somebody wants another configuration.
    pub(super) fn change(&mut self) {
        for id in self.ids.clone() {
            let Some(node) = self.nodes.get(&id).filter(|node| node.paxos.is_leader()) else { continue };
            let list = &node.paxos.members().list;
            let member = list[self.rng.up_to(list.len() as u64 - 1) as usize].id;
            let replaces = if self.rng.up_to(1) == 0 { member } else { 0 };
            let add = Change::Add { replaces, peer: None, service: None };
            let voters = node.paxos.members().voters().count();
            let remove = self.rng.up_to(7) < voters as u64;
            let change = if remove { Change::Remove(member) } else { add };
            self.try_change(id, &change);
        }
    }

    pub(super) fn try_change(&mut self, id: ReplicaId, change: &Change) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Ok(next) = node.paxos.prepare_change(change) else { return };
        if self.losing && !self.calm && matches!(change, Change::Remove(_)) && next.voters().count() < 3 {
            return;
        }
        let index = node.paxos.len();
        if node.paxos.propose(index, value_of(&next).into()).is_ok() {
            let mut out = Vec::new();
            node.paxos.flush(self.now, &mut out);
            self.perform(id, out);
            self.wake(id);
        }
    }
}
