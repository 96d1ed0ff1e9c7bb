//! Faults happen, and end.

use coordinator::paxos::MILLIS;

use super::{Event, HEALED_NS, Slot, World};
use crate::sim::faults::{Fault, Victim};
use crate::sim::mail::{Mail, Reply};
use crate::sim::replica::Replica;

impl World {
    pub(super) fn victim(&self, victim: Victim) -> usize {
        match victim {
            Victim::Replica(at) => at % self.slots.len(),
            Victim::Leader => {
                let leads = |slot: &Slot| slot.replica.as_ref().is_some_and(Replica::is_leader);
                self.slots.iter().position(leads).unwrap_or(0)
            }
        }
    }

    pub(super) fn others(&self, at: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.slots.len()).filter(move |&other| other != at)
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.say(&format!("FAULT {fault:?}"));
        match fault {
            Fault::Crash { victim, power, lasts } => self.crash(self.victim(victim), power, lasts),
            Fault::Isolate { victim, lasts } => {
                let at = self.victim(victim);
                for other in self.others(at) {
                    self.block(at, other, lasts, true);
                }
            }
            Fault::OneWay { victim, lasts } => {
                let at = self.victim(victim);
                let other = self.others(at).nth(self.rng.below(self.slots.len() as u64) as usize);
                if let Some(other) = other {
                    self.block(at, other, lasts, false);
                }
            }
            Fault::Storm { weather, lasts } => {
                self.network.weather = weather;
                self.at(self.now + lasts, Event::Calm);
            }
            Fault::Pause { victim, lasts } => {
                let at = self.victim(victim);
                self.slots[at].paused_until = self.now + lasts;
            }
            Fault::Stall { victim, lasts } => {
                let at = self.victim(victim);
                self.slots[at].stalled_until = self.now + lasts;
            }
            Fault::Clock { victim, by } => {
                let at = self.victim(victim);
                let slot = &mut self.slots[at];
                slot.clock_offset += by;
                if let Some(replica) = &mut slot.replica {
                    replica.clock_offset = slot.clock_offset;
                    if let Some(server) = &replica.server {
                        server.platform.clock_offset.set(slot.clock_offset);
                    }
                }
            }
            Fault::Speed { victim, slowness } => {
                let at = self.victim(victim);
                self.set_speed(at, slowness);
            }
            Fault::Usurp { lasts } => self.usurp(lasts),
            Fault::FullDisk { victim, lasts } => {
                let at = self.victim(victim);
                self.slots[at].disk.set_capacity(Some(0));
                self.at(self.now + lasts, Event::Room(at));
            }
            Fault::LoseCheckpoints { victim } => self.lose_checkpoints(self.victim(victim)),
            Fault::Break { victim } => {
                let at = self.victim(victim);
                let other = self.others(at).nth(self.rng.below(self.slots.len() as u64) as usize);
                if let Some(other) = other {
                    self.break_connection(at, other);
                }
            }
        }
    }

    /// Whether another member than this one holds a checkpoint from which anybody can go on: if not, its own must not go.
    pub(super) fn can_do_without(&self, at: usize) -> bool {
        let needed = self.images.highest_cut;
        let members = &self.checker.quorums.members().list;
        let others = members.iter().filter(|member| usize::from(member.id) != at + 1);
        let held = others.filter_map(|member| self.slots.get(usize::from(member.id) - 1));
        held.flat_map(|slot| slot.shelf.held()).any(|held| held.entry > needed)
    }

    fn lose_checkpoints(&mut self, at: usize) {
        if self.can_do_without(at) {
            self.slots[at].shelf.lose();
            self.report.lost_checkpoints += 1;
        }
    }

    /// Cuts the leader off from both others, which have lost it and elect one of them.
    fn usurp(&mut self, lasts: u64) {
        let leader = self.victim(Victim::Leader);
        if self.slots.len() != 3 || self.slots[leader].replica.is_none() {
            return;
        }
        self.usurped = Some((leader, lasts));
        for other in self.others(leader) {
            self.network.block(leader, other, self.now + lasts);
            self.network.block(other, leader, self.now + lasts);
            self.break_connection(leader, other);
        }
    }

    /// The promise has arrived. The promiser crashes, and is first to hear of the leader of before.
    pub(super) fn forget(&mut self, promiser: usize, candidate: usize) {
        let Some((leader, lasts)) = self.usurped.take() else { return };
        self.say(&format!("FAULT {} crashes behind its promise to {}", promiser + 1, candidate + 1));
        self.report.usurpations += 1;
        self.crash(promiser, false, MILLIS);
        self.network.unblock(promiser, leader);
        self.network.block(promiser, candidate, self.now + lasts);
        self.network.block(candidate, promiser, self.now + lasts);
    }

    pub(super) fn set_speed(&mut self, at: usize, slowness: u64) {
        let slot = &mut self.slots[at];
        slot.slowness = slowness;
        if let Some(replica) = &mut slot.replica {
            replica.slowness = slowness;
            if let Some(server) = &replica.server {
                server.platform.slowness.set(slowness);
            }
        }
    }

    pub(super) fn block(&mut self, at: usize, other: usize, lasts: u64, both: bool) {
        let until = self.now + lasts;
        self.network.block(at, other, until);
        if both {
            self.network.block(other, at, until);
        }
        // A connection over which nothing passes breaks after a while.
        if let Some(connection) = self.network.connection(at, other) {
            let time = self.now + self.rng.between(10, 400) * MILLIS;
            self.at(time, Event::TimeOut(at, other, connection));
        }
    }

    pub(super) fn crash(&mut self, at: usize, power: bool, lasts: u64) {
        if !self.take_down(at) {
            return;
        }
        if power {
            let rng = &mut self.rng;
            self.slots[at].disk.crash(|| rng.percent(50));
        }
        self.at(self.now + lasts, Event::Start(at));
    }

    /// The processes of a replica end; false if there are none.
    pub(super) fn take_down(&mut self, at: usize) -> bool {
        let Some(replica) = self.slots[at].replica.take() else { return false };
        for (client, attempt) in replica.clients() {
            let time = self.now + self.rng.between(50_000, 2 * MILLIS);
            self.at(time, Event::Client(client, attempt, Reply::Reset));
        }
        drop(replica);
        self.slots[at].life += 1;
        for other in self.others(at) {
            if self.network.disconnect(at, other) {
                self.tell(other, Mail::PeerDown(at as u8 + 1));
            }
        }
        true
    }

    pub(super) fn heal(&mut self) {
        self.say("the faults are over");
        self.healed = true;
        self.network.heal();
        self.usurped = None;
        for at in 0..self.slots.len() {
            self.slots[at].paused_until = self.now;
            self.slots[at].stalled_until = self.now;
            let slowness = self.slots[at].slowness.min(400);
            self.set_speed(at, slowness);
            self.slots[at].disk.set_capacity(None);
            self.start(at);
            self.turn_at(at, self.now);
            self.server_at(at, self.now);
        }
        for client in &mut self.clients {
            client.healed = 0;
        }
        self.at(self.now + HEALED_NS, Event::Quiet);
    }
}
