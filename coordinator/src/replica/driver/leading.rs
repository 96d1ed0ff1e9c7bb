//! How leadership comes and goes: entry 0, the take-over, the demotion, and the entries of `--admission crane`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dmt::entry::{EntryHeader, EventKind, Genesis, Parameters};
use dmt::link::Link;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use super::{Driver, Effect, Moment, Phase, Rebuild};
use crate::log::Disk;
use crate::paxos::ReplicaId;
use crate::replica::crane::{SILENCE_NS, Situation};
use crate::replica::intake::event;

/// What entry 0 is made of, should this replica be the first leader.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Key of all randomness.
    pub secret: [u8; 32],
    /// Operations after which a thread passes the turn on.
    pub quantum: u32,
    /// CPU time without an operation after which a leader preempts, microseconds.
    pub spin_limit_us: u32,
    /// Of command, environment and cluster name.
    pub fingerprint: [u8; 16],
}

impl Origin {
    fn entry(&self, crane: bool, ballot: u64, clock: u64) -> Arc<[u8]> {
        let genesis = Genesis {
            secret: self.secret,
            parameters: Parameters {
                primaries: U32::new(1),
                steps: U32::new(1),
                quantum: U32::new(self.quantum),
                spin_limit_us: U32::new(self.spin_limit_us),
            },
            crane: U32::new(u32::from(crane)),
            reserved: U32::new(0),
            fingerprint: self.fingerprint,
        };
        let header = EntryHeader::genesis(clock, 0, ballot);
        [header.as_bytes(), genesis.as_bytes()].concat().into()
    }
}

impl<D: Disk> Driver<D> {
    /// Elected: first bring the server to the end of what is known.
    pub(super) fn became_leader(&mut self, wall: u64, ballot: u64, next: u64, effects: &mut Vec<Effect>) {
        tracing::info!("leads under ballot {}.{} from entry {next} on", ballot >> 8, ballot & 0xff);
        let mut next = next;
        if next == 0 {
            let genesis = self.origin.entry(self.crane.is_some(), ballot, wall);
            if let Err(error) = self.consensus.propose(0, genesis) {
                tracing::warn!("entry 0 was not proposed: {error}");
                return;
            }
            next = 1;
        }
        if !self.given.is_in_log(|index| self.consensus.recent(index)) {
            self.rebuild = Some(Rebuild::NotInLog);
        }
        self.replay.clear();
        self.phase = Phase::TakingOver { ballot, next };
        self.leader_changed(Some(self.id), effects);
    }

    /// Leads no more: clients go, the server follows again.
    pub(super) fn demoted(&mut self, link: Option<&mut Link>, effects: &mut Vec<Effect>) {
        tracing::info!("leads no more");
        if std::mem::take(&mut self.claimed) {
            self.must_rebuild(Rebuild::Checkpoint("the replica led and leads no more".to_owned()));
        }
        self.phase = Phase::Follower;
        self.replay.clear();
        self.stop_serving();
        effects.push(Effect::StopServing);
        if let Some(link) = link {
            link.follow();
            let tail = link.pending_tail();
            link.release_pending(tail);
        }
        self.leader_changed(None, effects);
    }

    pub(super) fn leader_changed(&mut self, leader: Option<ReplicaId>, effects: &mut Vec<Effect>) {
        let new_leader = self.leader != leader;
        self.leader = leader;
        effects.push(Effect::Role { new_leader });
    }

    /// The server has all entries: it may admit. Connections of earlier leaders end, then clients come in.
    pub(super) fn take_over(&mut self, ballot: u64, next: u64, link: &mut Link, effects: &mut Vec<Effect>) {
        link.prepare_lead();
        let alive: Vec<_> = self.given.alive().collect();
        let outbound = self.outbound.clone();
        if let Some((intake, _)) = self.intake(Some(link)) {
            // First of all, and so in entry `next`: what the server asks for from there on is this leader's to do.
            intake.put(&event(EventKind::Outbound, 0, 0, ballot, outbound.len()), &outbound);
            for (connection, sequence) in alive {
                // At most MAX_CONNECTIONS heads: they fit the empty ring.
                intake.put(&event(EventKind::PeerReset, connection, sequence, 0, 0), &[]);
            }
        }
        if self.crane.is_some() {
            link.lead_crane();
        } else {
            link.lead(next, ballot);
        }
        self.leads_from = next;
        effects.push(Effect::Serve { ballot });
        self.phase = Phase::Leading { ballot };
        self.wake = true;
        effects.push(Effect::Role { new_leader: false });
    }

    /// Makes an entry if one is due under `--admission crane`.
    pub fn run_crane(&mut self, moment: Moment, link: Option<&Link>) {
        let Phase::Leading { ballot } = self.phase else { return };
        let situation = self.situation(link);
        let Some(crane) = &mut self.crane else { return };
        let grant = crane.due(moment.now, situation);
        if grant.is_none() && !crane.has_point() {
            return;
        }
        if !self.consensus.paxos().takes_proposals() {
            // Either the leadership ended in this very turn, and the demotion that follows ends the clients: the server has
            // run decided entries only and stays as it is. Or too much waits for a majority, and so do the inputs.
            return;
        }
        let index = self.consensus.paxos().len();
        let wall = link.map_or(moment.wall, |link| link.control().leader_time(moment.wall));
        let value = crane
            .next_point(index, ballot, wall)
            .unwrap_or_else(|| crane.build(moment.now, index, ballot, wall, grant.unwrap_or_default()));
        if let Err(error) = self.consensus.propose(index, value) {
            tracing::warn!("an entry was not proposed: {error}");
            self.rebuild = Some(Rebuild::NotProposed(index, error));
        }
    }

    /// When [`Driver::run_crane`] is due, if it ever is.
    pub fn crane_deadline(&self, now: u64, link: Option<&Link>) -> Option<u64> {
        let crane = self.crane.as_ref().filter(|_| self.serves())?;
        Some(crane.deadline(self.situation(link)).unwrap_or(now + SILENCE_NS))
    }

    fn situation(&self, link: Option<&Link>) -> Situation {
        let paxos = self.consensus.paxos();
        let Some(link) = link else { return Situation { settled: false, quiescent: true } };
        let control = link.control();
        let settled =
            paxos.commit() == paxos.len() && control.applied.load(Ordering::SeqCst) >= self.given.next();
        Situation {
            settled: settled && self.given.next() == paxos.len(),
            quiescent: control.runnable.load(Ordering::SeqCst) == 0,
        }
    }
}
