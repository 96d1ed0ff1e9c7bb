//! UDP sockets: who gets a datagram, and what becomes of one that nobody gets.
//!
//! Datagrams among the processes of this server are delivered at once. Those that come from outside, as events of an
//! entry, and those that go there are in `outside.rs`.

use crate::bounds::DATAGRAM_QUEUE_BYTES;
use crate::file::abi::{
    EACCES, ECONNREFUSED, EDESTADDRREQ, EINVAL, EMSGSIZE, ENETUNREACH, POLLERR, SocketAddress,
};
use crate::file::address::{Inet, is_v6};
use crate::file::memory::UserMemory;
use crate::file::options::{BROADCAST, MULTICAST_LOOP, MULTICAST_LOOP_V6, V6ONLY};
use crate::file::socket::Phase;
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::link::Shared;

/// Bytes of the longest datagram: what IP leaves of 65,535.
const MAX_DATAGRAM_BYTES: usize = 65_507;

/// The address that reaches all hosts of the network.
const BROADCAST_ADDRESS: [u8; 4] = [255; 4];

impl Kernel {
    /// The address that a datagram to `to` comes from, if its socket has none of its own.
    fn source_of(&self, to: &Inet, port: u16) -> Inet {
        let loopback = Inet { v6: to.v6, ..Inet::loopback(!to.is_mapped(), port) };
        match self.files.outbound.own(to) {
            Some(address) if !to.is_loopback() => Inet { address, ..loopback },
            _ => loopback,
        }
    }

    /// A UDP socket gets a peer, and the address that packets to it come from; `AF_UNSPEC` takes the peer away.
    pub(crate) fn connect_udp(&mut self, id: FileId, address: &[u8]) -> Result<i64, i64> {
        if address.len() >= 2 && address[..2] == [0, 0] {
            let socket = &mut self.files.get_mut(id).socket;
            (socket.phase, socket.remote) = (Phase::Idle, SocketAddress::NONE);
            return Ok(0);
        }
        let to = self.destination(id, address)?;
        let own = self.inet_of(id);
        let port = if self.files.get(id).socket.is_bound { own.port } else { self.calling_port()? };
        let local = if own.is_any() { self.source_of(&to, port) } else { Inet { port, ..own } };
        self.files.get_mut(id).socket.local = local.to_socket();
        if !self.files.get(id).socket.is_bound {
            self.enter_bound(id);
        }
        let socket = &mut self.files.get_mut(id).socket;
        (socket.remote, socket.phase) = (to.to_socket(), Phase::Connected);
        Ok(0)
    }

    /// Where a datagram from `id` to `address` goes: the wildcard address means this host.
    fn destination(&self, id: FileId, address: &[u8]) -> Result<Inet, i64> {
        let to = Inet::parse(self.files.get(id).socket.domain, address)?;
        if to.is_any() {
            return Ok(Inet { v6: to.v6, ..Inet::loopback(to.v6 && !to.is_mapped(), to.port) });
        }
        let reachable = to.is_loopback() || to.is_mapped() || self.files.outbound.own(&to).is_some();
        if to.address == Inet::of_v4(BROADCAST_ADDRESS, 0).address && self.option(id, BROADCAST) == 0 {
            return Err(EACCES);
        }
        if reachable { Ok(to) } else { Err(ENETUNREACH) }
    }

    /// Sends one datagram; `to` empty = to the peer, `from` = the sender's address, if the server chose one.
    pub(crate) fn send_datagram(
        &mut self,
        shared: &Shared,
        id: FileId,
        source: &mut UserMemory<'_>,
        to: &[u8],
        from: Option<[u8; 16]>,
    ) -> Result<i64, i64> {
        let socket = &self.files.get(id).socket;
        let to = match to {
            [] if socket.is_connected() => socket.remote,
            [] => return Err(EDESTADDRREQ),
            _ => SocketAddress::new(to).ok_or(EINVAL)?,
        };
        let to = self.destination(id, to.bytes())?;
        if to.port == 0 {
            return Err(EINVAL);
        }
        if source.left() > MAX_DATAGRAM_BYTES {
            return Err(EMSGSIZE);
        }
        if !self.files.get(id).socket.is_bound {
            let any = Inet { port: self.calling_port()?, ..self.inet_of(id) };
            self.files.get_mut(id).socket.local = any.to_socket();
            self.enter_bound(id);
        }
        let own = self.inet_of(id);
        let chosen = from.map(|address| Inet { address, ..own }).filter(|from| !from.is_any());
        let fixed = chosen.or((!own.is_any() && !own.is_multicast()).then_some(own));
        let from = fixed.unwrap_or_else(|| self.source_of(&to, own.port));
        let length = source.left() as i64;
        if to.is_multicast() {
            let loops = if to.is_mapped() { MULTICAST_LOOP } else { MULTICAST_LOOP_V6 };
            let here = self.option(id, loops) != 0 && self.deliver_datagram(&from, &to, &mut source.again());
            let sent = self.send_outside(shared, id, (&from, fixed.is_some()), &to, source);
            return if here { Ok(length) } else { sent };
        }
        // A client on this very machine has an address of the replica's own.
        if !self.files.outbound.is_here(&to) || self.files.outside.has_asked(&to) {
            return self.send_outside(shared, id, (&from, fixed.is_some()), &to, source);
        }
        if self.deliver_datagram(&from, &to, source) {
            self.files.outside.forget(&from);
            return Ok(length);
        }
        if self.files.outbound.allows(&to) {
            return self.send_outside(shared, id, (&from, fixed.is_some()), &to, source);
        }
        self.tell_refused(shared, &to, "datagram");
        if self.files.get(id).socket.is_connected() {
            // What the host answers for a port that nobody has.
            self.files.get_mut(id).error = ECONNREFUSED as i32;
            self.notify(id, POLLERR);
        }
        Ok(length)
    }

    /// A datagram arrives: puts it into the queue of the socket that it is for, of all if it is for a group; false if there
    /// is no such socket.
    pub(crate) fn deliver_datagram(&mut self, from: &Inet, to: &Inet, source: &mut UserMemory<'_>) -> bool {
        if to.is_multicast() {
            return self.deliver_to_group(from, to, source);
        }
        let Some(target) = self.datagram_socket(from, to) else { return false };
        self.queue_datagram(target, from, to, source);
        true
    }

    fn deliver_to_group(&mut self, from: &Inet, to: &Inet, source: &UserMemory<'_>) -> bool {
        let (mut found, mut id) = (false, self.files.bound);
        while id != 0 {
            if self.datagram_fit(id, from, to) > 0 {
                self.queue_datagram(id, from, to, &mut source.again());
                found = true;
            }
            id = self.files.get(id).socket.bound_next;
        }
        found
    }

    /// Puts a datagram into the queue of a socket. One that finds it full is lost, as datagrams are.
    pub(crate) fn queue_datagram(
        &mut self,
        target: FileId,
        from: &Inet,
        to: &Inet,
        source: &mut UserMemory<'_>,
    ) {
        let from = Inet { v6: is_v6(self.files.get(target).socket.domain), ..*from }.to_socket();
        if self.files.get(target).input.len() + source.left() as u64 <= DATAGRAM_QUEUE_BYTES {
            self.push_message(target, &from, &to.address, source);
        }
    }

    /// The socket that a datagram is for: the one that fits best, of equals the newest.
    fn datagram_socket(&self, from: &Inet, to: &Inet) -> Option<FileId> {
        let (mut best, mut best_fit) = (None, 0);
        let mut id = self.files.bound;
        while id != 0 {
            let fit = self.datagram_fit(id, from, to);
            if fit > best_fit {
                (best, best_fit) = (Some(id), fit);
            }
            id = self.files.get(id).socket.bound_next;
        }
        best
    }

    /// How well a datagram fits a socket; 0 = not at all.
    fn datagram_fit(&self, id: FileId, from: &Inet, to: &Inet) -> u32 {
        let file = self.files.get(id);
        let local = self.inet_of(id);
        if file.kind != FileKind::Udp || local.port != to.port {
            return 0;
        }
        let exact = local.address == to.address;
        let any = local.is_any()
            && (local.is_any_v6() != to.is_mapped() || local.is_any_v6() && self.option(id, V6ONLY) == 0);
        if !exact && !any {
            return 0;
        }
        let peer = match file.socket.is_connected() {
            true => match Inet::parse(file.socket.domain, file.socket.remote.bytes()) {
                Ok(peer) if peer.address == from.address && peer.port == from.port => 4,
                _ => return 0,
            },
            false => 0,
        };
        1 + u32::from(exact) * 2 + peer
    }
}
