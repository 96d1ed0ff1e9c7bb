//! Sockets that keep messages apart: unix datagram and seqpacket sockets, and UDP.

use crate::bounds::PIPE_BYTES;
use crate::file::abi::{
    EAGAIN, ECONNREFUSED, EMSGSIZE, ENOBUFS, ENOTCONN, EPIPE, MAX_ADDRESS_BYTES, MSG_DONTWAIT, MSG_NOSIGNAL,
    MSG_PEEK, MSG_TRUNC, Place, SOCK_DGRAM, SocketAddress,
};
use crate::file::address::{is_v6, parse_unix};
use crate::file::io::{Extras, Message};
use crate::file::memory::UserMemory;
use crate::file::notify::READABLE;
use crate::file::options::{PACKET_INFO, PACKET_INFO_V6};
use crate::file::socket::returned;
use crate::file::table::{BROKEN, END_OF_INPUT, NO_ROOM, READ_SHUT, WRITE_SHUT};
use crate::file::waiting::{Try, Wait};
use crate::file::{FileId, FileKind, signals};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::park::Space;
use crate::thread::ThreadId;

/// In front of each message in a queue: its length, `u32`, and that of its sender's address, `u16`, which follows.
const HEAD_BYTES: usize = 6;
/// Behind the sender's address of a datagram: the address that it was sent to.
const LOCAL_BYTES: usize = 16;

/// What is in front of a message.
struct Head {
    length: u64,
    from: SocketAddress,
    /// UDP only: the address that it was sent to.
    local: Option<[u8; LOCAL_BYTES]>,
}

impl Head {
    /// Bytes in front of the message.
    fn bytes(&self) -> u64 {
        let local = if self.local.is_some() { LOCAL_BYTES } else { 0 };
        (HEAD_BYTES + local) as u64 + u64::from(self.from.len)
    }
}

impl Kernel {
    /// One try to receive a message.
    pub(crate) fn read_message(
        &mut self,
        shared: &Shared,
        id: FileId,
        target: &mut UserMemory<'_>,
        flags: i32,
        extras: &mut Extras<'_>,
    ) -> Try {
        let file = self.files.get_mut(id);
        if file.kind == FileKind::Udp && file.error != 0 {
            return Try::Done(-i64::from(core::mem::take(&mut file.error)));
        }
        if !file.input.is_empty() {
            return Try::Done(self.take_message(shared, id, target, flags, extras));
        }
        if file.error != 0 {
            return Try::Done(-i64::from(core::mem::take(&mut file.error)));
        }
        if file.is(READ_SHUT) || (file.socket.kind != SOCK_DGRAM && file.is(END_OF_INPUT | BROKEN)) {
            return Try::Done(0);
        }
        if file.socket.kind != SOCK_DGRAM && !file.socket.is_connected() {
            return Try::Done(-ENOTCONN);
        }
        if file.nonblocking() || flags & MSG_DONTWAIT != 0 {
            return Try::Done(-EAGAIN);
        }
        Wait::after(Space::Read, file.socket.receive_timeout, 0)
    }

    /// The head of the first message of a queue that has one.
    fn message_head(&self, id: FileId) -> Head {
        let (input, pool) = (&self.files.get(id).input, &self.files.pool);
        let (mut head, mut address) = ([0; HEAD_BYTES], [0; MAX_ADDRESS_BYTES]);
        pool.peek(input, 0, &mut head);
        let length = u64::from(u32::from_le_bytes([head[0], head[1], head[2], head[3]]));
        let address =
            &mut address[..usize::from(u16::from_le_bytes([head[4], head[5]])).min(MAX_ADDRESS_BYTES)];
        pool.peek(input, HEAD_BYTES as u64, address);
        let local = (self.files.get(id).kind == FileKind::Udp).then(|| {
            let mut local = [0; LOCAL_BYTES];
            pool.peek(input, (HEAD_BYTES + address.len()) as u64, &mut local);
            local
        });
        Head { length, from: SocketAddress::new(address).unwrap_or(SocketAddress::NONE), local }
    }

    /// Bytes of the message that is read next (`FIONREAD`).
    pub(crate) fn next_message_bytes(&self, id: FileId) -> u64 {
        if self.files.get(id).input.is_empty() { 0 } else { self.message_head(id).length }
    }

    fn take_message(
        &mut self,
        shared: &Shared,
        id: FileId,
        target: &mut UserMemory<'_>,
        flags: i32,
        extras: &mut Extras<'_>,
    ) -> i64 {
        let head = self.message_head(id);
        let (front, length) = (head.bytes(), head.length);
        if let Some(parcel) = &mut extras.parcel {
            let v6 = is_v6(self.files.get(id).socket.domain);
            let wanted = self.option(id, if v6 { PACKET_INFO_V6 } else { PACKET_INFO }) != 0;
            parcel.local = head.local.filter(|_| wanted);
        }
        let (file, pool) = self.files.with_pool(id);
        let mut at = 0;
        while at < length && target.left() > 0 {
            let piece = target.target((length - at) as usize);
            at += pool.peek(&file.input, front + at, piece) as u64;
        }
        if at < length {
            extras.flags |= MSG_TRUNC;
        }
        if let Some(from) = &mut extras.from {
            **from = head.from;
        }
        let (start, peek) = (file.input.taken(), flags & MSG_PEEK != 0);
        if !peek {
            pool.skip(&mut file.input, front + length);
            self.input_taken(shared, id, length);
        }
        self.hand_over_parcel(shared, id, start, front + length, peek, extras);
        if flags & MSG_TRUNC != 0 { length as i64 } else { at as i64 }
    }

    /// One try to send a message.
    pub(crate) fn write_message(
        &mut self,
        shared: &Shared,
        me: ThreadId,
        id: FileId,
        source: &mut UserMemory<'_>,
        message: &Message<'_>,
    ) -> Try {
        let (flags, to) = (message.flags, message.to);
        let file = self.files.get_mut(id);
        if file.error != 0 {
            return Try::Done(-i64::from(core::mem::take(&mut file.error)));
        }
        if file.is(WRITE_SHUT) || (file.socket.kind != SOCK_DGRAM && file.is(BROKEN)) {
            signals::broken_pipe(self, me, flags & MSG_NOSIGNAL != 0);
            return Try::Done(-EPIPE);
        }
        if file.kind == FileKind::Udp {
            return Try::Done(returned(self.send_datagram(shared, id, source, to, message.parcel.local)));
        }
        let paired = file.peer != 0 && to.is_empty();
        let target = match self.message_target(id, to, message.place) {
            Ok(target) => target,
            Err(errno) => return Try::Done(-errno),
        };
        let from = self.files.get(id).socket.local;
        let need = source.left() as u64 + (HEAD_BYTES as u64) + u64::from(from.len);
        if need > PIPE_BYTES {
            return Try::Done(-EMSGSIZE);
        }
        if PIPE_BYTES - self.files.get(target).input.len().min(PIPE_BYTES) < need {
            let file = self.files.get_mut(id);
            file.state |= NO_ROOM;
            if file.nonblocking() || flags & MSG_DONTWAIT != 0 {
                return Try::Done(-EAGAIN);
            }
            // Who reads a named socket does not know who writes to it, so such a writer cannot wait.
            let timeout = file.socket.send_timeout;
            return if paired { Wait::after(Space::Write, timeout, 0) } else { Try::Done(-ENOBUFS) };
        }
        Try::Done(self.push_message(target, &from, &[], source))
    }

    /// Puts a message into a socket's queue; `local` is the address that a datagram was sent to.
    pub(crate) fn push_message(
        &mut self,
        target: FileId,
        from: &SocketAddress,
        local: &[u8],
        source: &mut UserMemory<'_>,
    ) -> i64 {
        let length = source.left();
        if self.files.pool.room() < (length + HEAD_BYTES + from.bytes().len() + local.len()) as u64 {
            return -ENOBUFS;
        }
        let (file, pool) = self.files.with_pool(target);
        pool.push(&mut file.input, &(length as u32).to_le_bytes());
        pool.push(&mut file.input, &from.len.to_le_bytes());
        pool.push(&mut file.input, from.bytes());
        pool.push(&mut file.input, local);
        while source.left() > 0 {
            pool.push(&mut file.input, source.source(usize::MAX));
        }
        self.notify(target, READABLE);
        length as i64
    }

    pub(crate) fn message_target(&self, id: FileId, to: &[u8], place: Place) -> Result<FileId, i64> {
        let file = self.files.get(id);
        if to.is_empty() && file.peer != 0 {
            return Ok(file.peer);
        }
        if file.socket.kind != SOCK_DGRAM {
            return Err(ENOTCONN);
        }
        let (name, place) = match to {
            [] if file.socket.is_connected() && file.socket.remote.len > 2 => {
                (file.socket.remote, file.socket.remote_place)
            }
            [] if file.socket.is_connected() => return Err(ECONNREFUSED),
            [] => return Err(ENOTCONN),
            _ => (parse_unix(to)?, place),
        };
        let target = self.find_named(&name, place).ok_or(ECONNREFUSED)?;
        let datagram = self.files.get(target).socket.kind == SOCK_DGRAM;
        if datagram { Ok(target) } else { Err(crate::file::abi::EPROTOTYPE) }
    }
}
