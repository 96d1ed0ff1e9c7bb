//! The loop of one replica: one thread, one epoll.
//!
//! A turn takes all that is ready, gives inputs to the server, does what consensus asks for, releases what is decided, and
//! sleeps until something happens. While nothing happens only heartbeats and the status wake it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dmt::bounds::POOL_HIGH_WATER_BLOCKS;
use dmt::entry::ConnectInfo;
use nix::sys::epoll::EpollFlags;
use nix::sys::eventfd::EventFd;

use super::clients::Clients;
use super::config::{Admission, Durability, ReplicaConfig, ToReplica};
use super::consensus::{Consensus, Happening};
use super::crane::{Crane, Situation};
use super::digests::{Book, Report};
use super::entries::Given;
use super::error::ReplicaError;
use super::intake::Intake;
use super::keeper::Keeper;
use super::outputs::Outputs;
use super::peers::{PeerNews, Peers};
use super::poll::{Poll, Ready, Token};
use super::ports::{ACCEPTS_PER_TURN, Ports};
use super::relay::Relay;
use super::server::{Recipe, Server, drain_kick, make_kick};
use super::status::ReplicaStatus;
use super::tls::Tls;
use crate::channel::{Channel, Received};
use crate::log::{self, Directory, Log, Options, SEGMENT_BYTES};
use crate::paxos::{self, Config, Input, Paxos};

/// Longest sleep, nanoseconds; also how often the supervisor gets a status.
pub const STATUS_NS: u64 = 1_000_000_000;
/// How soon to look again whether the server has room for inputs, nanoseconds.
const ROOM_RETRY_NS: u64 = 5_000_000;

/// Where this replica stands between follower and leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Feeds decided entries to its server.
    Follower,
    /// Was elected; feeds all entries below `next` to its server, decided or not.
    TakingOver {
        /// The leadership.
        ballot: u64,
        /// First index that it may admit itself.
        next: u64,
    },
    /// Its server admits, its clients are served.
    Leading {
        /// The leadership.
        ballot: u64,
    },
}

/// See the module. The fields are what the other files of this module work on.
pub(super) struct Replica {
    pub(super) id: u8,
    pub(super) cluster_fingerprint: [u8; 16],
    pub(super) parameters: (u32, u32),
    pub(super) durability: Durability,
    pub(super) log_directory: std::path::PathBuf,
    pub(super) started: Instant,
    pub(super) poll: Poll,
    pub(super) kick: Arc<EventFd>,
    pub(super) supervisor: Channel,
    pub(super) server: Option<Server>,
    pub(super) keeper: Keeper,
    pub(super) consensus: Consensus,
    pub(super) peers: Peers,
    pub(super) phase: Phase,
    pub(super) leader: Option<u8>,
    pub(super) given: Given,
    /// Entries read from the log and not yet taken by the server, the first at `given.next()`.
    pub(super) replay: VecDeque<Arc<[u8]>>,
    /// The entry in whose bubble the server is, as far as upcalls were read.
    pub(super) current_entry: u64,
    pub(super) clients: Clients,
    pub(super) outputs: Outputs,
    pub(super) ports: Ports,
    pub(super) relay: Relay,
    pub(super) crane: Option<Crane>,
    pub(super) book: Book,
    pub(super) report: Report,
    pub(super) status: ReplicaStatus,
    pub(super) status_at: u64,
    /// The server must be told of changes.
    pub(super) wake: bool,
    /// The pending ring's tail when the server was last told.
    pub(super) told_tail: u64,
    /// The server's state is worthless, and why.
    pub(super) rebuild: Option<String>,
    /// Divergences in a row.
    pub(super) divergences: u32,
    pub(super) fenced: bool,
    pub(super) stop: bool,
}

/// Runs a replica until its supervisor stops it or is gone.
pub fn run(config: ReplicaConfig) -> Result<(), ReplicaError> {
    raise_file_limit();
    Replica::start(config)?.run_loop()
}

/// Takes as many descriptors as the system gives: each client connection is one. Where they are fewer than
/// `MAX_CONNECTIONS`, `accept` says so.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

impl Replica {
    fn start(config: ReplicaConfig) -> Result<Self, ReplicaError> {
        let poll = Poll::new().map_err(ReplicaError::system("make an epoll"))?;
        let started = Instant::now();
        let consensus = open_consensus(&config)?;
        let tls = Tls::load(&config.keys)?;
        let address = config.members.iter().find(|m| m.id == config.id).map(|m| m.peer_address);
        let peers = Peers::new(config.id, &config.members, tls, &poll)
            .map_err(|source| ReplicaError::PeerAddress { address: address_text(address), source })?;
        let kick = make_kick().map_err(|e| ReplicaError::system("make an eventfd")(e.into()))?;
        let kick = Arc::new(kick);
        poll.add(&*kick, Token::Kick, EpollFlags::EPOLLIN)
            .map_err(ReplicaError::system("watch the eventfd"))?;
        config.supervisor.set_nonblocking(true).map_err(ReplicaError::system("set up the channel"))?;
        poll.add(&config.supervisor, Token::Supervisor, EpollFlags::EPOLLIN)
            .map_err(ReplicaError::system("watch the supervisor's channel"))?;
        let recipe =
            Recipe { spec: config.server, preload: config.preload, cluster: config.cluster, id: config.id };
        let keeper = Keeper::new(recipe, kick.clone())?;
        let mut replica = Self {
            id: config.id,
            cluster_fingerprint: config.fingerprint,
            parameters: (config.quantum, config.spin_limit_us),
            durability: config.durability,
            log_directory: config.log_directory,
            started,
            poll,
            kick,
            supervisor: config.supervisor,
            server: None,
            keeper,
            consensus,
            peers,
            phase: Phase::Follower,
            leader: None,
            given: Given::default(),
            replay: VecDeque::new(),
            current_entry: 0,
            clients: Clients::default(),
            outputs: Outputs::default(),
            ports: Ports::default(),
            relay: Relay::default(),
            crane: (config.admission == Admission::Crane).then(Crane::default),
            book: Book::default(),
            report: Report::default(),
            status: ReplicaStatus { id: config.id, ..ReplicaStatus::default() },
            status_at: 0,
            wake: false,
            told_tail: 0,
            rebuild: None,
            divergences: 0,
            fenced: false,
            stop: false,
        };
        replica.check_genesis()?;
        replica.keeper.start();
        Ok(replica)
    }

    /// Nanoseconds since this process started its replica.
    pub(super) fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn run_loop(&mut self) -> Result<(), ReplicaError> {
        let mut ready = Vec::new();
        while !self.stop {
            let timeout = self.sleep_time();
            self.poll.wait(timeout, &mut ready).map_err(ReplicaError::system("wait for events"))?;
            if let Some(server) = &self.server {
                server.link.woke();
            }
            let begun = self.now();
            self.turn(&ready)?;
            self.note_turn(self.now() - begun);
        }
        Ok(())
    }

    fn turn(&mut self, ready: &[Ready]) -> Result<(), ReplicaError> {
        let mut news = Vec::new();
        for event in ready {
            self.dispatch(*event, &mut news)?;
        }
        self.take_server()?;
        self.resume_clients();
        // Let the server run while the rest of this turn is done.
        self.wake_server();
        self.drain_upcalls();
        let now = self.now();
        self.peers.tick(&self.poll, now, &mut news);
        self.consensus.set_lag(self.lag());
        self.take_peer_news(now, &mut news);
        self.consensus.tick(now)?;
        self.run_crane(now);
        self.settle(now)?;
        self.report_digests(now);
        self.flush_peers(now)?;
        if let Some(reason) = self.rebuild.take() {
            self.rebuild_server(&reason);
        }
        self.send_status_if_due(now);
        self.wake_server();
        Ok(())
    }

    /// Does what consensus wants until nothing is left to do.
    fn settle(&mut self, now: u64) -> Result<(), ReplicaError> {
        let mut happenings = Vec::new();
        loop {
            self.consensus.collect(now, &mut happenings)?;
            let quiet = happenings.is_empty();
            for happening in happenings.drain(..) {
                self.happen(happening)?;
            }
            self.feed()?;
            if self.consensus.needs_durability() {
                if self.durability == Durability::Disk {
                    // What peers have to do needs no waiting for the own disk.
                    self.peers.flush(&self.poll, &mut Vec::new());
                }
                self.consensus.make_durable(now)?;
                continue;
            }
            if quiet && !self.consensus.has_outputs() {
                return Ok(());
            }
        }
    }

    fn happen(&mut self, happening: Happening) -> Result<(), ReplicaError> {
        match happening {
            Happening::Send { to, message } => self.peers.send(to, &message),
            Happening::Committed { from, to } => self.committed(from, to)?,
            Happening::BecameLeader { ballot, next } => self.became_leader(ballot.0, next)?,
            Happening::Demoted => self.demoted(),
            Happening::Following(leader) => self.leader_changed(Some(leader)),
            Happening::LeaderLost => self.leader_changed(None),
        }
        Ok(())
    }

    fn dispatch(&mut self, event: Ready, news: &mut Vec<PeerNews>) -> Result<(), ReplicaError> {
        match event.token {
            Token::Kick => drain_kick(&self.kick),
            Token::Supervisor => self.hear_supervisor()?,
            Token::Container => self.hear_container(),
            Token::PeerListener => {
                let now = self.now();
                self.peers.accept(&self.poll, now);
            }
            Token::Peer(key) => self.peers.ready(&self.poll, key, event, news),
            Token::Listener(token) => self.accept_clients(token),
            Token::Client(number) => self.client_ready(number, event),
            Token::Relay(token) => self.relay.ready(&self.poll, token),
        }
        Ok(())
    }

    fn hear_supervisor(&mut self) -> Result<(), ReplicaError> {
        loop {
            let received = self.supervisor.receive::<ToReplica>();
            match received.map_err(ReplicaError::system("hear from the supervisor"))? {
                Received::Message(ToReplica::Publish { server_port, address, own }, sockets) => {
                    self.ports
                        .publish(&self.poll, (server_port, address), sockets, own)
                        .map_err(ReplicaError::system("take a published port"))?;
                    self.watch_ports();
                }
                Received::Message(ToReplica::CorruptNext, _) => {
                    if let Some(server) = &self.server {
                        server.link.control().corrupt_next.store(1, Ordering::SeqCst);
                    }
                }
                Received::Message(ToReplica::Stop, _) | Received::Closed => {
                    self.stop = true;
                    return Ok(());
                }
                Received::Empty => return Ok(()),
            }
        }
    }

    /// Accepts from the sockets for which it is time.
    pub(super) fn watch_ports(&mut self) {
        let leading = matches!(self.phase, Phase::Leading { .. });
        let listeners = &self.status.listeners;
        let serve = |port: u16| leading && listeners.iter().any(|listener| listener.port == port);
        let relay = !leading && self.phase == Phase::Follower && self.leader.is_some_and(|id| id != self.id);
        self.ports.watch(&self.poll, serve, relay);
    }

    fn accept_clients(&mut self, token: u64) {
        for _ in 0..ACCEPTS_PER_TURN {
            if matches!(self.phase, Phase::Leading { .. }) {
                let listener = self.ports.listener(token, &self.status.listeners);
                let Some(listener) = listener.map(|listener| (listener.id, listener.port)) else { return };
                if !self.intake().is_some_and(|(intake, ..)| intake.has_room(size_of::<ConnectInfo>())) {
                    return;
                }
                let Some(socket) = self.ports.accept(token) else { return };
                let Some((intake, clients, outputs, poll)) = self.intake() else { return };
                clients.open(poll, intake, outputs, socket, listener);
            } else {
                let leader = self.leader.filter(|id| *id != self.id);
                let Some(address) = leader.and_then(|id| self.ports.address_of(token, id)) else { return };
                let Some(socket) = self.ports.accept(token) else { return };
                self.relay.open(&self.poll, socket, address);
            }
        }
    }

    /// Where inputs go, and what else the client side works on; `None` while there is no server.
    pub(super) fn intake(&mut self) -> Option<(&mut dyn Intake, &mut Clients, &mut Outputs, &Poll)> {
        let intake: &mut dyn Intake = match &mut self.crane {
            Some(crane) => crane,
            None => &mut self.server.as_mut()?.link,
        };
        Some((intake, &mut self.clients, &mut self.outputs, &self.poll))
    }

    /// True while no client may be read.
    fn paused(&self) -> bool {
        let pool = self.server.as_ref().map(|s| s.link.control().pool_used.load(Ordering::Relaxed));
        self.consensus.disk_full() || pool.is_none_or(|used| used > POOL_HIGH_WATER_BLOCKS)
    }

    fn client_ready(&mut self, number: u64, event: Ready) {
        let paused = self.paused();
        if let Some((intake, clients, outputs, poll)) = self.intake() {
            clients.ready(poll, intake, outputs, number, event, paused);
        }
    }

    fn resume_clients(&mut self) {
        if self.clients.waits_for_room() {
            let paused = self.paused();
            if let Some((intake, clients, outputs, poll)) = self.intake() {
                clients.resume(poll, intake, outputs, paused);
            }
        }
    }

    pub(super) fn wake_server(&mut self) {
        let Some(server) = &self.server else { return };
        let tail = server.link.pending_tail();
        let inputs = std::mem::replace(&mut self.told_tail, tail) != tail;
        if std::mem::take(&mut self.wake) || inputs {
            server.wake();
        }
    }

    fn take_peer_news(&mut self, now: u64, news: &mut Vec<PeerNews>) {
        for item in news.drain(..) {
            match item {
                PeerNews::Connected(id) => self.consensus.input(now, Input::PeerConnected(id)),
                PeerNews::Disconnected(id) => self.consensus.input(now, Input::PeerDisconnected(id)),
                PeerNews::Frame(from, frame) => self.peer_frame(now, from, frame),
            }
        }
    }

    fn flush_peers(&mut self, now: u64) -> Result<(), ReplicaError> {
        let mut news = Vec::new();
        self.peers.flush(&self.poll, &mut news);
        if news.is_empty() {
            return Ok(());
        }
        self.take_peer_news(now, &mut news);
        self.settle(now)
    }

    /// Decided entries that the server has not applied.
    fn lag(&self) -> u64 {
        let applied = self.server.as_ref().map_or(0, |s| s.link.control().applied.load(Ordering::Relaxed));
        self.consensus.paxos().commit().saturating_sub(applied)
    }

    fn run_crane(&mut self, now: u64) {
        let Phase::Leading { ballot } = self.phase else { return };
        let situation = self.situation();
        let Some(crane) = &mut self.crane else { return };
        if let Some(grant) = crane.due(now, situation) {
            let index = self.consensus.paxos().len();
            let value = crane.build(now, index, ballot, wall_clock(), grant);
            if let Err(error) = self.consensus.propose(index, value) {
                tracing::warn!("an entry was not proposed: {error}");
                self.rebuild = Some("an input was lost in a change of leaders".to_owned());
            }
        }
    }

    fn situation(&self) -> Situation {
        let paxos = self.consensus.paxos();
        let Some(server) = &self.server else { return Situation { settled: false, quiescent: true } };
        let control = server.link.control();
        let settled =
            paxos.commit() == paxos.len() && control.applied.load(Ordering::SeqCst) >= self.given.next();
        Situation {
            settled: settled && self.given.next() == paxos.len(),
            quiescent: control.runnable.load(Ordering::SeqCst) == 0,
        }
    }

    /// How long to sleep; tells the server that we do.
    fn sleep_time(&mut self) -> u64 {
        let now = self.now();
        let mut deadline = self.consensus.deadline().min(self.peers.deadline()).min(self.status_at);
        if let Some(due) = self.report.due_ms(self.consensus.paxos().commit()) {
            deadline = deadline.min(due * 1_000_000);
        }
        if self.clients.waits_for_room() {
            deadline = deadline.min(now + ROOM_RETRY_NS);
        }
        if let (Some(crane), Phase::Leading { .. }) = (&self.crane, self.phase) {
            deadline =
                deadline.min(crane.deadline(self.situation()).unwrap_or(now + super::crane::SILENCE_NS));
        }
        let sleep = deadline.saturating_sub(now).min(STATUS_NS);
        let Some(server) = &self.server else { return sleep };
        if !server.link.prepare_sleep() {
            return 0;
        }
        // A running server wakes us at its bubble's end; a long computation behind a reply must not hold the reply back.
        if server.link.control().server_runs() { sleep.min(RUNNING_LOOK_NS) } else { sleep }
    }
}

/// How long the loop sleeps at the most while its server runs, nanoseconds.
const RUNNING_LOOK_NS: u64 = 1_000_000;

/// The real time, nanoseconds since the Unix epoch.
pub(super) fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn address_text(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "(not a member)".to_owned(), |address| address.to_string())
}

fn open_consensus(config: &ReplicaConfig) -> Result<Consensus, ReplicaError> {
    let disk = Directory::open(&config.log_directory)?;
    let options = Options {
        cluster: config.fingerprint,
        durability: match config.durability {
            Durability::Memory => log::Durability::Memory,
            Durability::Disk => log::Durability::Disk,
        },
        boot_id: log::current_boot_id().map_err(ReplicaError::system("read this boot's id"))?,
        segment_bytes: SEGMENT_BYTES,
    };
    let log = Log::open(disk, options)?;
    let recovered = log.recovered(paxos::TAIL_ENTRIES as u64, paxos::TAIL_BYTES)?;
    if !log.is_empty() {
        tracing::info!("the log has {} entries: they are replayed", log.len());
    }
    let replicas = config.members.iter().map(|member| member.id).collect();
    let seed = wall_clock() ^ u64::from(config.id) << 56;
    Ok(Consensus::new(Paxos::new(Config::new(config.id, replicas, seed), recovered, 0), log))
}
