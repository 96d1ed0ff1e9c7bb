//! Connections inside the server and their listeners: listen, accept, connect.

use crate::bounds::MAX_BACKLOG;
use crate::call::Call;
use crate::file::abi::{
    EAGAIN, EALREADY, ECONNREFUSED, EDESTADDRREQ, EINVAL, EISCONN, ENFILE, EOPNOTSUPP, EPROTOTYPE,
    O_NONBLOCK, O_RDWR, Place, SOCK_DGRAM, SocketAddress,
};
use crate::file::address::{Inet, is_v6, parse_unix};
use crate::file::options::V6ONLY;
use crate::file::socket::{Phase, returned};
use crate::file::table::{CONNECT_UNREPORTED, READ_SHUT};
use crate::file::waiting::{Try, Wait};
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::op::Op;
use crate::park::Space;
use crate::upcall::{UpcallKind, listen};

impl Kernel {
    fn listen(&mut self, shared: &Shared, id: FileId, backlog: i32) -> Result<i64, i64> {
        let file = self.files.get(id);
        if file.kind == FileKind::Udp || file.socket.kind == SOCK_DGRAM {
            return Err(EOPNOTSUPP);
        }
        match file.socket.phase {
            Phase::Connected | Phase::Connecting => return Err(EINVAL),
            Phase::Listening => return Ok(0),
            Phase::Idle => {}
        }
        if !file.socket.is_bound {
            if file.kind == FileKind::Unix {
                return Err(EDESTADDRREQ);
            }
            let any = Inet { port: self.offered_port(id)?, ..self.inet_of(id) };
            self.files.get_mut(id).socket.local = any.to_socket();
            self.enter_bound(id);
        }
        self.files.listeners += 1;
        let owner = self.credentials_of(self.sched.turn.max(1));
        let listener = u64::from(self.files.listeners) << 32 | u64::from(id);
        let tcp = self.files.get(id).kind == FileKind::Tcp;
        let socket = &mut self.files.get_mut(id).socket;
        (socket.phase, socket.owner) = (Phase::Listening, owner);
        if tcp {
            socket.listener = listener;
            let inet = self.inet_of(id);
            let backlog = u64::from(backlog.clamp(1, MAX_BACKLOG as i32) as u32);
            let v6_only = if inet.v6 && self.option(id, V6ONLY) != 0 { listen::V6_ONLY } else { 0 };
            let any_port = if self.files.get(id).socket.any_port { listen::ANY_PORT } else { 0 };
            self.upcall(
                shared,
                UpcallKind::Listen,
                [listener, u64::from(inet.port), backlog, v6_only | any_port],
                0,
                &[&inet.address],
            );
        }
        Ok(0)
    }

    /// Ends a listener: its waiting connections are closed, and the coordinator learns of it.
    pub(crate) fn stop_listening(&mut self, shared: &Shared, id: FileId) {
        let socket = &mut self.files.get_mut(id).socket;
        socket.phase = Phase::Idle;
        let listener = core::mem::take(&mut socket.listener);
        while let Some(connection) = self.dequeue_connection(id) {
            self.files.get_mut(connection).state |= READ_SHUT;
            self.release_file(shared, connection);
        }
        if listener != 0 {
            self.upcall(shared, UpcallKind::Unlisten, [listener, 0, 0, 0], 0, &[]);
        }
    }

    /// Appends a connected file to a listener's accept queue, which takes over the reference.
    pub(crate) fn enqueue_connection(&mut self, listener: FileId, id: FileId) {
        let socket = &mut self.files.get_mut(listener).socket;
        let tail = core::mem::replace(&mut socket.queue_tail, id);
        socket.queued += 1;
        if tail == 0 {
            socket.queue_head = id;
        } else {
            self.files.get_mut(tail).next = id;
        }
        self.notify_accept(listener);
    }

    fn dequeue_connection(&mut self, listener: FileId) -> Option<FileId> {
        let id = self.files.get(listener).socket.queue_head;
        if id == 0 {
            return None;
        }
        let next = core::mem::take(&mut self.files.get_mut(id).next);
        let socket = &mut self.files.get_mut(listener).socket;
        socket.queue_head = next;
        socket.queued -= 1;
        if next == 0 {
            socket.queue_tail = 0;
        }
        Some(id)
    }

    /// Gives a new connection what Linux lets it inherit from its listener.
    pub(crate) fn inherit_socket(&mut self, listener: FileId, id: FileId) {
        let from = &self.files.get(listener).socket;
        let (domain, kind, protocol, options) = (from.domain, from.kind, from.protocol, from.options);
        let (owner, local) = (from.owner, from.local);
        let timeouts = (from.receive_timeout, from.send_timeout);
        let socket = &mut self.files.get_mut(id).socket;
        (socket.domain, socket.kind, socket.protocol, socket.options) = (domain, kind, protocol, options);
        (socket.owner, socket.local) = (owner, local);
        (socket.receive_timeout, socket.send_timeout) = timeouts;
    }

    fn accept(&mut self, id: FileId, flags: i32, peer: &mut SocketAddress) -> Try {
        if let Err(errno) = self.is_socket(id) {
            return Try::Done(-errno);
        }
        let file = self.files.get(id);
        if !file.socket.is_stream() && file.kind != FileKind::Unix || file.socket.kind == SOCK_DGRAM {
            return Try::Done(-EOPNOTSUPP);
        }
        if !file.socket.is_listening() {
            return Try::Done(-EINVAL);
        }
        let (nonblocking, timeout) = (file.nonblocking(), file.socket.receive_timeout);
        let Some(connection) = self.dequeue_connection(id) else {
            return if nonblocking { Try::Done(-EAGAIN) } else { Wait::after(Space::Read, timeout, 0) };
        };
        let file = self.files.get_mut(connection);
        file.flags = O_RDWR | flags & O_NONBLOCK;
        *peer = file.socket.remote;
        Try::Done(i64::from(connection))
    }

    fn connect(&mut self, shared: &Shared, id: FileId, address: &[u8], place: Place) -> Try {
        if let Err(errno) = self.is_socket(id) {
            return Try::Done(-errno);
        }
        let file = self.files.get(id);
        if file.socket.is_stream() || file.kind != FileKind::Udp && file.socket.kind != SOCK_DGRAM {
            match file.socket.phase {
                Phase::Connecting if file.nonblocking() => return Try::Done(-EALREADY),
                Phase::Connecting => return self.await_connection(id),
                Phase::Listening => return Try::Done(-EINVAL),
                Phase::Idle | Phase::Connected => {}
            }
            if let Some(result) = self.finish_connect(id) {
                return Try::Done(result);
            }
        }
        let owner = self.credentials_of(self.sched.turn.max(1));
        let file = self.files.get_mut(id);
        file.socket.owner = owner;
        Try::Done(returned(match file.kind {
            FileKind::Tcp => match self.connect_tcp(id, address) {
                Ok(Some(outside)) => return self.dial(shared, id, &outside),
                Ok(None) => Ok(0),
                Err(errno) => Err(errno),
            },
            FileKind::Unix => self.connect_unix(id, address, place),
            _ => self.connect_udp(id, address),
        }))
    }

    /// What an earlier `connect` came to that could not say so; `None` = connect now.
    fn finish_connect(&mut self, id: FileId) -> Option<i64> {
        let file = self.files.get_mut(id);
        let unreported = file.is(CONNECT_UNREPORTED);
        file.state &= !CONNECT_UNREPORTED;
        match file.socket.phase {
            Phase::Connected => Some(if unreported { 0 } else { -EISCONN }),
            _ if unreported && file.error != 0 => Some(-i64::from(core::mem::take(&mut file.error))),
            _ => None,
        }
    }

    /// Connects to a listener of this server; if it is none, the host outside is returned.
    fn connect_tcp(&mut self, id: FileId, address: &[u8]) -> Result<Option<Inet>, i64> {
        let to = Inet::parse(self.files.get(id).socket.domain, address)?;
        let target = if to.is_any() {
            Inet { v6: to.v6, ..Inet::loopback(to.v6 && !to.is_mapped(), to.port) }
        } else {
            to
        };
        let listener = self.find_bound(|k, other| {
            let (file, bound) = (k.files.get(other), k.inet_of(other));
            let takes = bound.address == target.address
                || (bound.is_any() && bound.v6 != target.is_mapped())
                || (bound.is_any_v6() && target.is_mapped() && k.option(other, V6ONLY) == 0);
            file.kind == FileKind::Tcp && file.socket.is_listening() && bound.port == to.port && takes
        });
        let Some(listener) = listener else { return Ok(Some(target)) };
        if !self.files.get(id).socket.is_bound {
            let local = Inet { port: self.calling_port()?, ..target };
            self.files.get_mut(id).socket.local = local.to_socket();
        }
        let accepted = self.queue_pair(listener, id)?;
        let domain_v6 = is_v6(self.files.get(accepted).socket.domain);
        let (local, peer) = (target, self.inet_of(id));
        let socket = &mut self.files.get_mut(accepted).socket;
        socket.local = Inet { v6: domain_v6, ..local }.to_socket();
        socket.remote = Inet { v6: domain_v6, ..peer }.to_socket();
        self.files.get_mut(id).socket.remote = target.to_socket();
        self.enqueue_connection(listener, accepted);
        Ok(None)
    }

    /// Makes the listener's end of a connection inside this server, paired with `id`; not yet in the accept queue.
    fn queue_pair(&mut self, listener: FileId, id: FileId) -> Result<FileId, i64> {
        let (kind, queued) = (self.files.get(listener).kind, self.files.get(listener).socket.queued);
        if queued as usize >= MAX_BACKLOG {
            return Err(if kind == FileKind::Unix { EAGAIN } else { ECONNREFUSED });
        }
        let accepted = self.files.create(kind, O_RDWR).ok_or(ENFILE)?;
        self.inherit_socket(listener, accepted);
        self.pair(id, accepted);
        Ok(accepted)
    }

    fn connect_unix(&mut self, id: FileId, address: &[u8], place: Place) -> Result<i64, i64> {
        let name = parse_unix(address)?;
        let other = self.find_named(&name, place).ok_or(ECONNREFUSED)?;
        let (mine, theirs) = (&self.files.get(id).socket, &self.files.get(other).socket);
        if mine.kind != theirs.kind {
            return Err(EPROTOTYPE);
        }
        let (datagram, listening) = (mine.kind == SOCK_DGRAM, theirs.is_listening());
        if !datagram {
            if !listening {
                return Err(ECONNREFUSED);
            }
            let accepted = self.queue_pair(other, id)?;
            let local = self.local_name(id);
            self.files.get_mut(accepted).socket.remote = local;
            self.enqueue_connection(other, accepted);
        }
        let socket = &mut self.files.get_mut(id).socket;
        (socket.remote, socket.remote_place, socket.phase) = (name, place, Phase::Connected);
        Ok(0)
    }
}

impl Call<'_> {
    /// `listen`.
    pub fn listen(&self, fd: i32, backlog: i32) -> i64 {
        self.socket_output_op(Op::Listen, fd, |k, shared, file| k.listen(shared, file, backlog))
    }

    /// `accept4`: returns a file number; `peer` gets the address. `flags` may have `SOCK_NONBLOCK`.
    pub fn accept(&self, fd: i32, flags: i32, peer: &mut SocketAddress) -> i64 {
        self.file_op(Op::Accept, fd, |k, _, _, file| k.accept(file, flags, peer))
    }

    /// `connect`. Within the server it succeeds or fails at once; a connection to another host takes the leader's
    /// coordinator's work.
    pub fn connect(&self, fd: i32, address: &[u8]) -> i64 {
        self.connect_at(fd, address, Place::NONE)
    }

    /// The same; `place` is the file that the address leads to, if that is a path.
    pub fn connect_at(&self, fd: i32, address: &[u8], place: Place) -> i64 {
        self.file_output_op(Op::Connect, fd, |k, shared, _, file| k.connect(shared, file, address, place))
    }
}
