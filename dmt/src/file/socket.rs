//! What all sockets have in common: state, names, the calls that make and name them.

use crate::call::Call;
use crate::file::abi::{
    AF_INET, AF_INET6, AF_UNIX, EAFNOSUPPORT, EBADF, EINVAL, ENFILE, ENOTCONN, ENOTSOCK, EOPNOTSUPP,
    EPROTONOSUPPORT, ESOCKTNOSUPPORT, IPPROTO_TCP, IPPROTO_UDP, O_NONBLOCK, O_RDWR, Place, SHUT_RD,
    SHUT_RDWR, SHUT_WR, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOCK_TYPE_MASK, SocketAddress,
};
use crate::file::options::OPTIONS;
use crate::file::passed::Credentials;
use crate::file::{FileId, FileKind};
use crate::kernel::{Kernel, Step};
use crate::link::Shared;
use crate::op::Op;

/// What a socket is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Neither connected nor listening.
    Idle = 0,
    /// It listens.
    Listening = 1,
    /// It is, or was, connected.
    Connected = 2,
    /// The leader's coordinator is asked to connect it to another host.
    Connecting = 3,
}

/// The part of a [`crate::file::table::File`] that only sockets use.
#[repr(C)]
pub struct Socket {
    pub(crate) phase: Phase,
    /// 1 if it is in the list of bound sockets.
    pub(crate) is_bound: bool,
    /// It asked for any port, and we chose one.
    pub(crate) any_port: bool,
    /// `AF_INET`, `AF_INET6`, `AF_UNIX`.
    pub(crate) domain: i32,
    /// `SOCK_STREAM` and its kin.
    pub(crate) kind: i32,
    pub(crate) protocol: i32,
    /// Neighbours in the list of bound sockets.
    pub(crate) bound_next: FileId,
    pub(crate) bound_previous: FileId,
    /// A listener's accept queue.
    pub(crate) queue_head: FileId,
    pub(crate) queue_tail: FileId,
    pub(crate) queued: u32,
    /// A listener's or UDP socket's id for the coordinator; 0 = it is none of its business.
    pub(crate) listener: u64,
    /// The id of a connection with the world outside; 0 for other sockets.
    pub(crate) connection: u64,
    /// Sequence number of the connection's next event.
    pub(crate) sequence: u64,
    /// Bytes written to the client.
    pub(crate) written: u64,
    /// Bytes that the client's side has taken.
    pub(crate) drained: u64,
    /// Bytes read by the server.
    pub(crate) read: u64,
    /// Bytes read that the coordinator was told of.
    pub(crate) reported: u64,
    /// `SO_RCVTIMEO` and `SO_SNDTIMEO`, nanoseconds; 0 = none.
    pub(crate) receive_timeout: u64,
    pub(crate) send_timeout: u64,
    /// Who made it, listens or connected: `SO_PEERCRED` of the other end.
    pub(crate) owner: Credentials,
    /// The other end's, from the time of the connection; process 0 = there was none.
    pub(crate) peer_owner: Credentials,
    pub(crate) local: SocketAddress,
    pub(crate) remote: SocketAddress,
    /// Of a unix socket that is bound to a path, and of that which it sends to.
    pub(crate) place: Place,
    pub(crate) remote_place: Place,
    /// Options by their place in [`OPTIONS`], less their defaults, so that zeroes are a new socket.
    pub(crate) options: [i32; OPTIONS.len()],
}

impl Socket {
    pub(crate) fn is_listening(&self) -> bool {
        self.phase == Phase::Listening
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Bytes without boundaries; otherwise each write is a message.
    pub(crate) fn is_stream(&self) -> bool {
        self.kind == SOCK_STREAM
    }
}

/// The kind of file that `socket(domain, kind, protocol)` makes.
fn kind_of(domain: i32, kind: i32, protocol: i32) -> Result<FileKind, i64> {
    match (domain, kind) {
        (AF_UNIX, SOCK_STREAM | SOCK_DGRAM | SOCK_SEQPACKET) => match protocol {
            0 | AF_UNIX => Ok(FileKind::Unix),
            _ => Err(EPROTONOSUPPORT),
        },
        (AF_INET | AF_INET6, SOCK_STREAM) => match protocol {
            0 | IPPROTO_TCP => Ok(FileKind::Tcp),
            _ => Err(EPROTONOSUPPORT),
        },
        (AF_INET | AF_INET6, SOCK_DGRAM) => match protocol {
            0 | IPPROTO_UDP => Ok(FileKind::Udp),
            _ => Err(EPROTONOSUPPORT),
        },
        (AF_UNIX | AF_INET | AF_INET6, _) => Err(ESOCKTNOSUPPORT),
        _ => Err(EAFNOSUPPORT),
    }
}

impl Kernel {
    pub(crate) fn create_socket(&mut self, domain: i32, kind: i32, protocol: i32) -> Result<FileId, i64> {
        let file_kind = kind_of(domain, kind & SOCK_TYPE_MASK, protocol)?;
        let id = self.files.create(file_kind, O_RDWR | kind & O_NONBLOCK).ok_or(ENFILE)?;
        let owner = self.credentials_of(self.sched.turn.max(1));
        let socket = &mut self.files.get_mut(id).socket;
        socket.domain = domain;
        socket.kind = kind & SOCK_TYPE_MASK;
        socket.protocol = match file_kind {
            FileKind::Tcp => IPPROTO_TCP,
            FileKind::Udp => IPPROTO_UDP,
            _ => 0,
        };
        socket.owner = owner;
        Ok(id)
    }

    /// The socket behind a file number, or why there is none.
    pub(crate) fn is_socket(&self, file: FileId) -> Result<(), i64> {
        match self.files.get(file).kind {
            FileKind::Tcp | FileKind::Udp | FileKind::Unix | FileKind::Netlink => Ok(()),
            _ => Err(ENOTSOCK),
        }
    }

    fn shutdown(&mut self, shared: &Shared, id: FileId, how: i32) -> Result<i64, i64> {
        self.is_socket(id)?;
        let (read, write) = match how {
            SHUT_RD => (true, false),
            SHUT_WR => (false, true),
            SHUT_RDWR => (true, true),
            _ => return Err(EINVAL),
        };
        if self.files.get(id).socket.is_listening() && read {
            self.stop_listening(shared, id);
            self.notify(id, u32::MAX >> 8);
            return Ok(0);
        }
        if !self.files.get(id).socket.is_connected() {
            return Err(ENOTCONN);
        }
        self.shutdown_stream(shared, id, read, write);
        Ok(0)
    }
}

/// A result as a call returns it.
pub(crate) fn returned(result: Result<i64, i64>) -> i64 {
    result.unwrap_or_else(|errno| -errno)
}

impl Call<'_> {
    /// `socket`: returns a file number. `kind` may carry `SOCK_NONBLOCK`; `SOCK_CLOEXEC` is for [`Call::install`].
    pub fn socket(&self, domain: i32, kind: i32, protocol: i32) -> i64 {
        self.quick(Op::Socket, domain as u64, |k, _| {
            returned(k.create_socket(domain, kind, protocol).map(i64::from))
        })
    }

    /// `socketpair`: fills in two file numbers.
    pub fn socket_pair(&self, domain: i32, kind: i32, protocol: i32, files: &mut [FileId; 2]) -> i64 {
        self.quick(Op::SocketPair, domain as u64, |k, _| {
            if domain != AF_UNIX {
                return -EOPNOTSUPP;
            }
            let shared = self.shared();
            returned(k.create_socket(domain, kind, protocol).and_then(|first| {
                let second = k.create_socket(domain, kind, protocol);
                if second.is_err() {
                    k.release_file(shared, first);
                }
                let second = second?;
                k.pair(first, second);
                *files = [first, second];
                Ok(0)
            }))
        })
    }

    /// `shutdown`.
    pub fn shutdown(&self, fd: i32, how: i32) -> i64 {
        self.socket_output_op(Op::Shutdown, fd, |k, shared, file| k.shutdown(shared, file, how))
    }

    /// An operation on a socket that cannot wait but may write upcalls.
    pub(crate) fn socket_output_op(
        &self,
        op: Op,
        fd: i32,
        mut f: impl FnMut(&mut Kernel, &Shared, FileId) -> Result<i64, i64>,
    ) -> i64 {
        let shared = self.shared();
        self.output_op(op, fd as u64, |k, me| {
            Step::Done(match k.descriptor(me, fd) {
                Some(file) => returned(k.is_socket(file).and_then(|()| f(k, shared, file))),
                None => -EBADF,
            })
        })
    }

    /// `getsockname`.
    pub fn socket_name(&self, fd: i32, address: &mut SocketAddress) -> i64 {
        self.socket_output_op(Op::SockName, fd, |k, _, file| {
            *address = k.local_name(file);
            Ok(0)
        })
    }

    /// `getpeername`.
    pub fn peer_name(&self, fd: i32, address: &mut SocketAddress) -> i64 {
        self.socket_output_op(Op::SockName, fd, |k, _, file| {
            let socket = &k.files.get(file).socket;
            if !socket.is_connected() || k.files.get(file).is(crate::file::table::BROKEN) {
                return Err(ENOTCONN);
            }
            *address = socket.remote;
            Ok(0)
        })
    }
}
