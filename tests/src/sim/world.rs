//! The loop: takes the next thing that happens in simulated time and lets it happen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use coordinator::container::watchdog;
use coordinator::log::MemoryDisk;
use coordinator::paxos::MILLIS;
use dmt::control::wanted;
use std::sync::atomic::Ordering;

use super::check::{Checker, Violation, rule};
use super::client::{Client, PATIENCE_NS, State, Wish};
use super::faults::{self, Fault, Victim};
use super::history::History;
use super::network::Network;
use super::plan::{Broken, Plan};
use super::replica::{Around, Mail, Replica, Reply, Sent};
use super::rng::Rng;

/// Time between two looks of the watchdog, nanoseconds.
const WATCH_NS: u64 = MILLIS;
/// Everything must go on within this after the faults, nanoseconds.
const LIVENESS_NS: u64 = 30_000 * MILLIS;
/// A replica learns so long after it that a connection stands or broke, nanoseconds.
const NEWS_NS: u64 = 200_000;
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
    /// The storm is over.
    Calm,
    /// The faults are over.
    Heal,
    /// Clients stop.
    Quiet,
}

struct Slot {
    replica: Option<Replica>,
    disk: MemoryDisk,
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
    rng: Rng,
    healed: bool,
    trace: bool,
    count: u64,
}

impl World {
    /// The world of `plan`; `trace` prints what happens.
    pub fn new(plan: Plan, trace: bool) -> Self {
        let mut rng = Rng::new(plan.seed);
        let slots = plan.slowness.iter().map(|&slowness| Slot {
            replica: None,
            disk: MemoryDisk::default(),
            life: 0,
            turn_at: u64::MAX,
            server_at: u64::MAX,
            watched: false,
            paused_until: 0,
            stalled_until: 0,
            slowness,
            clock_offset: 0,
        });
        let slots = slots.collect();
        let clients = (0..plan.clients).map(|_| Client::new(plan.replicas, rng.fork())).collect();
        let mut world = Self {
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            slots,
            clients,
            network: Network::new(plan.replicas, plan.delay),
            history: History::default(),
            checker: Checker::new(plan.replicas),
            rng,
            healed: false,
            trace,
            count: 0,
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
            let fault = faults::draw(&mut self.rng, self.plan.replicas, may_lose_power);
            self.at(at, Event::Fault(fault));
        }
        self.at(self.plan.faults_until, Event::Heal);
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
            self.count += 1;
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
            Event::Calm => self.network.weather = super::network::Weather::default(),
            Event::Heal => self.heal(),
            Event::Quiet => self.clients.iter_mut().for_each(|client| client.stops = true),
        }
    }

    // Replicas.

    fn start(&mut self, at: usize) {
        if self.slots[at].replica.is_some() {
            return;
        }
        self.say(&format!("{} starts", at + 1));
        let (disk, slowness) = (self.slots[at].disk.clone(), self.slots[at].slowness);
        let replica = self.with_around(|around| Replica::start(at as u8 + 1, disk, slowness, around));
        let slot = &mut self.slots[at];
        slot.life += 1;
        (slot.turn_at, slot.server_at, slot.watched) = (u64::MAX, u64::MAX, false);
        slot.replica = replica;
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

    fn with_around<T>(&mut self, f: impl FnOnce(&mut Around<'_>) -> T) -> T {
        let (trace, now) = (self.trace, self.now);
        let mut print = |line: String| {
            if trace {
                println!("{:>13.6} ms  {line}", now as f64 / 1e6);
            }
        };
        let mut sent = Vec::new();
        f(&mut Around {
            now,
            plan: &self.plan,
            checker: &mut self.checker,
            sent: &mut sent,
            rng: &mut self.rng,
            trace: &mut print,
        })
    }

    fn turn_at(&mut self, at: usize, time: u64) {
        let time = time.max(self.slots[at].paused_until);
        if time < self.slots[at].turn_at {
            self.slots[at].turn_at = time;
            self.at(time, Event::Turn(at));
        }
    }

    fn server_at(&mut self, at: usize, time: u64) {
        let time = time.max(self.slots[at].stalled_until);
        if time < self.slots[at].server_at {
            self.slots[at].server_at = time;
            self.at(time, Event::Server(at));
        }
    }

    fn turn(&mut self, at: usize) {
        if self.slots[at].turn_at > self.now {
            return;
        }
        self.slots[at].turn_at = u64::MAX;
        if self.now < self.slots[at].paused_until {
            return self.turn_at(at, self.slots[at].paused_until);
        }
        let Some(mut replica) = self.slots[at].replica.take() else { return };
        let (trace, now) = (self.trace, self.now);
        let mut print = |line: String| {
            if trace {
                println!("{:>13.6} ms  {line}", now as f64 / 1e6);
            }
        };
        let mut sent = Vec::new();
        replica.turn(&mut Around {
            now,
            plan: &self.plan,
            checker: &mut self.checker,
            sent: &mut sent,
            rng: &mut self.rng,
            trace: &mut print,
        });
        let again = if replica.wants_turn() { self.now + 2_000 } else { u64::MAX };
        let next = again.min(replica.deadline().max(self.now + 1_000));
        self.slots[at].replica = Some(replica);
        self.turn_at(at, next);
        let soon = self.now + self.rng.between(300, 4_000);
        self.server_at(at, soon);
        for message in sent {
            self.send(at, message);
        }
    }

    fn send(&mut self, from: usize, message: Sent) {
        match message {
            Sent::Peer(to, message) => {
                let to = usize::from(to) - 1;
                let Some(connection) = self.network.connection(from, to) else { return };
                for time in self.network.arrivals(from, to, self.now, &mut self.rng) {
                    let mail = Mail::Message(from as u8 + 1, message.clone());
                    let life = self.slots[to].life;
                    self.at(time, Event::Post { to, life, peer: Some((from, connection)), mail });
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

    fn post(&mut self, to: usize, life: u64, peer: Option<(usize, u64)>, mail: Mail) {
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

    fn run_server(&mut self, at: usize) {
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

    fn watch(&mut self, at: usize, life: u64) {
        let slot = &mut self.slots[at];
        if slot.life != life {
            return;
        }
        slot.watched = false;
        let Some(server) = slot.replica.as_mut().and_then(|replica| replica.server.as_mut()) else { return };
        let control = server.link.control();
        let sample = watchdog::Sample::read(control);
        if sample.runnable == 0 {
            server.watch = watchdog::State::default();
            return;
        }
        let cpu = server.platform.cpu.get() / 1000;
        let action = server.watch.advance(&sample, || Some(cpu));
        let control = server.link.control();
        control.wanted.fetch_or(action.bits(), Ordering::SeqCst);
        if action.bits() & wanted::PREEMPT != 0 {
            server.platform.signalled.set(control.turn.load(Ordering::Relaxed) as u16);
        }
        slot.watched = true;
        self.at(self.now + WATCH_NS, Event::Watch(at, life));
    }

    // Connections between replicas.

    fn meet(&mut self, a: usize, b: usize) {
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

    fn break_connection(&mut self, a: usize, b: usize) {
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
    fn tell(&mut self, to: usize, mail: Mail) {
        let life = self.slots[to].life;
        let time = self.now + NEWS_NS;
        self.at(time, Event::Post { to, life, peer: None, mail });
    }

    // Clients.

    fn wake_client(&mut self, client: usize, attempt: u64) {
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

    fn post_client(&mut self, client: usize, to: usize, mail: Mail) {
        let time = (self.now + self.network.delay(&mut self.rng)).max(self.clients[client].sent_until + 1);
        self.clients[client].sent_until = time;
        let life = self.slots[to].life;
        self.at(time, Event::Post { to, life, peer: None, mail });
    }

    fn think(&mut self, client: usize) {
        let soon = self.now + self.clients[client].think();
        let attempt = self.clients[client].attempt;
        self.at(soon, Event::Wake(client, attempt));
    }

    fn reply(&mut self, number: usize, attempt: u64, reply: Reply) {
        let (now, client) = (self.now, &mut self.clients[number]);
        if client.attempt != attempt {
            return;
        }
        match reply {
            Reply::Accepted => {
                client.accepted(now);
                self.think(number);
            }
            Reply::Bytes(bytes) => match client.received(&bytes, now, &mut self.history) {
                Ok(true) => self.think(number),
                Ok(false) => {}
                Err(violation) => self.checker.fail(violation.rule, violation.detail),
            },
            Reply::Fin | Reply::Reset => {
                client.lost();
                self.think(number);
            }
        }
    }

    // Faults.

    fn victim(&self, victim: Victim) -> usize {
        match victim {
            Victim::Replica(at) => at,
            Victim::Leader => {
                let leads = |slot: &Slot| slot.replica.as_ref().is_some_and(Replica::is_leader);
                self.slots.iter().position(leads).unwrap_or(0)
            }
        }
    }

    fn others(&self, at: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.slots.len()).filter(move |&other| other != at)
    }

    fn fault(&mut self, fault: Fault) {
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
            Fault::Break { victim } => {
                let at = self.victim(victim);
                let other = self.others(at).nth(self.rng.below(self.slots.len() as u64) as usize);
                if let Some(other) = other {
                    self.break_connection(at, other);
                }
            }
        }
    }

    fn set_speed(&mut self, at: usize, slowness: u64) {
        let slot = &mut self.slots[at];
        slot.slowness = slowness;
        if let Some(replica) = &mut slot.replica {
            replica.slowness = slowness;
            if let Some(server) = &replica.server {
                server.platform.slowness.set(slowness);
            }
        }
    }

    fn block(&mut self, at: usize, other: usize, lasts: u64, both: bool) {
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

    fn crash(&mut self, at: usize, power: bool, lasts: u64) {
        let Some(replica) = self.slots[at].replica.take() else { return };
        for (client, attempt) in replica.clients() {
            let time = self.now + self.rng.between(50_000, 2 * MILLIS);
            self.at(time, Event::Client(client, attempt, Reply::Reset));
        }
        drop(replica);
        self.slots[at].life += 1;
        if power {
            let rng = &mut self.rng;
            self.slots[at].disk.crash(|| rng.percent(50));
        }
        for other in self.others(at) {
            if self.network.disconnect(at, other) {
                self.tell(other, Mail::PeerDown(at as u8 + 1));
            }
        }
        self.at(self.now + lasts, Event::Start(at));
    }

    fn heal(&mut self) {
        self.say("the faults are over");
        self.healed = true;
        self.network.heal();
        for at in 0..self.slots.len() {
            self.slots[at].paused_until = self.now;
            self.slots[at].stalled_until = self.now;
            let slowness = self.slots[at].slowness.min(400);
            self.set_speed(at, slowness);
            self.start(at);
            self.turn_at(at, self.now);
            self.server_at(at, self.now);
        }
        for client in &mut self.clients {
            client.healed = 0;
        }
        self.at(self.now + HEALED_NS, Event::Quiet);
    }

    /// Liveness: all clients were served after the faults, and all servers have caught up.
    fn is_done(&mut self) -> bool {
        let quiet = |client: &Client| client.stops && client.state == State::Idle;
        if !self.clients.iter().all(quiet) {
            return false;
        }
        if let Some(waiting) = self.clients.iter().position(|client| client.healed == 0) {
            self.clients[waiting].stops = false;
            self.think(waiting);
            self.at(self.now + HEALED_NS, Event::Quiet);
            return false;
        }
        let decided = self.checker.decided.len() as u64;
        let caught_up = |slot: &Slot| {
            slot.replica.as_ref().is_some_and(|replica| {
                let idle = replica.server.as_ref().is_some_and(|server| !server.is_busy());
                replica.progress() == (decided, decided) && (idle || !replica.is_leader())
            })
        };
        self.slots.iter().all(caught_up)
    }

    fn describe(&self) -> String {
        let state = |slot: &Slot| match &slot.replica {
            Some(replica) => format!("{:?} leads={}", replica.progress(), replica.is_leader()),
            None => "down".to_owned(),
        };
        let replicas: Vec<String> = self.slots.iter().map(state).collect();
        for slot in &self.slots {
            if let Some(replica) = &slot.replica {
                self.say(&replica.describe());
            }
        }
        let clients: Vec<_> = self.clients.iter().map(|c| (c.state, c.healed)).collect();
        format!(
            "decided {}, replicas (commit, applied) {replicas:?}, clients {clients:?}",
            self.checker.decided.len()
        )
    }

    fn finish(self) -> Result<Report, Violation> {
        let mut lists: Vec<&Vec<u64>> = self
            .slots
            .iter()
            .filter_map(|slot| Some(&slot.replica.as_ref()?.server.as_ref()?.toy.list))
            .collect();
        // Followers run the last bubble only when they know the next entry.
        lists.sort_unstable_by_key(|list| list.len());
        let longest = lists.last().copied().cloned().unwrap_or_default();
        if lists.iter().any(|list| !longest.starts_with(list)) {
            return Err(Violation { rule: rule::DIGESTS, detail: "the servers' lists differ".to_owned() });
        }
        self.history.check(&longest)?;
        self.say("done");
        Ok(Report {
            events: self.count,
            time: self.now,
            entries: self.checker.decided.len() as u64,
            requests: self.history.operations.len() as u64,
            answered: self.history.answered() as u64,
            outputs: self.checker.outputs,
            digests: self.checker.compared,
            preemptions: self.checker.preemptions,
            closings: self.checker.closings,
        })
    }
}
