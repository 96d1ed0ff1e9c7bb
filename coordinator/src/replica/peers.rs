//! All connections to peers: who dials whom, who is who, and that a dead peer is noticed at once.
//!
//! The replica with the higher id dials. A broken connection is news for Paxos in the same turn of the loop; the next
//! attempt follows after a pause that doubles.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, setsockopt, socket, sockopt,
};

use super::config::Member;
use super::frames::{Control, Frame, Hello, put_control, put_message, put_piece};
use super::liveness::{Verdict, link_of};
use super::peer::{PeerConnection, Stage};
use super::poll::{Poll, Ready, Token};
use super::ports::is_exhausted;
use super::strangers::{Refusals, Stranger, to_evict};
use super::tls::{Tls, peer_of};
use crate::checkpoint::Piece;
use crate::paxos::{MAX_ID, Message};

/// First pause before a peer is dialled again.
const FIRST_RETRY_NS: u64 = 10_000_000;
/// Longest pause.
const LONGEST_RETRY_NS: u64 = 500_000_000;
/// A connection on which the peer's process did not greet after this long is dropped.
const HANDSHAKE_NS: u64 = 5_000_000_000;
/// A connection that the peer's kernel did not take after this long is dropped and tried again: the kernel's own repetitions
/// come too seldom for a link that is back.
const CONNECT_NS: u64 = 400_000_000;
/// How long no peer is accepted after descriptors or memory ran out, nanoseconds.
const REST_NS: u64 = 200_000_000;
/// Connections that are accepted in one turn of the loop, so that who opens many cannot hold it.
const ACCEPTED_PER_TURN: usize = 64;

/// News about peers.
#[derive(Debug)]
pub enum PeerNews {
    /// It is connected and proved who it is.
    Connected(u8),
    /// The connection is gone.
    Disconnected(u8),
    /// It sent a frame.
    Frame(u8, Frame),
}

#[derive(Debug)]
struct Dial {
    address: SocketAddr,
    at: u64,
    pause: u64,
    /// The last attempt failed and `at` was not set yet, because that needs the time.
    failed: bool,
    complained: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Peers {
    id: u8,
    hello: Hello,
    tls: Tls,
    listener: TcpListener,
    members: Vec<Member>,
    connections: BTreeMap<u64, PeerConnection>,
    up: BTreeMap<u8, u64>,
    dials: BTreeMap<u8, Dial>,
    next: u64,
    wire_bytes: (u64, u64),
    /// Nothing can be accepted before this time; 0 = the listener is watched.
    rest_until: u64,
    complained: bool,
    refusals: Refusals,
    /// The peer that leads; all others' silence matters less to a replica that follows.
    leader: Option<u8>,
}

impl Peers {
    /// Listens on the own address and plans to dial the others.
    pub fn new(id: u8, members: &[Member], hello: Hello, tls: Tls, poll: &Poll) -> io::Result<Self> {
        let own = members.iter().find(|member| member.id == id).ok_or(io::ErrorKind::InvalidInput)?;
        let listener = TcpListener::bind(own.peer_address)?;
        listener.set_nonblocking(true)?;
        poll.add(&listener, Token::PeerListener, EpollFlags::EPOLLIN)?;
        let lower = members.iter().filter(|member| member.id < id);
        let dials = lower.map(|member| {
            let dial = Dial {
                address: member.peer_address,
                at: 0,
                pause: FIRST_RETRY_NS,
                failed: false,
                complained: false,
            };
            (member.id, dial)
        });
        Ok(Self {
            id,
            hello,
            tls,
            listener,
            members: members.to_vec(),
            connections: BTreeMap::new(),
            up: BTreeMap::new(),
            dials: dials.collect(),
            next: 0,
            wire_bytes: (0, 0),
            rest_until: 0,
            complained: false,
            refusals: Refusals::default(),
            leader: None,
        })
    }

    /// This peer will not be dialled any more: it is no member.
    pub fn forget(&mut self, id: u8) {
        self.dials.remove(&id);
    }

    /// Peers with a connection that is up.
    pub fn connected(&self) -> Vec<u8> {
        self.up.keys().copied().collect()
    }

    /// True if this peer is connected.
    pub fn is_up(&self, id: u8) -> bool {
        self.up.contains_key(&id)
    }

    /// Says to all peers that nothing more will come. They close their connections then.
    pub fn finish_all(&mut self) {
        self.connections.values_mut().for_each(PeerConnection::finish);
    }

    /// Ends all connections.
    pub fn close_all(&mut self) {
        self.up.clear();
        self.connections.clear();
    }

    /// Bytes sent to and received from all peers, as on the wire.
    pub fn wire_bytes(&self) -> (u64, u64) {
        let open = self.connections.values().map(|connection| connection.wire_bytes);
        open.fold(self.wire_bytes, |sum, bytes| (sum.0 + bytes.0, sum.1 + bytes.1))
    }

    /// Queues a Paxos message.
    pub fn send(&mut self, to: u8, message: &Message) {
        if let Some(connection) = self.up.get(&to).and_then(|key| self.connections.get_mut(key)) {
            put_message(message, connection.queue());
        }
    }

    /// Queues a control message.
    pub fn send_control(&mut self, to: u8, control: &Control) {
        if let Some(connection) = self.up.get(&to).and_then(|key| self.connections.get_mut(key)) {
            put_control(control, connection.queue());
        }
    }

    /// Queues a piece of a checkpoint.
    pub fn send_piece(&mut self, to: u8, piece: &Piece) {
        if let Some(connection) = self.up.get(&to).and_then(|key| self.connections.get_mut(key)) {
            put_piece(piece, connection.queue());
        }
    }

    /// Sends what is queued.
    pub fn flush(&mut self, poll: &Poll, news: &mut Vec<PeerNews>) {
        for key in self.up.values().copied().collect::<Vec<_>>() {
            self.flush_one(poll, key, news);
        }
    }

    fn flush_one(&mut self, poll: &Poll, key: u64, news: &mut Vec<PeerNews>) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let result = connection.flush();
        if connection.overflowed() {
            return self.drop_connection(key, "it takes less than is sent to it", news);
        }
        match result {
            Ok(more) => {
                if more != connection.watches_write {
                    connection.watches_write = more;
                    let out = if more { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
                    let _ = poll.modify(&connection.socket, Token::Peer(key), EpollFlags::EPOLLIN | out);
                }
            }
            Err(error) => self.drop_connection(key, &error.to_string(), news),
        }
    }

    /// When [`Peers::tick`] has something to do, nanoseconds.
    pub fn deadline(&self) -> u64 {
        let handshakes = self.connections.values().filter(|c| c.stage != Stage::Up).map(late_at);
        let looks = self.up.values().filter_map(|key| Some(self.connections.get(key)?.liveness.look_at()));
        let rest = (self.rest_until > 0).then_some(self.rest_until);
        self.dials
            .values()
            .map(|dial| dial.at)
            .chain(handshakes)
            .chain(looks)
            .chain(rest)
            .chain(self.refusals.deadline())
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Dials whom it is time to dial, and drops handshakes that take too long. Call it once per turn of the loop.
    pub fn tick(&mut self, poll: &Poll, now: u64, news: &mut Vec<PeerNews>) {
        self.refusals.set_time(now);
        let slow = self.connections.iter().filter(|(_, c)| c.stage != Stage::Up && late_at(c) <= now);
        for key in slow.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.drop_connection(key, "no handshake", news);
        }
        self.look_at_links(poll, now, news);
        if self.rest_until > 0 && now >= self.rest_until {
            self.rest_until = 0;
            let _ = poll.modify(&self.listener, Token::PeerListener, EpollFlags::EPOLLIN);
        }
        let due = self.dials.iter().filter(|(_, dial)| dial.at <= now).map(|(id, dial)| (*id, dial.address));
        for (id, address) in due.collect::<Vec<_>>() {
            if let Some(dial) = self.dials.get_mut(&id) {
                dial.at = u64::MAX;
            }
            if let Err(error) = self.dial(poll, id, address, now) {
                self.retry(id, &error.to_string());
            }
        }
        for dial in self.dials.values_mut() {
            if std::mem::take(&mut dial.failed) {
                dial.at = now + dial.pause;
                dial.pause = (dial.pause * 2).min(LONGEST_RETRY_NS);
            }
        }
    }

    /// Says who leads: all peers matter to the leader, and the leader to all.
    pub fn set_leader(&mut self, leader: Option<u8>) {
        if self.leader != leader {
            self.leader = leader;
            for connection in self.connections.values_mut() {
                let matters = leader == Some(self.id) || leader == connection.peer;
                connection.liveness.set_vital(leader.is_some() && matters);
            }
        }
    }

    /// Probes peers that say nothing, and drops those whose machine or link is gone.
    fn look_at_links(&mut self, poll: &Poll, now: u64, news: &mut Vec<PeerNews>) {
        for key in self.up.values().copied().collect::<Vec<_>>() {
            let Some(connection) = self.connections.get_mut(&key) else { continue };
            if connection.liveness.look_at() > now {
                continue;
            }
            match connection.liveness.look(now, || link_of(&connection.socket)) {
                Verdict::Fine => {}
                Verdict::Probe => {
                    put_control(&Control::Probe, connection.queue());
                    self.flush_one(poll, key, news);
                }
                Verdict::Gone(silent) => {
                    let why =
                        format!("its machine answers nothing, not even an acknowledgement, for {silent} ms");
                    self.drop_connection(key, &why, news);
                }
            }
        }
    }

    fn retry(&mut self, id: u8, why: &str) {
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.failed = true;
            if !std::mem::replace(&mut dial.complained, true) {
                tracing::info!("replica {id} at {} cannot be reached ({why}); trying on", dial.address);
            }
        }
    }

    fn dial(&mut self, poll: &Poll, id: u8, address: SocketAddr, now: u64) -> io::Result<()> {
        let socket = start_connect(address)?;
        let tls = self.tls.connect(id).map_err(io::Error::other)?;
        let mut connection = PeerConnection::new(socket, address, tls, Stage::Connecting, now);
        connection.peer = Some(id);
        connection.watches_write = true;
        self.insert(poll, connection)
    }

    fn insert(&mut self, poll: &Poll, connection: PeerConnection) -> io::Result<()> {
        let out = if connection.watches_write { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let flags = if connection.dialled { out } else { EpollFlags::EPOLLIN | out };
        poll.add(&connection.socket, Token::Peer(self.next), flags)?;
        self.connections.insert(self.next, connection);
        self.next += 1;
        Ok(())
    }

    /// Takes waiting connections.
    pub fn accept(&mut self, poll: &Poll, now: u64, news: &mut Vec<PeerNews>) {
        for _ in 0..ACCEPTED_PER_TURN {
            let (socket, address) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if is_exhausted(&error) => return self.rest(poll, now, &error),
                Err(_) => return,
            };
            if let Some(key) = to_evict(&self.strangers(), address.ip()) {
                self.drop_connection(key, "it has not said who it is, and others want to", news);
            }
            let tls = match self.tls.accept() {
                Ok(tls) => tls,
                Err(error) => {
                    tracing::warn!("cannot start TLS with {address}: {error}");
                    continue;
                }
            };
            if socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true)).is_ok() {
                let _ = self.insert(poll, PeerConnection::new(socket, address, tls, Stage::Handshake, now));
            }
        }
    }

    fn strangers(&self) -> Vec<Stranger> {
        let unknown = self.connections.iter().filter(|(_, connection)| connection.peer.is_none());
        let stranger = |(&key, connection): (&u64, &PeerConnection)| {
            let address = connection.address.ip();
            let of_member = self.members.iter().any(|member| member.peer_address.ip() == address);
            Stranger { key, address, of_member, speaks: connection.wire_bytes.1 > 0 }
        };
        unknown.map(stranger).collect()
    }

    /// Looks at the listener again later: it stays readable, which would keep the loop busy.
    fn rest(&mut self, poll: &Poll, now: u64, error: &io::Error) {
        self.rest_until = now + REST_NS;
        let _ = poll.modify(&self.listener, Token::PeerListener, EpollFlags::empty());
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!("cannot accept peers ({error}); trying on");
        }
    }

    /// Handles an event of a connection.
    pub fn ready(&mut self, poll: &Poll, now: u64, key: u64, ready: Ready, news: &mut Vec<PeerNews>) {
        let hello = self.hello;
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if connection.stage == Stage::Connecting {
            let error = getsockopt(&connection.socket, sockopt::SocketError).unwrap_or(libc::EIO);
            if error != 0 {
                return self.drop_connection(key, Errno::from_raw(error).desc(), news);
            }
            connection.stage = Stage::Handshake;
            connection.since = now;
            let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            let _ = poll.modify(&connection.socket, Token::Peer(key), both);
        }
        let mut frames = Vec::new();
        if ready.readable() {
            connection.liveness.heard(now);
        }
        let result = if ready.readable() { connection.read(&mut frames) } else { Ok(()) };
        connection.greet(hello);
        if connection.stage == Stage::Handshake && !frames.is_empty() {
            match frames.remove(0) {
                Frame::Hello(theirs) => match theirs.complaint(hello.fingerprint) {
                    None => self.identify(key, news),
                    Some(complaint) => return self.drop_connection(key, &complaint, news),
                },
                _ => return self.drop_connection(key, "it does not greet", news),
            }
        }
        if let Some(id) = self.connections.get(&key).and_then(|c| c.peer.filter(|_| c.stage == Stage::Up)) {
            news.extend(frames.into_iter().map(|frame| PeerNews::Frame(id, frame)));
        }
        match result {
            Ok(()) => self.flush_one(poll, key, news),
            Err(error) => self.drop_connection(key, &error.to_string(), news),
        }
    }

    fn identify(&mut self, key: u64, news: &mut Vec<PeerNews>) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        // Whoever has a certificate of the cluster; who of them is a member stands in the log.
        let others = (1..=MAX_ID).filter(|id| *id != self.id);
        let Some(id) = connection.peer.or_else(|| peer_of(connection.tls(), others)) else {
            return self.drop_connection(key, "its certificate names no replica of this cluster", news);
        };
        connection.peer = Some(id);
        connection.stage = Stage::Up;
        let matters = self.leader == Some(self.id) || self.leader == Some(id);
        connection.liveness.set_vital(matters);
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.pause = FIRST_RETRY_NS;
            dial.complained = false;
        }
        if let Some(old) = self.up.get(&id).copied() {
            self.drop_connection(old, "it connected again", news);
        }
        tracing::info!("connected to replica {id}");
        self.up.insert(id, key);
        news.push(PeerNews::Connected(id));
    }

    fn drop_connection(&mut self, key: u64, why: &str, news: &mut Vec<PeerNews>) {
        let Some(connection) = self.connections.remove(&key) else { return };
        self.wire_bytes.0 += connection.wire_bytes.0;
        self.wire_bytes.1 += connection.wire_bytes.1;
        let Some(id) = connection.peer else {
            if self.refusals.tells() {
                tracing::warn!("refused the peer connection from {}: {why}", connection.address);
            }
            return;
        };
        match connection.stage {
            Stage::Up => {
                tracing::info!("connection to replica {id} at {} ended: {why}", connection.address);
                if self.up.get(&id) == Some(&key) {
                    self.up.remove(&id);
                    news.push(PeerNews::Disconnected(id));
                }
            }
            Stage::Handshake if self.refusals.tells() => {
                tracing::warn!("refused replica {id} at {}: {why}", connection.address);
            }
            Stage::Handshake => {}
            Stage::Connecting => {}
        }
        if connection.dialled && !self.up.contains_key(&id) {
            self.retry(id, why);
        }
    }
}

/// When a connection that is not up is given up.
fn late_at(connection: &PeerConnection) -> u64 {
    let limit = if connection.stage == Stage::Connecting { CONNECT_NS } else { HANDSHAKE_NS };
    connection.since + limit
}

/// A TCP connection in the making.
pub fn start_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let descriptor = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&descriptor, sockopt::TcpNoDelay, &true)?;
    match connect(descriptor.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    // SAFETY: the descriptor is a socket that nobody else owns.
    Ok(unsafe { TcpStream::from_raw_fd(descriptor.into_raw_fd()) })
}
