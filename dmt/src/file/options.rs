//! Socket options. Those that change nothing here are remembered, so that the server reads back what it set.

use crate::call::Call;
use crate::file::abi::{AF_UNIX, EINVAL, ENOPROTOOPT, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET};
use crate::file::passed::Credentials;
use crate::file::socket::Socket;
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::op::Op;

/// An option with an integer value: level, name, what a new socket has.
type Row = (i32, i32, i32);

/// Bytes that a new socket says its buffers have.
const BUFFER_BYTES: i32 = 212_992;

/// All remembered integer options. The place in this table is the place in [`Socket::options`].
pub(crate) const OPTIONS: [Row; 64] = [
    (SOL_SOCKET, 2, 0),             // SO_REUSEADDR
    (SOL_SOCKET, 15, 0),            // SO_REUSEPORT
    (IPPROTO_IPV6, 26, 0),          // IPV6_V6ONLY
    (SOL_SOCKET, 7, BUFFER_BYTES),  // SO_SNDBUF
    (SOL_SOCKET, 8, BUFFER_BYTES),  // SO_RCVBUF
    (SOL_SOCKET, 9, 0),             // SO_KEEPALIVE
    (SOL_SOCKET, 1, 0),             // SO_DEBUG
    (SOL_SOCKET, 5, 0),             // SO_DONTROUTE
    (SOL_SOCKET, 6, 0),             // SO_BROADCAST
    (SOL_SOCKET, 10, 0),            // SO_OOBINLINE
    (SOL_SOCKET, 11, 0),            // SO_NO_CHECK
    (SOL_SOCKET, 12, 0),            // SO_PRIORITY
    (SOL_SOCKET, 16, 0),            // SO_PASSCRED
    (SOL_SOCKET, 18, 1),            // SO_RCVLOWAT
    (SOL_SOCKET, 19, 1),            // SO_SNDLOWAT
    (SOL_SOCKET, 29, 0),            // SO_TIMESTAMP
    (SOL_SOCKET, 32, BUFFER_BYTES), // SO_SNDBUFFORCE
    (SOL_SOCKET, 33, BUFFER_BYTES), // SO_RCVBUFFORCE
    (SOL_SOCKET, 34, 0),            // SO_PASSSEC
    (SOL_SOCKET, 35, 0),            // SO_TIMESTAMPNS
    (SOL_SOCKET, 36, 0),            // SO_MARK
    (SOL_SOCKET, 46, 0),            // SO_BUSY_POLL
    (SOL_SOCKET, 49, 0),            // SO_INCOMING_CPU
    (SOL_SOCKET, 60, 0),            // SO_ZEROCOPY
    (SOL_SOCKET, 13, -1),           // SO_LINGER: seconds, -1 = off
    (IPPROTO_TCP, 1, 0),            // TCP_NODELAY
    (IPPROTO_TCP, 2, 65_483),       // TCP_MAXSEG
    (IPPROTO_TCP, 3, 0),            // TCP_CORK
    (IPPROTO_TCP, 4, 7200),         // TCP_KEEPIDLE
    (IPPROTO_TCP, 5, 75),           // TCP_KEEPINTVL
    (IPPROTO_TCP, 6, 9),            // TCP_KEEPCNT
    (IPPROTO_TCP, 7, 6),            // TCP_SYNCNT
    (IPPROTO_TCP, 8, 60),           // TCP_LINGER2
    (IPPROTO_TCP, 9, 0),            // TCP_DEFER_ACCEPT
    (IPPROTO_TCP, 10, 65_536),      // TCP_WINDOW_CLAMP
    (IPPROTO_TCP, 12, 1),           // TCP_QUICKACK
    (IPPROTO_TCP, 18, 0),           // TCP_USER_TIMEOUT
    (IPPROTO_TCP, 23, 0),           // TCP_FASTOPEN
    (IPPROTO_TCP, 25, -1),          // TCP_NOTSENT_LOWAT
    (IPPROTO_TCP, 30, 0),           // TCP_FASTOPEN_CONNECT
    (IPPROTO_IP, 1, 0),             // IP_TOS
    (IPPROTO_IP, 2, 64),            // IP_TTL
    (IPPROTO_IP, 8, 0),             // IP_PKTINFO
    (IPPROTO_IP, 10, 1),            // IP_MTU_DISCOVER
    (IPPROTO_IP, 11, 0),            // IP_RECVERR
    (IPPROTO_IP, 12, 0),            // IP_RECVTTL
    (IPPROTO_IP, 13, 0),            // IP_RECVTOS
    (IPPROTO_IP, 15, 0),            // IP_FREEBIND
    (IPPROTO_IP, 19, 0),            // IP_TRANSPARENT
    (IPPROTO_IP, 24, 0),            // IP_BIND_ADDRESS_NO_PORT
    (IPPROTO_IP, 33, 1),            // IP_MULTICAST_TTL
    (IPPROTO_IP, 34, 1),            // IP_MULTICAST_LOOP
    (IPPROTO_IPV6, 16, 64),         // IPV6_UNICAST_HOPS
    (IPPROTO_IPV6, 17, 0),          // IPV6_MULTICAST_IF
    (IPPROTO_IPV6, 18, 1),          // IPV6_MULTICAST_HOPS
    (IPPROTO_IPV6, 19, 1),          // IPV6_MULTICAST_LOOP
    (IPPROTO_IPV6, 23, 1),          // IPV6_MTU_DISCOVER
    (IPPROTO_IPV6, 25, 0),          // IPV6_RECVERR
    (IPPROTO_IPV6, 49, 0),          // IPV6_RECVPKTINFO
    (IPPROTO_IPV6, 66, 0),          // IPV6_RECVTCLASS
    (IPPROTO_IPV6, 67, 0),          // IPV6_TCLASS
    (SOL_SOCKET, 42, -1),           // SO_PEEK_OFF
    (IPPROTO_IP, 49, 1),            // IP_MULTICAST_ALL
    (IPPROTO_IPV6, 29, 1),          // IPV6_MULTICAST_ALL
];

/// Places in [`OPTIONS`] that the core itself looks at.
pub(crate) const SO_REUSEADDR: usize = 0;
pub(crate) const SO_REUSEPORT: usize = 1;
pub(crate) const V6ONLY: usize = 2;
pub(crate) const PASS_CREDENTIALS: usize = 12;
pub(crate) const BROADCAST: usize = 8;
pub(crate) const PACKET_INFO: usize = 42;
pub(crate) const MULTICAST_LOOP: usize = 51;
pub(crate) const MULTICAST_LOOP_V6: usize = 55;
pub(crate) const PACKET_INFO_V6: usize = 58;
const SEND_BUFFER: usize = 3;
const RECEIVE_BUFFER: usize = 4;
const LINGER: usize = 24;

/// Options of `SOL_SOCKET` that are not plain integers.
const SO_TYPE: i32 = 3;
const SO_ERROR: i32 = 4;
const SO_LINGER: i32 = 13;
const SO_PEERCRED: i32 = 17;
const SO_RCVTIMEO: i32 = 20;
const SO_SNDTIMEO: i32 = 21;
const SO_BINDTODEVICE: i32 = 25;
const SO_ATTACH_FILTER: i32 = 26;
const SO_DETACH_FILTER: i32 = 27;
const SO_ACCEPTCONN: i32 = 30;
const SO_PROTOCOL: i32 = 38;
const SO_DOMAIN: i32 = 39;
const SO_ATTACH_REUSEPORT_CBPF: i32 = 51;
const SO_ATTACH_REUSEPORT_EBPF: i32 = 52;
const SO_ZEROCOPY: i32 = 60;
const TCP_INFO: i32 = 11;
const TCP_CONGESTION: i32 = 13;
/// The interface of what is sent to groups is the host's choice.
const IP_MULTICAST_IF: (i32, i32) = (IPPROTO_IP, 32);

/// Bytes of `struct tcp_info` filled in; all but the state are 0.
const TCP_INFO_BYTES: usize = 104;

/// True if closing the socket is to reset the connection.
pub(crate) fn linger_is_zero(socket: &Socket) -> bool {
    socket.options[LINGER] == 1
}

fn place(level: i32, name: i32) -> Option<usize> {
    OPTIONS.iter().position(|&(l, n, _)| (l, n) == (level, name))
}

fn integer(value: &[u8]) -> Result<i32, i64> {
    let bytes = value.get(..4).and_then(|b| b.try_into().ok()).ok_or(EINVAL)?;
    Ok(i32::from_le_bytes(bytes))
}

fn fill(value: &mut [u8], bytes: &[u8]) -> i64 {
    let len = value.len().min(bytes.len());
    value[..len].copy_from_slice(&bytes[..len]);
    len as i64
}

/// Reads a `struct timeval` as nanoseconds.
fn timeval(value: &[u8]) -> Result<u64, i64> {
    let word = |at: usize| -> Result<u64, i64> {
        let bytes = value.get(at..at + 8).and_then(|b| b.try_into().ok()).ok_or(EINVAL)?;
        Ok(u64::from_le_bytes(bytes))
    };
    Ok(word(0)?.saturating_mul(1_000_000_000).saturating_add(word(8)?.saturating_mul(1000)))
}

fn to_timeval(ns: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(ns / 1_000_000_000).to_le_bytes());
    bytes[8..].copy_from_slice(&(ns % 1_000_000_000 / 1000).to_le_bytes());
    bytes
}

impl Kernel {
    /// The value of the option at `place` in [`OPTIONS`].
    pub(crate) fn option(&self, id: FileId, place: usize) -> i32 {
        OPTIONS[place].2.wrapping_add(self.files.get(id).socket.options[place])
    }

    fn set_option(&mut self, id: FileId, place: usize, value: i32) {
        self.files.get_mut(id).socket.options[place] = value.wrapping_sub(OPTIONS[place].2);
    }

    fn get_socket_option(&mut self, id: FileId, level: i32, name: i32, value: &mut [u8]) -> Result<i64, i64> {
        let listening = self.files.get(id).socket.is_listening();
        if level == SOL_SOCKET {
            let file = self.files.get_mut(id);
            let socket = &file.socket;
            let number = match name {
                SO_TYPE => socket.kind,
                SO_ERROR => core::mem::take(&mut file.error),
                SO_ACCEPTCONN => i32::from(listening),
                SO_PROTOCOL => socket.protocol,
                SO_DOMAIN => socket.domain,
                SO_LINGER => {
                    let seconds = self.option(id, LINGER);
                    let mut linger = [0; 8];
                    linger[0] = u8::from(seconds >= 0);
                    linger[4..].copy_from_slice(&seconds.max(0).to_le_bytes());
                    return Ok(fill(value, &linger));
                }
                SO_RCVTIMEO => return Ok(fill(value, &to_timeval(socket.receive_timeout))),
                SO_SNDTIMEO => return Ok(fill(value, &to_timeval(socket.send_timeout))),
                SO_PEERCRED => return Ok(fill(value, &self.peer_credentials(id))),
                // It is bound to none.
                SO_BINDTODEVICE => return Ok(0),
                _ => self.option(id, place(level, name).ok_or(ENOPROTOOPT)?),
            };
            return Ok(fill(value, &number.to_le_bytes()));
        }
        self.check_level(id, level)?;
        match (level, name) {
            (IPPROTO_TCP, TCP_INFO) => {
                let mut info = [0; TCP_INFO_BYTES];
                let file = self.files.get(id);
                // TCP_LISTEN, TCP_ESTABLISHED, TCP_CLOSE.
                info[0] = if listening {
                    10
                } else if file.socket.is_connected() && !file.is(crate::file::table::BROKEN) {
                    1
                } else {
                    7
                };
                Ok(fill(value, &info))
            }
            // The host's choice, whatever was set.
            IP_MULTICAST_IF => Ok(fill(value, &[0; 4])),
            (IPPROTO_TCP, TCP_CONGESTION) => Ok(fill(value, b"cubic\0\0\0\0\0\0\0\0\0\0\0")),
            _ => {
                let number = self.option(id, place(level, name).ok_or(ENOPROTOOPT)?);
                Ok(fill(value, &number.to_le_bytes()))
            }
        }
    }

    fn check_level(&self, id: FileId, level: i32) -> Result<(), i64> {
        let file = self.files.get(id);
        let fits = match level {
            IPPROTO_TCP => file.kind == FileKind::Tcp,
            _ => file.socket.domain != AF_UNIX,
        };
        if fits { Ok(()) } else { Err(crate::file::abi::EOPNOTSUPP) }
    }

    /// `struct ucred` of whoever was at the other end when it was connected.
    fn peer_credentials(&self, id: FileId) -> [u8; 12] {
        let peer = self.files.get(id).socket.peer_owner;
        if peer.pid == 0 { Credentials::NOBODY.to_bytes() } else { peer.to_bytes() }
    }

    fn set_socket_option(
        &mut self,
        shared: &Shared,
        id: FileId,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Result<i64, i64> {
        if level == SOL_SOCKET {
            match name {
                SO_TYPE | SO_ERROR | SO_ACCEPTCONN | SO_PROTOCOL | SO_DOMAIN | SO_PEERCRED => {
                    return Err(ENOPROTOOPT);
                }
                // Nobody would say when the memory may be used again.
                SO_ZEROCOPY if integer(value)? != 0 => return Err(ENOPROTOOPT),
                SO_BINDTODEVICE | SO_ATTACH_FILTER | SO_DETACH_FILTER => return Ok(0),
                SO_ATTACH_REUSEPORT_CBPF | SO_ATTACH_REUSEPORT_EBPF => return Ok(0),
                SO_RCVTIMEO => {
                    self.files.get_mut(id).socket.receive_timeout = timeval(value)?;
                    return Ok(0);
                }
                SO_SNDTIMEO => {
                    self.files.get_mut(id).socket.send_timeout = timeval(value)?;
                    return Ok(0);
                }
                SO_LINGER => {
                    let (on, seconds) = (integer(value)?, integer(value.get(4..).unwrap_or(&[]))?);
                    self.set_option(id, LINGER, if on != 0 { seconds.max(0) } else { -1 });
                    return Ok(0);
                }
                _ => {}
            }
        } else {
            self.check_level(id, level)?;
            if [(IPPROTO_TCP, TCP_CONGESTION), IP_MULTICAST_IF].contains(&(level, name)) {
                return Ok(0);
            }
            if let Some(result) = self.set_membership(shared, id, level, name, value) {
                return result;
            }
        }
        let place = place(level, name).ok_or(ENOPROTOOPT)?;
        // Some options take a single byte, too.
        let number = match value {
            [byte, rest @ ..] if rest.len() < 3 && level != SOL_SOCKET => i32::from(*byte),
            _ => integer(value)?,
        };
        // Linux doubles the buffer sizes it is given.
        let number = match place {
            SEND_BUFFER | RECEIVE_BUFFER => number.clamp(2304, BUFFER_BYTES).saturating_mul(2),
            _ => number,
        };
        self.set_option(id, place, number);
        Ok(0)
    }
}

impl Call<'_> {
    /// `getsockopt`: fills `value` from its start and returns the bytes filled, or a negative errno.
    pub fn socket_option(&self, fd: i32, level: i32, name: i32, value: &mut [u8]) -> i64 {
        self.socket_output_op(Op::SockOpt, fd, |k, _, file| k.get_socket_option(file, level, name, value))
    }

    /// `setsockopt`.
    pub fn set_socket_option(&self, fd: i32, level: i32, name: i32, value: &[u8]) -> i64 {
        self.socket_output_op(Op::SockOpt, fd, |k, shared, file| {
            k.set_socket_option(shared, file, level, name, value)
        })
    }
}
