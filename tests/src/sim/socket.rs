//! A client's socket as a coordinator sees it: bounded in both directions, level-triggered, dead at once when dropped.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use coordinator::replica::poll::EpollFlags;
use coordinator::replica::socket::Socket;

use super::toy::PORT;

/// Stands for a client in connections that the server has made itself; their attempt is their id.
pub const ABROAD: usize = usize::MAX;

/// Both ends' view of one connection.
#[derive(Debug)]
pub struct Wire {
    /// The client.
    pub client: usize,
    /// Its connection attempt.
    pub attempt: u64,
    /// The coordinator's number of it.
    pub number: u64,
    /// Its id in the log.
    pub connection: u64,
    /// Bytes that came and were not read.
    pub input: VecDeque<u8>,
    /// The client sends no more.
    pub fin: bool,
    /// The client is gone.
    pub reset: bool,
    /// Bytes that may be written before the client takes some.
    pub room: usize,
    /// Bytes written and not sent yet.
    pub output: Vec<u8>,
    /// Bytes sent in all.
    pub sent: u64,
    /// FIN is to be sent behind the output.
    pub send_fin: bool,
    /// What was sent is delivered if the coordinator closes the socket; else the connection is reset.
    pub finishes: bool,
    /// The coordinator closed it.
    pub closed: bool,
    watches: EpollFlags,
}

impl Wire {
    /// What the coordinator's epoll would report.
    pub fn ready(&self) -> EpollFlags {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, !self.input.is_empty() || self.fin || self.reset);
        flags.set(EpollFlags::EPOLLOUT, self.room > 0 || self.reset);
        flags &= self.watches;
        if self.watches != UNWATCHED && (self.reset || (self.fin && self.send_fin)) {
            flags |= EpollFlags::EPOLLHUP;
            flags.set(EpollFlags::EPOLLERR, self.reset);
        }
        flags
    }
}

/// Not in the epoll at all.
const UNWATCHED: EpollFlags = EpollFlags::EPOLLEXCLUSIVE;

/// The coordinator's end of a [`Wire`].
#[derive(Debug)]
pub struct SimSocket(Rc<RefCell<Wire>>);

/// A new connection: the socket for the coordinator, and the wire.
pub fn connect(client: usize, attempt: u64, room: usize) -> (SimSocket, Rc<RefCell<Wire>>) {
    let wire = Rc::new(RefCell::new(Wire {
        client,
        attempt,
        number: 0,
        connection: 0,
        input: VecDeque::new(),
        fin: false,
        reset: false,
        room,
        output: Vec::new(),
        sent: 0,
        send_fin: false,
        finishes: false,
        closed: false,
        watches: UNWATCHED,
    }));
    (SimSocket(wire.clone()), wire)
}

impl Read for SimSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        if wire.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if wire.input.is_empty() {
            return if wire.fin { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        wire.input.read(buffer)
    }
}

impl Write for SimSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        if wire.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(wire.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.room -= count;
        wire.output.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for SimSocket {
    type Poll = ();

    fn prepare(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        let address = |port| SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
        Ok((address(10_000_u16.wrapping_add(self.0.borrow().client as u16)), address(PORT)))
    }

    fn connected(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn watch(&self, (): &(), number: u64, flags: EpollFlags) -> io::Result<()> {
        let mut wire = self.0.borrow_mut();
        (wire.number, wire.watches) = (number, flags);
        Ok(())
    }

    fn rewatch(&self, (): &(), number: u64, flags: EpollFlags) {
        let mut wire = self.0.borrow_mut();
        debug_assert_eq!(wire.number, number);
        wire.watches = flags;
    }

    fn unwatch(&self, (): &()) {
        self.0.borrow_mut().watches = UNWATCHED;
    }

    fn send_fin(&self) {
        let mut wire = self.0.borrow_mut();
        (wire.send_fin, wire.finishes) = (true, true);
    }

    fn reset_on_close(&self) {
        self.0.borrow_mut().finishes = false;
    }

    fn finish_on_close(&self) {
        self.0.borrow_mut().finishes = true;
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}
