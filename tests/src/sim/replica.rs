//! One simulated replica: the coordinator's driver, clients and frames, without an operating system.
//!
//! Here stands what `coordinator::replica::run` does with sockets, processes and clocks, done with simulated ones: what
//! comes in is handed to the driver, and what the driver wants done is done.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use coordinator::log::{Durability, MemoryDisk};
use coordinator::paxos::{MILLIS, Message};
use coordinator::replica::clients::Clients;
use coordinator::replica::datagrams::Stream;
use coordinator::replica::driver::{Driver, Effect, Moment, News, Next, Origin, Rebuild};
use coordinator::replica::frames;
use coordinator::replica::outbound::{self, Rule};
use coordinator::replica::schedule::{Every, Schedule};

use super::check::rule;
use super::checkpoints::Stage;
use super::image::Shelf;
use super::mail::{Around, Mail, Reply, Sent};
use super::members::Stewardship;
use super::opening::open;
use super::plan::Broken;
use super::server::Server;
use super::socket::{SimSocket, Wire};
use super::transfers::Transfer;
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
    /// Its checkpoints, which outlive it.
    pub(super) shelf: Shelf,
    pub(super) schedule: Schedule,
    pub(super) stage: Stage,
    pub(super) transfer: Transfer,
    pub(super) stewardship: Stewardship,
    /// Peers with which it is connected.
    pub(super) connected: BTreeSet<u8>,
    mail: VecDeque<Mail>,
    /// Leadership under which clients are served.
    pub(super) ballot: u64,
    /// Decided entries that the checkers know of from this replica.
    pub(super) told: u64,
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
    pub fn start(
        id: u8,
        (disk, shelf): (MemoryDisk, Shelf),
        slowness: u64,
        around: &mut Around<'_>,
    ) -> Option<Self> {
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
        let every =
            (around.plan.checkpoint_every > 0).then_some(Every::Entries(around.plan.checkpoint_every));
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
            shelf,
            schedule: Schedule::new(every, id, around.plan.replicas as u8),
            stage: Stage::None,
            transfer: Transfer::default(),
            stewardship: Stewardship::default(),
            connected: BTreeSet::new(),
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

    /// Starts a server from a checkpoint or, if the log is whole, from nothing. Else a checkpoint is fetched first.
    fn start_server(&mut self, around: &mut Around<'_>) {
        self.start_server_at = u64::MAX;
        let (toy, rng) = (around.plan.toy, around.rng.fork());
        let image = self.usable_image(around);
        let server = match &image {
            Some(image) => {
                let of = (self.id, &**image, &mut *around.checker);
                Server::restore(toy, self.slowness, around.now, rng, of)
            }
            None if self.driver.consensus.paxos().first() > 0 => return self.want_state(),
            None => Server::start(toy, self.slowness, around.now, rng),
        };
        self.has_state();
        server.platform.clock_offset.set(self.clock_offset);
        self.driver.server_started(&server.link);
        self.tap = Wiretap::default();
        if let Some(image) = image {
            (around.trace)(format!("{} restores the checkpoint at entry {}", self.id, image.held.entry));
            around.images.restores += 1;
            self.tap = Wiretap::restored(&image, &server.arena().shared);
            let skips = u64::from(around.plan.broken == Some(Broken::DropTail));
            self.driver.server_restored(image.held.entry + skips, &image.connections);
        }
        self.server = Some(server);
    }

    fn kill_server(&mut self, around: &mut Around<'_>, why: &Rebuild) {
        (around.trace)(format!("{} kills its server: {why}", self.id));
        self.server = None;
        self.start_server_at = around.now + SERVER_START_NS;
        self.checkpoint_lost_server();
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
        if self.driver.consensus.has_outputs() {
            return now;
        }
        let link = self.server.as_ref().map(|server| &server.link);
        let crane = self.driver.crane_deadline(now, link).unwrap_or(u64::MAX);
        let room = if self.clients.waits_for_room() { now + ROOM_RETRY_NS } else { u64::MAX };
        let wake = self.driver.wake_deadline().unwrap_or(u64::MAX);
        let tends = self.stage.deadline(now).min(self.transfer.deadline());
        self.driver.consensus.deadline().min(self.start_server_at).min(crane).min(room).min(wake).min(tends)
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

    /// True if it is no member any more, and has to end.
    pub fn is_removed(&self) -> bool {
        self.stewardship.removed
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
            of_peers.extend(self.read_mail(mail, around));
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
        if self.syncing_until.is_none() {
            self.tend_checkpoint(around);
            self.tend_transfers(around);
        }
        match self.driver.take_rebuild() {
            Some(Rebuild::NotInLog | Rebuild::Overruled(_))
                if around.plan.broken == Some(Broken::KeepTainted) => {}
            Some(why) => self.kill_server(around, &why),
            None => {}
        }
        self.tend_members(around);
        self.send_to_clients(around);
        // What a checkpoint that was just taken over means for the server is found out in the next turn.
        if self.server.is_some() && !self.driver.consensus.has_outputs() {
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

    /// Does what the consensus wants done, until nothing is left but what a sync must finish first.
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
            Effect::Behind(first) => self.transfer.behind = Some(first),
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
}
