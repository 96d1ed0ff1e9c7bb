//! Clients get their turns and their replies.

use super::{Event, World};
use crate::sim::client::{PATIENCE_NS, State, Wish};
use crate::sim::mail::{Mail, Reply};

impl World {
    pub(super) fn wake_client(&mut self, client: usize, attempt: u64) {
        if self.clients[client].attempt != attempt {
            return;
        }
        let wish = self.clients[client].wake(self.now, &mut self.history);
        let (target, attempt) = (self.clients[client].target, self.clients[client].attempt);
        match wish {
            Wish::Wait => {}
            Wish::Connect(target) => self.post_client(client, target, Mail::Connect(client, attempt)),
            Wish::Send(bytes) => {
                for piece in self.clients[client].cut(bytes) {
                    self.post_client(client, target, Mail::Bytes(client, attempt, piece));
                }
            }
            Wish::Fin => self.post_client(client, target, Mail::Fin(client, attempt)),
            Wish::Reset => {
                // `lost` has moved the client on already.
                let before = (target + self.slots.len() - 1) % self.slots.len();
                self.post_client(client, before, Mail::Reset(client, attempt - 1));
                return self.think(client);
            }
        }
        if self.clients[client].state != State::Idle {
            self.at(self.now + PATIENCE_NS, Event::Wake(client, attempt));
        }
    }

    pub(super) fn post_client(&mut self, client: usize, to: usize, mail: Mail) {
        let time = (self.now + self.network.delay(&mut self.rng)).max(self.clients[client].sent_until + 1);
        self.clients[client].sent_until = time;
        let life = self.slots[to].life;
        self.at(time, Event::Post { to, life, peer: None, mail });
    }

    pub(super) fn think(&mut self, client: usize) {
        let soon = self.now + self.clients[client].think();
        let attempt = self.clients[client].attempt;
        self.at(soon, Event::Wake(client, attempt));
    }

    pub(super) fn reply(&mut self, number: usize, attempt: u64, reply: Reply) {
        let (now, client) = (self.now, &mut self.clients[number]);
        if client.attempt != attempt {
            return;
        }
        match reply {
            Reply::Accepted => {
                client.accepted(now);
                self.think(number);
            }
            Reply::Bytes(bytes) => {
                if self.plan.toy.bulk {
                    let (target, taken) = (client.target, Mail::Taken(number, attempt, bytes.len()));
                    self.post_client(number, target, taken);
                }
                let client = &mut self.clients[number];
                let big = client.has_bulk_outstanding();
                match client.received(&bytes, now, &mut self.history) {
                    Ok(true) => {
                        self.report.bulk += u64::from(big);
                        self.think(number);
                    }
                    Ok(false) => {}
                    Err(violation) => self.checker.fail(violation.rule, violation.detail),
                }
            }
            Reply::Fin | Reply::Reset => {
                client.lost();
                self.think(number);
            }
        }
    }
}
