//! UDP on the leader: datagrams of clients become events, what the server sends leaves once it is committed.
//!
//! A published port has one socket of the host, which all replicas hold and of which only the leader reads; what comes while
//! there is none waits in the kernel's buffer or is lost, as datagrams are. A socket of the server that is no service and
//! sends something out (a question to a name server, an answer from a fresh socket) gets a socket of the host for itself,
//! which ends with the leadership or with the server's socket.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use dmt::bounds::MAX_EVENT_BYTES;
use dmt::entry::{ConnectInfo, EventKind, datagram_stream};
use nix::sys::epoll::EpollFlags;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::datagram_socket::DatagramSocket;
use super::intake::{Intake, event};
use super::poll::{Poll, Token};
use crate::sockets::Membership;

/// Datagrams read from one socket in one turn.
const READS_PER_TURN: usize = 64;
/// Sockets of the server that are no services and have a socket of the host; with more the one that was silent longest
/// loses it.
const MAX_ASKING: usize = 256;

/// A datagram that the server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// dmt's id of the socket.
    pub socket: u64,
    /// Where the server says that it comes from.
    pub from: SocketAddr,
    /// The server chose that address.
    pub fixed: bool,
    /// Where it goes.
    pub to: SocketAddr,
    /// The bytes.
    pub bytes: Box<[u8]>,
}

/// The events of a leadership's datagrams, numbered so that none is applied twice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stream {
    ballot: u64,
    next: u64,
}

impl Stream {
    /// Starts under `ballot`; numbers go on if it is the same.
    pub fn begin(&mut self, ballot: u64) {
        if self.ballot != ballot {
            *self = Self { ballot, next: 0 };
        }
    }

    /// Queues a datagram; false if there is no room.
    pub fn put(&mut self, intake: &mut dyn Intake, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> bool {
        let info = ConnectInfo {
            peer_address: mapped(from.ip()),
            local_address: mapped(to.ip()),
            peer_port: U16::new(from.port()),
            local_port: U16::new(to.port()),
            reserved: U32::new(0),
        };
        let payload = [info.as_bytes(), bytes].concat();
        let head = event(EventKind::Datagram, datagram_stream(self.ballot), self.next, 0, payload.len());
        let taken = intake.put(&head, &payload);
        self.next += u64::from(taken);
        taken
    }
}

/// An address as events carry it.
pub(super) fn mapped(address: IpAddr) -> [u8; 16] {
    let v6: Ipv6Addr = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    v6.octets()
}

/// What a socket of the host is for.
#[derive(Clone, Copy, Debug)]
enum Use {
    /// Clients of a port of the server.
    Service { server_port: u16, address: SocketAddr },
    /// A group, for a service whose own address is not the wildcard.
    Group { server_port: u16, group: IpAddr },
    /// One socket of the server that asks.
    Asking { socket: u64, local: SocketAddr, used: u64 },
}

#[derive(Debug)]
struct Slot {
    socket: DatagramSocket,
    purpose: Use,
    watched: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Datagrams {
    stream: Stream,
    slots: BTreeMap<u64, Slot>,
    next_slot: u64,
    /// Counts what was sent, to know who was silent longest.
    sent: u64,
    /// Ports of the server's sockets that are services, by dmt's id.
    services: BTreeMap<u64, u16>,
    memberships: Vec<Membership>,
    /// Addresses of this machine, in the order of the replica's interfaces behind loopback.
    own: Vec<IpAddr>,
    serving: bool,
    parked: bool,
    buffer: Box<[u8]>,
}

impl Datagrams {
    /// Without any socket. `own`: the addresses of this machine that the server sees as its own.
    pub fn new(own: Vec<IpAddr>) -> Self {
        Self {
            stream: Stream::default(),
            slots: BTreeMap::new(),
            next_slot: 0,
            sent: 0,
            services: BTreeMap::new(),
            memberships: Vec::new(),
            own,
            serving: false,
            parked: false,
            buffer: vec![0; MAX_EVENT_BYTES].into(),
        }
    }

    /// Takes the socket of a published port; it replaces an earlier one of the same.
    pub fn publish(
        &mut self,
        poll: &Poll,
        (server_port, address): (u16, SocketAddr),
        socket: OwnedFd,
    ) -> io::Result<()> {
        let same =
            |slot: &Slot| matches!(slot.purpose, Use::Service { address: other, .. } if other == address);
        self.slots.retain(|_, slot| !same(slot));
        let socket = DatagramSocket::new(socket, address.is_ipv6())?;
        self.add(poll, socket, Use::Service { server_port, address })?;
        self.join_all(poll);
        self.arm(poll);
        Ok(())
    }

    fn add(&mut self, poll: &Poll, socket: DatagramSocket, purpose: Use) -> io::Result<u64> {
        self.next_slot += 1;
        poll.add(&socket, Token::Datagram(self.next_slot), EpollFlags::empty())?;
        self.slots.insert(self.next_slot, Slot { socket, purpose, watched: false });
        Ok(self.next_slot)
    }

    fn arm(&mut self, poll: &Poll) {
        let watched = self.serving && !self.parked;
        for (number, slot) in self.slots.iter_mut().filter(|(_, slot)| slot.watched != watched) {
            slot.watched = watched;
            let flags = if watched { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
            let _ = poll.modify(&slot.socket, Token::Datagram(*number), flags);
        }
    }

    /// This replica leads under `ballot`: datagrams are taken here.
    pub fn begin(&mut self, poll: &Poll, ballot: u64) {
        self.stream.begin(ballot);
        self.serving = true;
        self.parked = false;
        self.join_all(poll);
        self.arm(poll);
    }

    /// It leads no more, or its server is gone.
    pub fn end(&mut self, poll: &Poll) {
        self.serving = false;
        self.slots.retain(|_, slot| matches!(slot.purpose, Use::Service { .. }));
        self.arm(poll);
    }

    /// The server is gone, and its sockets with it.
    pub fn forget_server(&mut self, poll: &Poll) {
        self.services.clear();
        self.memberships.clear();
        self.end(poll);
    }

    /// The server has bound a socket for clients.
    pub fn listens(&mut self, poll: &Poll, socket: u64, port: u16) {
        self.services.insert(socket, port);
        self.join_all(poll);
    }

    /// The server has closed a socket.
    pub fn unlistens(&mut self, socket: u64) {
        self.services.remove(&socket);
        self.memberships.retain(|membership| membership.socket != socket);
        self.slots.retain(|_, slot| !matches!(slot.purpose, Use::Asking { socket: s, .. } if s == socket));
    }

    /// The server joined or left a group.
    pub fn member(&mut self, poll: &Poll, membership: Membership, joined: bool) {
        self.memberships.retain(|known| *known != membership);
        if joined {
            self.memberships.push(membership);
            self.join_all(poll);
        }
    }

    /// The groups that the server is in.
    pub fn memberships(&self) -> &[Membership] {
        &self.memberships
    }

    /// True if [`Datagrams::resume`] has something to do once there is room.
    pub fn waits_for_room(&self) -> bool {
        self.parked
    }

    /// Reads on, if there is room.
    pub fn resume(&mut self, poll: &Poll, intake: &dyn Intake, paused: bool) {
        if !paused && intake.has_room(MAX_EVENT_BYTES) {
            self.parked = false;
            self.arm(poll);
        }
    }

    /// Reads what has come to a socket. `paused` = nothing may be read now: the kernel keeps what its buffer holds.
    pub fn ready(&mut self, poll: &Poll, intake: &mut dyn Intake, number: u64, paused: bool) {
        if !self.serving {
            return;
        }
        for _ in 0..READS_PER_TURN {
            if paused || !intake.has_room(MAX_EVENT_BYTES) {
                self.parked = true;
                return self.arm(poll);
            }
            let Some(slot) = self.slots.get(&number) else { return };
            let Ok(received) = slot.socket.receive(&mut self.buffer) else { return };
            let to = match slot.purpose {
                Use::Service { server_port, address } => {
                    let to = received.to.unwrap_or(address.ip());
                    if to.is_multicast() && self.is_own(received.from) {
                        // The server's own words to the group; dmt has delivered them.
                        continue;
                    }
                    SocketAddr::new(to, server_port)
                }
                Use::Group { .. } if self.is_own(received.from) => continue,
                Use::Group { server_port, group } => SocketAddr::new(group, server_port),
                Use::Asking { local, .. } => local,
            };
            let taken = self.stream.put(intake, received.from, to, &self.buffer[..received.len]);
            debug_assert!(taken, "the intake had room for the longest event");
        }
    }

    /// True for an address of this machine and a port of one of these sockets.
    fn is_own(&self, from: SocketAddr) -> bool {
        self.own.contains(&from.ip()) && self.slots.values().any(|slot| slot.socket.port() == from.port())
    }

    /// Sends what is committed.
    pub fn send(&mut self, poll: &Poll, datagram: &Datagram) {
        let Some(number) = self.slot_for(poll, datagram) else { return };
        let Some(slot) = self.slots.get(&number) else { return };
        let to = datagram.to;
        if to.ip().is_multicast() {
            let interface = self.memberships.iter().find(|m| m.group == to.ip());
            let interface = interface.map(|m| self.interface_of(m)).or_else(|| self.own.first().copied());
            if let Some(IpAddr::V4(interface)) = interface {
                slot.socket.multicast_from(interface);
            }
        }
        let from = Some(datagram.from.ip()).filter(|_| datagram.fixed);
        if let Err(error) = slot.socket.send(from, to, &datagram.bytes) {
            tracing::debug!("a datagram of {} bytes to {to} was not sent: {error}", datagram.bytes.len());
        }
    }

    /// The socket of the host that a datagram leaves from.
    fn slot_for(&mut self, poll: &Poll, datagram: &Datagram) -> Option<u64> {
        self.sent += 1;
        if let Some(port) = self.services.get(&datagram.socket) {
            let fits = |slot: &Slot| {
                matches!(slot.purpose, Use::Service { server_port, address }
                    if server_port == *port && address.is_ipv6() == datagram.to.is_ipv6())
            };
            return self.slots.iter().find(|(_, slot)| fits(slot)).map(|(number, _)| *number);
        }
        let (sent, mut asking) = (self.sent, 0);
        let (mut oldest, mut found) = ((u64::MAX, 0), None);
        for (number, slot) in &mut self.slots {
            let v6 = slot.socket.is_v6();
            if let Use::Asking { socket, used, .. } = &mut slot.purpose {
                asking += 1;
                oldest = oldest.min((*used, *number));
                if *socket == datagram.socket && v6 == datagram.to.is_ipv6() {
                    *used = sent;
                    found = Some(*number);
                }
            }
        }
        if found.is_some() {
            return found;
        }
        if asking >= MAX_ASKING {
            self.slots.remove(&oldest.1);
        }
        let purpose = Use::Asking { socket: datagram.socket, local: datagram.from, used: sent };
        let made = DatagramSocket::bind(any_address(datagram.to.is_ipv6(), 0), false);
        let added = made.and_then(|socket| self.add(poll, socket, purpose));
        self.arm(poll);
        added.map_err(|error| tracing::warn!("no socket for a datagram to {}: {error}", datagram.to)).ok()
    }

    /// The host's interface, by address, for a membership.
    fn interface_of(&self, membership: &Membership) -> IpAddr {
        if !membership.interface.is_unspecified() {
            return membership.interface;
        }
        let behind_loopback = membership.index.checked_sub(2).map_or(0, |at| at as usize);
        self.own.get(behind_loopback).copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into())
    }

    /// Joins on the host what the server's sockets have joined, wherever that is not done.
    fn join_all(&mut self, poll: &Poll) {
        if !self.serving {
            return;
        }
        for membership in self.memberships.clone() {
            let Some(port) = self.services.get(&membership.socket).copied() else { continue };
            let wanted =
                |slot: &Slot| matches!(slot.purpose, Use::Service { server_port, .. } if server_port == port);
            let numbers: Vec<u64> =
                self.slots.iter().filter(|(_, slot)| wanted(slot)).map(|(number, _)| *number).collect();
            for number in numbers {
                if let Err(error) = self.join_on(poll, number, port, &membership) {
                    tracing::warn!("cannot join group {} for port {port}: {error}", membership.group);
                }
            }
        }
    }

    fn join_on(&mut self, poll: &Poll, number: u64, port: u16, membership: &Membership) -> io::Result<()> {
        let group = membership.group;
        let interface = self.interface_of(membership);
        let Some(slot) = self.slots.get(&number) else { return Ok(()) };
        let Use::Service { address, .. } = slot.purpose else { return Ok(()) };
        if address.is_ipv6() != group.is_ipv6() {
            return Ok(());
        }
        if address.ip().is_unspecified() || address.ip() == group {
            return slot.socket.join(group, interface);
        }
        let known = |slot: &Slot| matches!(slot.purpose, Use::Group { server_port, group: g } if (server_port, g) == (port, group));
        let number = match self.slots.iter().find(|(_, slot)| known(slot)) {
            Some((number, _)) => *number,
            None => {
                let socket = DatagramSocket::bind(SocketAddr::new(group, address.port()), true)?;
                self.add(poll, socket, Use::Group { server_port: port, group })?
            }
        };
        // The server's interface, or that of the published address if this machine has no such one.
        let socket = &self.slots[&number].socket;
        let joined = socket.join(group, interface).or_else(|_| socket.join(group, address.ip()));
        self.arm(poll);
        joined
    }
}

fn any_address(v6: bool, port: u16) -> SocketAddr {
    let ip = if v6 { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, port)
}
