//! One simulated replica: the coordinator's driver, clients and frames, without an operating system.
//!
//! Here stands what `coordinator::replica::run` does with sockets, processes and clocks, done with simulated ones: what
//! comes in is handed to the driver, and what the driver wants done is done.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use coordinator::log::{Durability, MemoryDisk};
use coordinator::paxos::{Ballot, Input, MILLIS, Message};
use coordinator::replica::clients::Clients;
use coordinator::replica::datagrams::Stream;
use coordinator::replica::driver::{Driver, Effect, Moment, News, Next, Origin, Rebuild};
use coordinator::replica::frames;
use coordinator::replica::outbound::{self, Rule};

use super::check::{Checker, header, rule};
use super::mail::{Around, Mail, Reply, Sent};
use super::opening::open;
use super::plan::Broken;
use super::server::Server;
use super::socket::{SimSocket, Wire};
use super::wiretap::Wiretap;

/// A killed server's successor starts after this, nanoseconds.
const SERVER_START_NS: u64 = 3 * MILLIS;
/// How soon to look again whether the server has room for inputs, nanoseconds.
const ROOM_RETRY_NS: u64 = 5 * MILLIS;

/// See the module.
pub struct Replica {
    pub(super) id: u8,
    disk: MemoryDisk,
    pub(super) driver: Driver<MemoryDisk>,
    pub(super) clients: Clients<SimSocket>,
    pub(super) stream: Stream,
    pub(super) wires: Vec<Rc<RefCell<Wire>>>,
    /// The server, unless it is being started again.
    pub server: Option<Server>,
    /// When a server is to be started.
    pub start_server_at: u64,
    pub(super) tap: Wiretap,
    mail: VecDeque<Mail>,
    /// Leadership under which clients are served.
    pub(super) ballot: u64,
    /// Decided entries that the checkers know of from this replica.
    told: u64,
    was_full: bool,
    /// A sync is under way until then.
    pub syncing_until: Option<u64>,
    /// Percent of a work's nominal time that its CPU needs.
    pub slowness: u64,
    /// What its clock is off by.
    pub clock_offset: i64,
}

impl Replica {
    /// Opens the log on `disk` and starts; `None` if the disk is full.
    pub fn start(id: u8, disk: MemoryDisk, slowness: u64, around: &mut Around<'_>) -> Option<Self> {
        let consensus = match open(id, &disk, around) {
            Ok(consensus) => consensus,
            Err(error) if error.is_full() => return None,
            Err(error) => {
                around.checker.fail(rule::RECOVERY, format!("replica {id}: {error}"));
                return None;
            }
        };
        let mut secret = [0; 32];
        secret.fill_with(|| around.rng.word() as u8);
        let origin = Origin {
            secret,
            quantum: around.rng.pick(&[1, 3, 20, 1024]),
            spin_limit_us: 2000,
            fingerprint: [0; 16],
        };
        let told = consensus.paxos().commit();
        let mut replica = Self {
            id,
            disk,
            driver: Driver::new(id, consensus, origin, around.plan.crane),
            clients: Clients::default(),
            stream: Stream::default(),
            wires: Vec::new(),
            server: None,
            start_server_at: around.now,
            tap: Wiretap::default(),
            mail: VecDeque::new(),
            ballot: 0,
            told,
            was_full: false,
            syncing_until: None,
            slowness,
            clock_offset: 0,
        };
        let own = [std::net::IpAddr::from([192, 0, 2, 1])];
        replica.driver.outbound = outbound::payload(&own, &[Rule { address: None, port: 0 }]);
        replica.start_server(around);
        Some(replica)
    }

    fn start_server(&mut self, around: &mut Around<'_>) {
        let server = Server::start(around.plan.toy, self.slowness, around.now, around.rng.fork());
        server.platform.clock_offset.set(self.clock_offset);
        self.driver.server_started(&server.link);
        self.server = Some(server);
        self.tap = Wiretap::default();
        self.start_server_at = u64::MAX;
    }

    fn kill_server(&mut self, around: &mut Around<'_>, why: &Rebuild) {
        (around.trace)(format!("{} kills its server: {why}", self.id));
        self.server = None;
        self.start_server_at = around.now + SERVER_START_NS;
        self.clients.close_all();
        self.driver.server_ended();
    }

    /// Gives it mail, to be read in its next turn.
    pub fn post(&mut self, mail: Mail) {
        self.mail.push_back(mail);
    }

    /// When the loop must turn at the latest.
    pub fn deadline(&self, now: u64) -> u64 {
        if let Some(until) = self.syncing_until {
            return until;
        }
        let link = self.server.as_ref().map(|server| &server.link);
        let crane = self.driver.crane_deadline(now, link).unwrap_or(u64::MAX);
        let room = if self.clients.waits_for_room() { now + ROOM_RETRY_NS } else { u64::MAX };
        let wake = self.driver.wake_deadline().unwrap_or(u64::MAX);
        self.driver.consensus.deadline().min(self.start_server_at).min(crane).min(room).min(wake)
    }

    /// True, once, if it found its disk full.
    pub fn found_disk_full(&mut self) -> bool {
        let full = self.driver.consensus.disk_full();
        full && !std::mem::replace(&mut self.was_full, full)
    }

    /// True while it leads.
    pub fn is_leader(&self) -> bool {
        self.driver.leads()
    }

    /// Entries that it knows to be decided, and those that its server applied.
    pub fn progress(&self) -> (u64, u64) {
        let applied = self.server.as_ref().map_or(0, |server| server.kernel().sched.applied);
        (self.driver.consensus.paxos().commit(), applied)
    }

    fn moment(&self, around: &Around<'_>) -> Moment {
        let wall = (super::platform::EPOCH_NS + around.now).saturating_add_signed(self.clock_offset);
        Moment { now: around.now, wall }
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
        let mut of_peers = Vec::new();
        while let Some(mail) = self.mail.pop_front() {
            match self.read_mail(mail, around) {
                Ok(input) => of_peers.push(input),
                Err(client) => self.hear_client(client, around),
            }
        }
        self.serve_clients(around);
        self.read_upcalls(around);
        self.admit_for_idle_server(around);
        let link = self.server.as_ref().map(|server| &server.link);
        self.driver.consensus.set_lag(self.driver.lag(link));
        of_peers.into_iter().for_each(|input| self.driver.consensus.input(around.now, input));
        if let Err(error) = self.driver.consensus.tick(around.now) {
            around.checker.fail(rule::RECOVERY, error.to_string());
        }
        let (moment, link) = (self.moment(around), self.server.as_ref().map(|server| &server.link));
        self.driver.run_crane(moment, link);
        self.act(around);
        self.send_to_clients(around);
        if self.server.is_some() {
            self.tap.check(self.id, self.driver.consensus.paxos().commit(), around.checker);
        }
        if let Some(server) = &mut self.server
            && self.driver.take_wake(around.now, &server.link)
        {
            server.wake();
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
        if let Err(error) = self.driver.make_durable(around.now) {
            around.checker.fail(rule::RECOVERY, error.to_string());
        }
        if !skips {
            self.tell_durable(around);
        }
    }

    fn tell_durable(&mut self, around: &mut Around<'_>) {
        let (paxos, log) = (self.driver.consensus.paxos(), self.driver.consensus.log());
        let blocked = self.driver.consensus.disk_full();
        let len = if blocked { log.len() } else { paxos.len() };
        around.checker.durable(self.id, len, |index| match paxos.entry(index) {
            // While writes wait for space, Paxos knows more than the disk.
            Some(entry) if !blocked => Some(entry.value.clone()),
            _ => {
                let mut entries = Vec::new();
                log.read(index, index + 1, 1, &mut entries).ok()?;
                entries.pop().map(|entry| entry.value)
            }
        });
    }

    /// What a peer's mail is to Paxos, or the mail, if it is a client's.
    fn read_mail(&self, mail: Mail, around: &mut Around<'_>) -> Result<Input, Mail> {
        Ok(match mail {
            Mail::Frame(from, frame) => Input::Message { from, message: self.decode(&frame, around) },
            Mail::PeerUp(id) => Input::PeerConnected(id),
            Mail::PeerDown(id) => Input::PeerDisconnected(id),
            client => return Err(client),
        })
    }

    fn decode(&self, frame: &[u8], around: &mut Around<'_>) -> Message {
        match frames::take(frame) {
            Ok(Some((frames::Frame::Paxos(message), len))) if len == frame.len() => message,
            other => {
                let detail = format!("replica {} reads a frame as {other:?}", self.id);
                around.checker.fail(rule::AGREEMENT, detail);
                Message::Nack { promised: Ballot::ZERO }
            }
        }
    }

    fn admit_for_idle_server(&mut self, around: &mut Around<'_>) {
        let wall = self.moment(around).wall;
        let Some(server) = &mut self.server else { return };
        self.driver.admit_for_idle_server(wall, &mut server.link);
        self.tap.follow(self.id, &self.driver, around.checker);
    }

    fn read_upcalls(&mut self, around: &mut Around<'_>) {
        let Some(server) = &mut self.server else { return };
        let mut looks = server.platform.admissions.take();
        self.tap.listen(self.id, &server.arena().shared, &mut looks, around.checker);
        let (mut news, mut effects) = (Vec::new(), Vec::new());
        self.driver.read_upcalls(&mut server.link, &mut news, &mut effects);
        self.tap.follow(self.id, &self.driver, around.checker);
        for item in news {
            match item {
                News::Consumed { connection, total } => self.clients.consumed(&(), connection, total),
                News::Log { text, .. } => (around.trace)(format!("{} server says: {text}", self.id)),
                News::Diverged { entry, .. } => {
                    self.driver.diverged(entry);
                }
                // What the wiretap knows already, and what a toy server never says.
                News::Digest(_)
                | News::Listens(_)
                | News::Unlistens { .. }
                | News::Signalled { .. }
                | News::Membership { .. }
                | News::Exited { .. } => {}
            }
        }
        effects.into_iter().for_each(|effect| self.perform(effect, around));
        self.release_early(around);
    }

    /// Does what the consensus wants done, until nothing is left but what a sync must finish first, and ends a server whose
    /// state is worthless.
    fn act(&mut self, around: &mut Around<'_>) {
        let mut effects = Vec::new();
        loop {
            let (moment, link) = (self.moment(around), self.server.as_mut().map(|server| &mut server.link));
            let next = match self.driver.act(moment, link, &mut effects) {
                Ok(next) => next,
                Err(error) => return around.checker.fail(rule::RECOVERY, error.to_string()),
            };
            self.tap.follow(self.id, &self.driver, around.checker);
            self.tell_decided(around);
            effects.drain(..).for_each(|effect| self.perform(effect, around));
            self.release_early(around);
            match next {
                Next::Again => {}
                Next::Rest => break,
                Next::Sync if around.plan.durability == Durability::Memory => self.finish_sync(around),
                Next::Sync => {
                    let slow = around.rng.percent(around.plan.slow_disk_percent);
                    let (least, most) = if slow { (5 * MILLIS, 80 * MILLIS) } else { (50_000, 500_000) };
                    self.syncing_until = Some(around.now + around.rng.between(least, most));
                    break;
                }
            }
        }
        match self.driver.take_rebuild() {
            Some(Rebuild::NotInLog) if around.plan.broken == Some(Broken::LeadTainted) => {}
            Some(why) => self.kill_server(around, &why),
            None => {}
        }
    }

    fn tell_decided(&mut self, around: &mut Around<'_>) {
        let commit = self.driver.consensus.paxos().commit();
        while self.told < commit {
            match self.driver.consensus.read(self.told, commit, 1) {
                Ok(values) if !values.is_empty() => {
                    for value in values {
                        around.checker.decided(self.id, self.told, &value);
                        self.told += 1;
                    }
                }
                _ => {
                    let detail = format!("replica {} decided entry {} without it", self.id, self.told);
                    return around.checker.fail(rule::AGREEMENT, detail);
                }
            }
        }
    }

    fn perform(&mut self, effect: Effect, around: &mut Around<'_>) {
        match effect {
            Effect::Send { to, message } => {
                let promises = matches!(message, Message::Promise { trial: false, granted: true, .. });
                let mut frame = Vec::new();
                frames::put_message(&message, &mut frame);
                around.sent.push(Sent::Peer { to, frame, promises });
            }
            Effect::Released(connection) => self.released(connection),
            Effect::Dial { connection, .. } => {
                self.dial(connection, around);
                if around.plan.broken == Some(Broken::DialTwice) && around.rng.percent(20) {
                    self.dial(connection, around);
                }
            }
            Effect::Datagrams => self.send_datagrams(around),
            Effect::StopServing => {
                (around.trace)(format!("{} leads no more", self.id));
                self.clients.close_all();
            }
            Effect::Serve { ballot } => {
                let (round, given) = (ballot >> 8, self.driver.given());
                (around.trace)(format!("{} serves in {round}.{} from entry {given}", self.id, ballot & 255));
                self.ballot = ballot;
                self.clients.begin(ballot);
                self.stream.begin(ballot);
            }
            Effect::Behind(first) => {
                let detail = format!("replica {} is told that the log begins at {first}", self.id);
                around.checker.fail(rule::RECOVERY, detail);
            }
            Effect::Role { .. } => {
                let (phase, leader) = (self.driver.phase(), self.driver.leader());
                (around.trace)(format!("{} is {phase:?}, the leader is {leader:?}", self.id));
            }
        }
    }

    /// The broken rule "output leaves one entry too early".
    fn release_early(&mut self, around: &mut Around<'_>) {
        if around.plan.broken != Some(Broken::ReleaseEarly) {
            return;
        }
        let mut changed = Vec::new();
        let commit = self.driver.consensus.paxos().commit();
        let link = self.server.as_mut().map(|server| &mut server.link);
        if let Some((_, outputs)) = self.driver.intake(link) {
            outputs.release(commit + 1, |connection| changed.push(connection));
        }
        changed.into_iter().for_each(|connection| self.released(connection));
    }

    /// Its answer to a client.
    pub(super) fn reply(&self, around: &mut Around<'_>, wire: &Wire, reply: Reply) {
        around.sent.push(Sent::Client(wire.client, wire.attempt, reply));
    }

    /// Where its server stands, for people.
    pub fn describe(&self) -> String {
        let Some(server) = &self.server else { return "no server".to_owned() };
        let next: Option<&Arc<[u8]>> = self.tap.applied(server.kernel().sched.applied);
        format!("{}\n    next entry {:?}", server.describe(), next.map(|value| header(value)))
    }

    /// What must hold whenever the server has run.
    pub fn check_server(&mut self, checker: &mut Checker) {
        let Some(server) = &self.server else { return };
        let sched = &server.kernel().sched;
        if sched.applied > 0 {
            let last = self.tap.applied(sched.applied - 1);
            checker.at(self.id, sched.applied, sched.tick, sched.stamp, sched.bubble_end, last);
        }
    }
}
