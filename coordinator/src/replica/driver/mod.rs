//! What a replica decides, without input or output: who leads, what the server is fed, when it may admit, what may leave,
//! and when its state is worthless.
//!
//! The loop of [`super::run()`] puts sockets, processes and clocks around it, the cluster simulator puts simulated ones: both
//! run these same lines. A [`Driver`] is given inputs by its [`Consensus`] and by the server's [`Link`]; whatever has to
//! happen outside comes back as an [`Effect`] or as [`News`].

mod feeding;
mod leading;
mod rebuild;
mod upcalls;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dmt::bounds::POOL_HIGH_WATER_BLOCKS;
use dmt::entry::OutboundHead;
use dmt::link::Link;
use zerocopy::IntoBytes;

pub use leading::Origin;
pub use rebuild::Rebuild;
pub use upcalls::News;

use super::consensus::{Consensus, Happening};
use super::crane::Crane;
use super::divergences::Divergences;
use super::entries::Given;
use super::intake::Intake;
use super::outputs::Outputs;
use super::pace::Pace;
use crate::log::{Directory, Disk, LogError};
use crate::paxos::{Message, ReplicaId};

/// Where this replica stands between follower and leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Feeds decided entries to its server.
    Follower,
    /// Was elected; feeds all entries below `next` to its server, decided or not.
    TakingOver {
        /// The leadership.
        ballot: u64,
        /// First index that it may admit itself.
        next: u64,
    },
    /// Its server admits, its clients are served.
    Leading {
        /// The leadership.
        ballot: u64,
    },
}

/// A point in time, taken once a turn.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Of the monotonic clock, nanoseconds.
    pub now: u64,
    /// Of the real time, nanoseconds since the Unix epoch.
    pub wall: u64,
}

/// What has to happen outside, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Send to a peer.
    Send {
        /// The peer.
        to: ReplicaId,
        /// The message.
        message: Message,
    },
    /// Output of this connection may be written to its client.
    Released(u64),
    /// The server wants this connection to another host.
    Dial {
        /// The connection.
        connection: u64,
        /// The host.
        to: SocketAddr,
    },
    /// Datagrams may leave ([`Outputs::take_datagrams`]).
    Datagrams,
    /// All client connections end, without a word to the server.
    StopServing,
    /// Clients may come.
    Serve {
        /// Under this leadership.
        ballot: u64,
    },
    /// The leader's log begins at this entry, and the own one ends before: a checkpoint of a peer is needed.
    Behind(u64),
    /// The phase or the leader changed.
    Role {
        /// The leader is another one, or unknown now.
        new_leader: bool,
    },
}

/// What is to be done after [`Driver::act`] and its effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Call it again.
    Again,
    /// What was written must be made durable ([`Driver::make_durable`]); then call it again.
    Sync,
    /// Nothing.
    Rest,
}

/// See the module.
#[derive(Debug)]
pub struct Driver<D: Disk = Directory> {
    id: ReplicaId,
    origin: Origin,
    /// Paxos and the log. Messages and time go straight in; [`Driver::act`] does what follows.
    pub consensus: Consensus<D>,
    phase: Phase,
    leader: Option<ReplicaId>,
    given: Given,
    /// Entries read from the log and not yet taken by the server, the first at `given.next()`.
    replay: VecDeque<Arc<[u8]>>,
    /// The entry in whose bubble the server is, as far as upcalls were read.
    current_entry: u64,
    outputs: Outputs,
    crane: Option<Crane>,
    /// Payload of the `Outbound` event with which its leaderships begin: what the server may reach.
    pub outbound: Arc<[u8]>,
    /// First entry of its leadership.
    leads_from: u64,
    /// The server is given no entries: a checkpoint of it is being taken.
    held: bool,
    /// The next entry of a server that leads is ours to make, see [`Link::claim_offer`].
    claimed: bool,
    /// The server's state is worthless, and why.
    rebuild: Option<Rebuild>,
    divergences: Divergences,
    /// The server must be told of changes.
    wake: bool,
    /// The pending ring's tail when the server was last told.
    told_tail: u64,
    /// Entries that a follower's server was not woken for.
    pace: Pace,
    happenings: VecDeque<Happening>,
    changed: Vec<u64>,
    /// Entries decided since the start.
    pub entries: u64,
    /// Of these, those without any event: pure bubbles.
    pub bubbles: u64,
}

impl<D: Disk> Driver<D> {
    /// A replica that starts with what `consensus` recovered. `crane`: see [`super::crane`].
    pub fn new(id: ReplicaId, consensus: Consensus<D>, origin: Origin, crane: bool) -> Self {
        Self {
            id,
            origin,
            consensus,
            phase: Phase::Follower,
            leader: None,
            given: Given::default(),
            replay: VecDeque::new(),
            current_entry: 0,
            outputs: Outputs::default(),
            crane: crane.then(Crane::default),
            outbound: OutboundHead::default().as_bytes().into(),
            leads_from: 0,
            held: false,
            claimed: false,
            rebuild: None,
            divergences: Divergences::default(),
            wake: false,
            told_tail: 0,
            pace: Pace::default(),
            happenings: VecDeque::new(),
            changed: Vec::new(),
            entries: 0,
            bubbles: 0,
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// True if clients are served here.
    pub fn serves(&self) -> bool {
        matches!(self.phase, Phase::Leading { .. })
    }

    /// The leader, if one is known.
    pub fn leader(&self) -> Option<ReplicaId> {
        self.leader
    }

    /// True if this replica leads, or is about to.
    pub fn leads(&self) -> bool {
        self.leader == Some(self.id)
    }

    /// Another replica that leads.
    pub fn other_leader(&self) -> Option<ReplicaId> {
        self.leader.filter(|id| *id != self.id)
    }

    /// Entries that the server was given.
    pub fn given(&self) -> u64 {
        self.given.next()
    }

    /// Decided entries that the server has not applied.
    pub fn lag(&self, link: Option<&Link>) -> u64 {
        let applied = link.map_or(0, |link| link.control().applied.load(Ordering::Relaxed));
        self.consensus.paxos().commit().saturating_sub(applied)
    }

    /// Where inputs and outputs of clients go; `None` while there is no server.
    pub fn intake<'a>(
        &'a mut self,
        link: Option<&'a mut Link>,
    ) -> Option<(&'a mut dyn Intake, &'a mut Outputs)> {
        let intake: &mut dyn Intake = match &mut self.crane {
            Some(crane) => crane,
            None => link?,
        };
        Some((intake, &mut self.outputs))
    }

    /// True, once, if the server must be told of changes, new inputs among them.
    pub fn take_wake(&mut self, now: u64, link: &Link) -> bool {
        let inputs = self.has_news(link);
        self.told_tail = link.pending_tail();
        let wakes = std::mem::take(&mut self.wake) || inputs || self.pace.is_due(now);
        if wakes {
            self.pace.woken(now);
        }
        wakes
    }

    /// When [`Driver::take_wake`] must be asked again although nothing happened.
    pub fn wake_deadline(&self) -> Option<u64> {
        self.pace.deadline()
    }

    /// True if there are inputs that the server was not told of.
    fn has_news(&self, link: &Link) -> bool {
        link.pending_tail() != self.told_tail
    }

    /// True while no client may be read: nothing could be acknowledged, the server holds too much unread input, or is to come to rest.
    pub fn pauses_clients(&self, link: Option<&Link>) -> bool {
        let used = link.map(|link| link.control().pool_used.load(Ordering::Relaxed));
        self.held || self.consensus.disk_full() || used.is_none_or(|used| used > POOL_HIGH_WATER_BLOCKS)
    }

    /// Does what consensus wants, up to what must be durable first. What has to happen outside is appended to `effects`.
    pub fn act(
        &mut self,
        moment: Moment,
        mut link: Option<&mut Link>,
        effects: &mut Vec<Effect>,
    ) -> Result<Next, LogError> {
        loop {
            self.consensus.collect(moment.now, &mut self.happenings)?;
            let quiet = self.happenings.is_empty();
            while let Some(happening) = self.happenings.pop_front() {
                if matches!(happening, Happening::Demoted) && !effects.is_empty() {
                    // What was released goes out before the connections end.
                    self.happenings.push_front(happening);
                    return Ok(Next::Again);
                }
                self.happen(moment, happening, link.as_deref_mut(), effects)?;
            }
            self.feed(link.as_deref_mut(), effects)?;
            if self.consensus.needs_durability() {
                return Ok(Next::Sync);
            }
            if quiet && !self.consensus.has_outputs() {
                return Ok(Next::Rest);
            }
        }
    }

    /// Waits until what was appended to the log is as durable as was configured.
    pub fn make_durable(&mut self, now: u64) -> Result<(), LogError> {
        self.consensus.make_durable(now)
    }

    fn happen(
        &mut self,
        moment: Moment,
        happening: Happening,
        link: Option<&mut Link>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LogError> {
        match happening {
            Happening::Send { to, message } => effects.push(Effect::Send { to, message }),
            Happening::Committed { from, to } => self.committed(from, to, link, effects)?,
            Happening::BecameLeader { ballot, next } => {
                self.became_leader(moment.wall, ballot.0, next, effects);
            }
            Happening::Demoted => self.demoted(link, effects),
            Happening::Following(leader) => self.leader_changed(Some(leader), effects),
            Happening::LeaderLost => self.leader_changed(None, effects),
            Happening::Behind(first) => effects.push(Effect::Behind(first)),
        }
        Ok(())
    }

    /// Why the server must be ended and started from nothing, if it must. Until [`Driver::server_ended`] it is fed nothing,
    /// and nothing of it leaves.
    pub fn take_rebuild(&mut self) -> Option<Rebuild> {
        self.rebuild.take()
    }

    /// True while the server's state is worthless or must not grow.
    pub fn is_fenced(&self) -> bool {
        self.rebuild.is_some() || self.divergences.fenced()
    }

    /// The server is gone: the next one starts from nothing. The caller closes all clients.
    pub fn server_ended(&mut self) {
        self.stop_serving();
        self.claimed = false;
        self.pace = Pace::default();
        self.given = Given::default();
        self.replay.clear();
        self.current_entry = 0;
        if let Phase::Leading { ballot } | Phase::TakingOver { ballot, .. } = self.phase {
            self.phase = Phase::TakingOver { ballot, next: self.consensus.paxos().len() };
        }
    }

    /// The server that is to be fed was restored from a checkpoint at which it had applied all entries before `next`, and had
    /// these connections.
    pub fn server_restored(&mut self, next: u64, connections: &[(u64, u64)]) {
        self.given = Given::restored(next, connections);
        self.current_entry = next.saturating_sub(1);
        self.replay.clear();
    }

    /// The connections of its server, with the sequence number of each one's next event.
    pub fn connections(&self) -> Vec<(u64, u64)> {
        self.given.alive().collect()
    }

    /// From now on the server is given nothing, or again what there is.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
        self.wake = true;
    }

    /// True if the server, which is held, has come to rest: it has applied all that it was given, and does nothing until it is held
    /// no more. One that leads has nothing to do any more, and its last entry is decided.
    pub fn rests(&mut self, link: &Link) -> bool {
        match self.phase {
            Phase::Follower => self.given.next() > 0 && link.is_parked(self.given.next()),
            Phase::Leading { .. } => {
                let decided = self.consensus.paxos().commit() == self.given.next();
                self.claimed = self.claimed || (decided && link.claim_offer(self.given.next()));
                self.claimed
            }
            Phase::TakingOver { .. } => false,
        }
    }

    /// True if the coordinator makes the entries, and not the server.
    pub fn is_crane(&self) -> bool {
        self.crane.is_some()
    }

    /// The server must be started anew for a reason that is not of the log.
    pub fn must_rebuild(&mut self, why: Rebuild) {
        self.rebuild.get_or_insert(why);
    }

    /// A new server waits for its entries.
    pub fn server_started(&mut self, link: &Link) {
        link.set_committed(self.consensus.paxos().commit());
        self.told_tail = link.pending_tail();
        self.wake = true;
    }

    /// The server did something else than the leader's in the bubble of `entry`: it is rebuilt, or, if that helps no more,
    /// fenced. True if it was fenced by this.
    pub fn diverged(&mut self, entry: u64) -> bool {
        let before = self.divergences.fenced();
        if self.divergences.add(entry) {
            return !before;
        }
        self.rebuild = Some(Rebuild::Diverged(entry));
        false
    }

    /// The server did the same as the leader's in all bubbles before that of entry `until`.
    pub fn agreed(&mut self, until: u64) {
        self.divergences.agreed(until);
    }

    fn stop_serving(&mut self) {
        self.outputs.clear();
        if let Some(crane) = &mut self.crane {
            crane.reset();
        }
    }
}
