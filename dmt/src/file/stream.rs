//! Bytes between two ends: client connections, loopback connections, unix stream sockets, pipes.
//!
//! Each end reads from its own input queue. Writing goes to the peer's queue, or, for a client connection, to the
//! coordinator within the send window.

use crate::bounds::{PIPE_BYTES, SEND_WINDOW_BYTES};
use crate::file::abi::{
    EAGAIN, ECONNRESET, ENOBUFS, ENOTCONN, EPIPE, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, MSG_WAITALL, POLLERR,
    POLLHUP, POLLRDHUP,
};
use crate::file::memory::UserMemory;
use crate::file::notify::{READABLE, WRITABLE};
use crate::file::options::linger_is_zero;
use crate::file::socket::Phase;
use crate::file::table::{BROKEN, END_OF_INPUT, NO_ROOM, READ_SHUT, WRITE_SHUT};
use crate::file::waiting::{Try, Wait};
use crate::file::{FileId, FileKind, signals};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::park::Space;
use crate::thread::ThreadId;

/// A write to a pipe of at most this many bytes is atomic.
pub(crate) const PIPE_BUF: u64 = 4096;

impl Kernel {
    /// Connects two ends.
    pub(crate) fn pair(&mut self, a: FileId, b: FileId) {
        for (id, peer) in [(a, b), (b, a)] {
            let remote = self.local_name(peer);
            let owner = self.files.get(peer).socket.owner;
            let file = self.files.get_mut(id);
            file.socket.peer_owner = owner;
            (file.peer, file.socket.phase, file.socket.remote) = (peer, Phase::Connected, remote);
        }
    }

    /// Bytes that `id` may write now.
    pub(crate) fn room(&self, id: FileId) -> u64 {
        let file = self.files.get(id);
        if file.socket.connection != 0 {
            return self.send_window(id);
        }
        match file.peer {
            0 => PIPE_BYTES,
            peer => PIPE_BYTES.saturating_sub(self.files.get(peer).input.len()),
        }
    }

    /// Room below which a writer is not woken.
    pub(crate) fn worthwhile_room(&self, id: FileId) -> u64 {
        let file = self.files.get(id);
        match file.kind {
            FileKind::PipeWrite => PIPE_BUF,
            _ if file.socket.connection != 0 => SEND_WINDOW_BYTES / 3,
            _ => PIPE_BYTES / 3,
        }
    }

    /// As [`Kernel::room`], but 0 if there is too little to be worth waking a writer.
    pub(crate) fn write_space(&self, id: FileId) -> u64 {
        let room = self.room(id);
        if room >= self.worthwhile_room(id) { room } else { 0 }
    }

    /// Bytes written that the other side has not taken (`TIOCOUTQ`).
    pub(crate) fn unsent(&self, id: FileId) -> u64 {
        let file = self.files.get(id);
        match file.peer {
            _ if file.socket.connection != 0 => file.socket.written - file.socket.drained,
            0 => 0,
            peer => self.files.get(peer).input.len(),
        }
    }

    /// One try to read into `target`; `target` remembers what earlier tries read.
    pub(crate) fn read_stream(
        &mut self,
        shared: &Shared,
        id: FileId,
        target: &mut UserMemory<'_>,
        flags: i32,
    ) -> Try {
        let file = self.files.get(id);
        if file.kind != FileKind::PipeRead && !file.socket.is_connected() {
            return Try::Done(-if file.kind == FileKind::Tcp { ENOTCONN } else { crate::file::abi::EINVAL });
        }
        if target.left() == 0 {
            return Try::Done(target.done() as i64);
        }
        if !file.input.is_empty() {
            if flags & MSG_PEEK != 0 {
                self.peek_input(id, target);
                return Try::Done(target.done() as i64);
            }
            self.take_input(shared, id, target);
            if target.left() == 0 || flags & MSG_WAITALL == 0 {
                return Try::Done(target.done() as i64);
            }
        }
        let file = self.files.get_mut(id);
        let done = target.done();
        if done > 0 && (file.error != 0 || file.is(END_OF_INPUT | READ_SHUT | BROKEN)) {
            return Try::Done(done as i64);
        }
        if file.error != 0 {
            return Try::Done(-i64::from(core::mem::take(&mut file.error)));
        }
        if file.is(END_OF_INPUT | READ_SHUT | BROKEN) || (file.kind == FileKind::PipeRead && file.peer == 0) {
            return Try::Done(0);
        }
        if file.nonblocking() || flags & MSG_DONTWAIT != 0 {
            return Try::Done(if done > 0 { done as i64 } else { -EAGAIN });
        }
        Wait::after(Space::Read, file.socket.receive_timeout, done)
    }

    fn peek_input(&self, id: FileId, target: &mut UserMemory<'_>) {
        let (file, mut skip) = (self.files.get(id), 0);
        while target.left() > 0 {
            let piece = target.target(usize::MAX);
            let copied = self.files.pool.peek(&file.input, skip, piece);
            skip += copied as u64;
            if copied < piece.len() {
                target.step_back(piece.len() - copied);
                return;
            }
        }
    }

    fn take_input(&mut self, shared: &Shared, id: FileId, target: &mut UserMemory<'_>) {
        let mut taken = 0;
        while target.left() > 0 {
            let (file, pool) = self.files.with_pool(id);
            let most = usize::try_from(file.input.len()).unwrap_or(usize::MAX);
            if most == 0 {
                break;
            }
            let piece = target.target(most);
            taken += pool.pop(&mut file.input, piece) as u64;
        }
        self.input_taken(shared, id, taken);
    }

    /// `bytes` of `id`'s input are gone: whoever writes it may have room now.
    pub(crate) fn input_taken(&mut self, shared: &Shared, id: FileId, bytes: u64) {
        let file = self.files.get(id);
        if file.socket.connection != 0 {
            self.consumed(shared, id, bytes);
        } else if file.peer != 0 {
            self.tell_room(file.peer, bytes);
        }
    }

    /// Why `id` cannot write, if it cannot; a broken pipe's signal is raised.
    fn write_error(&mut self, me: ThreadId, id: FileId, flags: i32) -> Option<i64> {
        let file = self.files.get_mut(id);
        let pipe = file.kind == FileKind::PipeWrite;
        if !pipe && !file.socket.is_connected() {
            let tcp = file.kind == FileKind::Tcp;
            if tcp {
                signals::broken_pipe(self, me, flags & MSG_NOSIGNAL != 0);
            }
            return Some(if tcp { EPIPE } else { ENOTCONN });
        }
        if file.error != 0 {
            return Some(i64::from(core::mem::take(&mut file.error)));
        }
        if file.is(WRITE_SHUT | BROKEN) || (file.peer == 0 && file.socket.connection == 0) {
            signals::broken_pipe(self, me, flags & MSG_NOSIGNAL != 0);
            return Some(EPIPE);
        }
        None
    }

    /// One try to write `source`; `source` remembers what earlier tries wrote.
    pub(crate) fn write_stream(
        &mut self,
        shared: &Shared,
        me: ThreadId,
        id: FileId,
        source: &mut UserMemory<'_>,
        flags: i32,
    ) -> Try {
        let before = source.done();
        if let Some(errno) = self.write_error(me, id, flags | if before > 0 { MSG_NOSIGNAL } else { 0 }) {
            return Try::Done(if before > 0 { before as i64 } else { -errno });
        }
        let room = self.room(id);
        let whole = source.left() as u64;
        let atomic = self.files.get(id).kind == FileKind::PipeWrite && whole <= PIPE_BUF;
        let now = if atomic && room < whole { 0 } else { room.min(whole) } as usize;
        if now > 0 && self.files.get(id).socket.connection != 0 {
            self.write_client(shared, id, source, now);
        } else if now > 0 && !self.write_peer(id, source, now) {
            let done = source.done();
            return Try::Done(if done > 0 { done as i64 } else { -ENOBUFS });
        }
        let done = source.done();
        if source.left() == 0 {
            return Try::Done(done as i64);
        }
        let file = self.files.get_mut(id);
        file.state |= NO_ROOM;
        if file.nonblocking() || flags & MSG_DONTWAIT != 0 {
            return Try::Done(if done > 0 { done as i64 } else { -EAGAIN });
        }
        Wait::after(Space::Write, file.socket.send_timeout, done)
    }

    /// Moves `len` bytes into the peer's queue; false if the pool has no block left.
    fn write_peer(&mut self, id: FileId, source: &mut UserMemory<'_>, len: usize) -> bool {
        let peer = self.files.get(id).peer;
        if self.files.pool.room() < len as u64 {
            return false;
        }
        let mut left = len;
        while left > 0 {
            let piece = source.source(left);
            let (file, pool) = self.files.with_pool(peer);
            if !file.is(READ_SHUT) || file.kind == FileKind::PipeRead {
                pool.push(&mut file.input, piece);
            }
            left -= piece.len();
        }
        self.notify(peer, READABLE);
        true
    }

    /// `id` goes away: its peer reads what is left and then the end, and can write no more.
    pub(crate) fn leave_peer(&mut self, id: FileId, reset: bool) {
        let peer = core::mem::take(&mut self.files.get_mut(id).peer);
        if peer == 0 {
            return;
        }
        let other = self.files.get_mut(peer);
        other.peer = 0;
        other.state |= END_OF_INPUT;
        if reset || other.kind == FileKind::Unix {
            other.state |= BROKEN;
        }
        if reset {
            other.error = ECONNRESET as i32;
        }
        let reset = if reset { POLLERR } else { 0 };
        self.notify(peer, READABLE | WRITABLE | POLLHUP | POLLRDHUP | reset);
    }

    pub(crate) fn shutdown_stream(&mut self, shared: &Shared, id: FileId, read: bool, write: bool) {
        let file = self.files.get_mut(id);
        let ends_output = write && !file.is(WRITE_SHUT | BROKEN);
        file.state |= if read { READ_SHUT } else { 0 } | if write { WRITE_SHUT } else { 0 };
        let (peer, kind) = (file.peer, file.kind);
        if file.socket.connection != 0 && ends_output {
            self.end_output(shared, id, false);
        }
        if peer != 0 {
            let other = self.files.get_mut(peer);
            other.state |= if write { END_OF_INPUT } else { 0 };
            other.state |= if read && kind == FileKind::Unix { WRITE_SHUT } else { 0 };
            self.notify(peer, READABLE | WRITABLE | POLLHUP | POLLRDHUP);
        }
        self.notify(id, READABLE | WRITABLE | POLLHUP | POLLRDHUP);
    }

    /// The last reference to a TCP socket is gone.
    pub(crate) fn close_tcp(&mut self, shared: &Shared, id: FileId) {
        self.unbind(id);
        let file = self.files.get(id);
        let reset = !file.input.is_empty() || linger_is_zero(&file.socket);
        if file.socket.is_listening() {
            self.stop_listening(shared, id);
        } else if file.socket.connection != 0 {
            self.close_client(shared, id, reset);
        } else {
            self.leave_peer(id, reset);
        }
    }

    /// The last reference to a unix-domain socket is gone.
    pub(crate) fn close_unix(&mut self, shared: &Shared, id: FileId) {
        self.unbind(id);
        let file = self.files.get(id);
        let unread = !file.input.is_empty() && file.socket.is_stream();
        if file.socket.is_listening() {
            self.stop_listening(shared, id);
        }
        self.leave_peer(id, unread);
    }
}
