//! What the client side needs of a socket. The simulator has another one than the system's.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::epoll::EpollFlags;

use super::farewell;
use super::poll::{Poll, Token};

/// A client's connection: reads and writes never block.
pub trait Socket: Read + Write {
    /// Where readiness is reported, level-triggered.
    type Poll;

    /// Makes a fresh connection ready for use, such that it is reset if this process dies: the peer's and the own address.
    fn prepare(&self) -> io::Result<(SocketAddr, SocketAddr)>;
    /// Whether a connection that was begun stands now; an error if it cannot be made.
    fn connected(&self) -> io::Result<bool>;
    /// Reports readiness as that of client `number`.
    fn watch(&self, poll: &Self::Poll, number: u64, flags: EpollFlags) -> io::Result<()>;
    /// Changes what is reported.
    fn rewatch(&self, poll: &Self::Poll, number: u64, flags: EpollFlags);
    /// Reports nothing more.
    fn unwatch(&self, poll: &Self::Poll);
    /// See [`farewell::send_fin`].
    fn send_fin(&self);
    /// See [`farewell::reset_on_close`].
    fn reset_on_close(&self);
    /// See [`farewell::finish_on_close`].
    fn finish_on_close(&self);
}

impl Socket for TcpStream {
    type Poll = Poll;

    fn prepare(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        self.set_nonblocking(true)?;
        self.set_nodelay(true)?;
        farewell::reset_on_close(self);
        Ok((self.peer_addr()?, self.local_addr()?))
    }

    fn connected(&self) -> io::Result<bool> {
        if let Some(error) = self.take_error()? {
            return Err(error);
        }
        match self.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn watch(&self, poll: &Poll, number: u64, flags: EpollFlags) -> io::Result<()> {
        poll.add(self, Token::Client(number), flags)
    }

    fn rewatch(&self, poll: &Poll, number: u64, flags: EpollFlags) {
        // It fails only for what is not watched.
        let _ = poll.modify(self, Token::Client(number), flags);
    }

    fn unwatch(&self, poll: &Poll) {
        poll.remove(self);
    }

    fn send_fin(&self) {
        farewell::send_fin(self);
    }

    fn reset_on_close(&self) {
        farewell::reset_on_close(self);
    }

    fn finish_on_close(&self) {
        farewell::finish_on_close(self);
    }
}
