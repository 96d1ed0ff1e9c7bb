//! One connection to a peer: TCP, TLS, and the frames in it, all non-blocking.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustls::Connection;

use super::frames::{self, Frame, Hello, put_hello};
use super::liveness::Liveness;

/// Bytes that may wait to be sent to a peer; beyond it the connection is dropped, and the peer catches up after the
/// next one.
pub const SEND_QUEUE_BYTES: usize = 32 << 20;
/// Bytes of plain text read from a peer in one turn at the most, so that one peer cannot starve the loop.
const READ_PER_TURN_BYTES: usize = 4 << 20;
/// rustls reads into a buffer of at least this size, bytes.
const FULL_READ_BYTES: usize = 4096;
/// A queue that ran empty keeps this much memory, bytes.
const KEEP_BYTES: usize = 64 * 1024;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The TCP connection is being made.
    Connecting,
    /// TLS is being agreed on, and then both greet.
    Handshake,
    /// The peer is known and frames flow.
    Up,
}

/// See the module.
#[derive(Debug)]
pub struct PeerConnection {
    /// The socket.
    pub socket: TcpStream,
    /// The other end.
    pub address: SocketAddr,
    /// The peer: known from the start on the connecting side, after the handshake on the accepting one.
    pub peer: Option<u8>,
    /// True on the connecting side.
    pub dialled: bool,
    /// See [`Stage`].
    pub stage: Stage,
    /// When it was begun, nanoseconds.
    pub since: u64,
    /// Bytes sent and received, as they are on the wire.
    pub wire_bytes: (u64, u64),
    /// Whether the epoll looks for room to write.
    pub watches_write: bool,
    /// Whether it can be reached.
    pub liveness: Liveness,
    tls: Connection,
    greeted: bool,
    queue: Vec<u8>,
    queued_from: usize,
    received: Vec<u8>,
}

impl PeerConnection {
    /// Starts with a non-blocking socket.
    pub fn new(socket: TcpStream, address: SocketAddr, tls: Connection, stage: Stage, now: u64) -> Self {
        Self {
            socket,
            address,
            peer: None,
            dialled: stage == Stage::Connecting,
            stage,
            since: now,
            wire_bytes: (0, 0),
            watches_write: false,
            liveness: Liveness::new(now),
            tls,
            greeted: false,
            queue: Vec::new(),
            queued_from: 0,
            received: Vec::new(),
        }
    }

    /// The TLS state, to ask who the peer is.
    pub fn tls(&self) -> &Connection {
        &self.tls
    }

    /// The queue, to append frames to.
    pub fn queue(&mut self) -> &mut Vec<u8> {
        &mut self.queue
    }

    /// True if the peer takes less than we send.
    pub fn overflowed(&self) -> bool {
        self.queue.len() - self.queued_from > SEND_QUEUE_BYTES
    }

    /// Sends what the socket takes. True if something is left.
    pub fn flush(&mut self) -> io::Result<bool> {
        if self.stage == Stage::Connecting {
            return Ok(false);
        }
        loop {
            if self.greeted && self.queued_from < self.queue.len() {
                self.queued_from += self.tls.writer().write(&self.queue[self.queued_from..])?;
                if self.queued_from == self.queue.len() {
                    self.queue.clear();
                    self.queue.shrink_to(KEEP_BYTES);
                    self.queued_from = 0;
                }
            }
            if !self.tls.wants_write() {
                return Ok(false);
            }
            match self.tls.write_tls(&mut self.socket) {
                Ok(count) => self.wire_bytes.0 += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Says that nothing more will come. What was sent arrives; had the connection been closed with something in it to read, it
    /// might not.
    pub fn finish(&mut self) {
        let _ = self.flush();
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Reads what is there and appends every frame to `frames`. An error or the end of the stream ends the connection; what came
    /// whole before it counts.
    pub fn read(&mut self, frames: &mut Vec<Frame>) -> io::Result<()> {
        let received = self.receive();
        self.split(frames).and(received)
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut budget = READ_PER_TURN_BYTES;
        while budget > 0 {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the peer closed the connection",
                    ));
                }
                Ok(count) => {
                    self.wire_bytes.1 += count as u64;
                    // A short read means that no more is there, or that epoll will say so.
                    budget = if count < FULL_READ_BYTES { 0 } else { budget.saturating_sub(count) };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let state = self.tls.process_new_packets().map_err(|error| self.tls_error(error))?;
            let plain = state.plaintext_bytes_to_read();
            if plain > 0 {
                let start = self.received.len();
                self.received.resize(start + plain, 0);
                self.tls.reader().read_exact(&mut self.received[start..])?;
            }
        }
        Ok(())
    }

    /// Sends the alert that explains a refusal, and says what it was.
    fn tls_error(&mut self, error: rustls::Error) -> io::Error {
        let _ = self.tls.write_tls(&mut self.socket);
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    fn split(&mut self, frames: &mut Vec<Frame>) -> io::Result<()> {
        let mut at = 0;
        while let Some((frame, len)) = frames::take(&self.received[at..]).map_err(io::Error::other)? {
            frames.push(frame);
            at += len;
        }
        self.received.drain(..at);
        if self.received.is_empty() {
            self.received.shrink_to(KEEP_BYTES);
        }
        Ok(())
    }

    /// Says the first word once TLS stands.
    pub fn greet(&mut self, hello: Hello) {
        if self.stage == Stage::Handshake && !self.tls.is_handshaking() && !self.greeted {
            self.greeted = true;
            put_hello(hello, &mut self.queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FULL_READ_BYTES, PeerConnection, Stage};
    use crate::launcher::keys;
    use crate::replica::frames::{Control, Hello, WIRE_VERSION, put_control};
    use crate::replica::tls::Tls;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use rustls::Connection;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::fd::AsFd;

    const HELLO: Hello = Hello { version: WIRE_VERSION, fingerprint: [7; 16] };
    /// Messages of 7 bytes, so many that they fill the first read of the socket, as TLS has them: the second one finds the end.
    const MESSAGES: usize = 582;

    fn connection(socket: TcpStream, tls: Connection) -> PeerConnection {
        socket.set_nonblocking(true).unwrap();
        let address = socket.peer_addr().unwrap();
        PeerConnection::new(socket, address, tls, Stage::Handshake, 0)
    }

    #[test]
    fn what_came_before_the_end_counts() {
        let directory = std::env::temp_dir().join(format!("brolga-peer-{}", std::process::id()));
        keys::ensure(&directory, &[1, 2], "test").unwrap();
        let tls = |id| Tls::load(&keys::files(&directory, id)).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let mut ends =
            [connection(dialled, tls(1).connect(2).unwrap()), connection(accepted, tls(2).accept().unwrap())];
        let mut frames = Vec::new();
        while frames.len() < 2 {
            for end in &mut ends {
                end.read(&mut frames).unwrap();
                end.greet(HELLO);
                end.flush().unwrap();
            }
        }
        let [mut speaker, mut listener] = ends;
        (0..MESSAGES).for_each(|_| put_control(&Control::Agreed(1), speaker.queue()));
        let before = speaker.wire_bytes.0;
        speaker.finish();
        assert_eq!(speaker.wire_bytes.0 - before, FULL_READ_BYTES as u64);
        let mut ended = [PollFd::new(listener.socket.as_fd(), PollFlags::from_bits_retain(libc::POLLRDHUP))];
        poll(&mut ended, PollTimeout::NONE).unwrap();
        frames.clear();
        let mut last = Ok(());
        while last.is_ok() {
            last = listener.read(&mut frames);
        }
        assert_eq!(frames.len(), MESSAGES);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
