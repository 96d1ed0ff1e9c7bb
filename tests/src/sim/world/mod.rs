//! The world of one schedule, and its loop: takes the next thing that happens in simulated time and lets it happen.

mod clients;
mod ending;
mod faults;
mod members;
mod replicas;
mod traffic;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use coordinator::log::MemoryDisk;
use coordinator::paxos::MILLIS;

use super::check::{Checker, Violation, rule};
use super::client::Client;
use super::faults::{Fault, Victim, draw};
use super::history::History;
use super::image::{Images, Shelf};
use super::mail::{Mail, Reply};
use super::network::Network;
use super::plan::{Plan, Wanted};
use super::replica::Replica;
use super::rng::Rng;

/// Everything must go on within this after the faults, nanoseconds.
const LIVENESS_NS: u64 = 30_000 * MILLIS;
/// A replica learns so long after it that a connection stands or broke, nanoseconds.
const NEWS_NS: u64 = 200_000;
/// Replicas that there may ever be: the founders, and one for each change.
const MAX_SLOTS: usize = 12;
/// Clients go on for this long after the faults, nanoseconds.
const HEALED_NS: u64 = 30 * MILLIS;

#[derive(Debug)]
enum Event {
    /// A coordinator's loop turns.
    Turn(usize),
    /// A server may run.
    Server(usize),
    /// A watchdog looks.
    Watch(usize, u64),
    /// Mail reaches a replica of this life, if this connection still stands.
    Post { to: usize, life: u64, peer: Option<(usize, u64)>, mail: Mail },
    /// Something reaches a client's connection attempt.
    Client(usize, u64, Reply),
    /// A client does the next thing.
    Wake(usize, u64),
    /// A replica starts again.
    Start(usize),
    /// Two replicas may connect.
    Meet(usize, usize),
    /// A connection over which nothing passes breaks.
    TimeOut(usize, usize, u64),
    /// A fault happens.
    Fault(Fault),
    /// A replica that promised its vote forgets that it did, if it can.
    Forget { promiser: usize, candidate: usize },
    /// A disk has room again.
    Room(usize),
    /// The storm is over.
    Calm,
    /// A datagram with this id is sent.
    Datagram(u64),
    /// The faults are over.
    Heal,
    /// Somebody wants other members.
    Change(Wanted),
    /// Clients stop.
    Quiet,
}

#[derive(Default)]
struct Slot {
    replica: Option<Replica>,
    disk: MemoryDisk,
    /// The replica's checkpoints.
    shelf: Shelf,
    /// It was removed, and ended for ever.
    gone: bool,
    /// Counts the starts and the crashes.
    life: u64,
    turn_at: u64,
    server_at: u64,
    watched: bool,
    paused_until: u64,
    stalled_until: u64,
    slowness: u64,
    clock_offset: i64,
}

impl Slot {
    fn new(slowness: u64) -> Self {
        Self { turn_at: u64::MAX, server_at: u64::MAX, slowness, ..Self::default() }
    }
}

/// What a schedule came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Events simulated.
    pub events: u64,
    /// Simulated nanoseconds.
    pub time: u64,
    /// Entries decided.
    pub entries: u64,
    /// Requests made.
    pub requests: u64,
    /// Requests answered.
    pub answered: u64,
    /// Outputs that the checkers saw leave.
    pub outputs: u64,
    /// Digests that two replicas agreed about.
    pub digests: u64,
    /// Preemptions decided.
    pub preemptions: u64,
    /// Closings decided.
    pub closings: u64,
    /// Promises after which the promiser crashed between two leaders.
    pub usurpations: u64,
    /// Times that a replica found its disk full.
    pub full_disks: u64,
    /// Uploads and downloads that were answered.
    pub bulk: u64,
    /// Requests that the host outside was told of.
    pub calls: u64,
    /// Datagrams that were answered.
    pub datagrams: u64,
    /// It was a schedule of `--admission crane`.
    pub crane: bool,
    /// Checkpoints that were taken.
    pub checkpoints: u64,
    /// Times that all checkpoints of a replica were lost.
    pub lost_checkpoints: u64,
    /// Logs that were cut.
    pub cuts: u64,
    /// Replicas that went on behind a checkpoint, which they needed.
    pub transfers: u64,
    /// Checkpoints that a leader copied.
    pub copies: u64,
    /// Servers that were started from a checkpoint.
    pub restores: u64,
    /// Changes of the members that were decided.
    pub epochs: u64,
}

/// See the module.
pub struct World {
    plan: Plan,
    now: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    slots: Vec<Slot>,
    clients: Vec<Client>,
    network: Network,
    history: History,
    checker: Checker,
    images: Images,
    rng: Rng,
    /// A leader that is being usurped, and how long it stays cut off from its successor.
    usurped: Option<(usize, u64)>,
    healed: bool,
    /// Requests that the host outside was told of.
    calls: BTreeSet<u64>,
    /// Datagrams that were answered.
    answered: BTreeSet<u64>,
    trace: bool,
    /// What happened how often.
    report: Report,
}

impl World {
    /// The world of `plan`; `trace` prints what happens.
    pub fn new(plan: Plan, trace: bool) -> Self {
        let mut rng = Rng::new(plan.seed);
        let slots = plan.slowness.iter().map(|&slowness| Slot::new(slowness));
        let slots = slots.collect();
        let clients =
            (0..plan.clients).map(|_| Client::new(plan.replicas, plan.toy.bulk, rng.fork())).collect();
        let mut world = Self {
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            slots,
            clients,
            network: Network::new(MAX_SLOTS, plan.delay),
            history: History::default(),
            checker: Checker::new(plan.replicas),
            images: Images::default(),
            rng,
            usurped: None,
            healed: false,
            calls: BTreeSet::new(),
            answered: BTreeSet::new(),
            trace,
            report: Report { crane: plan.crane, ..Report::default() },
            plan,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        for at in 0..self.slots.len() {
            let start = self.rng.below(2 * MILLIS);
            self.at(start, Event::Start(at));
        }
        for client in 0..self.clients.len() {
            let start = self.rng.below(30 * MILLIS);
            self.at(start, Event::Wake(client, 0));
        }
        let may_lose_power = self.plan.durability == coordinator::log::Durability::Disk;
        for _ in 0..self.plan.faults {
            let at = self.rng.between(MILLIS, self.plan.faults_until);
            let fault = draw(&mut self.rng, self.plan.replicas, may_lose_power);
            self.at(at, Event::Fault(fault));
        }
        for at in self.plan.usurpations.clone() {
            let lasts = self.rng.between(50, 300) * MILLIS;
            self.at(at, Event::Fault(Fault::Usurp { lasts }));
        }
        for (at, victim, lasts) in self.plan.full_disks.clone() {
            self.at(at, Event::Fault(Fault::FullDisk { victim: Victim::Replica(victim), lasts }));
        }
        for (at, victim) in self.plan.lost_checkpoints.clone() {
            self.at(at, Event::Fault(Fault::LoseCheckpoints { victim: Victim::Replica(victim) }));
        }
        for (at, wanted) in self.plan.changes.clone() {
            self.at(at, Event::Change(wanted));
        }
        self.at(self.plan.faults_until, Event::Heal);
        self.at(5 * MILLIS, Event::Datagram(1));
    }

    fn at(&mut self, time: u64, event: Event) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.sequence += 1;
        self.queue.push(Reverse((time.max(self.now), self.sequence, slot)));
    }

    fn say(&self, line: &str) {
        if self.trace {
            println!("{:>13.6} ms  {line}", self.now as f64 / 1e6);
        }
    }

    /// Runs the schedule to its end.
    pub fn run(mut self) -> Result<Report, Violation> {
        while let Some(Reverse((time, _, slot))) = self.queue.pop() {
            let Some(event) = self.events[slot].take() else { continue };
            self.free.push(slot);
            self.now = time;
            self.report.events += 1;
            self.happen(event);
            if let Some(violation) = self.checker.violation() {
                self.say(&format!("BROKEN {violation}"));
                return Err(violation.clone());
            }
            if self.healed && self.is_done() {
                return self.finish();
            }
            if self.now > self.plan.faults_until + LIVENESS_NS {
                return Err(Violation { rule: rule::LIVENESS, detail: self.describe() });
            }
        }
        Err(Violation { rule: rule::LIVENESS, detail: "nothing happens any more".to_owned() })
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn(at) => self.turn(at),
            Event::Server(at) => self.run_server(at),
            Event::Watch(at, life) => self.watch(at, life),
            Event::Post { to, life, peer, mail } => self.post(to, life, peer, mail),
            Event::Client(client, attempt, reply) => self.reply(client, attempt, reply),
            Event::Wake(client, attempt) => self.wake_client(client, attempt),
            Event::Start(at) => self.start(at),
            Event::Meet(a, b) => self.meet(a, b),
            Event::TimeOut(a, b, connection) => {
                if self.network.connection(a, b) == Some(connection) && !self.network.passes(a, b, self.now) {
                    self.break_connection(a, b);
                }
            }
            Event::Fault(fault) => self.fault(fault),
            Event::Forget { promiser, candidate } => self.forget(promiser, candidate),
            Event::Room(at) => self.slots[at].disk.set_capacity(None),
            Event::Calm => self.network.weather = crate::sim::network::Weather::default(),
            Event::Heal => self.heal(),
            Event::Datagram(id) => self.send_datagram(id),
            Event::Change(wanted) => self.change(wanted),
            Event::Quiet => self.clients.iter_mut().for_each(|client| client.stops = true),
        }
    }
}
