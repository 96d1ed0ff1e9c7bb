//! Sockets that keep messages apart: unix datagram and seqpacket sockets, and UDP (which reaches nobody yet).

use crate::bounds::PIPE_BYTES;
use crate::file::abi::{
    EAGAIN, ECONNREFUSED, EDESTADDRREQ, EMSGSIZE, ENETUNREACH, ENOBUFS, ENOTCONN, EPIPE, MSG_DONTWAIT,
    MSG_NOSIGNAL, MSG_PEEK, MSG_TRUNC, SOCK_DGRAM,
};
use crate::file::address::{Inet, parse_unix};
use crate::file::memory::UserMemory;
use crate::file::notify::READABLE;
use crate::file::table::{BROKEN, END_OF_INPUT, NO_ROOM, READ_SHUT, WRITE_SHUT};
use crate::file::waiting::{Try, Wait};
use crate::file::{FileId, FileKind, signals};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::park::Space;
use crate::thread::ThreadId;

/// In front of each message in a queue: its length, `u32`.
const LENGTH_BYTES: u64 = 4;

impl Kernel {
    /// One try to receive a message.
    pub(crate) fn read_message(
        &mut self,
        shared: &Shared,
        id: FileId,
        target: &mut UserMemory<'_>,
        flags: i32,
        out_flags: &mut i32,
    ) -> Try {
        let file = self.files.get_mut(id);
        if !file.input.is_empty() {
            return Try::Done(self.take_message(shared, id, target, flags, out_flags));
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

    fn take_message(
        &mut self,
        shared: &Shared,
        id: FileId,
        target: &mut UserMemory<'_>,
        flags: i32,
        out_flags: &mut i32,
    ) -> i64 {
        let (file, pool) = self.files.with_pool(id);
        let mut length = [0; LENGTH_BYTES as usize];
        pool.peek(&file.input, 0, &mut length);
        let length = u64::from(u32::from_le_bytes(length));
        let mut at = 0;
        while at < length && target.left() > 0 {
            let piece = target.target((length - at) as usize);
            at += pool.peek(&file.input, LENGTH_BYTES + at, piece) as u64;
        }
        if at < length {
            *out_flags |= MSG_TRUNC;
        }
        if flags & MSG_PEEK == 0 {
            pool.skip(&mut file.input, LENGTH_BYTES + length);
            self.input_taken(shared, id, length);
        }
        if flags & MSG_TRUNC != 0 { length as i64 } else { at as i64 }
    }

    /// One try to send a message.
    pub(crate) fn write_message(
        &mut self,
        me: ThreadId,
        id: FileId,
        source: &mut UserMemory<'_>,
        flags: i32,
        to: &[u8],
    ) -> Try {
        let file = self.files.get_mut(id);
        if file.error != 0 {
            return Try::Done(-i64::from(core::mem::take(&mut file.error)));
        }
        if file.is(WRITE_SHUT) || (file.socket.kind != SOCK_DGRAM && file.is(BROKEN)) {
            signals::broken_pipe(self, me, flags & MSG_NOSIGNAL != 0);
            return Try::Done(-EPIPE);
        }
        if file.kind == FileKind::Udp {
            return Try::Done(match self.udp_target(id, to) {
                Ok(()) => source.left() as i64,
                Err(errno) => -errno,
            });
        }
        let paired = file.peer != 0 && to.is_empty();
        let target = match self.message_target(id, to) {
            Ok(target) => target,
            Err(errno) => return Try::Done(-errno),
        };
        let need = source.left() as u64 + LENGTH_BYTES;
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
        Try::Done(self.push_message(target, source))
    }

    fn push_message(&mut self, target: FileId, source: &mut UserMemory<'_>) -> i64 {
        let length = source.left();
        if self.files.pool.room() < length as u64 + LENGTH_BYTES {
            return -ENOBUFS;
        }
        let (file, pool) = self.files.with_pool(target);
        pool.push(&mut file.input, &(length as u32).to_le_bytes());
        while source.left() > 0 {
            pool.push(&mut file.input, source.source(usize::MAX));
        }
        self.notify(target, READABLE);
        length as i64
    }

    fn message_target(&self, id: FileId, to: &[u8]) -> Result<FileId, i64> {
        let file = self.files.get(id);
        if to.is_empty() && file.peer != 0 {
            return Ok(file.peer);
        }
        if file.socket.kind != SOCK_DGRAM {
            return Err(ENOTCONN);
        }
        let name = match to {
            [] if file.socket.is_connected() && file.socket.remote.len > 2 => file.socket.remote,
            [] if file.socket.is_connected() => return Err(ECONNREFUSED),
            [] => return Err(ENOTCONN),
            _ => parse_unix(to)?,
        };
        let target = self.find_named(&name).ok_or(ECONNREFUSED)?;
        let datagram = self.files.get(target).socket.kind == SOCK_DGRAM;
        if datagram { Ok(target) } else { Err(crate::file::abi::EPROTOTYPE) }
    }

    /// Packets to loopback vanish, as they may; other hosts cannot be reached.
    fn udp_target(&self, id: FileId, to: &[u8]) -> Result<(), i64> {
        let socket = &self.files.get(id).socket;
        if to.is_empty() {
            return if socket.is_connected() { Ok(()) } else { Err(EDESTADDRREQ) };
        }
        let inet = Inet::parse(socket.domain, to)?;
        if inet.is_loopback() || inet.is_any() { Ok(()) } else { Err(ENETUNREACH) }
    }
}
