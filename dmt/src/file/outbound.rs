//! Connections of the server to other hosts: what is allowed, and what the events of an entry do to them.
//!
//! The leader's coordinator makes them (`UpcallKind::Dial`) once the entry is decided in whose bubble the server asked. What
//! becomes of it and what comes back are events. From then on such a connection is like a client's. When the leadership
//! changes its end is gone: an `Outbound` event, the first of each leadership, resets all of them.

use core::fmt::Write;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use crate::bounds::{MAX_OUTBOUND, MAX_OUTBOUND_RULES};
use crate::entry::{ConnectInfo, Event, OUTBOUND_CONNECTION, OutboundHead, OutboundRule};
use crate::file::abi::{
    EAGAIN, ECONNREFUSED, ECONNRESET, EINPROGRESS, ENETUNREACH, POLLERR, POLLHUP, POLLRDHUP,
};
use crate::file::address::{Inet, is_v6};
use crate::file::connections::SLOTS;
use crate::file::notify::{READABLE, WRITABLE};
use crate::file::socket::Phase;
use crate::file::table::CONNECT_UNREPORTED;
use crate::file::waiting::{Try, Wait};
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::park::Space;
use crate::upcall::{UpcallKind, WARNING};

/// Refused destinations that are told once each; of more than these nothing is told.
const TOLD: usize = 64;
/// Bytes of a line for the log.
const LINE_BYTES: usize = 256;

/// See the module. All zeroes is the first state: nothing is allowed.
#[repr(C)]
pub(crate) struct Outbound {
    /// Rules in force.
    head: OutboundHead,
    rules: [OutboundRule; MAX_OUTBOUND_RULES],
    /// Connections asked for so far.
    made: u64,
    /// Of these, those that the server has not closed.
    open: u32,
    told: [Told; TOLD],
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Told {
    address: [u8; 16],
    port: u16,
}

/// Text without allocation; what does not fit is cut.
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let fits = text.len().min(LINE_BYTES - self.len);
        self.bytes[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        Ok(())
    }
}

impl Outbound {
    /// The address of this host that packets to `to` come from, if there is any but loopback.
    pub(crate) fn own(&self, to: &Inet) -> Option<[u8; 16]> {
        let own = if to.is_mapped() { self.head.own_v4 } else { self.head.own_v6 };
        (own != [0; 16]).then_some(own)
    }

    /// True for addresses of the replica itself.
    pub(crate) fn is_here(&self, to: &Inet) -> bool {
        to.is_loopback() || self.own(to) == Some(to.address)
    }

    /// Whether the rules let the server reach `to`. A rule for any host does not open this machine's loopback services.
    pub(crate) fn allows(&self, to: &Inet) -> bool {
        let rules = &self.rules[..(self.head.rules.get() as usize).min(MAX_OUTBOUND_RULES)];
        rules.iter().any(|rule| {
            let host = rule.address == to.address || rule.address == [0; 16] && !self.is_here(to);
            host && (rule.port.get() == to.port || rule.port.get() == 0)
        })
    }
}

impl Inet {
    /// Writes the address as people write it.
    fn show(&self, line: &mut impl Write) -> core::fmt::Result {
        let address = core::net::Ipv6Addr::from(self.address);
        match address.to_ipv4_mapped() {
            Some(v4) => write!(line, "{v4}:{}", self.port),
            None => write!(line, "[{address}]:{}", self.port),
        }
    }
}

impl Kernel {
    /// Connects `id` to a host outside, if that is allowed.
    pub(crate) fn dial(&mut self, shared: &Shared, id: FileId, to: &Inet) -> Try {
        if !self.files.outbound.allows(to) {
            self.tell_refused(shared, to, "connection");
            return Try::Done(-ECONNREFUSED);
        }
        if self.files.connections.is_full() || self.files.outbound.open >= MAX_OUTBOUND {
            return Try::Done(-EAGAIN);
        }
        let Some(own) = self.files.outbound.own(to).or(to.is_loopback().then_some(to.address)) else {
            return Try::Done(-ENETUNREACH);
        };
        if !self.files.get(id).socket.is_bound {
            let port = match self.calling_port() {
                Ok(port) => port,
                Err(errno) => return Try::Done(-errno),
            };
            self.files.get_mut(id).socket.local = Inet { address: own, port, v6: to.v6 }.to_socket();
        }
        self.files.outbound.made += 1;
        self.files.outbound.open += 1;
        let connection = OUTBOUND_CONNECTION | self.files.outbound.made;
        let local = self.inet_of(id);
        let file = self.files.get_mut(id);
        file.state |= CONNECT_UNREPORTED;
        let socket = &mut file.socket;
        (socket.phase, socket.connection, socket.sequence) = (Phase::Connecting, connection, 0);
        socket.remote = to.to_socket();
        self.files.connections.insert(connection, id);
        self.digest = crate::digest::mix_bytes(self.digest, &to.address);
        self.digest = crate::digest::mix(self.digest, connection, u64::from(to.port));
        if self.emits(shared) {
            let info = info_of(to, &local);
            self.upcall(shared, UpcallKind::Dial, [connection, 0, 0, 0], 0, &[info.as_bytes()]);
        }
        self.await_connection(id)
    }

    /// A connection is being made: waits for the end of that, or says that it takes time.
    pub(crate) fn await_connection(&self, id: FileId) -> Try {
        let file = self.files.get(id);
        if file.nonblocking() {
            return Try::Done(-EINPROGRESS);
        }
        match Wait::after(Space::Write, file.socket.send_timeout, 0) {
            Try::Wait(wait) => Try::Wait(Wait { timed_out: -EINPROGRESS, ..wait }),
            done => done,
        }
    }

    /// One line about a destination that the rules do not allow.
    pub(crate) fn tell_refused(&mut self, shared: &Shared, to: &Inet, what: &str) {
        let new = Told { address: to.address, port: to.port };
        let none = Told { address: [0; 16], port: 0 };
        let told = &mut self.files.outbound.told;
        if told.contains(&new) {
            return;
        }
        let Some(place) = told.iter_mut().find(|told| **told == none) else { return };
        *place = new;
        let mut line = Line { bytes: [0; LINE_BYTES], len: 0 };
        let _ = line.write_str("the server's ");
        let _ = line.write_str(what);
        let _ = line.write_str(" to ");
        let _ = to.show(&mut line);
        let caller = self.sched.turn;
        if caller != 0 {
            let pid = self.processes.get(self.process_of(caller)).pid;
            let _ = write!(line, " (process {pid}, thread {})", self.threads.get(caller).tid);
        }
        let _ = line.write_str(match self.files.outbound.is_here(to) {
            true => {
                " was refused, because nothing in the replica listens there; to let it reach this \
                 machine's, run it with --allow-outbound "
            }
            false => " was refused; to let it out, run it with --allow-outbound ",
        });
        let _ = to.show(&mut line);
        self.upcall(shared, UpcallKind::Log, [WARNING, 0, 0, 0], 0, &[&line.bytes[..line.len]]);
    }

    /// A connection that the server asked for stands.
    pub fn outbound_connected(&mut self, shared: &Shared, event: &Event<'_>) {
        let Some(id) = self.accept_event(shared, event) else { return };
        let Ok(info) = ConnectInfo::ref_from_bytes(event.payload) else {
            return self.diverge(shared, "a Connected event carries no addresses");
        };
        let socket = &mut self.files.get_mut(id).socket;
        if socket.phase != Phase::Connecting {
            return;
        }
        let local =
            Inet { address: info.local_address, port: info.local_port.get(), v6: is_v6(socket.domain) };
        (socket.phase, socket.local) = (Phase::Connected, local.to_socket());
        (socket.written, socket.drained, socket.read, socket.reported) = (0, 0, 0, 0);
        self.notify(id, WRITABLE);
    }

    /// A connection that the server asked for was not made.
    pub fn outbound_refused(&mut self, shared: &Shared, event: &Event<'_>) {
        let Some(id) = self.accept_event(shared, event) else { return };
        if self.files.get(id).socket.phase == Phase::Connecting {
            self.fail_dial(id, event.header.arg.get() as i32);
        }
    }

    fn fail_dial(&mut self, id: FileId, errno: i32) {
        let file = self.files.get_mut(id);
        (file.error, file.socket.phase) = (errno, Phase::Idle);
        let connection = core::mem::take(&mut file.socket.connection);
        self.files.connections.remove(connection);
        self.files.outbound.open -= 1;
        self.notify(id, READABLE | WRITABLE | POLLERR | POLLHUP | POLLRDHUP);
    }

    /// The server has closed a connection that it had made.
    pub(crate) fn outbound_closed(&mut self, connection: u64) {
        if connection & OUTBOUND_CONNECTION != 0 {
            self.files.outbound.open -= 1;
        }
    }

    /// A leadership begins: new rules, and what the leaders before had connected is gone.
    pub fn outbound_renewed(&mut self, shared: &Shared, payload: &[u8]) {
        self.digest = crate::digest::mix_bytes(self.digest, payload);
        let Ok((head, rest)) = OutboundHead::read_from_prefix(payload) else {
            return self.diverge(shared, "an Outbound event carries no rules");
        };
        let bytes = self.files.outbound.rules.as_mut_bytes();
        let len = rest.len().min(bytes.len());
        bytes[..len].copy_from_slice(&rest[..len]);
        let rules = head.rules.get().min((len / size_of::<OutboundRule>()) as u32);
        self.files.outbound.head = OutboundHead { rules: U32::new(rules), ..head };
        let mut slot = 0;
        while slot < SLOTS {
            match self.files.connections.at(slot) {
                Some((connection, id)) if connection & OUTBOUND_CONNECTION != 0 => {
                    if self.files.get(id).socket.phase == Phase::Connecting {
                        // It leaves the table, and what moves into its place is looked at next.
                        self.fail_dial(id, ECONNRESET as i32);
                        continue;
                    }
                    self.break_connection(id);
                }
                _ => {}
            }
            slot += 1;
        }
        self.break_outside_datagrams();
    }

    /// UDP sockets that ask a host outside learn that no answer will come.
    fn break_outside_datagrams(&mut self) {
        let mut id = self.files.bound;
        while id != 0 {
            let file = self.files.get_mut(id);
            let next = file.socket.bound_next;
            let asks = file.kind == FileKind::Udp && file.socket.listener != 0 && !file.is_service();
            if asks && file.socket.is_connected() {
                file.error = ECONNRESET as i32;
                self.notify(id, POLLERR);
            }
            id = next;
        }
    }
}

/// Addresses as an event or an upcall carries them.
pub(crate) fn info_of(peer: &Inet, local: &Inet) -> ConnectInfo {
    ConnectInfo {
        peer_address: peer.address,
        local_address: local.address,
        peer_port: U16::new(peer.port),
        local_port: U16::new(local.port),
        reserved: U32::new(0),
    }
}
