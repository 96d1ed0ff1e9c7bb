//! Replicas start, and get their turns: coordinators, servers, watchdogs.

use super::{Event, World};
use crate::sim::mail::{Around, Sent};
use crate::sim::plan::Broken;
use crate::sim::replica::Replica;
use crate::sim::restoring::WATCH_NS;

use coordinator::paxos::MILLIS;

/// A replica that could not start is tried again after this, nanoseconds.
const START_RETRY_NS: u64 = 20 * MILLIS;

/// How far a server goes on whose rule is broken: further than the checkers give it for passing the turn on.
const BEYOND_TICKS: u64 = 64;

impl World {
    pub(super) fn start(&mut self, at: usize) {
        if self.slots[at].replica.is_some() || self.slots[at].gone {
            return;
        }
        self.say(&format!("{} starts", at + 1));
        let slot = &self.slots[at];
        let (disk, slowness) = ((slot.disk.clone(), slot.shelf.clone()), slot.slowness);
        let (replica, _) = self.with_around(|around| Replica::start(at as u8 + 1, disk, slowness, around));
        let slot = &mut self.slots[at];
        slot.life += 1;
        (slot.turn_at, slot.server_at, slot.watched) = (u64::MAX, u64::MAX, false);
        slot.replica = replica;
        if slot.replica.is_none() {
            // Its disk is full. Its supervisor tries again.
            self.report.full_disks += 1;
            let later = self.now + START_RETRY_NS;
            return self.at(later, Event::Start(at));
        }
        if let Some(replica) = &mut slot.replica {
            replica.clock_offset = slot.clock_offset;
        }
        self.turn_at(at, self.now);
        self.server_at(at, self.now);
        for other in (0..self.slots.len()).filter(|&other| other != at) {
            let soon = self.now + self.rng.between(100_000, 3 * MILLIS);
            self.at(soon, Event::Meet(at, other));
        }
    }

    /// What comes of `f`, and what is sent.
    pub(super) fn with_around<T>(&mut self, f: impl FnOnce(&mut Around<'_>) -> T) -> (T, Vec<Sent>) {
        let (trace, now) = (self.trace, self.now);
        let mut print = |line: String| {
            if trace {
                println!("{:>13.6} ms  {line}", now as f64 / 1e6);
            }
        };
        let mut sent = Vec::new();
        let result = f(&mut Around {
            now,
            plan: &self.plan,
            checker: &mut self.checker,
            images: &mut self.images,
            sent: &mut sent,
            rng: &mut self.rng,
            trace: &mut print,
        });
        (result, sent)
    }

    pub(super) fn turn_at(&mut self, at: usize, time: u64) {
        let time = time.max(self.slots[at].paused_until);
        if time < self.slots[at].turn_at {
            self.slots[at].turn_at = time;
            self.at(time, Event::Turn(at));
        }
    }

    pub(super) fn server_at(&mut self, at: usize, time: u64) {
        let time = time.max(self.slots[at].stalled_until);
        if time < self.slots[at].server_at {
            self.slots[at].server_at = time;
            self.at(time, Event::Server(at));
        }
    }

    pub(super) fn turn(&mut self, at: usize) {
        if self.slots[at].turn_at > self.now {
            return;
        }
        self.slots[at].turn_at = u64::MAX;
        if self.now < self.slots[at].paused_until {
            return self.turn_at(at, self.slots[at].paused_until);
        }
        let Some(mut replica) = self.slots[at].replica.take() else { return };
        let ((), sent) = self.with_around(|around| replica.turn(around));
        let again = replica.wants_turn() || replica.has_ready_socket();
        let again = if again { self.now + 2_000 } else { u64::MAX };
        let next = again.min(replica.deadline(self.now).max(self.now + 1_000));
        self.report.full_disks += u64::from(replica.found_disk_full());
        let removed = replica.is_removed();
        self.slots[at].replica = Some(replica);
        self.turn_at(at, next);
        let soon = self.now + self.rng.between(300, 4_000);
        self.server_at(at, soon);
        for message in sent {
            self.send(at, message);
        }
        self.welcome();
        if removed {
            self.leave(at);
        }
    }

    pub(super) fn run_server(&mut self, at: usize) {
        if self.slots[at].server_at > self.now {
            return;
        }
        self.slots[at].server_at = u64::MAX;
        if self.now < self.slots[at].stalled_until {
            return self.server_at(at, self.slots[at].stalled_until);
        }
        let slot = &mut self.slots[at];
        let Some(replica) = &mut slot.replica else { return };
        let leads = replica.is_leader();
        let Some(server) = &mut replica.server else { return };
        if self.plan.broken == Some(Broken::AdmitInside) && leads && server.is_busy() && self.rng.percent(5) {
            let sched = &mut server.kernel_mut().sched;
            sched.bubble_end = sched.tick;
            sched.stop_at = sched.tick;
        }
        if self.plan.broken == Some(Broken::RunBeyond) && !leads && server.is_busy() && self.rng.percent(5) {
            let sched = &mut server.kernel_mut().sched;
            sched.bubble_end += BEYOND_TICKS;
            sched.stop_at += BEYOND_TICKS;
        }
        let next = server.run(self.now);
        let (kicked, until) = (server.platform.kicked.take(), server.platform.now.get());
        let watch = server.is_busy() && !slot.watched;
        replica.check_server(&mut self.checker);
        if let Some(next) = next {
            self.server_at(at, next);
        }
        if kicked {
            let soon = until.max(self.now) + self.rng.between(500, 20_000);
            self.turn_at(at, soon);
        }
        if watch {
            self.slots[at].watched = true;
            let life = self.slots[at].life;
            self.at(self.now + WATCH_NS, Event::Watch(at, life));
        }
    }

    pub(super) fn watch(&mut self, at: usize, life: u64) {
        let slot = &mut self.slots[at];
        if slot.life != life {
            return;
        }
        slot.watched = false;
        let Some(server) = slot.replica.as_mut().and_then(|replica| replica.server.as_mut()) else { return };
        if !server.look() {
            return;
        }
        slot.watched = true;
        self.at(self.now + WATCH_NS, Event::Watch(at, life));
    }
}
