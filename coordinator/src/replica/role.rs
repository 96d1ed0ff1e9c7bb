//! Changes of role, what is decided, and what the server is fed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dmt::bounds::{LAYOUT_VERSION, MAX_SPECULATION_ENTRIES};
use dmt::entry::{Entry, EntryHeader, EntryKind, EventKind, Genesis, Parameters};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::entries::is_bubble;
use super::error::ReplicaError;
use super::intake::event;
use super::run::{Phase, Replica, wall_clock};

/// Entries read ahead of the server during a replay.
const REPLAY_ENTRIES: u64 = 1024;
/// Bytes read ahead of the server during a replay.
const REPLAY_BYTES: usize = 1 << 20;

impl Replica {
    /// Refuses a log whose entry 0 was made for something else.
    pub(super) fn check_genesis(&self) -> Result<(), ReplicaError> {
        let directory = || self.log_directory.display().to_string();
        let Some(value) = self.consensus.read(0, 1.min(self.consensus.paxos().len()), 1)?.into_iter().next()
        else {
            return Ok(());
        };
        let entry = Entry::parse(&value).map_err(|_| ReplicaError::NoGenesis { directory: directory() })?;
        match entry.genesis() {
            Some(genesis) if genesis.fingerprint == self.cluster_fingerprint => Ok(()),
            Some(_) => Err(ReplicaError::OtherCommand { directory: directory() }),
            None => Err(ReplicaError::NoGenesis { directory: directory() }),
        }
    }

    fn genesis(&self, ballot: u64) -> Result<Arc<[u8]>, ReplicaError> {
        let mut secret = [0; 32];
        // SAFETY: the buffer has as many bytes as the call is told.
        let count = unsafe { libc::getrandom(secret.as_mut_ptr().cast(), secret.len(), 0) };
        if count != secret.len() as isize {
            return Err(ReplicaError::system("get randomness")(std::io::Error::last_os_error()));
        }
        let genesis = Genesis {
            secret,
            parameters: Parameters {
                primaries: U32::new(1),
                steps: U32::new(1),
                quantum: U32::new(self.parameters.0),
                spin_limit_us: U32::new(self.parameters.1),
            },
            crane: U32::new(u32::from(self.crane.is_some())),
            reserved: U32::new(0),
            fingerprint: self.cluster_fingerprint,
        };
        let header = EntryHeader {
            version: U32::new(LAYOUT_VERSION),
            kind: U16::new(EntryKind::Genesis as u16),
            reserved: U16::new(0),
            index: U64::new(0),
            stamp: U64::new(0),
            clock: U64::new(wall_clock()),
            grant: U64::new(dmt::bounds::MIN_GRANT_TICKS),
            ballot: U64::new(ballot),
            event_count: U32::new(0),
            events_len: U32::new(size_of::<Genesis>() as u32),
        };
        Ok([header.as_bytes(), genesis.as_bytes()].concat().into())
    }

    /// Elected: first bring the server to the end of what is known.
    pub(super) fn became_leader(&mut self, ballot: u64, next: u64) -> Result<(), ReplicaError> {
        tracing::info!("leads under ballot {}.{} from entry {next} on", ballot >> 8, ballot & 0xff);
        let mut next = next;
        if next == 0 {
            let genesis = self.genesis(ballot)?;
            if let Err(error) = self.consensus.propose(0, genesis) {
                tracing::warn!("entry 0 was not proposed: {error}");
                return Ok(());
            }
            next = 1;
        }
        if !self.given.is_in_log(|index| self.consensus.recent(index)) {
            self.rebuild = Some("it ran entries that are not in the log under which it leads".to_owned());
        }
        self.replay.clear();
        self.phase = Phase::TakingOver { ballot, next };
        self.leader_changed(Some(self.id));
        Ok(())
    }

    /// Leads no more: clients go, the server follows again.
    pub(super) fn demoted(&mut self) {
        tracing::info!("leads no more");
        self.phase = Phase::Follower;
        self.replay.clear();
        self.stop_serving();
        if let Some(server) = &mut self.server {
            server.link.follow();
            let tail = server.link.pending_tail();
            server.link.release_pending(tail);
        }
        self.leader_changed(None);
    }

    pub(super) fn stop_serving(&mut self) {
        self.clients.close_all();
        self.outputs.clear();
        if let Some(crane) = &mut self.crane {
            crane.clear();
        }
    }

    pub(super) fn leader_changed(&mut self, leader: Option<u8>) {
        if self.leader != leader {
            self.leader = leader;
            self.relay.close_all();
            self.report.clear();
        }
        self.watch_ports();
        self.status_at = 0;
    }

    /// Entries `from..to` are decided.
    pub(super) fn committed(&mut self, from: u64, to: u64) -> Result<(), ReplicaError> {
        for index in from..to {
            let value = self.consensus.recent(index).cloned();
            self.status.bubbles += u64::from(value.as_ref().is_some_and(|value| is_bubble(value)));
            if self.given.waits_for(index) {
                let value = match value {
                    Some(value) => Some(value),
                    None => self.consensus.read(index, index + 1, 1)?.into_iter().next(),
                };
                if let Err(tainted) = self.given.decide(index, value.as_ref()) {
                    self.rebuild =
                        Some(format!("another entry {} was decided than the one it ran", tainted.index));
                }
            }
        }
        self.status.entries += to - from;
        if let Some(server) = &self.server {
            let applied = server.link.control().applied.load(Ordering::Relaxed);
            self.wake |= applied.saturating_sub(from) > MAX_SPECULATION_ENTRIES / 2;
            server.link.set_committed(to);
        }
        if self.rebuild.is_some() {
            // What this server wrote may come from entries that were never decided.
            return Ok(());
        }
        let mut changed = Vec::new();
        self.outputs.release(to, |connection| changed.push(connection));
        self.write_released(changed);
        Ok(())
    }

    /// Writes outputs of these connections that were released.
    pub(super) fn write_released(&mut self, mut changed: Vec<u64>) {
        changed.sort_unstable();
        changed.dedup();
        for connection in changed {
            if let Some((intake, clients, outputs, poll)) = self.intake() {
                clients.released(poll, intake, outputs, connection);
            }
        }
    }

    /// Gives the server the entries that it may have, as far as there is room, and finishes a take-over.
    pub(super) fn feed(&mut self) -> Result<(), ReplicaError> {
        let committed = self.consensus.paxos().commit();
        let limit = match self.phase {
            _ if self.fenced || self.rebuild.is_some() => return Ok(()),
            Phase::Follower => committed,
            Phase::TakingOver { next, .. } if self.crane.is_some() => committed.min(next),
            Phase::TakingOver { next, .. } => next,
            Phase::Leading { .. } if self.crane.is_some() => committed,
            Phase::Leading { .. } => return Ok(()),
        };
        while self.given.next() < limit {
            if self.replay.is_empty() {
                let from = self.given.next();
                self.replay =
                    self.consensus.read(from, limit.min(from + REPLAY_ENTRIES), REPLAY_BYTES)?.into();
            }
            let (Some(value), Some(server)) = (self.replay.front(), &mut self.server) else { return Ok(()) };
            if !server.link.push_entry(value) {
                return Ok(());
            }
            self.given.give(value, self.given.next() < committed);
            self.replay.pop_front();
            self.wake = true;
        }
        if let Phase::TakingOver { ballot, next } = self.phase {
            // Until the leadership is established, an entry of an earlier leader may still be decided that cuts the bubble
            // which this server would run through.
            if self.given.next() >= next && self.consensus.paxos().is_established() {
                self.take_over(ballot, next);
            }
        }
        Ok(())
    }

    /// The server has all entries: it may admit. Connections of earlier leaders end, then clients come in.
    fn take_over(&mut self, ballot: u64, next: u64) {
        let Some(server) = &mut self.server else { return };
        if self.crane.is_some() {
            server.link.lead_crane();
        } else {
            server.link.lead(next, ballot);
        }
        let alive: Vec<_> = self.given.alive().collect();
        if let Some((intake, clients, _, _)) = self.intake() {
            for (connection, sequence) in alive {
                // At most MAX_CONNECTIONS heads: they fit the empty ring.
                intake.put(&event(EventKind::PeerReset, connection, sequence, 0, 0), &[]);
            }
            clients.begin(ballot);
        }
        self.phase = Phase::Leading { ballot };
        self.wake = true;
        self.watch_ports();
        self.status_at = 0;
    }
}
