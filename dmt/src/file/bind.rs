//! Names of sockets: bind, and who has which.

use core::ops::RangeInclusive;

use crate::call::Call;
use crate::file::abi::{EADDRINUSE, EINVAL, Place, SocketAddress};
use crate::file::address::{Inet, is_named_unix, is_v6, parse_unix, unnamed_unix};
use crate::file::options::{SO_REUSEADDR, SO_REUSEPORT, V6ONLY};
use crate::file::socket::Phase;
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::op::Op;

/// Ports for sockets that connect or send without having one, as Linux has them by default. Nobody outside sees them.
const CALLING_PORTS: RangeInclusive<u32> = 32_768..=60_999;
/// Ports for sockets that ask for any to be found at: those of TCP are published on the host under the same number, so
/// they are none that the host's kernel gives to its own by default.
const OFFERED_PORTS: RangeInclusive<u32> = 61_000..=65_535;

impl Kernel {
    pub(crate) fn inet_of(&self, id: FileId) -> Inet {
        let socket = &self.files.get(id).socket;
        Inet::parse(socket.domain, socket.local.bytes()).unwrap_or(Inet::any(is_v6(socket.domain), 0))
    }

    /// `getsockname`.
    pub(crate) fn local_name(&self, id: FileId) -> SocketAddress {
        let file = self.files.get(id);
        match file.kind {
            _ if file.socket.local.len > 0 => file.socket.local,
            FileKind::Unix => unnamed_unix(),
            _ => Inet::any(is_v6(file.socket.domain), 0).to_socket(),
        }
    }

    pub(crate) fn enter_bound(&mut self, id: FileId) {
        let first = self.files.bound;
        let socket = &mut self.files.get_mut(id).socket;
        (socket.is_bound, socket.bound_next, socket.bound_previous) = (true, first, 0);
        if first != 0 {
            self.files.get_mut(first).socket.bound_previous = id;
        }
        self.files.bound = id;
    }

    /// Takes a socket out of the list of bound ones, if it is there.
    pub(crate) fn unbind(&mut self, id: FileId) {
        let socket = &mut self.files.get_mut(id).socket;
        if !core::mem::take(&mut socket.is_bound) {
            return;
        }
        let (previous, next) = (socket.bound_previous, socket.bound_next);
        match previous {
            0 => self.files.bound = next,
            _ => self.files.get_mut(previous).socket.bound_next = next,
        }
        if next != 0 {
            self.files.get_mut(next).socket.bound_previous = previous;
        }
    }

    /// The first bound socket, newest first, that `wanted` takes.
    pub(crate) fn find_bound(&self, wanted: impl Fn(&Self, FileId) -> bool) -> Option<FileId> {
        let mut id = self.files.bound;
        while id != 0 {
            if wanted(self, id) {
                return Some(id);
            }
            id = self.files.get(id).socket.bound_next;
        }
        None
    }

    /// The listener with this id.
    pub(crate) fn find_listener(&self, listener: u64) -> Option<FileId> {
        self.find_bound(|k, id| {
            let socket = &k.files.get(id).socket;
            socket.is_listening() && socket.listener == listener
        })
    }

    fn conflicts(&self, id: FileId, wanted: &Inet, other: FileId) -> bool {
        let (mine, theirs) = (self.files.get(id), self.files.get(other));
        let bound = self.inet_of(other);
        if mine.kind != theirs.kind || bound.port != wanted.port {
            return false;
        }
        let only = |id: FileId, inet: &Inet| inet.is_any_v6() && self.option(id, V6ONLY) == 0;
        let overlap = bound.address == wanted.address
            || (bound.is_any() && bound.v6 == wanted.v6)
            || (wanted.is_any() && bound.v6 == wanted.v6)
            || (only(other, &bound) && wanted.is_mapped())
            || (only(id, wanted) && bound.is_mapped());
        let both = |name| self.option(id, name) != 0 && self.option(other, name) != 0;
        let share = both(SO_REUSEPORT) || (both(SO_REUSEADDR) && !theirs.socket.is_listening());
        overlap && !share
    }

    /// A port for a socket that calls others.
    pub(crate) fn calling_port(&mut self) -> Result<u16, i64> {
        let port = self.free_port(CALLING_PORTS, self.files.last_calling_port).ok_or(EADDRINUSE)?;
        self.files.last_calling_port = u32::from(port);
        Ok(port)
    }

    /// A port for a socket that wants to be found, which is noted at it.
    pub(crate) fn offered_port(&mut self, id: FileId) -> Result<u16, i64> {
        let port = match self.free_port(OFFERED_PORTS, self.files.last_offered_port) {
            Some(port) => {
                self.files.last_offered_port = u32::from(port);
                port
            }
            None => self.calling_port()?,
        };
        self.files.get_mut(id).socket.any_port = true;
        Ok(port)
    }

    /// The first port behind `last`, in the circle of `range`, that no bound socket has.
    fn free_port(&self, range: RangeInclusive<u32>, last: u32) -> Option<u16> {
        let (first, end) = (*range.start(), *range.end());
        let behind = if range.contains(&last) { last + 1 } else { first };
        let mut ports = (behind..=end).chain(first..behind).map(|port| port as u16);
        ports.find(|port| self.find_bound(|k, id| k.inet_of(id).port == *port).is_none())
    }

    fn bind(&mut self, shared: &Shared, id: FileId, address: &[u8], place: Place) -> Result<i64, i64> {
        let file = self.files.get(id);
        let domain = file.socket.domain;
        if file.socket.is_bound || file.socket.phase != Phase::Idle {
            return Err(EINVAL);
        }
        let mut service = false;
        let local = if file.kind == FileKind::Unix {
            self.unix_name(address)?
        } else {
            let udp = file.kind == FileKind::Udp;
            let mut inet = Inet::parse(domain, address)?;
            service = udp && inet.port != 0;
            if inet.port == 0 {
                inet.port = self.offered_port(id)?;
            } else if self.find_bound(|k, other| k.conflicts(id, &inet, other)).is_some() {
                return Err(EADDRINUSE);
            }
            inet.to_socket()
        };
        let socket = &mut self.files.get_mut(id).socket;
        (socket.local, socket.place) = (local, place);
        self.enter_bound(id);
        if service {
            self.open_service(shared, id);
        }
        Ok(0)
    }

    /// The name to bind a unix socket to. Preload has bound the placeholder to a path before, so the path is free and
    /// whoever had it in this table has lost it; abstract names are refused if they are taken.
    fn unix_name(&mut self, address: &[u8]) -> Result<SocketAddress, i64> {
        let name = parse_unix(address)?;
        if !is_named_unix(&name) {
            self.files.last_unix_name += 1;
            let mut auto = *b"\x01\x00\x0000000";
            for (i, digit) in auto[3..].iter_mut().enumerate() {
                *digit = b"0123456789abcdef"[(self.files.last_unix_name >> (16 - 4 * i)) as usize & 15];
            }
            return SocketAddress::new(&auto).ok_or(EINVAL);
        }
        if name.bytes()[2] == 0 && self.find_named(&name, Place::NONE).is_some() {
            return Err(EADDRINUSE);
        }
        Ok(name)
    }

    /// The socket that is bound to a name. A path is whatever file it leads to.
    pub(crate) fn find_named(&self, name: &SocketAddress, place: Place) -> Option<FileId> {
        self.find_bound(|k, id| {
            let file = k.files.get(id);
            let same = match place {
                Place::NONE => file.socket.local.bytes() == name.bytes(),
                _ => file.socket.place == place,
            };
            file.kind == FileKind::Unix && same
        })
    }
}

impl Call<'_> {
    /// `bind` to an address that is no path.
    pub fn bind(&self, fd: i32, address: &[u8]) -> i64 {
        self.bind_at(fd, address, Place::NONE)
    }

    /// `bind`. For a path, preload has bound the placeholder first, so that the file exists and is free; `place` is that file.
    pub fn bind_at(&self, fd: i32, address: &[u8], place: Place) -> i64 {
        self.socket_output_op(Op::Bind, fd, |k, shared, file| k.bind(shared, file, address, place))
    }
}
