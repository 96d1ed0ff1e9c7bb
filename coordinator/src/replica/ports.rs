//! Published ports: the listening sockets that the supervisor made for clients, and who accepts from them now.
//!
//! The shared socket is the service's address: only the leader accepts from it, and connections wait in its backlog while
//! there is none. The own socket is this replica's address: it serves or relays what comes there.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use nix::sys::epoll::EpollFlags;

use super::poll::{Poll, Token};
use super::status::Listener;

/// Connections accepted from one socket in one turn.
pub const ACCEPTS_PER_TURN: usize = 64;

#[derive(Debug)]
struct Watched {
    socket: TcpListener,
    token: Token,
    watched: bool,
}

#[derive(Debug)]
struct Port {
    server_port: u16,
    address: SocketAddr,
    shared: Watched,
    own: Watched,
    addresses: Vec<(u8, SocketAddr)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ports {
    ports: Vec<Port>,
}

impl Ports {
    /// Takes the sockets of a published port (the server's and where clients connect); they replace earlier ones of the
    /// same.
    pub fn publish(
        &mut self,
        poll: &Poll,
        (server_port, address): (u16, SocketAddr),
        sockets: Vec<OwnedFd>,
        addresses: Vec<(u8, SocketAddr)>,
    ) -> io::Result<()> {
        let Ok([shared, own]) = <[OwnedFd; 2]>::try_from(sockets) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a published port needs two sockets"));
        };
        let slot =
            self.ports.iter().position(|port| (port.server_port, port.address) == (server_port, address));
        let place = slot.unwrap_or(self.ports.len()) as u64;
        let shared = Watched::new(poll, shared.into(), Token::Listener(place * 2))?;
        let own = Watched::new(poll, own.into(), Token::Listener(place * 2 + 1))?;
        let port = Port { server_port, address, shared, own, addresses };
        match slot {
            Some(slot) => self.ports[slot] = port,
            None => self.ports.push(port),
        }
        Ok(())
    }

    /// Accepts from the sockets for which these say so: `serve(server_port)` for clients of this replica, `relay` for
    /// the own sockets while another leads.
    pub fn watch(&mut self, poll: &Poll, serve: impl Fn(u16) -> bool, relay: bool) {
        for port in &mut self.ports {
            let serves = serve(port.server_port);
            port.shared.set(poll, serves);
            port.own.set(poll, serves || relay);
        }
    }

    /// Accepts one connection from the socket with this token.
    pub fn accept(&self, token: u64) -> Option<TcpStream> {
        let port = self.ports.get((token / 2) as usize)?;
        let watched = if token.is_multiple_of(2) { &port.shared } else { &port.own };
        if !watched.watched {
            return None;
        }
        match watched.socket.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::warn!("cannot accept clients of port {}: {error}", port.server_port);
                }
                None
            }
        }
    }

    /// Which of the server's listeners the clients of the socket with this token are for: one at the published address,
    /// else one that speaks the same protocol, else any of the same port.
    pub fn listener<'a>(&self, token: u64, listeners: &'a [Listener]) -> Option<&'a Listener> {
        let port = self.ports.get((token / 2) as usize)?;
        let ip = port.address.ip();
        let same_port = || listeners.iter().filter(|listener| listener.port == port.server_port);
        let exact = same_port().find(|listener| listener.address == ip);
        let similar = || same_port().find(|listener| listener.address.is_ipv6() == ip.is_ipv6());
        exact.or_else(similar).or_else(|| same_port().next())
    }

    /// Where `replica` takes clients of the port behind a token.
    pub fn address_of(&self, token: u64, replica: u8) -> Option<SocketAddr> {
        let port = self.ports.get((token / 2) as usize)?;
        port.addresses.iter().find(|(id, _)| *id == replica).map(|(_, address)| *address)
    }
}

impl Watched {
    fn new(poll: &Poll, socket: TcpListener, token: Token) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Several replicas watch the shared socket's twin in their own epoll; only the leader's has the event on.
        poll.add(&socket, token, EpollFlags::empty())?;
        Ok(Self { socket, token, watched: false })
    }

    fn set(&mut self, poll: &Poll, watched: bool) {
        if self.watched != watched {
            self.watched = watched;
            let flags = if watched { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
            let _ = poll.modify(&self.socket, self.token, flags);
        }
    }
}
