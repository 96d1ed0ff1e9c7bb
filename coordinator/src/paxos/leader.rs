//! The leader's side of phase 2: pipelined batches, catch-up, the commit index, heartbeats, check-quorum.

use super::message::Message;
use super::types::{
    Ballot, Entry, MAX_BATCH_BYTES, MAX_BATCH_ENTRIES, MAX_INFLIGHT_BYTES, MAX_INFLIGHT_ENTRIES, Nanos,
    Output, ReplicaId, Write,
};
use super::{Deferred, Paxos, Role};

/// What a replica knows of another one.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: ReplicaId,
    pub(super) connected: bool,
    /// It counts for majorities; else it is a learner.
    pub(super) voter: bool,
    /// False for one that lost its log: what it has counts for no majority.
    pub(super) votes: bool,
    /// The peer's log equals this one below, durably.
    pub(super) matched: u64,
    /// Next entry to send.
    pub(super) next: u64,
    pub(super) flow: Flow,
    /// When it last acknowledged, and when it was last sent anything.
    heard: Nanos,
    sent: Nanos,
    /// Commit index that it was sent.
    pub(super) told_commit: u64,
    /// When it must be sent what it does not know yet; `None` if it knows all.
    pub(super) due: Option<Nanos>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Find out where the logs agree: one message at a time, from `first`.
    Probe { first: u64, waiting: bool },
    /// Send new entries without waiting.
    Stream,
    /// The caller reads old entries from the log.
    Reading,
}

impl Peer {
    pub(super) fn new(id: ReplicaId) -> Self {
        let flow = Flow::Probe { first: 0, waiting: false };
        Self {
            id,
            connected: false,
            voter: false,
            votes: true,
            matched: 0,
            next: 0,
            flow,
            heard: 0,
            sent: 0,
            told_commit: 0,
            due: None,
        }
    }

    /// It has no vote, and its log is equal below `len`, or it wants what begins there.
    pub(super) fn learned(&mut self, fits: bool, len: u64) {
        if fits {
            self.matched = self.matched.max(len);
            self.next = self.next.max(self.matched);
            if matches!(self.flow, Flow::Probe { first, .. } if len >= first) {
                self.flow = Flow::Stream;
            }
            return;
        }
        // It may have lost its log once more. Nothing is counted on what it had.
        self.matched = 0;
        if self.flow != Flow::Reading {
            self.probe(len);
        }
    }

    /// What is below is cut off.
    pub(super) fn lift(&mut self, least: u64) {
        self.next = least;
        if let Flow::Probe { first, .. } = &mut self.flow {
            *first = least.max(*first);
        }
    }

    /// It is not sent anything but heartbeats until it has what comes before `first`.
    pub(super) fn wait_at(&mut self, first: u64) {
        self.next = first;
        self.flow = Flow::Probe { first, waiting: true };
    }

    pub(super) fn probe(&mut self, first: u64) {
        self.next = first;
        self.flow = Flow::Probe { first, waiting: false };
    }
}

impl Paxos {
    pub(super) fn become_leader(&mut self, now: Nanos, out: &mut Vec<Output>) {
        self.role = Role::Leader;
        self.unwritten = self.len();
        self.offered = self.unwritten;
        self.restamp_last();
        let (next, first) = (self.len(), self.unwritten);
        for peer in &mut self.peers {
            peer.matched = 0;
            peer.told_commit = 0;
            peer.due = None;
            peer.heard = now;
            peer.probe(first);
        }
        self.heartbeat_at = now + self.config.heartbeat;
        self.quorum_check_at = now + self.config.election;
        out.push(Output::BecameLeader { ballot: self.promised, next });
        self.flush(now, out);
    }

    /// Re-proposes the last entry under the own ballot: see the module docs of [`super`].
    fn restamp_last(&mut self) {
        // Also if it is decided: only then the undecided entries of an earlier leader can never come back.
        let Some(index) = self.len().checked_sub(1) else { return };
        let Some(entry) = self.tail.get(index) else { unreachable!("the last entry is always in the tail") };
        let entry = Entry { ballot: self.promised, value: entry.value.clone() };
        self.cut_log(index);
        self.push_entry(entry);
        self.unwritten = index;
    }

    /// Gives out the writes of what was proposed. The peers were sent it before: their disks work at the same time.
    pub(super) fn write_own(&mut self, out: &mut Vec<Output>) {
        for index in self.unwritten..self.len() {
            let Some(entry) = self.tail.get(index).cloned() else {
                unreachable!("unwritten entries stay in the tail")
            };
            self.write(Write::Entry { index, entry }, out);
        }
        let len = self.len();
        if self.unwritten < len || self.durable < len {
            self.unwritten = len;
            self.defer(Deferred::Durable { ballot: self.promised, len });
        }
        self.evict();
    }

    /// Sends a peer what it lacks, as far as its flow allows.
    pub(super) fn replicate(&mut self, now: Nanos, at: usize, out: &mut Vec<Output>) {
        loop {
            self.lift(at);
            let peer = &self.peers[at];
            let (next, matched, id) = (peer.next, peer.matched, peer.id);
            let may_send = match peer.flow {
                Flow::Probe { waiting, .. } => !waiting,
                Flow::Stream => {
                    next < self.len()
                        && next - matched < MAX_INFLIGHT_ENTRIES
                        && self.tail.bytes(matched, next) < MAX_INFLIGHT_BYTES
                }
                Flow::Reading => false,
            };
            if !peer.connected || !may_send {
                return;
            }
            if next < self.tail.first() {
                self.peers[at].flow = Flow::Reading;
                out.push(Output::NeedOld { peer: id, from: next, to: self.tail.first() });
                return;
            }
            let entries = self.tail.batch(next, MAX_BATCH_ENTRIES, MAX_BATCH_BYTES);
            self.send_accept(now, at, entries, out);
            if let Flow::Probe { first, .. } = self.peers[at].flow {
                self.peers[at].flow = Flow::Probe { first, waiting: true };
            }
        }
    }

    /// Sends `entries` from `next` on; none makes a heartbeat.
    pub(super) fn send_accept(&mut self, now: Nanos, at: usize, entries: Vec<Entry>, out: &mut Vec<Output>) {
        self.lift(at);
        let first = self.peers[at].next;
        let previous = self.previous(first);
        let peer = &mut self.peers[at];
        peer.next += entries.len() as u64;
        peer.sent = now;
        peer.told_commit = self.commit;
        peer.due = None;
        let message =
            Message::Accept { ballot: self.promised, first, previous, commit: self.commit, entries };
        out.push(Output::Send { to: peer.id, message });
    }

    pub(super) fn on_old_entries(
        &mut self,
        now: Nanos,
        id: ReplicaId,
        first: u64,
        entries: Vec<Entry>,
        out: &mut Vec<Output>,
    ) {
        let Some(at) = self.peers.iter().position(|peer| peer.id == id) else { return };
        let peer = &self.peers[at];
        if !self.is_leader() || peer.flow != Flow::Reading || peer.next != first {
            return;
        }
        let known = |(index, entry): (u64, &Entry)| self.stamps.at(index) == Some(entry.ballot);
        if entries.is_empty() || !(first..).zip(&entries).all(known) {
            // Nothing usable came; a heartbeat starts the question anew.
            self.peers[at].probe(first);
            self.peers[at].flow = Flow::Probe { first, waiting: true };
            return;
        }
        self.send_accept(now, at, entries, out);
        // One chunk at a time: the answer leads back to `Stream`, and from there to the next chunk.
        self.peers[at].flow = Flow::Probe { first, waiting: true };
    }

    pub(super) fn on_accepted(
        &mut self,
        now: Nanos,
        from: ReplicaId,
        ballot: Ballot,
        len: u64,
        out: &mut Vec<Output>,
    ) {
        if !self.is_leader() || ballot != self.promised || len > self.len() {
            return;
        }
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == from) else { return };
        peer.heard = now;
        peer.votes = true;
        peer.matched = peer.matched.max(len);
        peer.next = peer.next.max(peer.matched);
        if matches!(peer.flow, Flow::Probe { first, .. } if len >= first) {
            peer.flow = Flow::Stream;
        }
        self.advance_commit(now, out);
    }

    /// `refused`: ballot, first entry and hint of the message.
    pub(super) fn on_rejected(
        &mut self,
        now: Nanos,
        from: ReplicaId,
        refused: (Ballot, u64, u64),
        out: &mut Vec<Output>,
    ) {
        let (ballot, first, hint) = refused;
        if !self.is_leader() || ballot != self.promised {
            return;
        }
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == from) else { return };
        peer.heard = now;
        // In a stream, what is below `matched` was acknowledged after this refusal was sent. A probe may be refused there: a log whose
        // stamps differ was taken for what is decided, and its replica has forgotten by a new start what that is.
        let stale = match peer.flow {
            Flow::Probe { first: asked, .. } => asked != first,
            _ => first <= peer.matched,
        };
        if !stale && peer.flow != Flow::Reading {
            let wanted = hint.min(first.saturating_sub(1));
            peer.probe(wanted);
            self.tell_cut(from, wanted, out);
        }
    }

    /// Decides what a majority has: the highest entry of the own ballot, and with it all below.
    pub(super) fn advance_commit(&mut self, now: Nanos, out: &mut Vec<Output>) {
        let majority = self.majority_len();
        if majority <= self.commit || self.stamps.at(majority - 1) != Some(self.promised) {
            return;
        }
        self.commit_to(majority, out);
        self.owe_commit(now);
        self.leave_if_removed(now, out);
    }

    /// Whether a majority has an entry of this leadership. From then on nothing can be decided that is not in this log
    /// or proposed by this leader or a later one; before, entries of an earlier leader may come back behind the last one.
    pub fn is_established(&self) -> bool {
        let majority = self.majority_len();
        self.is_leader() && majority > 0 && self.stamps.at(majority - 1) == Some(self.promised)
    }

    /// Whether a majority decides without this replica's own log.
    pub fn is_ahead_of_own_log(&self) -> bool {
        self.commit > self.durable
    }

    /// The length that a majority's logs reach: the one that `quorum - 1` replicas are not above... counted without sorting.
    fn majority_len(&self) -> u64 {
        let counts = |peer: &&Peer| peer.voter && peer.votes;
        // A leader that is being removed does not count for the decision on that.
        let own = self.is_voter().then_some(self.durable);
        let quorum = self.quorum();
        let reach = |len: u64| {
            let peers = self.peers.iter().filter(counts).filter(|peer| peer.matched >= len).count();
            peers + usize::from(own.is_some_and(|own| own >= len))
        };
        let lens = self.peers.iter().filter(counts).map(|peer| peer.matched).chain(own);
        lens.filter(|len| reach(*len) >= quorum).max().unwrap_or(0)
    }

    /// A connection to `id` stands anew: what was sent over the old one may be lost.
    pub(super) fn greet(&mut self, now: Nanos, id: ReplicaId, out: &mut Vec<Output>) {
        let Some(at) = self.peers.iter().position(|peer| peer.id == id) else { return };
        let peer = &mut self.peers[at];
        let first = if peer.matched > 0 { peer.matched } else { peer.next.min(self.stamps.len()) };
        peer.probe(first);
        self.heartbeat(now, at, out);
    }

    pub(super) fn heartbeat(&mut self, now: Nanos, at: usize, out: &mut Vec<Output>) {
        let peer = &mut self.peers[at];
        if let Flow::Probe { first, .. } = peer.flow {
            peer.next = first;
            peer.flow = Flow::Probe { first, waiting: true };
        }
        self.send_accept(now, at, Vec::new(), out);
    }

    pub(super) fn tick_leader(&mut self, now: Nanos, out: &mut Vec<Output>) {
        self.pay(now, out);
        if now >= self.heartbeat_at {
            self.beat(now, out);
        }
        if now >= self.quorum_check_at {
            self.check_quorum(now, out);
        }
    }

    fn beat(&mut self, now: Nanos, out: &mut Vec<Output>) {
        self.heartbeat_at = now + self.config.heartbeat;
        for at in 0..self.peers.len() {
            let peer = &self.peers[at];
            if peer.connected && now >= peer.sent + self.config.heartbeat / 2 {
                self.heartbeat(now, at, out);
            }
        }
    }

    fn check_quorum(&mut self, now: Nanos, out: &mut Vec<Output>) {
        let late = now - self.quorum_check_at;
        self.quorum_check_at = now + self.config.heartbeat;
        if late > self.config.election / 2 {
            // This process itself was stopped for long. Let it read its mail before it judges its peers.
            return;
        }
        let heard = |heard: Nanos| now < heard.saturating_add(self.config.election);
        let peers = self.peers.iter().filter(|peer| peer.voter && heard(peer.heard)).count();
        let count = peers + usize::from(self.is_voter());
        if count < self.quorum() {
            self.step_down(now, out);
        }
    }
}
