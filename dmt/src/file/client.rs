//! Client connections: what the events of an entry do to them, and the server's output.
//!
//! Each event of a connection has a sequence number (I5): one that was applied before is ignored, one that leaves a gap
//! means that this replica was fed a wrong log.

use core::sync::atomic::Ordering;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::bounds::{MAX_BACKLOG, MAX_DATA_BYTES, SEND_WINDOW_BYTES};
use crate::digest::mix_bytes;
use crate::entry::{ConnectInfo, Event};
use crate::file::abi::{ECONNRESET, EPIPE, POLLERR, POLLHUP, POLLRDHUP, SOCK_STREAM};
use crate::file::address::{inet_address, is_v6};
use crate::file::memory::UserMemory;
use crate::file::notify::{READABLE, WRITABLE};
use crate::file::socket::Phase;
use crate::file::table::{ASKED, BROKEN, END_OF_INPUT, NO_ROOM};
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::upcall::{CONSUMED_REPORT_BYTES, UPCALL_HEADER_BYTES, UpcallHeader, UpcallKind};

impl Kernel {
    /// A client connected.
    pub fn client_connected(&mut self, shared: &Shared, event: &Event<'_>) {
        let connection = event.header.connection.get();
        if self.files.connections.find(connection).is_some() || self.files.connections.was_closed(connection)
        {
            return;
        }
        let Ok(info) = ConnectInfo::ref_from_bytes(event.payload) else {
            return self.diverge(shared, "a Connect event carries no addresses");
        };
        let listener = self.find_listener(event.header.arg.get());
        if self.queue_client(listener, connection, event.header.sequence.get(), info).is_none() {
            self.refuse_client(shared, connection);
        }
    }

    fn queue_client(
        &mut self,
        listener: Option<FileId>,
        connection: u64,
        sequence: u64,
        info: &ConnectInfo,
    ) -> Option<()> {
        let listener = listener?;
        if self.files.connections.is_full() || self.files.get(listener).socket.queued as usize >= MAX_BACKLOG
        {
            return None;
        }
        let id = self.files.create(FileKind::Tcp, crate::file::abi::O_RDWR)?;
        self.inherit_socket(listener, id);
        let v6 = is_v6(self.files.get(listener).socket.domain);
        let socket = &mut self.files.get_mut(id).socket;
        (socket.kind, socket.phase) = (SOCK_STREAM, Phase::Connected);
        (socket.connection, socket.sequence) = (connection, sequence + 1);
        socket.local = inet_address(v6, &info.local_address, info.local_port.get());
        socket.remote = inet_address(v6, &info.peer_address, info.peer_port.get());
        self.files.connections.insert(connection, id);
        self.enqueue_connection(listener, id);
        Some(())
    }

    fn refuse_client(&mut self, shared: &Shared, connection: u64) {
        if self.emits(shared) {
            self.upcall(shared, UpcallKind::OutputEnd, [connection, 0, 1, 0], 0, &[]);
        }
        self.upcall(shared, UpcallKind::Closed, [connection, 0, 0, 0], 0, &[]);
    }

    /// The file of the event's connection, if the event is new and the server has not closed the connection.
    pub(crate) fn accept_event(&mut self, shared: &Shared, event: &Event<'_>) -> Option<FileId> {
        let id = self.files.connections.find(event.header.connection.get())?;
        let expected = &mut self.files.get_mut(id).socket.sequence;
        let sequence = event.header.sequence.get();
        if sequence > *expected {
            self.diverge(shared, "an event of a connection is missing");
            return None;
        }
        (sequence == core::mem::replace(expected, (sequence + 1).max(*expected))).then_some(id)
    }

    /// Bytes came from a client.
    pub fn client_data(&mut self, shared: &Shared, event: &Event<'_>) {
        let Some(id) = self.accept_event(shared, event) else { return };
        self.digest = mix_bytes(self.digest, event.payload);
        let (file, pool) = self.files.with_pool(id);
        if file.is(END_OF_INPUT | BROKEN) {
            return;
        }
        let pushed = match event.payload.split_first() {
            // Only a test asks for this: the server then sees another first byte than its peers' servers.
            Some((first, rest)) if shared.control.corrupt_next.load(Ordering::Relaxed) != 0 => {
                shared.control.corrupt_next.store(0, Ordering::Relaxed);
                pool.push(&mut file.input, &[first ^ 1]) + pool.push(&mut file.input, rest)
            }
            _ => pool.push(&mut file.input, event.payload),
        };
        if pushed < event.payload.len() {
            // Without blocks the bytes would be lost: the connection breaks, on every replica alike.
            self.break_connection(id);
            return;
        }
        self.note_asked(id);
        self.notify(id, READABLE);
    }

    fn note_asked(&mut self, id: FileId) {
        if !self.files.get(id).is(ASKED) {
            self.files.get_mut(id).state |= ASKED;
            self.files.connections.asking += 1;
        }
    }

    /// The client of this connection has got something, or will get nothing any more.
    fn note_answered(&mut self, id: FileId) {
        if self.files.get(id).is(ASKED) {
            self.files.get_mut(id).state &= !ASKED;
            self.files.connections.asking -= 1;
        }
    }

    /// A client sent FIN.
    pub fn client_closed(&mut self, shared: &Shared, event: &Event<'_>) {
        let Some(id) = self.accept_event(shared, event) else { return };
        self.files.get_mut(id).state |= END_OF_INPUT;
        self.notify(id, READABLE | POLLRDHUP);
    }

    /// A client is gone.
    pub fn client_reset(&mut self, shared: &Shared, event: &Event<'_>) {
        let Some(id) = self.accept_event(shared, event) else { return };
        self.break_connection(id);
    }

    /// Ends a connection in both directions; what was received can still be read.
    pub(crate) fn break_connection(&mut self, id: FileId) {
        let file = self.files.get_mut(id);
        if file.is(BROKEN) {
            return;
        }
        file.error = if file.is(END_OF_INPUT) { EPIPE } else { ECONNRESET } as i32;
        file.state |= BROKEN | END_OF_INPUT;
        self.note_answered(id);
        self.notify(id, READABLE | WRITABLE | POLLERR | POLLHUP | POLLRDHUP);
    }

    /// A client took output.
    pub fn client_drained(&mut self, shared: &Shared, event: &Event<'_>) {
        let Some(id) = self.accept_event(shared, event) else { return };
        let socket = &mut self.files.get_mut(id).socket;
        let before = socket.drained;
        socket.drained = event.header.arg.get().clamp(before, socket.written);
        let freed = socket.drained - before;
        self.tell_room(id, freed);
    }

    /// `freed` bytes may be written now that could not before: tells a writer that found no room, and pollers, which
    /// were told "not writable" below [`Kernel::worthwhile_room`] although no write had failed.
    pub(crate) fn tell_room(&mut self, id: FileId, freed: u64) {
        let (room, worth) = (self.room(id), self.worthwhile_room(id));
        if room >= worth && (self.files.get(id).is(NO_ROOM) || room.saturating_sub(freed) < worth) {
            self.files.get_mut(id).state &= !NO_ROOM;
            self.notify(id, WRITABLE);
        }
    }

    /// Bytes that a client connection may write now.
    pub(crate) fn send_window(&self, id: FileId) -> u64 {
        let socket = &self.files.get(id).socket;
        SEND_WINDOW_BYTES.saturating_sub(socket.written - socket.drained)
    }

    /// Writes `len` bytes of `source` to the client; the window has room for them.
    pub(crate) fn write_client(
        &mut self,
        shared: &Shared,
        id: FileId,
        source: &mut UserMemory<'_>,
        mut len: usize,
    ) {
        if len > 0 {
            self.note_answered(id);
        }
        while len > 0 {
            let now = len.min(MAX_DATA_BYTES);
            let socket = &self.files.get(id).socket;
            let words = [socket.connection, socket.written];
            self.write_upcall(shared, (UpcallKind::Output, words), &[], source, now);
            self.files.get_mut(id).socket.written += now as u64;
            len -= now;
        }
    }

    /// One frame of output, `prefix` and `len` bytes of `source`: into the digest everywhere, and if this replica emits,
    /// straight into the upcall ring.
    pub(crate) fn write_upcall(
        &mut self,
        shared: &Shared,
        (kind, [a, b]): (UpcallKind, [u64; 2]),
        prefix: &[u8],
        source: &mut UserMemory<'_>,
        len: usize,
    ) {
        let header = UpcallHeader {
            len: U32::new((prefix.len() + len) as u32),
            flags: U16::new(0),
            reserved: U16::new(0),
            a: U64::new(a),
            b: U64::new(b),
            c: U64::new(0),
            d: U64::new(0),
        };
        let front = UPCALL_HEADER_BYTES + prefix.len();
        let whole = front + len;
        if !prefix.is_empty() {
            self.digest = mix_bytes(self.digest, prefix);
        }
        // SAFETY: the turn holder is the only producer of upcalls.
        let mut frame = self
            .emits(shared)
            .then(|| unsafe { shared.upcalls.reserve(whole) }.expect("output_op left room for this frame"));
        if let Some(frame) = &mut frame {
            frame[..UPCALL_HEADER_BYTES].copy_from_slice(header.as_bytes());
            frame[UPCALL_HEADER_BYTES..front].copy_from_slice(prefix);
        }
        let mut at = 0;
        while at < len {
            let piece = source.source(len - at);
            self.digest = mix_bytes(self.digest, piece);
            if let Some(frame) = &mut frame {
                frame[front + at..][..piece.len()].copy_from_slice(piece);
            }
            at += piece.len();
        }
        if frame.is_some() {
            // SAFETY: directly follows `reserve` of `whole` bytes by this thread; nothing else was pushed between.
            unsafe { shared.upcalls.commit(kind as u32, whole) };
        }
    }

    /// The server read `bytes` of a client's input: now and then the coordinator must know, to let more in.
    pub(crate) fn consumed(&mut self, shared: &Shared, id: FileId, bytes: u64) {
        let socket = &mut self.files.get_mut(id).socket;
        socket.read += bytes;
        if socket.read - socket.reported >= CONSUMED_REPORT_BYTES {
            socket.reported = socket.read;
            let words = [socket.connection, socket.read, 0, 0];
            if self.emits(shared) {
                self.upcall(shared, UpcallKind::Consumed, words, 0, &[]);
            }
        }
    }

    /// The server will write no more (`reset`: and wants the client to see a reset).
    pub(crate) fn end_output(&mut self, shared: &Shared, id: FileId, reset: bool) {
        let socket = &self.files.get(id).socket;
        let words = [socket.connection, socket.written, u64::from(reset), 0];
        self.digest = crate::digest::mix(self.digest, words[0], words[1] << 1 | words[2]);
        if self.emits(shared) {
            self.upcall(shared, UpcallKind::OutputEnd, words, 0, &[]);
        }
    }

    /// The last reference to a client connection is gone. Followers say so, too: whoever leads next must know which
    /// connections of the old leader the server still has.
    pub(crate) fn close_client(&mut self, shared: &Shared, id: FileId, reset: bool) {
        self.note_answered(id);
        let file = self.files.get(id);
        let connection = file.socket.connection;
        let ended = file.is(BROKEN | crate::file::table::WRITE_SHUT);
        if !ended || (reset && !file.is(BROKEN)) {
            self.end_output(shared, id, reset);
        }
        self.files.connections.remove(connection);
        self.outbound_closed(connection);
        self.upcall(shared, UpcallKind::Closed, [connection, 0, 0, 0], 0, &[]);
    }
}
