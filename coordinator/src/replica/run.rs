//! The loop of one replica: one thread, one epoll.
//!
//! A turn takes all that is ready, gives inputs to the server, does what consensus asks for, releases what is decided, and
//! sleeps until something happens. While nothing happens only heartbeats and the status wake it.
#![expect(clippy::disallowed_methods, reason = "the loop reads the clocks for all that it calls")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use nix::sys::epoll::EpollFlags;

use super::batch::Batch;
use super::checkpointing::Checkpointing;
use super::clients::Clients;
use super::config::{Admission, Durability, ReplicaConfig, ToReplica};
use super::consensus::Consensus;
use super::datagrams::Datagrams;
use super::deaths::Death;
use super::digest_file::DigestWriter;
use super::digests::{Book, Report};
use super::divergence_file;
use super::driver::{Driver, Effect, Moment, News, Origin};
use super::error::ReplicaError;
use super::frames::{Hello, WIRE_VERSION};
use super::keeper::Keeper;
use super::membership::members_of;
use super::nearness::Nearness;
use super::peers::{PeerNews, Peers};
use super::poll::{Poll, Ready, Token};
use super::polling::Polling;
use super::ports::Ports;
use super::relay::Relay;
use super::schedule::Schedule;
use super::server::{Recipe, Server, make_kick};
use super::signals::Signals;
use super::status::ReplicaStatus;
use super::stewardship::Stewardship;
use super::tls::Tls;
use super::transfer::Transfer;
use crate::channel::{Channel, Received};
use crate::checkpoint::Store;
use crate::clock::{self, wall_clock};
use crate::container::{SharedDirectory, starter};
use crate::log::{self, Directory, Log, LogError, Options, SEGMENT_BYTES};
use crate::paxos::{self, Config, Input, Paxos};
use crate::{filter, privileges};

/// Longest sleep, nanoseconds; also how often the supervisor gets a status.
pub const STATUS_NS: u64 = 1_000_000_000;

/// See the module. The fields are what the other files of this module work on.
pub(super) struct Replica {
    pub(super) cluster_fingerprint: [u8; 16],
    pub(super) durability: Durability,
    /// See [`ReplicaConfig::apart`].
    pub(super) apart: bool,
    pub(super) log_directory: std::path::PathBuf,
    pub(super) started: Instant,
    pub(super) poll: Poll,
    pub(super) supervisor: Channel,
    pub(super) server: Option<Server>,
    pub(super) keeper: Keeper,
    pub(super) driver: Driver,
    pub(super) checkpointing: Checkpointing,
    pub(super) peers: Peers,
    pub(super) clients: Clients,
    pub(super) datagrams: Datagrams,
    pub(super) ports: Ports,
    pub(super) relay: Relay,
    pub(super) book: Book,
    pub(super) report: Report,
    pub(super) digest_file: DigestWriter,
    pub(super) status: ReplicaStatus,
    pub(super) status_at: u64,
    /// What the server had said here and is not to be said again.
    pub(super) said: BTreeSet<String>,
    pub(super) polling: Polling,
    pub(super) batch: Batch,
    pub(super) nearness: Nearness,
    /// Entries of the log before this turn.
    pub(super) entries_before: u64,
    pub(super) stop: bool,
    pub(super) signals: Signals,
    pub(super) stewardship: Stewardship,
    pub(super) death: Option<Death>,
    pub(super) transfer: Transfer,
    /// The leader's log begins at this entry, and the own one ends before.
    pub(super) behind: Option<u64>,
    /// Empty between two turns; kept for their memory.
    pub(super) effects: Vec<Effect>,
    /// As `effects`: connections for which outputs were released.
    pub(super) released: Vec<u64>,
    /// As `effects`.
    pub(super) news: Vec<News>,
}

/// Runs a replica until its supervisor stops it or is gone.
pub fn run(mut config: ReplicaConfig) -> Result<(), ReplicaError> {
    raise_file_limit();
    confine(&mut config)?;
    let ended = Replica::start(config).and_then(|mut replica| replica.run_loop());
    starter::end();
    ended
}

/// From here on this process, which has one thread yet, starts no other one: it parses what comes from the network. See `docs/security.md`.
fn confine(config: &mut ReplicaConfig) -> Result<(), ReplicaError> {
    privileges::drop_unneeded().map_err(ReplicaError::system("give up capabilities"))?;
    config.server.shared = Some(SharedDirectory::inner_path_of(&config.cluster, u32::from(config.id)));
    starter::launch(&config.server).map_err(ReplicaError::system("start the starter of containers"))?;
    privileges::keep_own().map_err(ReplicaError::system("give up capabilities"))?;
    filter::install().map_err(ReplicaError::system("install the filter of system calls"))
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
        let hello = Hello { version: WIRE_VERSION, fingerprint: config.fingerprint };
        let address = config.members.iter().find(|m| m.id == config.id).map(|m| m.peer_address);
        let peers = Peers::new(config.id, &config.members, hello, tls, &poll)
            .map_err(|source| ReplicaError::PeerAddress { address: address_text(address), source })?;
        let kick = make_kick().map_err(|e| ReplicaError::system("make an eventfd")(e.into()))?;
        let kick = Arc::new(kick);
        // Edge-triggered, so that nobody needs to read it: its count has room for every kick of a lifetime.
        poll.add(&*kick, Token::Kick, EpollFlags::EPOLLIN | EpollFlags::EPOLLET)
            .map_err(ReplicaError::system("watch the eventfd"))?;
        config.supervisor.set_nonblocking(true).map_err(ReplicaError::system("set up the channel"))?;
        poll.add(&config.supervisor, Token::Supervisor, EpollFlags::EPOLLIN)
            .map_err(ReplicaError::system("watch the supervisor's channel"))?;
        let origin = Origin {
            secret: random_secret()?,
            quantum: config.quantum,
            spin_limit_us: config.spin_limit_us,
            fingerprint: config.fingerprint,
        };
        let recipe = Recipe {
            spec: config.server,
            preload: config.preload,
            cluster: config.cluster,
            id: config.id,
            trace: None,
            fingerprint: config.fingerprint,
        };
        let checkpointing = {
            let schedule = Schedule::new(config.checkpoint_every, config.id, config.members.len() as u8);
            Checkpointing::new(Store::beside(&config.log_directory), kick.clone(), schedule)
        };
        let transfer = Transfer::new(kick.clone());
        let keeper = Keeper::new(recipe, kick)?;
        let digest_file = DigestWriter::beside(&config.log_directory);
        let last_divergence = divergence_file::load(&config.log_directory);
        let mut replica = Self {
            cluster_fingerprint: config.fingerprint,
            durability: config.durability,
            apart: config.apart,
            log_directory: config.log_directory,
            started,
            poll,
            supervisor: config.supervisor,
            server: None,
            keeper,
            driver: Driver::new(config.id, consensus, origin, config.admission == Admission::Crane),
            checkpointing,
            peers,
            clients: Clients::default(),
            datagrams: Datagrams::new(config.own),
            ports: Ports::default(),
            relay: Relay::default(),
            book: Book::default(),
            report: Report::default(),
            digest_file,
            status: ReplicaStatus { id: config.id, last_divergence, ..ReplicaStatus::default() },
            status_at: 0,
            said: BTreeSet::new(),
            batch: Batch::default(),
            nearness: Nearness::default(),
            polling: Polling::new(u64::from(config.poll_us) * 1000),
            entries_before: 0,
            stop: false,
            signals: Signals::default(),
            stewardship: Stewardship::default(),
            death: None,
            transfer,
            behind: None,
            effects: Vec::new(),
            released: Vec::new(),
            news: Vec::new(),
        };
        replica.driver.outbound = config.outbound;
        replica.check_genesis()?;
        replica.start_server();
        Ok(replica)
    }

    /// Nanoseconds since this process started its replica.
    pub(super) fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    fn run_loop(&mut self) -> Result<(), ReplicaError> {
        let mut ready = Vec::new();
        while !self.stop {
            self.await_news(&mut ready).map_err(ReplicaError::system("wait for events"))?;
            let begun = self.now();
            self.turn(&ready)?;
            self.note_traffic(&ready);
            self.note_turn(self.now() - begun);
        }
        self.level_logs()?;
        Ok(self.driver.consensus.seal()?)
    }

    fn turn(&mut self, ready: &[Ready]) -> Result<(), ReplicaError> {
        let mut news = Vec::new();
        for event in ready {
            self.dispatch(*event, &mut news)?;
        }
        self.take_server()?;
        self.tell_server();
        self.resume_clients();
        self.admit_for_idle_server();
        // Let the server run while the rest of this turn is done.
        self.wake_server();
        self.drain_upcalls();
        if self.server.as_ref().is_some_and(|server| server.link.is_damaged()) {
            return Err(ReplicaError::Damaged);
        }
        let now = self.now();
        self.peers.set_leader(self.driver.leader());
        self.peers.tick(&self.poll, now, &mut news);
        let link = self.server.as_ref().map(|server| &server.link);
        self.driver.consensus.set_lag(self.driver.lag(link));
        self.take_peer_news(now, &mut news);
        self.driver.consensus.tick(now)?;
        self.run_crane(now);
        self.ports.end_rest(&self.poll, now, self.open_connections());
        self.settle(now)?;
        self.judge_death(now);
        self.begin_checkpoint_if_due();
        self.go_on_with_checkpoint(now);
        self.go_on_with_transfers(now)?;
        self.report_digests(now);
        self.flush_peers(now)?;
        if let Some(reason) = self.driver.take_rebuild() {
            self.rebuild_server(&reason);
        }
        self.tell_signals();
        self.tend_members()?;
        self.send_status_if_due(now);
        self.wake_server();
        self.send_released();
        Ok(())
    }

    fn dispatch(&mut self, event: Ready, news: &mut Vec<PeerNews>) -> Result<(), ReplicaError> {
        match event.token {
            Token::Kick => {}
            Token::Supervisor => self.hear_supervisor()?,
            Token::Container => self.hear_container(),
            Token::PeerListener => {
                let now = self.now();
                self.peers.accept(&self.poll, now, news);
            }
            Token::Peer(key) => {
                let now = self.now();
                self.peers.ready(&self.poll, now, key, event, news);
            }
            Token::Listener(token) => self.accept_clients(token),
            Token::Client(number) => self.client_ready(number, event),
            Token::Relay(token) => self.relay.ready(&self.poll, token),
            Token::Datagram(number) => self.datagrams_ready(number),
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
                Received::Message(ToReplica::PublishUdp { server_port, address }, mut sockets) => {
                    let Some(socket) = sockets.pop() else { continue };
                    self.datagrams
                        .publish(&self.poll, (server_port, address), socket)
                        .map_err(ReplicaError::system("take a published UDP port"))?;
                }
                Received::Message(ToReplica::Checkpoint, _) => self.begin_checkpoint(),
                Received::Message(ToReplica::CorruptNext, _) => {
                    if let Some(server) = &self.server {
                        server.link.control().corrupt_next.store(1, Ordering::SeqCst);
                    }
                }
                Received::Message(ToReplica::Signal { id, signal }, _) => self.signal_server(id, signal),
                Received::Message(ToReplica::Replace { id, file }, _) => self.replace_file(id, file),
                Received::Message(ToReplica::Change { id, change }, _) => self.asked_to_change(id, change),
                Received::Message(ToReplica::Stop, _) | Received::Closed => {
                    self.stop = true;
                    return Ok(());
                }
                Received::Empty => return Ok(()),
            }
        }
    }

    pub(super) fn wake_server(&mut self) {
        let Some(server) = &self.server else { return };
        if self.driver.take_wake(self.now(), &server.link) {
            server.wake();
        }
    }

    /// What the server's part of the replica must know of this one.
    fn tell_server(&self) {
        let Some(server) = &self.server else { return };
        let alone = self.driver.consensus.paxos().is_alone();
        server.link.control().alone.store(u32::from(alone), Ordering::Relaxed);
        if let Some(shift) = clock::shift() {
            // A test's.
            server.link.control().clock_shift.store(shift, Ordering::Relaxed);
        }
    }

    /// If the server is quiescent: its peers get the next entry before it is awake.
    fn admit_for_idle_server(&mut self) {
        if !self.driver.serves() {
            return;
        }
        self.drain_upcalls();
        if let Some(server) = &mut self.server {
            self.driver.admit_for_idle_server(wall_clock(), &mut server.link);
        }
    }

    /// Gives consensus what peers said.
    pub(super) fn take_peer_news(&mut self, now: u64, news: &mut Vec<PeerNews>) {
        for item in news.drain(..) {
            match item {
                PeerNews::Connected(id) => {
                    self.tell_if_removed(id);
                    self.driver.consensus.input(now, Input::PeerConnected(id));
                }
                PeerNews::Disconnected(id) => {
                    self.transfer.holdings.lose(id);
                    self.driver.consensus.input(now, Input::PeerDisconnected(id));
                }
                PeerNews::Frame(from, frame) => self.peer_frame(now, from, frame),
            }
        }
    }

    /// Sends peers what is queued for them.
    pub(super) fn flush_peers(&mut self, now: u64) -> Result<(), ReplicaError> {
        let mut news = Vec::new();
        self.peers.flush(&self.poll, &mut news);
        if news.is_empty() {
            return Ok(());
        }
        self.take_peer_news(now, &mut news);
        self.settle(now)
    }

    fn run_crane(&mut self, now: u64) {
        let link = self.server.as_ref().map(|server| &server.link);
        self.driver.run_crane(Moment { now, wall: wall_clock() }, link);
    }
}

fn random_secret() -> Result<[u8; 32], ReplicaError> {
    let mut secret = [0; 32];
    // SAFETY: the buffer has as many bytes as the call is told.
    let count = unsafe { libc::getrandom(secret.as_mut_ptr().cast(), secret.len(), 0) };
    if count != secret.len() as isize {
        return Err(ReplicaError::system("get randomness")(std::io::Error::last_os_error()));
    }
    Ok(secret)
}

fn address_text(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "(not a member)".to_owned(), |address| address.to_string())
}

/// Opens the log. A damaged one is set aside, where there are others to learn from: see [`paxos::Recovered::lost`].
fn open_log(config: &ReplicaConfig, options: &Options) -> Result<Log<Directory>, ReplicaError> {
    let open = || Log::open(Directory::open(&config.log_directory)?, options.clone());
    let log = match open() {
        Err(error @ LogError::Corrupt { .. }) if config.members.len() > 2 => {
            tracing::error!("{error}");
            log::set_aside(&Directory::open(&config.log_directory)?, &error.to_string())?;
            open()?
        }
        other => other?,
    };
    if log.lost().is_some() {
        tracing::warn!(
            "the damaged log is set aside as *.damaged in {}; this replica learns everything anew from all others, and has no \
             vote until then",
            config.log_directory.display()
        );
    }
    Ok(log)
}

fn open_consensus(config: &ReplicaConfig) -> Result<Consensus, ReplicaError> {
    let options = Options {
        cluster: config.fingerprint,
        durability: match config.durability {
            Durability::Memory => log::Durability::Memory,
            Durability::Disk => log::Durability::Disk,
        },
        boot_id: log::current_boot_id().map_err(ReplicaError::system("read this boot's id"))?,
        segment_bytes: SEGMENT_BYTES,
        members_of,
    };
    let log = open_log(config, &options)?;
    let recovered = log.recovered(paxos::TAIL_ENTRIES as u64, paxos::TAIL_BYTES)?;
    if !log.is_empty() {
        tracing::info!("the log has the entries from {} on, below {}", log.first(), log.len());
    }
    let seed = wall_clock() ^ u64::from(config.id) << 56;
    let paxos = Config { members_of, ..Config::new(config.id, config.founders.clone(), seed) };
    Ok(Consensus::new(Paxos::new(paxos, recovered, 0), log))
}
