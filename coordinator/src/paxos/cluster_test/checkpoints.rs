//! Servers, checkpoints, cut logs, and replicas that need a checkpoint of another one.
//!
//! A server's state is the digest of all values that it has applied, so each replica's whole history is compared, that which it has
//! replayed and that which came with a checkpoint.

use super::*;

/// Checkpoints that a replica keeps.
const KEEP: usize = 2;

/// A server's state before the entry `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) next: u64,
    digest: u64,
}

const NOTHING: Checkpoint = Checkpoint { next: 0, digest: 0 };

impl Checkpoint {
    fn apply(&mut self, value: &[u8]) {
        self.digest = value.iter().fold(self.digest ^ self.next, |digest, byte| {
            (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3).rotate_left(9)
        });
        self.next += 1;
    }
}

/// A checkpoint on disk, with what a log needs that begins anew behind it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    state: Checkpoint,
    entry: Entry,
    previous: Ballot,
    promised: Ballot,
    members: Members,
}

/// What the whole cluster knows of checkpoints.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// On the replicas' disks, the newest last.
    pub(super) kept: BTreeMap<ReplicaId, Vec<Kept>>,
    /// Where a log was cut last.
    highest_cut: u64,
    /// The states that decided values lead to; the first is that of entry 1.
    right: Vec<Checkpoint>,
    pub(super) cuts: u64,
    pub(super) transfers: u64,
}

impl Cluster {
    /// The state that a server of replica `id` starts from, if its log goes on from there.
    pub(super) fn server(&self, id: ReplicaId, log: &Log<MemoryDisk>) -> Option<Checkpoint> {
        let kept = self.checkpoints.kept.get(&id).into_iter().flatten();
        let usable = kept.rev().map(|kept| kept.state);
        let usable = usable.into_iter().find(|at| (log.first() + 1..=log.len()).contains(&at.next));
        usable.or((log.first() == 0).then_some(NOTHING))
    }

    /// Lets the server of `id` apply what is decided.
    pub(super) fn apply(&mut self, id: ReplicaId) {
        let Some(Node { server: Some(state), learned, paxos, .. }) = self.nodes.get(&id) else { return };
        let (mut state, learned) = (*state, *learned);
        if state.next < paxos.first() {
            // The log has just begun anew, and the server of before is of no use.
            return;
        }
        while state.next < learned {
            state.apply(&self.value_at(id, state.next));
            match self.checkpoints.right.get(state.next as usize - 1) {
                Some(right) => assert_eq!(*right, state, "seed {}: another history at {id}", self.seed),
                None => self.checkpoints.right.push(state),
            }
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.server = Some(state);
        }
    }

    /// Takes a checkpoint at `id`, and cuts logs where that is allowed.
    pub(super) fn checkpoint(&mut self, id: ReplicaId) {
        let Some(Node { server: Some(state), paxos, .. }) = self.nodes.get(&id) else { return };
        let (state, promised) = (*state, paxos.ballot());
        let before =
            self.checkpoints.kept.get(&id).and_then(|kept| kept.last()).map_or(0, |last| last.state.next);
        let Some(ballot) = state.next.checked_sub(1).and_then(|last| paxos.stamps.at(last)) else { return };
        if state.next <= before {
            return;
        }
        let previous =
            state.next.checked_sub(2).and_then(|before| paxos.stamps.at(before)).unwrap_or_default();
        let entry = Entry { ballot, value: self.value_at(id, state.next - 1) };
        let members = self.nodes[&id].paxos.members_behind(state.next - 1);
        let kept = self.checkpoints.kept.entry(id).or_default();
        kept.push(Kept { state, entry, previous, promised, members });
        kept.drain(..kept.len().saturating_sub(KEEP));
        self.ids.clone().into_iter().for_each(|id| self.cut(id));
    }

    fn cut(&mut self, id: ReplicaId) {
        let oldest = |id: &ReplicaId| {
            let kept = self.checkpoints.kept.get(id).filter(|kept| kept.len() == KEEP)?;
            kept.first().map(|at| at.state.next)
        };
        let ids: Vec<_> = self.members.voters().collect();
        let mut held: Vec<u64> = ids.iter().filter_map(oldest).collect();
        held.sort_unstable_by_key(|next| std::cmp::Reverse(*next));
        let Some(next) = held.get(ids.len() / 2) else { return };
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let limit = node.server.map_or(0, |state| state.next).min(node.paxos.commit());
        if node.log.cut((*next).min(limit).saturating_sub(1)).expect("memory takes all") {
            node.paxos.cut(node.log.first());
            self.checkpoints.cuts += 1;
            self.checkpoints.highest_cut = self.checkpoints.highest_cut.max(node.log.first());
        }
    }

    /// Replica `id` needs a checkpoint at `least` or later: one of its own may do, else one of any other will that can be reached.
    pub(super) fn fetch(&mut self, id: ReplicaId, least: u64) {
        let at_hand =
            |from: &&ReplicaId| **from == id || (self.link(id, **from) != 0 && self.nodes.contains_key(from));
        let kept = self.ids.iter().filter(at_hand).filter_map(|from| self.checkpoints.kept.get(from)?.last());
        let newest = kept.filter(|kept| kept.state.next >= least).max_by_key(|kept| kept.state.next);
        if let Some(kept) = newest.cloned() {
            let (life, delay) = (self.lives[&id], self.rng.up_to(20 * MILLIS));
            self.schedule(delay, Event::Fetched { at: id, life, kept });
        }
    }

    pub(super) fn fetched(&mut self, id: ReplicaId, kept: Kept) {
        let Kept { state, entry, previous, promised, members } = kept.clone();
        self.give(id, Input::Begin { index: state.next - 1, entry, previous, promised, members });
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let fits = (node.paxos.first() + 1..=node.paxos.commit()).contains(&state.next);
        if fits && node.server.is_none_or(|own| own.next < state.next) {
            node.server = Some(state);
            self.checkpoints.transfers += 1;
            let own = self.checkpoints.kept.entry(id).or_default();
            own.retain(|at| at.state.next < state.next);
            own.push(kept);
            self.apply(id);
        }
    }

    /// The checkpoints of `id` are damaged, if others can help.
    pub(super) fn lose_checkpoints(&mut self, id: ReplicaId) {
        let needed = self.checkpoints.highest_cut;
        let others = self.checkpoints.kept.iter().filter(|(other, _)| **other != id);
        if others.flat_map(|(_, kept)| kept).any(|at| at.state.next > needed) {
            self.checkpoints.kept.remove(&id);
        }
    }
}
