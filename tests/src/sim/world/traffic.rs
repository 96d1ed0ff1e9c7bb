//! What is on its way: between replicas, over connections that come and go, and to replicas.

use coordinator::paxos::MILLIS;

use super::{Event, NEWS_NS, World};
use crate::sim::check::rule;
use crate::sim::mail::{Mail, Reply, Sent};
use crate::sim::socket::ABROAD;

impl World {
    pub(super) fn send(&mut self, from: usize, message: Sent) {
        match message {
            Sent::Peer { to, frame, promises } => {
                let to = usize::from(to) - 1;
                let Some(connection) = self.network.connection(from, to) else { return };
                for time in self.network.arrivals(from, to, self.now, &mut self.rng) {
                    if promises && self.usurped.is_some_and(|(old, _)| old != from && old != to) {
                        self.at(time + 1, Event::Forget { promiser: from, candidate: to });
                    }
                    let mail = Mail::Frame(from as u8 + 1, frame.clone());
                    let life = self.slots[to].life;
                    self.at(time, Event::Post { to, life, peer: Some((from, connection)), mail });
                }
            }
            Sent::Abroad(connection, bytes) => self.hear_abroad(from, connection, bytes),
            Sent::Answer(id) => {
                if !self.answered.insert(id) {
                    self.checker.fail(rule::I5_EXACTLY_ONCE, format!("datagram {id} was answered twice"));
                }
            }
            Sent::Client(client, attempt, reply) => {
                let time = (self.now + self.network.delay(&mut self.rng))
                    .max(self.clients[client].received_until + 1);
                self.clients[client].received_until = time;
                self.at(time, Event::Client(client, attempt, reply));
            }
        }
    }

    /// The host outside is told of requests, and says yes. None is told twice: a connection that breaks is not made again.
    fn hear_abroad(&mut self, from: usize, connection: u64, bytes: Vec<u8>) {
        for id in bytes.chunks_exact(8) {
            let id = u64::from_le_bytes(id.try_into().expect("eight bytes"));
            if !self.calls.insert(id) {
                self.checker
                    .fail(rule::I5_EXACTLY_ONCE, format!("the host outside was told of request {id} twice"));
            }
        }
        let time = self.now + self.network.delay(&mut self.rng);
        let life = self.slots[from].life;
        let mail = Mail::Bytes(ABROAD, connection, bytes);
        self.at(time, Event::Post { to: from, life, peer: None, mail });
    }

    /// A datagram is sent to some replica, which is lost if that does not lead; then the next.
    pub(super) fn send_datagram(&mut self, id: u64) {
        let to = self.rng.below(self.slots.len() as u64) as usize;
        let time = self.now + self.network.delay(&mut self.rng);
        let life = self.slots[to].life;
        self.at(time, Event::Post { to, life, peer: None, mail: Mail::Datagram(id) });
        if !self.healed {
            let next = self.now + self.rng.between(MILLIS, 15 * MILLIS);
            self.at(next, Event::Datagram(id + 1));
        }
    }

    pub(super) fn post(&mut self, to: usize, life: u64, peer: Option<(usize, u64)>, mail: Mail) {
        let stands = peer.is_none_or(|(from, number)| self.network.connection(from, to) == Some(number));
        let slot = &mut self.slots[to];
        match &mut slot.replica {
            Some(replica) if slot.life == life && stands => replica.post(mail),
            Some(_) => return,
            None => {
                if let Mail::Connect(client, attempt) = mail {
                    self.at(self.now + MILLIS, Event::Client(client, attempt, Reply::Reset));
                }
                return;
            }
        }
        let soon = self.now + self.rng.between(200, 3_000);
        self.turn_at(to, soon);
    }

    pub(super) fn meet(&mut self, a: usize, b: usize) {
        if self.slots[a].replica.is_none() || self.slots[b].replica.is_none() {
            return;
        }
        if self.network.connection(a, b).is_some() {
            return;
        }
        if !self.network.passes(a, b, self.now) {
            let later = self.now + 10 * MILLIS;
            return self.at(later, Event::Meet(a, b));
        }
        self.network.connect(a, b);
        self.say(&format!("{} and {} connect", a + 1, b + 1));
        for (to, from) in [(a, b), (b, a)] {
            self.tell(to, Mail::PeerUp(from as u8 + 1));
        }
    }

    pub(super) fn break_connection(&mut self, a: usize, b: usize) {
        if !self.network.disconnect(a, b) {
            return;
        }
        self.say(&format!("{} and {} lose their connection", a + 1, b + 1));
        for (to, from) in [(a, b), (b, a)] {
            self.tell(to, Mail::PeerDown(from as u8 + 1));
        }
        let soon = self.now + self.rng.between(2, 20) * MILLIS;
        self.at(soon, Event::Meet(a, b));
    }

    /// News of a connection reach both ends, in order: all take equally long.
    pub(super) fn tell(&mut self, to: usize, mail: Mail) {
        let life = self.slots[to].life;
        let time = self.now + NEWS_NS;
        self.at(time, Event::Post { to, life, peer: None, mail });
    }
}
