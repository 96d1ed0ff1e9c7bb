//! Published ports: for each port of the server one listening socket of the host that all replicas share, and one for
//! each replica alone, whose clients it relays to the leader. The supervisor holds them all, so that clients that
//! connect while a leader dies wait in the backlog and are not refused.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::str::FromStr;

use nix::sys::socket::{Backlog, listen};
use serde::{Deserialize, Serialize};

use super::LauncherError;
use crate::replica::status::Listener;

/// Clients that may wait until a leader accepts them.
const BACKLOG: i32 = 4096;

/// `ADDRESS:PORT:SERVERPORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Where clients connect.
    pub address: SocketAddr,
    /// The port that the server binds.
    pub server_port: u16,
}

impl FromStr for Publication {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not ADDRESS:PORT:SERVERPORT (as 127.0.0.1:8080:80) or PORT:SERVERPORT");
        let (front, server_port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let server_port = server_port.parse().map_err(|_| wrong())?;
        let address = match front.parse::<u16>() {
            Ok(port) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
            Err(_) => front.parse().map_err(|_| wrong())?,
        };
        Ok(Self { address, server_port })
    }
}

/// The sockets of one port of the server.
#[derive(Debug)]
pub(super) struct Port {
    pub server_port: u16,
    pub address: SocketAddr,
    pub shared: TcpListener,
    pub own: Vec<(u8, SocketAddr, TcpListener)>,
}

#[derive(Debug)]
pub(super) struct Ports {
    replicas: u8,
    bound: BTreeMap<u16, Port>,
}

impl Ports {
    /// Binds what was asked for by `--publish`, before anything runs.
    pub fn new(replicas: u8, wanted: &[Publication]) -> Result<Self, LauncherError> {
        let mut ports = Self { replicas, bound: BTreeMap::new() };
        for publication in wanted {
            ports.bind(publication.server_port, publication.address)?;
        }
        Ok(ports)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.bound.values()
    }

    /// Binds what the server listens on, where it listens, unless it is bound; returns the new ports.
    pub fn follow(&mut self, listeners: &[Listener]) -> Result<Vec<u16>, LauncherError> {
        let mut new = Vec::new();
        // A server that listens on IPv4 and IPv6 gets its IPv4 address published.
        let mut sorted: Vec<_> = listeners.iter().map(|l| (address_of(l), l.port)).collect();
        sorted.sort_by_key(|(address, _)| address.is_ipv6());
        for (address, port) in sorted {
            if !self.bound.contains_key(&port) {
                self.bind(port, SocketAddr::new(address, port))?;
                new.push(port);
            }
        }
        Ok(new)
    }

    fn bind(&mut self, server_port: u16, address: SocketAddr) -> Result<(), LauncherError> {
        let open = || -> io::Result<Port> {
            let shared = socket(address)?;
            let own_ip =
                if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
            let own = (1..=self.replicas).map(|id| {
                let socket = socket(SocketAddr::new(own_ip, 0))?;
                Ok((id, socket.local_addr()?, socket))
            });
            Ok(Port {
                server_port,
                address: shared.local_addr()?,
                own: own.collect::<io::Result<_>>()?,
                shared,
            })
        };
        let port = open().map_err(|source| LauncherError::Port { address, port: server_port, source })?;
        self.bound.insert(server_port, port);
        Ok(())
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpListener::bind(address)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn address_of(listener: &Listener) -> IpAddr {
    let address = Ipv6Addr::from(listener.address);
    address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::{Ports, Publication};
    use crate::launcher::LauncherError;
    use crate::replica::status::Listener;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    #[test]
    fn reads_publications() {
        let of = |text: &str| text.parse::<Publication>().map(|p| (p.address.to_string(), p.server_port));
        assert_eq!(of("127.0.0.1:8080:80"), Ok(("127.0.0.1:8080".to_owned(), 80)));
        assert_eq!(of("[::1]:8080:80"), Ok(("[::1]:8080".to_owned(), 80)));
        assert_eq!(of("8080:80"), Ok(("0.0.0.0:8080".to_owned(), 80)));
        assert!(of("80").is_err() && of("localhost:1:2").is_err() && of("1.2.3.4:99999:1").is_err());
    }

    #[test]
    fn a_taken_port_is_told_and_a_known_one_is_kept() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let on = |address: Ipv6Addr| Listener { id: 1, port, backlog: 5, address: address.octets() };
        let v4 = on(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        let mut ports = Ports::new(2, &[]).unwrap();
        let error = ports.follow(std::slice::from_ref(&v4)).unwrap_err();
        assert!(matches!(error, LauncherError::Port { port: told, .. } if told == port));
        drop(taken);
        assert_eq!(ports.follow(&[on(Ipv6Addr::LOCALHOST), v4.clone()]).unwrap(), [port]);
        assert!(ports.follow(&[v4]).unwrap().is_empty());
        let bound = ports.iter().next().unwrap();
        assert_eq!((bound.address.ip(), bound.own.len()), (Ipv4Addr::LOCALHOST.into(), 2));
    }
}
