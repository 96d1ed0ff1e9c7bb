//! The client side of a simulated replica: mail becomes what sockets hold, and the coordinator's own client code does the
//! rest.

use std::net::SocketAddr;

use coordinator::replica::clients::NUMBER_BITS;
use coordinator::replica::intake::Intake;
use coordinator::replica::poll::{Ready, Token};
use dmt::entry::{ConnectInfo, EventHeader};

use super::mail::{Around, Mail, Reply, Sent};
use super::plan::Broken;
use super::replica::Replica;
use super::socket::{ABROAD, Wire, connect};
use super::toy::{DATAGRAM_PORT, PORT};

/// The broken rule "an event is applied twice".
struct Repeating<'a>(&'a mut dyn Intake);

impl Intake for Repeating<'_> {
    fn has_room(&self, payload: usize) -> bool {
        self.0.has_room(2 * payload + 1024)
    }

    fn put(&mut self, header: &EventHeader, payload: &[u8]) -> bool {
        let taken = self.0.put(header, payload);
        if taken && !payload.is_empty() {
            self.0.put(header, payload);
        }
        taken
    }
}

impl Replica {
    /// Clients that are connected: their numbers and attempts.
    pub fn clients(&self) -> impl Iterator<Item = (usize, u64)> {
        let all = self.wires.iter().map(|wire| {
            let wire = wire.borrow();
            (wire.client, wire.attempt)
        });
        all.filter(|(client, _)| *client != ABROAD)
    }

    /// Something of a client arrived.
    pub(super) fn hear_client(&mut self, mail: Mail, around: &mut Around<'_>) {
        let find = |client, attempt| {
            let same = |wire: &Wire| wire.client == client && wire.attempt == attempt;
            self.wires.iter().find(|wire| same(&wire.borrow())).map(|wire| wire.borrow_mut())
        };
        match mail {
            Mail::Connect(client, attempt) => self.accept(client, attempt, around),
            Mail::Bytes(client, attempt, bytes) => {
                if let Some(mut wire) = find(client, attempt) {
                    wire.input.extend(bytes);
                }
            }
            Mail::Taken(client, attempt, bytes) => {
                if let Some(mut wire) = find(client, attempt) {
                    wire.room += bytes;
                }
            }
            Mail::Fin(client, attempt) => {
                if let Some(mut wire) = find(client, attempt) {
                    wire.fin = true;
                }
            }
            Mail::Reset(client, attempt) => {
                if let Some(mut wire) = find(client, attempt) {
                    wire.reset = true;
                }
            }
            Mail::Datagram(id) => self.take_datagram(id),
            Mail::Frame(..) | Mail::PeerUp(_) | Mail::PeerDown(_) => {}
        }
    }

    /// A datagram came to the published port, of which only a leader reads.
    fn take_datagram(&mut self, id: u64) {
        let link = self.server.as_mut().map(|server| &mut server.link);
        let (true, Some((intake, _))) = (self.driver.serves(), self.driver.intake(link)) else { return };
        let address = |last, port| SocketAddr::from(([192, 0, 2, last], port));
        // Without room it is lost.
        self.stream.put(intake, address(9, 4000), address(1, DATAGRAM_PORT), &id.to_le_bytes());
    }

    /// The server wants a connection to another host.
    pub(super) fn dial(&mut self, connection: u64, around: &mut Around<'_>) {
        let link = self.server.as_mut().map(|server| &mut server.link);
        let Some((intake, outputs)) = self.driver.intake(link) else { return };
        let (socket, wire) = connect(ABROAD, connection, around.plan.socket_bytes);
        wire.borrow_mut().connection = connection;
        self.clients.dialled(&(), intake, outputs, connection, Ok(socket));
        self.wires.push(wire);
    }

    /// Datagrams of the server leave.
    pub(super) fn send_datagrams(&mut self, around: &mut Around<'_>) {
        let link = self.server.as_mut().map(|server| &mut server.link);
        let Some((_, outputs)) = self.driver.intake(link) else { return };
        for datagram in outputs.take_datagrams() {
            let id = u64::from_le_bytes(datagram.bytes[..8].try_into().expect("an id"));
            self.tap.answered(self.id, id, around.checker);
            around.sent.push(Sent::Answer(id));
        }
    }

    fn accept(&mut self, client: usize, attempt: u64, around: &mut Around<'_>) {
        let refuse = |around: &mut Around<'_>| around.sent.push(Sent::Client(client, attempt, Reply::Reset));
        let link = self.server.as_mut().map(|server| &mut server.link);
        let (true, Some(listener)) = (self.driver.serves(), self.tap.listener) else { return refuse(around) };
        let Some((intake, outputs)) = self.driver.intake(link) else { return refuse(around) };
        if !intake.has_room(size_of::<ConnectInfo>()) {
            return refuse(around);
        }
        let (socket, wire) = connect(client, attempt, around.plan.socket_bytes);
        self.clients.open(&(), intake, outputs, socket, (listener, PORT));
        let number = wire.borrow().number;
        wire.borrow_mut().connection = self.ballot << NUMBER_BITS | number;
        self.wires.push(wire);
        around.sent.push(Sent::Client(client, attempt, Reply::Accepted));
    }

    /// Lets the coordinator's client code look at every socket that is ready.
    pub(super) fn serve_clients(&mut self, around: &mut Around<'_>) {
        let paused = self.driver.pauses_clients(self.server.as_ref().map(|server| &server.link));
        let link = self.server.as_mut().map(|server| &mut server.link);
        let Some((intake, outputs)) = self.driver.intake(link) else { return };
        let twice = around.plan.broken == Some(Broken::ApplyTwice) && around.rng.percent(5);
        let mut repeating;
        let intake: &mut dyn Intake = if twice {
            repeating = Repeating(intake);
            &mut repeating
        } else {
            intake
        };
        for wire in &self.wires {
            let (number, flags, closed) = {
                let wire = wire.borrow();
                (wire.number, wire.ready(), wire.closed)
            };
            if !flags.is_empty() && !closed {
                let ready = Ready { token: Token::Client(number), flags };
                self.clients.ready(&(), intake, outputs, number, ready, paused);
            }
        }
        if self.clients.waits_for_room() {
            self.clients.resume(&(), intake, outputs, paused);
        }
    }

    /// Outputs of `connection` were released.
    pub(super) fn released(&mut self, connection: u64) {
        let link = self.server.as_mut().map(|server| &mut server.link);
        if let Some((intake, outputs)) = self.driver.intake(link) {
            self.clients.released(&(), intake, outputs, connection);
        }
    }

    /// True if a socket has something to do at once: epoll is level-triggered.
    pub fn has_ready_socket(&self) -> bool {
        let ready = |wire: &Wire| !wire.closed && !wire.ready().is_empty();
        self.wires.iter().any(|wire| ready(&wire.borrow()))
    }

    /// What the coordinator wrote to its sockets is on its way.
    pub(super) fn send_to_clients(&mut self, around: &mut Around<'_>) {
        let wires = std::mem::take(&mut self.wires);
        for wire in &wires {
            let mut wire = wire.borrow_mut();
            let bytes = std::mem::take(&mut wire.output);
            if !bytes.is_empty() {
                let (from, connection) = (wire.sent, wire.connection);
                wire.sent += bytes.len() as u64;
                self.tap.released(self.id, connection, from, wire.sent, around.checker);
                match wire.client {
                    ABROAD => around.sent.push(Sent::Abroad(connection, bytes)),
                    _ => self.reply(around, &wire, Reply::Bytes(bytes)),
                }
            }
            if wire.client == ABROAD {
                continue;
            }
            if std::mem::take(&mut wire.send_fin) || (wire.closed && wire.finishes) {
                self.reply(around, &wire, Reply::Fin);
            } else if wire.closed {
                self.reply(around, &wire, Reply::Reset);
            }
        }
        self.wires = wires;
        self.wires.retain(|wire| !wire.borrow().closed);
    }
}
