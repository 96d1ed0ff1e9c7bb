//! The clients' side of a replica's loop: who is accepted, who is relayed to the leader, and what goes to the server.

use dmt::entry::ConnectInfo;

use super::clients::Clients;
use super::intake::Intake;
use super::outputs::Outputs;
use super::poll::{Poll, Ready};
use super::ports::ACCEPTS_PER_TURN;
use super::run::Replica;

impl Replica {
    /// Connections that hold a descriptor.
    pub(super) fn open_connections(&self) -> usize {
        self.clients.count() + self.clients.outbound_count() + 2 * self.relay.count()
    }

    fn accept(&mut self, token: u64) -> Option<std::net::TcpStream> {
        let (now, open) = (self.now(), self.open_connections());
        self.ports.accept(&self.poll, token, now, open)
    }

    /// Takes clients that wait at a published port, or relays them to the leader.
    pub(super) fn accept_clients(&mut self, token: u64) {
        for _ in 0..ACCEPTS_PER_TURN {
            if self.driver.serves() {
                let listener = self.ports.listener(token, &self.status.listeners);
                let Some(listener) = listener.map(|listener| (listener.id, listener.port)) else { return };
                if !self.intake().is_some_and(|(intake, ..)| intake.has_room(size_of::<ConnectInfo>())) {
                    return;
                }
                let Some(socket) = self.accept(token) else { return };
                let Some((intake, clients, outputs, poll)) = self.intake() else { return };
                clients.open(poll, intake, outputs, socket, listener);
            } else {
                let leader = self.driver.other_leader();
                let Some(address) = leader.and_then(|id| self.ports.address_of(token, id)) else { return };
                let Some(socket) = self.accept(token) else { return };
                self.relay.open(&self.poll, socket, address);
            }
        }
    }

    /// Where inputs go, and what else the client side works on; `None` while there is no server.
    pub(super) fn intake(&mut self) -> Option<(&mut dyn Intake, &mut Clients, &mut Outputs, &Poll)> {
        let link = self.server.as_mut().map(|server| &mut server.link);
        let (intake, outputs) = self.driver.intake(link)?;
        Some((intake, &mut self.clients, outputs, &self.poll))
    }

    /// True while no client may be read.
    fn paused(&self) -> bool {
        self.driver.pauses_clients(self.server.as_ref().map(|server| &server.link))
    }

    /// Something happened to a client's connection.
    pub(super) fn client_ready(&mut self, number: u64, event: Ready) {
        let paused = self.paused();
        if let Some((intake, clients, outputs, poll)) = self.intake() {
            clients.ready(poll, intake, outputs, number, event, paused);
        }
    }

    /// Something happened to a socket for datagrams.
    pub(super) fn datagrams_ready(&mut self, number: u64) {
        let paused = self.paused();
        let link = self.server.as_mut().map(|server| &mut server.link);
        if let Some((intake, _)) = self.driver.intake(link) {
            self.datagrams.ready(&self.poll, intake, number, paused);
        }
    }

    /// Goes on where there was no room for inputs.
    pub(super) fn resume_clients(&mut self) {
        if self.datagrams.waits_for_room() {
            let paused = self.paused();
            let link = self.server.as_mut().map(|server| &mut server.link);
            if let Some((intake, _)) = self.driver.intake(link) {
                self.datagrams.resume(&self.poll, intake, paused);
            }
        }
        if self.clients.waits_for_room() {
            let paused = self.paused();
            if let Some((intake, clients, outputs, poll)) = self.intake() {
                clients.resume(poll, intake, outputs, paused);
            }
        }
    }
}
