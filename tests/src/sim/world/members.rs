//! Members come and go.

use coordinator::paxos::{Change, MILLIS};

use super::{Event, Slot, World};
use crate::sim::plan::Wanted;
use crate::sim::replica::Replica;

/// A change that could not be made is tried again after this, nanoseconds.
const AGAIN_NS: u64 = 10 * MILLIS;

impl World {
    /// Asks the leader for other members. Once the faults are over nobody asks any more.
    pub(super) fn change(&mut self, wanted: Wanted) {
        if self.healed {
            return;
        }
        let list = &self.checker.quorums.members().list;
        let one = |number: u64| list[(number % list.len() as u64) as usize].id;
        let change = match wanted {
            Wanted::Add => Change::Add { replaces: 0, peer: None, service: None },
            Wanted::Replace(number) => Change::Add { replaces: one(number), peer: None, service: None },
            Wanted::Remove(number) => Change::Remove(one(number)),
        };
        let gone = match wanted {
            Wanted::Add => None,
            Wanted::Replace(number) | Wanted::Remove(number) => Some(usize::from(one(number)) - 1),
        };
        // See README, Limits.
        if self.images.cuts > 0 && gone.is_some_and(|at| !self.can_do_without(at)) {
            return self.at(self.now + AGAIN_NS, Event::Change(wanted));
        }
        let leads = |slot: &Slot| slot.replica.as_ref().is_some_and(Replica::is_leader);
        let leader = self.slots.iter().position(leads);
        let Some((at, mut replica)) = leader.and_then(|at| Some((at, self.slots[at].replica.take()?))) else {
            return self.at(self.now + AGAIN_NS, Event::Change(wanted));
        };
        let (made, _) = self.with_around(|around| replica.change_members(&change, around));
        self.slots[at].replica = Some(replica);
        match made {
            Ok(()) => self.turn_at(at, self.now),
            Err(_) => self.at(self.now + AGAIN_NS, Event::Change(wanted)),
        }
    }

    /// Starts who has joined.
    pub(super) fn welcome(&mut self) {
        while self.slots.len() < usize::from(self.checker.quorums.members().highest) {
            let slowness = self.rng.pick(&[100, 100, 400]);
            self.slots.push(Slot::new(slowness));
            let count = self.slots.len();
            self.clients.iter_mut().for_each(|client| client.replicas = count);
            let soon = self.now + self.rng.below(20 * MILLIS);
            self.at(soon, Event::Start(count - 1));
        }
    }

    /// A replica that was removed ends for ever.
    pub(super) fn leave(&mut self, at: usize) {
        self.say(&format!("{} was removed", at + 1));
        self.slots[at].gone = true;
        self.take_down(at);
    }
}
