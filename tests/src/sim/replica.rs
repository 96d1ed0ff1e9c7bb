//! One simulated replica: the coordinator's loop around the production state machines, without sockets.
//!
//! Between this file and `coordinator::replica` only input and output differ: mail instead of sockets, simulated instead
//! of real time. Consensus, log, output commit, the book of what the server was given, and the arena's link are the real ones.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use coordinator::log::{Durability, Log, MemoryDisk, Options};
use coordinator::paxos::{Ballot, Config, Input, MILLIS, Message, Paxos};
use coordinator::replica::consensus::{Consensus, Happening};
use coordinator::replica::crane::{Crane, Situation};
use coordinator::replica::entries::Given;
use coordinator::replica::intake::{Intake, event};
use coordinator::replica::outputs::{Item, Outputs};
use dmt::entry::{ConnectInfo, EntryHeader, EventHeader, EventKind, Genesis, Parameters};
use dmt::upcall::{ADMITTED, UpcallKind};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::check::{Checker, ServerDigest, header, rule};
use super::plan::{Broken, Plan};
use super::platform::Admission;
use super::rng::Rng;
use super::server::Server;
use super::toy::PORT;

/// A killed server's successor starts after this, nanoseconds.
const SERVER_START_NS: u64 = 3 * MILLIS;
/// Connection ids are `ballot << NUMBER_BITS | number`.
const NUMBER_BITS: u32 = 24;

/// What reaches a coordinator.
#[derive(Debug)]
pub enum Mail {
    /// A peer's message.
    Message(u8, Message),
    /// The connection to a peer stands.
    PeerUp(u8),
    /// The connection to a peer broke.
    PeerDown(u8),
    /// A client (number, its connection attempt) wants to connect.
    Connect(usize, u64),
    /// Bytes of a client.
    Bytes(usize, u64, Vec<u8>),
    /// A client sends no more.
    Fin(usize, u64),
    /// A client is gone.
    Reset(usize, u64),
}

/// What a coordinator sends.
#[derive(Debug)]
pub enum Sent {
    /// To a peer.
    Peer(u8, Message),
    /// To a client's connection attempt.
    Client(usize, u64, Reply),
}

/// What reaches a client.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Its connection stands.
    Accepted,
    /// Bytes.
    Bytes(Vec<u8>),
    /// The server sends no more.
    Fin,
    /// Nobody listens, or the connection broke.
    Reset,
}

/// What a turn of the loop needs from outside.
pub struct Around<'a> {
    /// Simulated time.
    pub now: u64,
    /// The schedule's parameters.
    pub plan: &'a Plan,
    /// The checkers.
    pub checker: &'a mut Checker,
    /// What was sent.
    pub sent: &'a mut Vec<Sent>,
    /// Chance.
    pub rng: &'a mut Rng,
    /// Lines for a person who follows the schedule.
    pub trace: &'a mut dyn FnMut(String),
}

struct Client {
    client: usize,
    attempt: u64,
    sequence: u64,
    /// Bytes written to it.
    taken: u64,
    /// Where in its output which entry's output ends.
    tags: VecDeque<(u64, u64)>,
}

struct Leading {
    ballot: u64,
    /// First entry that the server may admit.
    next: u64,
    /// The server was told.
    told: bool,
}

/// What the checkers must know of a server's life.
#[derive(Default)]
struct Past {
    applied: Vec<Arc<[u8]>>,
    digests: VecDeque<ServerDigest>,
    admissions: Vec<Admission>,
    checked: u64,
}

/// See the module.
pub struct Replica {
    id: u8,
    disk: MemoryDisk,
    consensus: Consensus<MemoryDisk>,
    given: Given,
    outputs: Outputs,
    crane: Option<Crane>,
    /// The server, unless it is being started again.
    pub server: Option<Server>,
    /// When a server is to be started.
    pub start_server_at: u64,
    past: Past,
    mail: VecDeque<Mail>,
    leading: Option<Leading>,
    clients: BTreeMap<u64, Client>,
    next_number: u64,
    listener: Option<u64>,
    /// Entry whose bubble the upcalls read so far belong to.
    bubble: u64,
    /// A sync is under way until then.
    pub syncing_until: Option<u64>,
    /// Percent of a work's nominal time that its CPU needs.
    pub slowness: u64,
    /// What its clock is off by.
    pub clock_offset: i64,
}

impl Replica {
    /// Opens the log on `disk` and starts.
    pub fn start(id: u8, disk: MemoryDisk, slowness: u64, around: &mut Around<'_>) -> Option<Self> {
        let plan = around.plan;
        let options = Options {
            cluster: [7; 16],
            durability: plan.durability,
            boot_id: "boot".to_owned(),
            segment_bytes: 128 << 10,
        };
        let log = match Log::open(disk.clone(), options) {
            Ok(log) => log,
            Err(error) => {
                around.checker.fail(rule::RECOVERY, format!("replica {id}: {error}"));
                return None;
            }
        };
        let replicas: Vec<u8> = (1..=plan.replicas as u8).collect();
        let mut config = Config::new(id, replicas, around.rng.word());
        (config.heartbeat, config.election) = (plan.heartbeat, plan.election);
        let mut recovered = match log.recovered(config.tail_entries as u64, config.tail_bytes) {
            Ok(recovered) => recovered,
            Err(error) => {
                around.checker.fail(rule::RECOVERY, format!("replica {id}: {error}"));
                return None;
            }
        };
        around.checker.recovered(id, recovered.tail.iter().map(|entry| entry.value.clone()).collect());
        if plan.broken == Some(Broken::ForgetPromise) {
            recovered.promised = Ballot::ZERO;
        }
        let paxos = Paxos::new(config, recovered, around.now);
        let mut replica = Self {
            id,
            disk,
            consensus: Consensus::new(paxos, log),
            given: Given::default(),
            outputs: Outputs::default(),
            crane: plan.crane.then(Crane::default),
            server: None,
            start_server_at: around.now,
            past: Past::default(),
            mail: VecDeque::new(),
            leading: None,
            clients: BTreeMap::new(),
            next_number: 1,
            listener: None,
            bubble: 0,
            syncing_until: None,
            slowness,
            clock_offset: 0,
        };
        replica.start_server(around);
        Some(replica)
    }

    /// Starts the server anew, from entry 0.
    pub fn start_server(&mut self, around: &mut Around<'_>) {
        let server = Server::start(around.plan.toy, self.slowness, around.now, around.rng.fork());
        server.platform.clock_offset.set(self.clock_offset);
        self.server = Some(server);
        self.given = Given::default();
        self.past = Past::default();
        self.listener = None;
        self.bubble = 0;
        self.start_server_at = u64::MAX;
        if let Some(leading) = &mut self.leading {
            leading.told = false;
        }
    }

    fn kill_server(&mut self, around: &mut Around<'_>, why: &str) {
        (around.trace)(format!("{} kills its server: {why}", self.id));
        self.server = None;
        self.start_server_at = around.now + SERVER_START_NS;
        self.outputs.clear();
        self.clear_crane();
        self.reset_clients(around);
    }

    fn clear_crane(&mut self) {
        if let Some(crane) = &mut self.crane {
            crane.clear();
        }
    }

    fn situation(&self) -> Option<Situation> {
        let (server, paxos) = (self.server.as_ref()?, self.consensus.paxos());
        let leads = self.leading.as_ref().is_some_and(|leading| leading.told);
        let sched = &server.kernel().sched;
        let settled =
            paxos.commit() == paxos.len() && sched.applied >= paxos.len() && self.given.next() == paxos.len();
        leads.then_some(Situation { settled, quiescent: !server.is_busy() })
    }

    /// Makes an entry if one is due under `--admission crane`.
    fn run_crane(&mut self, around: &mut Around<'_>) {
        let (Some(situation), Some(leading)) = (self.situation(), &self.leading) else { return };
        let Some(crane) = &mut self.crane else { return };
        if let Some(grant) = crane.due(around.now, situation) {
            let index = self.consensus.paxos().len();
            let clock = real_time(around.now, self.clock_offset);
            let value = crane.build(around.now, index, leading.ballot, clock, grant);
            // If it leads no more, its clients are about to be told.
            let _ = self.consensus.propose(index, value);
        }
    }

    fn reset_clients(&mut self, around: &mut Around<'_>) {
        for (_, client) in std::mem::take(&mut self.clients) {
            around.sent.push(Sent::Client(client.client, client.attempt, Reply::Reset));
        }
    }

    /// Clients that are connected: their numbers and attempts.
    pub fn clients(&self) -> impl Iterator<Item = (usize, u64)> {
        self.clients.values().map(|client| (client.client, client.attempt))
    }

    /// Gives it mail, to be read in its next turn.
    pub fn post(&mut self, mail: Mail) {
        self.mail.push_back(mail);
    }

    /// When the loop must turn at the latest.
    pub fn deadline(&self) -> u64 {
        let crane = self.crane.as_ref().zip(self.situation());
        let crane = crane.and_then(|(crane, situation)| crane.deadline(situation)).unwrap_or(u64::MAX);
        self.syncing_until.unwrap_or_else(|| self.consensus.deadline().min(self.start_server_at).min(crane))
    }

    /// True while it leads.
    pub fn is_leader(&self) -> bool {
        self.leading.is_some()
    }

    /// Entries that it knows to be decided, and those that its server applied.
    pub fn progress(&self) -> (u64, u64) {
        let applied = self.server.as_ref().map_or(0, |server| server.kernel().sched.applied);
        (self.consensus.paxos().commit(), applied)
    }

    /// One turn of the loop. While a sync is under way the thread is in it, and mail waits.
    pub fn turn(&mut self, around: &mut Around<'_>) {
        match self.syncing_until {
            Some(until) if around.now < until => return,
            Some(_) => {
                self.syncing_until = None;
                self.finish_sync(around);
            }
            None => {}
        }
        if self.server.is_none() && self.start_server_at <= around.now {
            self.start_server(around);
        }
        if let Some(server) = &self.server {
            server.link.woke();
        }
        while let Some(mail) = self.mail.pop_front() {
            self.read_mail(mail, around);
        }
        self.read_upcalls(around);
        if let Err(error) = self.consensus.tick(around.now) {
            around.checker.fail(rule::RECOVERY, error.to_string());
        }
        self.run_crane(around);
        self.act(around);
        self.feed(around);
        self.check(around);
        if let Some(server) = &mut self.server {
            let _ = server.wake();
        }
    }

    /// True if the server has written upcalls that wait; else the coordinator sleeps, and will be kicked.
    pub fn wants_turn(&mut self) -> bool {
        self.syncing_until.is_none()
            && self.server.as_ref().is_some_and(|server| !server.link.prepare_sleep())
    }

    fn finish_sync(&mut self, around: &mut Around<'_>) {
        let skips = around.plan.broken == Some(Broken::SkipSync) && around.rng.percent(20);
        if skips {
            self.disk.skip_syncs(1);
        }
        if let Err(error) = self.consensus.make_durable(around.now) {
            around.checker.fail(rule::RECOVERY, error.to_string());
        }
        let paxos = self.consensus.paxos();
        if skips {
            return;
        }
        around.checker.durable(self.id, paxos.len(), |index| paxos.entry(index).map(|e| e.value.clone()));
    }

    fn read_mail(&mut self, mail: Mail, around: &mut Around<'_>) {
        match mail {
            Mail::Message(from, message) => {
                self.consensus.input(around.now, Input::Message { from, message })
            }
            Mail::PeerUp(id) => self.consensus.input(around.now, Input::PeerConnected(id)),
            Mail::PeerDown(id) => self.consensus.input(around.now, Input::PeerDisconnected(id)),
            Mail::Connect(client, attempt) => self.connect(client, attempt, around),
            Mail::Bytes(client, attempt, bytes) => {
                self.client_event(client, attempt, EventKind::Data, &bytes);
                if around.plan.broken == Some(Broken::ApplyTwice) && around.rng.percent(5) {
                    self.repeat_event(client, attempt, &bytes);
                }
            }
            Mail::Fin(client, attempt) => self.client_event(client, attempt, EventKind::PeerClosed, &[]),
            Mail::Reset(client, attempt) => {
                self.client_event(client, attempt, EventKind::PeerReset, &[]);
                if let Some(connection) = self.connection(client, attempt) {
                    self.clients.remove(&connection);
                    self.outputs.drop_connection(connection);
                }
            }
        }
    }

    fn connection(&self, client: usize, attempt: u64) -> Option<u64> {
        self.clients.iter().find(|(_, c)| c.client == client && c.attempt == attempt).map(|(&id, _)| id)
    }

    fn connect(&mut self, client: usize, attempt: u64, around: &mut Around<'_>) {
        let ready = self.leading.as_ref().filter(|leading| leading.told);
        let (Some(leading), Some(listener), Some(server)) = (ready, self.listener, &mut self.server) else {
            return around.sent.push(Sent::Client(client, attempt, Reply::Reset));
        };
        let connection = leading.ballot << NUMBER_BITS | self.next_number;
        self.next_number += 1;
        let info = ConnectInfo {
            peer_address: [0; 16],
            local_address: [0; 16],
            peer_port: U16::new(10_000 + client as u16),
            local_port: U16::new(PORT),
            reserved: U32::new(0),
        };
        let head = event(EventKind::Connect, connection, 0, listener, size_of::<ConnectInfo>());
        put(&mut self.crane, server, &head, info.as_bytes());
        self.outputs.open(connection);
        self.clients
            .insert(connection, Client { client, attempt, sequence: 1, taken: 0, tags: VecDeque::new() });
        around.sent.push(Sent::Client(client, attempt, Reply::Accepted));
    }

    fn client_event(&mut self, client: usize, attempt: u64, kind: EventKind, bytes: &[u8]) {
        let Some(connection) = self.connection(client, attempt) else { return };
        self.push(connection, kind, 0, bytes);
    }

    fn push(&mut self, connection: u64, kind: EventKind, arg: u64, bytes: &[u8]) {
        let (Some(client), Some(server)) = (self.clients.get_mut(&connection), &mut self.server) else {
            return;
        };
        let head = event(kind, connection, client.sequence, arg, bytes.len());
        client.sequence += 1;
        put(&mut self.crane, server, &head, bytes);
    }

    /// The broken rule "an event is applied twice".
    fn repeat_event(&mut self, client: usize, attempt: u64, bytes: &[u8]) {
        let Some(connection) = self.connection(client, attempt) else { return };
        if let Some(client) = self.clients.get_mut(&connection) {
            client.sequence -= 1;
        }
        self.push(connection, EventKind::Data, 0, bytes);
    }

    fn read_upcalls(&mut self, around: &mut Around<'_>) {
        let mut end = None;
        let mut tainted = None;
        while let Some(server) = &mut self.server {
            self.past.admissions.append(&mut server.platform.admissions.borrow_mut());
            let Some(upcall) = server.link.next_upcall() else { break };
            end = Some(upcall.end);
            let head = *upcall.header;
            let (a, b, c, d) = (head.a.get(), head.b.get(), head.c.get(), head.d.get());
            match upcall.kind {
                UpcallKind::Applied if head.flags.get() & ADMITTED != 0 => {
                    let mut value = upcall.payload.to_vec();
                    server.link.pending_range(c, d, |bytes| value.extend_from_slice(bytes));
                    server.link.release_pending(d);
                    if let Err(why) = self.propose(a, value.into(), around) {
                        tainted = Some(why);
                    }
                    self.bubble = a;
                }
                UpcallKind::Applied => self.bubble = a,
                UpcallKind::Output => {
                    let bytes = upcall.payload.to_vec();
                    self.outputs.push_bytes(self.bubble, a, &bytes);
                    if let Some(client) = self.clients.get_mut(&a) {
                        client.tags.push_back((b + bytes.len() as u64, self.bubble));
                    }
                }
                UpcallKind::OutputEnd => {
                    self.outputs.push_mark(self.bubble, a, Item::End { reset: c == 1 });
                }
                UpcallKind::Closed => {
                    self.outputs.push_mark(self.bubble, a, Item::Closed);
                    self.given.closed(a);
                }
                UpcallKind::Listen => self.listener = Some(a),
                UpcallKind::Unlisten => self.listener = None,
                UpcallKind::Digest => {
                    self.past.digests.push_back(ServerDigest { entry: a, tick: b, value: c });
                }
                UpcallKind::Diverged => {
                    let why = String::from_utf8_lossy(upcall.payload).into_owned();
                    around.checker.fail(rule::DIVERGED, format!("replica {} at entry {a}: {why}", self.id));
                    tainted = Some("it diverged");
                }
                UpcallKind::Log => {
                    let line = String::from_utf8_lossy(upcall.payload).into_owned();
                    (around.trace)(format!("{} server says: {line}", self.id));
                }
                UpcallKind::Exited | UpcallKind::Consumed => {}
            }
        }
        if let (Some(server), Some(end)) = (&mut self.server, end) {
            server.link.release_upcall(end);
        }
        if let Some(why) = tainted {
            self.kill_server(around, why);
        }
    }

    /// The server admitted an entry.
    fn propose(&mut self, index: u64, value: Arc<[u8]>, around: &mut Around<'_>) -> Result<(), &'static str> {
        let head = *header(&value);
        if let Some(before) = self.past.applied.last() {
            around.checker.admitted(self.id, header(before), &head, &self.past.admissions);
        }
        self.past.admissions.retain(|look| look.tick >= head.stamp.get());
        let ballot = self.consensus.paxos().ballot().0;
        if self.leading.is_none() || head.ballot.get() != ballot || index != self.given.next() {
            return Err("it admitted an entry after its leadership");
        }
        if let Err(error) = self.consensus.propose(index, value.clone()) {
            (around.trace)(format!("{} cannot propose: {error}", self.id));
            return Err("an entry that it admitted could not be proposed");
        }
        self.give(&value, false);
        Ok(())
    }

    fn give(&mut self, value: &Arc<[u8]>, decided: bool) {
        self.given.give(value, decided);
        self.past.applied.push(value.clone());
    }

    /// Does what the consensus wants done, until nothing is left but what a sync must finish first.
    fn act(&mut self, around: &mut Around<'_>) {
        loop {
            let mut happenings = VecDeque::new();
            if let Err(error) = self.consensus.collect(around.now, &mut happenings) {
                around.checker.fail(rule::RECOVERY, error.to_string());
            }
            for happening in happenings {
                self.happen(happening, around);
            }
            if !self.consensus.needs_durability() {
                return;
            }
            if around.plan.durability == Durability::Disk {
                let slow = around.rng.percent(around.plan.slow_disk_percent);
                let takes = if slow {
                    around.rng.between(5, 80) * MILLIS
                } else {
                    around.rng.between(50_000, 500_000)
                };
                self.syncing_until = Some(around.now + takes);
                return;
            }
            self.finish_sync(around);
        }
    }

    fn happen(&mut self, happening: Happening, around: &mut Around<'_>) {
        match happening {
            Happening::Send { to, message } => around.sent.push(Sent::Peer(to, message)),
            Happening::Committed { from, to } => self.committed(from, to, around),
            Happening::BecameLeader { ballot, next } => self.became_leader(ballot.0, next, around),
            Happening::Demoted => self.demoted(around),
            Happening::Following(leader) => (around.trace)(format!("{} follows {leader}", self.id)),
            Happening::LeaderLost => (around.trace)(format!("{} lost its leader", self.id)),
        }
    }

    fn committed(&mut self, from: u64, to: u64, around: &mut Around<'_>) {
        for index in from..to {
            let Some(value) = self.consensus.recent(index).cloned() else {
                around
                    .checker
                    .fail(rule::AGREEMENT, format!("replica {} decided entry {index} without it", self.id));
                return;
            };
            around.checker.decided(self.id, index, &value);
            if self.given.decide(index, Some(&value)).is_err() && self.server.is_some() {
                self.kill_server(around, "another entry was decided than it applied");
            }
        }
        if let Some(server) = &self.server {
            server.link.set_committed(to);
        }
    }

    fn became_leader(&mut self, ballot: u64, next: u64, around: &mut Around<'_>) {
        (around.trace)(format!("{} leads in {}.{} from entry {next}", self.id, ballot >> 8, ballot & 255));
        let mut next = next;
        if next == 0 {
            let value =
                genesis(self.crane.is_some(), ballot, real_time(around.now, self.clock_offset), around.rng);
            if self.consensus.propose(0, value).is_err() {
                // It leads no more already.
                return;
            }
            next = 1;
        }
        self.leading = Some(Leading { ballot, next, told: false });
        self.next_number = 1;
        let lost = !self.given.is_in_log(|index| self.consensus.recent(index));
        if self.server.is_some() && lost && around.plan.broken != Some(Broken::LeadTainted) {
            self.kill_server(around, "it applied entries that its own log does not have");
        }
    }

    fn demoted(&mut self, around: &mut Around<'_>) {
        (around.trace)(format!("{} leads no more", self.id));
        self.leading = None;
        self.clear_crane();
        self.outputs.clear();
        self.reset_clients(around);
        if let Some(server) = &self.server {
            server.link.follow();
        }
    }

    /// Gives the server what it may have, releases what may be released, lets it lead.
    fn feed(&mut self, around: &mut Around<'_>) {
        let commit = self.consensus.paxos().commit();
        let speculates = self.leading.is_some() && self.crane.is_none();
        let limit = if speculates { self.consensus.paxos().len() } else { commit };
        while self.server.is_some() && self.given.next() < limit {
            let index = self.given.next();
            let Some(value) = self.consensus.recent(index).cloned() else { break };
            let Some(server) = &mut self.server else { break };
            if !server.link.push_entry(&value) {
                break;
            }
            self.give(&value, index < commit);
        }
        if let Some(server) = &self.server {
            server.link.set_committed(commit);
        }
        self.let_lead(around);
        self.release(commit, around);
    }

    fn let_lead(&mut self, around: &mut Around<'_>) {
        let (Some(leading), Some(server)) = (&mut self.leading, &mut self.server) else { return };
        if leading.told
            || !self.consensus.paxos().is_established()
            || self.given.next() < leading.next.max(self.consensus.paxos().len())
        {
            return;
        }
        leading.told = true;
        leading.next = self.given.next();
        let (next, ballot) = (leading.next, leading.ballot);
        if self.crane.is_some() {
            server.link.lead_crane();
        } else {
            server.link.lead(next, ballot);
        }
        (around.trace)(format!("{} lets its server lead from entry {next}", self.id));
        for (connection, sequence) in self.given.alive().collect::<Vec<_>>() {
            let head = event(EventKind::PeerReset, connection, sequence, 0, 0);
            put(&mut self.crane, server, &head, &[]);
        }
    }

    fn release(&mut self, commit: u64, around: &mut Around<'_>) {
        let early = u64::from(around.plan.broken == Some(Broken::ReleaseEarly));
        let mut changed = Vec::new();
        self.outputs.release(commit + early, |connection| changed.push(connection));
        for connection in changed {
            self.write(connection, around);
        }
    }

    fn write(&mut self, connection: u64, around: &mut Around<'_>) {
        let (Some(outbox), Some(client)) =
            (self.outputs.get_mut(connection), self.clients.get_mut(&connection))
        else {
            return;
        };
        let bytes = outbox.ready().to_vec();
        outbox.take(bytes.len());
        client.taken += bytes.len() as u64;
        while let Some(&(_, tag)) = client.tags.front().filter(|(end, _)| *end <= client.taken) {
            around.checker.released(self.id, tag, self.past.applied.get(tag as usize));
            client.tags.pop_front();
        }
        let (to, attempt, taken) = (client.client, client.attempt, client.taken);
        let (end, closed) = (outbox.end, outbox.closed);
        if !bytes.is_empty() {
            around.sent.push(Sent::Client(to, attempt, Reply::Bytes(bytes)));
            if around.rng.percent(5) {
                self.push(connection, EventKind::Drained, taken, &[]);
            }
        }
        if end == Some(true) || closed {
            let reply = if end == Some(true) { Reply::Reset } else { Reply::Fin };
            around.sent.push(Sent::Client(to, attempt, reply));
            self.clients.remove(&connection);
            self.outputs.drop_connection(connection);
        }
    }

    /// What must hold after every turn.
    fn check(&mut self, around: &mut Around<'_>) {
        if self.server.is_none() {
            return;
        }
        let commit = self.consensus.paxos().commit();
        around.checker.lives_on(self.id, commit, &self.past.applied, &mut self.past.checked);
        while let Some(&digest) = self.past.digests.front() {
            if !around.checker.digest(self.id, digest, &self.past.applied) {
                break;
            }
            self.past.digests.pop_front();
        }
    }

    /// Where its server stands, for people.
    pub fn describe(&self) -> String {
        let Some(server) = &self.server else { return "no server".to_owned() };
        let next = self.past.applied.get(server.kernel().sched.applied as usize);
        format!("{}\n    next entry {:?}", server.describe(), next.map(|value| header(value)))
    }

    /// What must hold whenever the server has run.
    pub fn check_server(&mut self, checker: &mut Checker) {
        let Some(server) = &self.server else { return };
        let sched = &server.kernel().sched;
        if sched.applied == 0 {
            return;
        }
        let last = self.past.applied.get(sched.applied as usize - 1);
        checker.at(self.id, sched.applied, sched.tick, sched.stamp, sched.bubble_end, last);
    }
}

/// Real time of a replica whose clock is off by `offset`.
fn real_time(now: u64, offset: i64) -> u64 {
    (super::platform::EPOCH_NS + now).saturating_add_signed(offset)
}

/// Gives an input to whoever makes the entries.
fn put(crane: &mut Option<Crane>, server: &mut Server, head: &EventHeader, bytes: &[u8]) {
    let intake: &mut dyn Intake = match crane {
        Some(crane) => crane,
        None => &mut server.link,
    };
    assert!(intake.put(head, bytes), "clients of a schedule never fill an entry or the pending ring");
}

fn genesis(crane: bool, ballot: u64, clock: u64, rng: &mut Rng) -> Arc<[u8]> {
    let mut secret = [0; 32];
    secret.fill_with(|| rng.word() as u8);
    let genesis = Genesis {
        secret,
        parameters: Parameters {
            primaries: U32::new(1),
            steps: U32::new(1),
            quantum: U32::new(rng.pick(&[1, 3, 20, 1024])),
            spin_limit_us: U32::new(2000),
        },
        crane: U32::new(u32::from(crane)),
        reserved: U32::new(0),
        fingerprint: [0; 16],
    };
    let header = EntryHeader::genesis(clock, dmt::bounds::MIN_GRANT_TICKS, ballot);
    [header.as_bytes(), genesis.as_bytes()].concat().into()
}
