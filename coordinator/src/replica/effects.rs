//! What the driver decided is done to sockets and processes.
#![expect(clippy::disallowed_methods, reason = "the loop reads the clocks for the driver")]

use super::driver::{Effect, Moment, Next, Phase};
use super::error::ReplicaError;
use super::peers::start_connect;
use super::run::Replica;
use super::status::DigestState;
use crate::clock::wall_clock;
use dmt::entry::Entry;

impl Replica {
    /// Refuses a log whose entry 0 was made for something else.
    pub(super) fn check_genesis(&self) -> Result<(), ReplicaError> {
        let directory = || self.log_directory.display().to_string();
        let consensus = &self.driver.consensus;
        if consensus.paxos().first() > 0 {
            // Entry 0 is cut off. That the log is of this cluster its files say.
            return Ok(());
        }
        let Some(value) = consensus.read(0, 1.min(consensus.paxos().len()), 1)?.into_iter().next() else {
            return Ok(());
        };
        let entry = Entry::parse(&value).map_err(|_| ReplicaError::NoGenesis { directory: directory() })?;
        match entry.genesis() {
            Some(genesis) if genesis.fingerprint == self.cluster_fingerprint => Ok(()),
            Some(_) => Err(ReplicaError::OtherCommand { directory: directory() }),
            None => Err(ReplicaError::NoGenesis { directory: directory() }),
        }
    }

    /// Does what consensus wants until nothing is left to do.
    pub(super) fn settle(&mut self, now: u64) -> Result<(), ReplicaError> {
        let moment = Moment { now, wall: wall_clock() };
        let mut effects = std::mem::take(&mut self.effects);
        loop {
            let link = self.server.as_mut().map(|server| &mut server.link);
            let next = self.driver.act(moment, link, &mut effects)?;
            effects.drain(..).for_each(|effect| self.perform(effect));
            match next {
                Next::Again => {}
                Next::Sync => {
                    if self.durability == super::config::Durability::Disk {
                        // What peers have to do needs no waiting for the own disk.
                        self.peers.flush(&self.poll, &mut Vec::new());
                    }
                    self.driver.make_durable(now)?;
                }
                Next::Rest => break,
            }
        }
        self.effects = effects;
        Ok(())
    }

    /// Does one thing that the driver wants done.
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.peers.send(to, &message),
            Effect::Released(connection) => self.released.push(connection),
            Effect::Dial { connection, to } => {
                tracing::info!("connects to {to} for the server");
                let socket = start_connect(to);
                if let Some((intake, clients, outputs, poll)) = self.intake() {
                    clients.dialled(poll, intake, outputs, connection, socket);
                }
            }
            Effect::Datagrams => {
                let link = self.server.as_mut().map(|server| &mut server.link);
                if let Some((_, outputs)) = self.driver.intake(link) {
                    outputs.take_datagrams().for_each(|datagram| self.datagrams.send(&self.poll, &datagram));
                }
            }
            Effect::StopServing => {
                self.clients.close_all();
                self.datagrams.end(&self.poll);
            }
            Effect::Serve { ballot } => {
                // A leader is what the others are compared with; a server of it that diverged is none any more.
                if matches!(self.status.digests, DigestState::Diverged { .. }) {
                    self.status.digests = DigestState::Unknown;
                }
                self.clients.begin(ballot);
                self.datagrams.begin(&self.poll, ballot);
            }
            Effect::Behind(first) => self.behind = Some(first),
            Effect::Role { new_leader } => {
                if new_leader {
                    self.relay.close_all();
                    self.report.clear();
                }
                self.watch_ports();
                self.status_at = 0;
            }
        }
    }

    /// Writes to clients what was released since the last time. The loop does this last in each turn, when the server and the
    /// peers have what they need to go on: each write takes as long as all else that is done for a request.
    pub(super) fn send_released(&mut self) {
        let mut released = std::mem::take(&mut self.released);
        if let Some((intake, clients, outputs, poll)) = self.intake() {
            released.iter().for_each(|&connection| clients.released(poll, intake, outputs, connection));
        }
        released.clear();
        self.released = released;
    }

    /// Accepts from the sockets for which it is time.
    pub(super) fn watch_ports(&mut self) {
        let leading = self.driver.serves();
        let listeners = &self.status.listeners;
        let serve = |port: u16| leading && listeners.iter().any(|l| l.port == port && !l.udp);
        let relay = self.driver.phase() == Phase::Follower && self.driver.other_leader().is_some();
        self.ports.watch(&self.poll, serve, relay);
    }
}
