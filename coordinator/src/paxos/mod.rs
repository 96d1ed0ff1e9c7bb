//! Multi-Paxos over a log, as a pure state machine: no socket, no disk, no clock, no randomness of its own.
//!
//! One thread owns a [`Paxos`], gives it [`Input`]s with the time, does the [`Output`]s in order, and calls
//! [`Paxos::flush`] once per turn of its loop. The simulator and production run these same lines.
//!
//! ## The protocol
//! A leadership is a [`Ballot`]. Phase 1 (`Prepare`/`Promise`) happens once per ballot, phase 2 (`Accept`/`Accepted`)
//! is pipelined. Entry `i + 1` only makes sense after entry `i` (it says where bubble `i` ended), so what is decided
//! must be a *prefix of one leader's log*, not an index at a time. Therefore:
//!
//! * A log is contiguous, and every entry has a *stamp*, the ballot that proposed it. Stamps never fall along a log.
//! * An acceptor takes entries only behind an entry whose index and stamp it has already. By induction two logs that
//!   have the same stamp at the same index are equal up to there. An entry with another stamp replaces the acceptor's
//!   entry and all behind it.
//! * An acceptor promises a ballot only to a candidate whose (last stamp, length) is not below its own. So a new leader
//!   has every decided entry, and phase 1 moves no values.
//! * A new leader *re-proposes its last entry under its own ballot*: it raises that entry's stamp. A log that accepts it
//!   holds the leader's whole log up to there. A leader counts a majority only at entries with its own stamp; what is
//!   below them is then decided as well. (Raft appends an empty entry for this; here the indices belong to the server.)
//!   It does so even if that entry is decided, because entries behind it that an earlier leader left undecided could
//!   come back otherwise, after this leader's server has run on ([`Paxos::is_established`]).
//!   Only the last entry may be raised: an acceptor with an early raised entry and not the rest would look complete.
//!
//! Invariants: a promise or an accepted entry is durable before it is answered; a decided value never changes; a ballot
//! has one leader; a leader never replaces entries of its own ballot.
//!
//! Entries that are in checkpoints are cut off: see `cut.rs` for what that changes in these rules.
//!
//! ## Leaving a live leader alone
//! A replica that hears a leader refuses to promise (stickiness); a candidate asks on trial first (pre-vote); a leader
//! that has not heard a majority for an election time-out steps down (check-quorum). A *broken connection* to the leader
//! starts a trial within [`Config::break_jitter`].

mod acceptor;
mod amnesia;
mod cut;
mod election;
mod leader;
mod members;
mod message;
mod rng;
mod roster;
mod runs;
mod stewardship;
mod tail;
mod thrifty;
mod types;
pub mod wire;

#[cfg(test)]
mod cluster_test;
#[cfg(test)]
mod unit_test;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

pub use members::{Change, ChangeError, MAX_ID, MAX_MEMBERS, Member, Members};
pub use message::Message;
pub use roster::{MembersOf, Roster, no_members};
pub use types::*;

use amnesia::Amnesia;
use leader::Peer;
use rng::Rng;
use tail::Tail;

/// One replica's part in the consensus.
#[derive(Debug)]
pub struct Paxos {
    config: Config,
    rng: Rng,
    role: Role,
    /// Set while this replica has no vote.
    amnesia: Option<Amnesia>,
    /// Highest ballot promised; the ballot of the leader that is followed, or the own one.
    promised: Ballot,
    /// Highest round seen anywhere, so that the next campaign does not start below it.
    seen_round: u64,
    stamps: Runs,
    /// Goes with the log, as `stamps` does.
    roster: Roster,
    /// A configuration that cannot be read was found here, in this version; told once.
    unreadable: Option<(u64, u64)>,
    tail: Tail,
    commit: u64,
    /// Replicas with a connection that stands, members or not.
    links: BTreeSet<ReplicaId>,
    /// The other members, by ascending id.
    peers: Vec<Peer>,

    /// Sequence number of the last write given out, and of the last one that is durable.
    written: u64,
    persisted: u64,
    /// Writes of entries that are not durable yet: sequence number and index, of which those are left out that a later write
    /// of a lower index makes unimportant. So both rise, and the front has the lowest index.
    volatile: VecDeque<(u64, u64)>,
    /// What waits for its write to be durable.
    deferred: VecDeque<(u64, Deferred)>,
    /// Entries from here on are in the tail, but not yet given out as writes: a leader sends first.
    unwritten: u64,
    /// Leader: the log's length when peers were sent entries last.
    offered: u64,

    /// Follower: the log equals the leader's below this, in ballot `promised`.
    matched: u64,
    /// The log is durable below this, as far as ballot `promised` is concerned.
    durable: u64,
    /// When a follower last answered its leader.
    answered: Nanos,
    /// When a follower last heard its leader.
    contact: Nanos,
    /// The election time-out drawn last.
    timeout: Nanos,
    election_at: Nanos,
    /// The trial vote that was given last.
    trial_vote: Option<election::TrialVote>,
    /// How much longer to leave the election to others when the leader's connection breaks.
    reluctance: Nanos,
    /// Pause until the next trial if this one gets no answer; doubles.
    retry: Nanos,
    heartbeat_at: Nanos,
    quorum_check_at: Nanos,
    /// Breaks a rule: changes are proposed before the leader has decided anything, or the change before is.
    #[cfg(test)]
    reckless: bool,
}

#[derive(Debug)]
enum Role {
    Follower { leader: Option<ReplicaId> },
    Trial { ballot: Ballot, granted: BTreeSet<ReplicaId> },
    Candidate { granted: BTreeSet<ReplicaId>, since: Nanos },
    Leader,
}

/// What waits for durability.
#[derive(Debug)]
enum Deferred {
    /// Tell the leader (or count oneself) that the log is equal and durable below `len` in `ballot`.
    Durable { ballot: Ballot, len: u64 },
    /// A granted promise.
    Promise { to: ReplicaId, ballot: Ballot },
    /// The own promise of a candidate: only now it may ask others.
    Campaign { ballot: Ballot },
}

impl Paxos {
    /// A replica that starts with what its log holds.
    ///
    /// # Panics
    /// If `recovered` has entries but no tail.
    pub fn new(config: Config, recovered: Recovered, now: Nanos) -> Self {
        assert!(config.id != 0, "ids begin with 1");
        let len = recovered.stamps.len();
        assert!(len == 0 || !recovered.tail.is_empty(), "the last entry of a log must be in memory");
        let mut tail = Tail::new(len - recovered.tail.len() as u64, config.tail_entries, config.tail_bytes);
        recovered.tail.into_iter().for_each(|entry| tail.push(entry));
        tail.evict(len);
        let base = recovered.base.unwrap_or_else(|| Members::founders(&config.founders));
        let roster = Roster::with(base, recovered.changes);
        let alone = roster.latest().list.iter().all(|member| member.id == config.id);
        let mut rng = Rng::new(config.seed);
        // A replica alone has nobody to wait for.
        let first_election = if alone { 0 } else { config.election + rng.up_to(config.election) };
        let mut paxos = Self {
            rng,
            role: Role::Follower { leader: None },
            amnesia: recovered.lost.then(Amnesia::default),
            promised: recovered.promised.max(recovered.stamps.last()),
            seen_round: recovered.promised.round(),
            stamps: recovered.stamps,
            roster,
            unreadable: None,
            tail,
            commit: recovered.commit.min(len),
            links: BTreeSet::new(),
            peers: Vec::new(),
            written: 0,
            persisted: 0,
            volatile: VecDeque::new(),
            deferred: VecDeque::new(),
            unwritten: len,
            offered: len,
            matched: 0,
            durable: 0,
            answered: now,
            contact: now,
            timeout: config.election,
            election_at: now + first_election,
            trial_vote: None,
            reluctance: 0,
            retry: election::FIRST_RETRY,
            heartbeat_at: now,
            quorum_check_at: now,
            #[cfg(test)]
            reckless: false,
            config,
        };
        paxos.renew_peers();
        paxos
    }

    /// Takes one input. Outputs are appended to `out`.
    pub fn step(&mut self, now: Nanos, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Message { from, message } => self.on_message(now, from, message, out),
            Input::Tick => self.on_tick(now, out),
            Input::PeerConnected(id) => self.on_connected(now, id, out),
            Input::PeerDisconnected(id) => self.on_disconnected(now, id, out),
            Input::Persisted(sequence) => {
                debug_assert!(sequence <= self.written, "persisted more than was written");
                self.persisted = self.persisted.max(sequence.min(self.written));
                while self.volatile.front().is_some_and(|(written, _)| *written <= self.persisted) {
                    self.volatile.pop_front();
                }
                self.settle(now, out);
            }
            Input::OldEntries { peer, first, entries } => self.on_old_entries(now, peer, first, entries, out),
            Input::Begin { index, entry, previous, promised, members } => {
                self.on_begin(now, cut::Begin { index, entry, previous, promised, members }, out);
            }
        }
        if let Some((index, version)) = self.unreadable.take() {
            out.push(Output::UnknownMembers { index, version });
        }
    }

    /// Proposes the next value. Nothing is sent or written before [`Paxos::flush`], so that proposals share a message.
    pub fn propose(&mut self, index: u64, value: Arc<[u8]>) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        if index != self.len() {
            return Err(ProposeError::WrongIndex { got: index, next: self.len() });
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(ProposeError::TooLong(value.len()));
        }
        if !self.takes_proposals() {
            return Err(ProposeError::Full(self.len() - self.commit));
        }
        self.check_change(&value).map_err(ProposeError::Members)?;
        self.push_entry(Entry { ballot: self.promised, value });
        Ok(())
    }

    /// Whether [`Paxos::propose`] would take the next entry: this replica leads, and not too much is undecided.
    pub fn takes_proposals(&self) -> bool {
        self.is_leader() && self.len() - self.commit < MAX_UNDECIDED_ENTRIES
    }

    /// Sends what a leader has to send, then gives out its writes. Call once per turn of the loop, after the inputs.
    pub fn flush(&mut self, now: Nanos, out: &mut Vec<Output>) {
        if !self.is_leader() {
            return;
        }
        self.replicate_all(now, out);
        self.write_own(out);
        self.settle(now, out);
    }

    /// When [`Input::Tick`] is due at the latest.
    pub fn deadline(&self) -> Nanos {
        if !self.is_leader() {
            return self.election_at;
        }
        let quorum =
            if self.peers.is_empty() { Nanos::MAX } else { self.quorum_check_at.min(self.heartbeat_at) };
        quorum.min(self.owed_at())
    }

    /// A replica whose server is far behind would take long to serve: it lets the others try first, for this long.
    pub fn set_reluctance(&mut self, pause: Nanos) {
        self.reluctance = pause;
    }

    /// Entry `index`, if it is in the in-memory tail.
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        self.tail.get(index)
    }

    /// Index of the first entry in the in-memory tail. It equals [`Paxos::len`] if the log is empty.
    pub fn tail_start(&self) -> u64 {
        self.tail.first()
    }

    /// One past the last entry of the log, decided or not.
    pub fn len(&self) -> u64 {
        self.stamps.len()
    }

    /// Whether the log has no entry.
    pub fn is_empty(&self) -> bool {
        self.stamps.is_empty()
    }

    /// Every entry below is decided.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// The highest ballot promised.
    pub fn ballot(&self) -> Ballot {
        self.promised
    }

    /// Whether this replica leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader)
    }

    /// The leader, if one is known.
    pub fn leader(&self) -> Option<ReplicaId> {
        match self.role {
            Role::Leader => Some(self.config.id),
            Role::Follower { leader } => leader,
            _ => None,
        }
    }

    /// What this replica does at the moment.
    pub fn role(&self) -> RoleKind {
        match self.role {
            Role::Follower { .. } => RoleKind::Follower,
            Role::Trial { .. } => RoleKind::Trial,
            Role::Candidate { .. } => RoleKind::Candidate,
            Role::Leader => RoleKind::Leader,
        }
    }

    /// Leader: up to where `peer`'s log is known to equal this one, durably.
    pub fn matched(&self, peer: ReplicaId) -> Option<u64> {
        self.peers.iter().find(|p| p.id == peer).map(|p| p.matched)
    }

    /// True if there is no other replica.
    pub fn is_alone(&self) -> bool {
        self.members().list.iter().all(|member| member.id == self.config.id)
    }

    /// Voters that make a majority.
    pub fn quorum(&self) -> usize {
        self.roster.latest().quorum()
    }

    fn on_message(&mut self, now: Nanos, from: ReplicaId, message: Message, out: &mut Vec<Output>) {
        // Who is not known here yet may be a member of a configuration that is on its way.
        let known = self.peers.iter().any(|peer| peer.id == from);
        if !known && (self.is_removed(from) || from == self.config.id) {
            return;
        }
        match message {
            Message::Accept { ballot, first, previous, commit, entries } => {
                self.on_accept(now, from, acceptor::Accept { ballot, first, previous, commit, entries }, out);
            }
            Message::Accepted { ballot, len } => self.on_accepted(now, from, ballot, len, out),
            Message::Rejected { ballot, first, hint } => {
                self.on_rejected(now, from, (ballot, first, hint), out);
            }
            Message::Learned { ballot, fits, len } => self.on_learned(from, (ballot, fits, len), out),
            Message::Cut { ballot, first } => self.on_cut(from, ballot, first, out),
            Message::Nack { promised } => self.on_nack(now, promised, out),
            Message::Prepare { ballot, trial, last, len } => {
                self.on_prepare(now, from, election::Ask { ballot, trial, last, len }, out);
            }
            Message::Promise { ballot, trial, granted, promised } => {
                self.on_promise(now, from, election::Answer { ballot, trial, granted, promised }, out);
            }
        }
    }

    fn on_tick(&mut self, now: Nanos, out: &mut Vec<Output>) {
        if self.is_leader() {
            self.tick_leader(now, out);
        } else if now >= self.election_at {
            self.campaign(now, out);
        }
    }

    fn on_connected(&mut self, now: Nanos, id: ReplicaId, out: &mut Vec<Output>) {
        self.links.insert(id);
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) else { return };
        peer.connected = true;
        self.ask_around(now, out);
        if self.is_leader() {
            self.greet(now, id, out);
        } else if self.leader().is_none() {
            self.hurry(now);
        }
    }

    fn on_disconnected(&mut self, now: Nanos, id: ReplicaId, out: &mut Vec<Output>) {
        self.links.remove(&id);
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            peer.connected = false;
        }
        if matches!(self.role, Role::Follower { leader: Some(leader) } if leader == id) {
            self.lose_leader(now, out);
        }
    }

    fn connected(&self, id: ReplicaId) -> bool {
        self.links.contains(&id)
    }

    fn send(out: &mut Vec<Output>, to: ReplicaId, message: Message) {
        out.push(Output::Send { to, message });
    }

    /// Forgets old entries that can be read from the log. While the disk is full, the log does not have the latest.
    fn evict(&mut self) {
        self.tail.evict(self.volatile.front().map_or(self.len(), |(_, index)| *index));
    }

    fn write(&mut self, write: Write, out: &mut Vec<Output>) {
        self.written += 1;
        if let Write::Entry { index, .. } | Write::Anew { first: index, .. } = &write {
            while self.volatile.back().is_some_and(|(_, later)| later >= index) {
                self.volatile.pop_back();
            }
            self.volatile.push_back((self.written, *index));
        }
        out.push(Output::Persist { sequence: self.written, write });
    }

    /// Does `deferred` once everything written so far is durable.
    fn defer(&mut self, deferred: Deferred) {
        self.deferred.push_back((self.written, deferred));
    }

    /// Does what waited for durability and need wait no longer. The last acknowledgement stands for those before it.
    fn settle(&mut self, now: Nanos, out: &mut Vec<Output>) {
        let mut durable = None;
        while self.deferred.front().is_some_and(|(sequence, _)| *sequence <= self.persisted) {
            let Some((_, deferred)) = self.deferred.pop_front() else { break };
            match deferred {
                Deferred::Durable { ballot, len } => durable = Some((ballot, len)),
                Deferred::Promise { to, ballot } => self.send_promise(to, ballot, out),
                Deferred::Campaign { ballot } => self.ask_promises(now, ballot, out),
            }
        }
        if let Some((ballot, len)) = durable {
            self.on_durable(now, ballot, len, out);
        }
    }

    /// Raises the commit index.
    fn commit_to(&mut self, commit: u64, out: &mut Vec<Output>) {
        debug_assert!(commit <= self.len(), "more decided than known");
        if commit > self.commit {
            out.push(Output::Committed { from: self.commit, to: commit });
            self.commit = commit;
        }
    }
}
