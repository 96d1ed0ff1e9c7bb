//! UDP sockets: who gets a datagram, and what becomes of one that nobody gets.
//!
//! Datagrams travel among the processes of this server. The seam for those that come from elsewhere is
//! [`Kernel::deliver_datagram`]: an event of an entry has an address that it comes from, one that it goes to, and bytes.
//! What goes to other hosts leaves at [`Kernel::send_datagram`], where it is refused today.

use crate::bounds::DATAGRAM_QUEUE_BYTES;
use crate::file::abi::{ECONNREFUSED, EDESTADDRREQ, EINVAL, EMSGSIZE, ENETUNREACH, POLLERR, SocketAddress};
use crate::file::address::{Inet, is_v6};
use crate::file::memory::UserMemory;
use crate::file::options::V6ONLY;
use crate::file::socket::Phase;
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;

/// Bytes of the longest datagram: what IP leaves of 65,535.
const MAX_DATAGRAM_BYTES: usize = 65_507;

/// The address that a datagram to `to` comes from, if its socket has none of its own.
fn source_of(to: &Inet, port: u16) -> Inet {
    Inet { v6: to.v6, ..Inet::loopback(!to.is_mapped(), port) }
}

impl Kernel {
    /// A UDP socket gets a peer, and the address that packets to it come from; `AF_UNSPEC` takes the peer away.
    pub(crate) fn connect_udp(&mut self, id: FileId, address: &[u8]) -> Result<i64, i64> {
        if address.len() >= 2 && address[..2] == [0, 0] {
            let socket = &mut self.files.get_mut(id).socket;
            (socket.phase, socket.remote) = (Phase::Idle, SocketAddress::NONE);
            return Ok(0);
        }
        let to = self.destination(id, address)?;
        let own = self.inet_of(id);
        let port = if self.files.get(id).socket.is_bound { own.port } else { self.ephemeral_port()? };
        let local = if own.is_any() { source_of(&to, port) } else { Inet { port, ..own } };
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
        if to.is_loopback() { Ok(to) } else { Err(ENETUNREACH) }
    }

    /// Sends one datagram; `to` empty = to the peer.
    pub(crate) fn send_datagram(
        &mut self,
        id: FileId,
        source: &mut UserMemory<'_>,
        to: &[u8],
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
            let any = Inet { port: self.ephemeral_port()?, ..self.inet_of(id) };
            self.files.get_mut(id).socket.local = any.to_socket();
            self.enter_bound(id);
        }
        let own = self.inet_of(id);
        let from = if own.is_any() { source_of(&to, own.port) } else { own };
        let length = source.left() as i64;
        if !self.deliver_datagram(&from, &to, source) && self.files.get(id).socket.is_connected() {
            // What the host answers for a port that nobody has.
            self.files.get_mut(id).error = ECONNREFUSED as i32;
            self.notify(id, POLLERR);
        }
        Ok(length)
    }

    /// A datagram arrives: puts it into the queue of the socket that it is for; false if there is no such socket. One
    /// that finds the queue full is lost, as datagrams are.
    pub(crate) fn deliver_datagram(&mut self, from: &Inet, to: &Inet, source: &mut UserMemory<'_>) -> bool {
        let Some(target) = self.datagram_socket(from, to) else { return false };
        let from = Inet { v6: is_v6(self.files.get(target).socket.domain), ..*from }.to_socket();
        if self.files.get(target).input.len() + source.left() as u64 <= DATAGRAM_QUEUE_BYTES {
            self.push_message(target, &from, source);
        }
        true
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
