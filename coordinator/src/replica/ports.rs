//! Published ports: the listening sockets that the supervisor made for clients, and who accepts from them now.
//!
//! The shared socket is the service's address: only the leader accepts from it, and connections wait in its backlog while
//! there is none. The own socket is this replica's address: it serves or relays what comes there.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use nix::sys::epoll::EpollFlags;

use super::poll::{Poll, Token};
use crate::sockets::Listener;

/// Connections accepted from one socket in one turn.
pub const ACCEPTS_PER_TURN: usize = 64;
/// How long nothing is accepted when descriptors or memory for connections ran out, unless a connection ends before,
/// nanoseconds. New clients wait in the backlog.
pub const REST_NS: u64 = 500_000_000;
/// Warnings about that come at the most so often, nanoseconds.
const WARNING_NS: u64 = 60_000_000_000;

#[derive(Debug)]
struct Watched {
    socket: TcpListener,
    token: Token,
    /// It is this replica's to accept from.
    wanted: bool,
    /// The epoll looks at it.
    watched: bool,
}

/// Nothing can be accepted now.
#[derive(Clone, Copy, Debug)]
struct Rest {
    until: u64,
    /// Connections that were open when it began.
    open: usize,
}

#[derive(Debug)]
struct Port {
    server_port: u16,
    address: SocketAddr,
    /// None if each replica has a machine of its own.
    shared: Option<Watched>,
    own: Watched,
    addresses: Vec<(u8, SocketAddr)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ports {
    ports: Vec<Port>,
    rest: Option<Rest>,
    quiet_until: u64,
    /// Connections accepted so far.
    accepted: usize,
}

impl Ports {
    /// Takes the sockets of a published port (the server's and where clients connect). Of one that is known only the replicas'
    /// addresses are renewed: its sockets are the same as before.
    pub fn publish(
        &mut self,
        poll: &Poll,
        (server_port, address): (u16, SocketAddr),
        sockets: Vec<OwnedFd>,
        addresses: Vec<(u8, SocketAddr)>,
    ) -> io::Result<()> {
        let mut sockets = sockets.into_iter();
        let (Some(own), shared, None) = (sockets.next_back(), sockets.next(), sockets.next()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a published port needs one or two sockets",
            ));
        };
        let slot =
            self.ports.iter().position(|port| (port.server_port, port.address) == (server_port, address));
        if let Some(slot) = slot {
            self.ports[slot].addresses = addresses;
            return Ok(());
        }
        let place = self.ports.len() as u64;
        let shared =
            shared.map(|shared| Watched::new(poll, shared.into(), Token::Listener(place * 2))).transpose()?;
        let own = Watched::new(poll, own.into(), Token::Listener(place * 2 + 1))?;
        self.ports.push(Port { server_port, address, shared, own, addresses });
        Ok(())
    }

    /// Accepts from the sockets for which these say so: `serve(server_port)` for clients of this replica, `relay` for
    /// the own sockets while another leads.
    pub fn watch(&mut self, poll: &Poll, serve: impl Fn(u16) -> bool, relay: bool) {
        for port in &mut self.ports {
            let serves = serve(port.server_port);
            port.shared.iter_mut().for_each(|shared| shared.wanted = serves);
            port.own.wanted = serves || relay;
        }
        self.arm(poll);
    }

    fn arm(&mut self, poll: &Poll) {
        for port in &mut self.ports {
            let open = self.rest.is_none();
            port.shared.iter_mut().chain([&mut port.own]).for_each(|watched| watched.arm(poll, open));
        }
    }

    /// Accepts again if it is time, or if one of the connections has ended; `open` are left.
    pub fn end_rest(&mut self, poll: &Poll, now: u64, open: usize) {
        if self.rest.is_some_and(|rest| now >= rest.until || open < rest.open) {
            self.rest = None;
            self.arm(poll);
        }
    }

    /// When [`Ports::end_rest`] has something to do, nanoseconds.
    pub fn deadline(&self) -> u64 {
        self.rest.map_or(u64::MAX, |rest| rest.until)
    }

    /// A socket that stays readable and cannot be accepted from would keep the loop busy: looks at none for a while.
    fn begin_rest(&mut self, poll: &Poll, now: u64, open: usize, error: &io::Error) {
        self.rest = Some(Rest { until: now + REST_NS, open });
        self.arm(poll);
        if now >= self.quiet_until {
            self.quiet_until = now + WARNING_NS;
            tracing::warn!(
                "cannot accept more clients ({error}); they wait until one of the {open} connections ends, or \
                 the limit of open files (ulimit -n, fs.file-max) is raised"
            );
        }
    }

    /// Accepts one connection from the socket with this token; `open` are open now.
    pub fn accept(&mut self, poll: &Poll, token: u64, now: u64, open: usize) -> Option<TcpStream> {
        let port = self.ports.get((token / 2) as usize)?;
        let watched = if token.is_multiple_of(2) { port.shared.as_ref()? } else { &port.own };
        if !watched.watched {
            return None;
        }
        match watched.socket.accept() {
            Ok((stream, _)) => {
                self.accepted += 1;
                Some(stream)
            }
            Err(error) if is_exhausted(&error) => {
                self.begin_rest(poll, now, open, &error);
                None
            }
            // Nobody is there any more, or the client went away while it waited.
            Err(_) => None,
        }
    }

    /// Which of the server's listeners the clients of the socket with this token are for: one at the published address,
    /// else one that speaks the same protocol, else any of the same port. Of several (`SO_REUSEPORT`) each in its turn.
    pub fn listener<'a>(&self, token: u64, listeners: &'a [Listener]) -> Option<&'a Listener> {
        let port = self.ports.get((token / 2) as usize)?;
        let ip = port.address.ip();
        let likeness = |listener: &Listener| {
            2 * u8::from(listener.address == ip) + u8::from(listener.address.is_ipv6() == ip.is_ipv6())
        };
        let same_port = || listeners.iter().filter(|l| l.port == port.server_port && !l.udp);
        let best = same_port().map(likeness).max()?;
        let equal = || same_port().filter(|listener| likeness(listener) == best);
        equal().nth(self.accepted % equal().count())
    }

    /// Where `replica` takes clients of the port behind a token.
    pub fn address_of(&self, token: u64, replica: u8) -> Option<SocketAddr> {
        let port = self.ports.get((token / 2) as usize)?;
        port.addresses.iter().find(|(id, _)| *id == replica).map(|(_, address)| *address)
    }
}

/// Whether an accept failed for want of descriptors or memory: it fails again until something is closed.
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

impl Watched {
    fn new(poll: &Poll, socket: TcpListener, token: Token) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Several replicas watch the shared socket's twin in their own epoll; only the leader's has the event on.
        poll.add(&socket, token, EpollFlags::empty())?;
        Ok(Self { socket, token, wanted: false, watched: false })
    }

    fn arm(&mut self, poll: &Poll, open: bool) {
        let watched = self.wanted && open;
        if self.watched != watched {
            self.watched = watched;
            let flags = if watched { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
            let _ = poll.modify(&self.socket, self.token, flags);
        }
    }
}
