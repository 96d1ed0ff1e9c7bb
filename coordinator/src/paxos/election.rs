//! Phase 1 and when to start it: trial votes, promises, stepping down.

use std::collections::BTreeSet;

use super::message::Message;
use super::types::{Ballot, MILLIS, Nanos, Output, ReplicaId};
use super::{Deferred, Paxos, Role};

/// First pause before a trial or a campaign asks again.
pub(super) const FIRST_RETRY: Nanos = 20 * MILLIS;
/// A campaign that was overtaken tries again within this.
const OVERTAKEN_RETRY: Nanos = 4 * MILLIS;
/// A replica that knows no leader, and sees a majority connected, asks within this.
const START_JITTER: Nanos = 20 * MILLIS;

/// Who was given a trial vote keeps it for so long: of two replicas that ask at once, else, each would be elected, and the first
/// led for a moment in vain.
const TRIAL_HOLD: Nanos = FIRST_RETRY;

/// A trial vote that was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrialVote {
    to: ReplicaId,
    /// How far its log went.
    log: (Ballot, u64),
    until: Nanos,
}

/// [`Message::Prepare`], unpacked.
#[derive(Clone, Copy)]
pub(super) struct Ask {
    pub(super) ballot: Ballot,
    pub(super) trial: bool,
    pub(super) last: Ballot,
    pub(super) len: u64,
}

/// [`Message::Promise`], unpacked.
pub(super) struct Answer {
    pub(super) ballot: Ballot,
    pub(super) trial: bool,
    pub(super) granted: bool,
    pub(super) promised: Ballot,
}

impl Paxos {
    /// Draws the next election time-out.
    pub(super) fn new_timeout(&mut self) {
        self.timeout = self.config.election + self.rng.up_to(self.config.election);
        self.retry = FIRST_RETRY;
    }

    /// The connection to the leader broke: most likely its process is dead.
    pub(super) fn lose_leader(&mut self, now: Nanos, out: &mut Vec<Output>) {
        self.role = Role::Follower { leader: None };
        self.retry = FIRST_RETRY;
        let jitter = self.rng.up_to(self.config.break_jitter);
        self.election_at = self.election_at.min(now + jitter + self.reluctance);
        out.push(Output::LeaderLost);
    }

    /// No leader is known, and a peer has come: ask soon if it can succeed.
    pub(super) fn hurry(&mut self, now: Nanos) {
        let voters = self.peers.iter().filter(|peer| peer.connected && peer.voter).count();
        if voters + usize::from(self.is_voter()) >= self.quorum() {
            self.retry = FIRST_RETRY;
            let soon = now + MILLIS + self.rng.up_to(START_JITTER);
            self.election_at = self.election_at.min(soon);
        }
    }

    /// The election timer ran out: start a trial, or ask again those that have not answered.
    pub(super) fn campaign(&mut self, now: Nanos, out: &mut Vec<Output>) {
        if !self.has_vote() || !self.may_stand() {
            return self.wait_for_leader(now, out);
        }
        let wanted = self.seen_round.max(self.promised.round()) + 1;
        match &self.role {
            Role::Follower { leader } => {
                if leader.is_some() {
                    out.push(Output::LeaderLost);
                }
                self.start_trial(now, wanted, out);
            }
            Role::Trial { ballot, .. } if ballot.round() >= wanted => self.ask(now, *ballot, true, out),
            Role::Candidate { since, .. }
                if now < since + self.config.election && wanted == self.promised.round() + 1 =>
            {
                self.ask(now, self.promised, false, out);
            }
            Role::Trial { .. } | Role::Candidate { .. } => self.start_trial(now, wanted, out),
            Role::Leader => {}
        }
    }

    fn start_trial(&mut self, now: Nanos, round: u64, out: &mut Vec<Output>) {
        let ballot = Ballot::new(round, self.config.id);
        self.role = Role::Trial { ballot, granted: BTreeSet::from([self.config.id]) };
        if self.is_elected() {
            self.start_candidacy(now, ballot, out);
        } else {
            self.ask(now, ballot, true, out);
        }
    }

    fn start_candidacy(&mut self, now: Nanos, ballot: Ballot, out: &mut Vec<Output>) {
        self.adopt(now, ballot, out);
        self.role = Role::Candidate { granted: BTreeSet::new(), since: now };
        self.retry = FIRST_RETRY;
        self.election_at = now + self.config.election;
        // The own promise must be durable first: after a crash this ballot must never be used again.
        self.defer(Deferred::Campaign { ballot });
        self.settle(now, out);
    }

    /// The own promise is durable.
    pub(super) fn ask_promises(&mut self, now: Nanos, ballot: Ballot, out: &mut Vec<Output>) {
        if ballot != self.promised {
            return;
        }
        if let Role::Candidate { granted, .. } = &mut self.role {
            granted.insert(self.config.id);
            self.ask(now, ballot, false, out);
            self.count_promises(now, out);
        }
    }

    /// Sends `Prepare` to all that have not granted it, and sets the timer for asking again.
    fn ask(&mut self, now: Nanos, ballot: Ballot, trial: bool, out: &mut Vec<Output>) {
        let (last, len) = (self.stamps.last(), self.len());
        let (Role::Trial { granted, .. } | Role::Candidate { granted, .. }) = &self.role else { return };
        for peer in self.peers.iter().filter(|peer| peer.connected && !granted.contains(&peer.id)) {
            Self::send(out, peer.id, Message::Prepare { ballot, trial, last, len });
        }
        self.election_at = now + self.retry + self.rng.up_to(self.retry / 2);
        self.retry = (self.retry * 2).min(self.config.election);
    }

    pub(super) fn on_prepare(&mut self, now: Nanos, from: ReplicaId, ask: Ask, out: &mut Vec<Output>) {
        // Without a vote nothing is promised, and what this replica says of its promises is worth nothing.
        if ask.ballot.replica() != from || !self.has_vote() {
            return;
        }
        let leader_alive = self.leader_alive(now);
        let complete = (ask.last, ask.len) >= (self.stamps.last(), self.len());
        // The same candidate may ask twice for the same ballot.
        let fresh =
            ask.ballot > self.promised || (ask.ballot == self.promised && !ask.trial && !leader_alive);
        if leader_alive || !complete || !fresh {
            let answer = Message::Promise {
                ballot: ask.ballot,
                trial: ask.trial,
                granted: false,
                promised: self.promised,
            };
            Self::send(out, from, answer);
            // The log here is longer, so the other cannot win, but this replica can, and perhaps others that heard it, too.
            if !leader_alive && !complete {
                self.stand_before(now, from, out);
            }
            return;
        }
        if ask.trial {
            let granted = !self.has_rival(now, from, ask);
            let answer =
                Message::Promise { ballot: ask.ballot, trial: true, granted, promised: self.promised };
            Self::send(out, from, answer);
            if granted {
                self.keep_trial_vote(now, from, (ask.last, ask.len));
            } else {
                self.ask_rival(from, out);
            }
            return;
        }
        if ask.ballot > self.promised {
            self.adopt(now, ask.ballot, out);
        }
        self.defer(Deferred::Promise { to: from, ballot: ask.ballot });
        self.settle(now, out);
    }

    /// Whether another candidate, perhaps this replica, comes before `from`, whose log would do.
    fn has_rival(&self, now: Nanos, from: ReplicaId, ask: Ask) -> bool {
        match &self.role {
            Role::Trial { ballot, .. } => {
                (ask.last, ask.len, ask.ballot) < (self.stamps.last(), self.len(), *ballot)
            }
            Role::Candidate { since, .. } => now < since + TRIAL_HOLD,
            Role::Follower { .. } | Role::Leader => self.trial_vote.is_some_and(|vote| {
                vote.to != from
                    && now < vote.until
                    && (ask.last, ask.len) <= vote.log
                    && self.connected(vote.to)
            }),
        }
    }

    /// `to` was given a trial vote: this replica does not stand itself meanwhile, unless it is further already.
    fn keep_trial_vote(&mut self, now: Nanos, to: ReplicaId, log: (Ballot, u64)) {
        match self.role {
            Role::Candidate { .. } => return,
            Role::Trial { .. } => self.role = Role::Follower { leader: None },
            Role::Follower { .. } | Role::Leader => {}
        }
        self.trial_vote = Some(TrialVote { to, log, until: now + TRIAL_HOLD });
        self.election_at = self.election_at.max(now + TRIAL_HOLD + self.rng.up_to(OVERTAKEN_RETRY));
    }

    /// The log of `rival`, which asked, is shorter than this replica's.
    fn stand_before(&mut self, now: Nanos, rival: ReplicaId, out: &mut Vec<Output>) {
        if !matches!(self.role, Role::Follower { .. }) {
            self.ask_rival(rival, out);
        } else if self.trial_vote.is_none_or(|vote| now >= vote.until) {
            let soon = now + self.rng.up_to(OVERTAKEN_RETRY);
            self.election_at = self.election_at.min(soon);
        }
    }

    /// `rival` was refused because of this replica's own question, which it may have refused while it still saw the old leader.
    fn ask_rival(&self, rival: ReplicaId, out: &mut Vec<Output>) {
        let (ballot, trial) = match &self.role {
            Role::Trial { ballot, .. } => (*ballot, true),
            // Not before the own promise is durable.
            Role::Candidate { granted, .. } if granted.contains(&self.config.id) => (self.promised, false),
            _ => return,
        };
        let (last, len) = (self.stamps.last(), self.len());
        Self::send(out, rival, Message::Prepare { ballot, trial, last, len });
    }

    /// The promise is durable.
    pub(super) fn send_promise(&mut self, to: ReplicaId, ballot: Ballot, out: &mut Vec<Output>) {
        if ballot == self.promised {
            Self::send(out, to, Message::Promise { ballot, trial: false, granted: true, promised: ballot });
        }
    }

    pub(super) fn on_promise(&mut self, now: Nanos, from: ReplicaId, answer: Answer, out: &mut Vec<Output>) {
        if !answer.promised.is_sane() {
            return;
        }
        self.seen_round = self.seen_round.max(answer.promised.round());
        self.hear(from, answer.promised);
        let asked = match &self.role {
            Role::Trial { ballot, .. } => answer.trial && answer.ballot == *ballot,
            Role::Candidate { .. } => !answer.trial && answer.ballot == self.promised,
            _ => false,
        };
        if !asked {
            return;
        }
        if !answer.granted {
            if answer.promised >= answer.ballot {
                let soon = now + self.rng.up_to(OVERTAKEN_RETRY);
                self.election_at = self.election_at.min(soon);
            }
            return;
        }
        match &mut self.role {
            Role::Trial { granted, ballot } => {
                granted.insert(from);
                let ballot = *ballot;
                if self.is_elected() && ballot > self.promised {
                    self.start_candidacy(now, ballot, out);
                }
            }
            Role::Candidate { granted, .. } => {
                granted.insert(from);
                self.count_promises(now, out);
            }
            _ => {}
        }
    }

    fn count_promises(&mut self, now: Nanos, out: &mut Vec<Output>) {
        if let Role::Candidate { granted, .. } = &self.role
            // A majority without the own durable promise is none: see `start_candidacy`.
            && granted.contains(&self.config.id)
            && self.is_elected()
        {
            self.become_leader(now, out);
        }
    }

    /// Whether this replica may ask for votes: also one that is being removed, because until that is decided its log may be the
    /// only one with which anybody can be elected. It does not count for itself then.
    fn may_stand(&self) -> bool {
        self.roster.from(self.commit).any(|members| members.is_voter(self.config.id))
    }

    /// Whether a majority of the voters has granted what this replica asks for.
    fn is_elected(&self) -> bool {
        let (Role::Trial { granted, .. } | Role::Candidate { granted, .. }) = &self.role else {
            return false;
        };
        let members = self.roster.latest();
        granted.iter().filter(|id| members.is_voter(**id)).count() >= members.quorum()
    }

    /// Whether this replica leads, or hears a leader over a connection that stands.
    fn leader_alive(&self, now: Nanos) -> bool {
        match self.role {
            Role::Leader => true,
            Role::Follower { leader: Some(leader) } => {
                self.connected(leader) && now < self.contact.saturating_add(self.config.election)
            }
            _ => false,
        }
    }

    /// Leads no more, and leaves it to the others to elect one of them. For a leader that cannot write while they can.
    pub fn resign(&mut self, now: Nanos, out: &mut Vec<Output>) {
        if self.is_leader() {
            self.step_down(now, out);
            self.election_at = self.election_at.saturating_add(2 * self.config.election);
        }
    }

    /// Becomes a follower without a leader.
    pub(super) fn step_down(&mut self, now: Nanos, out: &mut Vec<Output>) {
        let before = std::mem::replace(&mut self.role, Role::Follower { leader: None });
        self.new_timeout();
        self.election_at = now + self.timeout;
        match before {
            Role::Leader => {
                self.write_own(out);
                out.push(Output::Demoted { ballot: self.promised });
            }
            Role::Follower { leader: Some(_) } => out.push(Output::LeaderLost),
            _ => {}
        }
    }

    pub(super) fn on_nack(&mut self, now: Nanos, promised: Ballot, out: &mut Vec<Output>) {
        if !promised.is_sane() || promised <= self.promised {
            return;
        }
        self.seen_round = self.seen_round.max(promised.round());
        if self.is_leader() {
            // Whoever has that ballot may not be able to lead; this replica tries again above it.
            self.step_down(now, out);
            self.election_at = now + self.rng.up_to(OVERTAKEN_RETRY);
        }
    }
}
