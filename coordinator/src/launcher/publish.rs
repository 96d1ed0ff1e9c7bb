//! Published ports: for each port of the server one listening socket of the host that all replicas share, and one for
//! each replica alone, whose clients it relays to the leader. A replica that has a machine for itself has only the latter. The supervisor holds them all, so that clients that
//! connect while a leader dies wait in the backlog and are not refused.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::str::FromStr;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use serde::{Deserialize, Serialize};

use super::LauncherError;
use super::cluster::Cluster;
use crate::sockets::Listener;

/// Clients that may wait until a leader accepts them.
const BACKLOG: i32 = 4096;

/// `ADDRESS:PORT:SERVERPORT`, with `/udp` behind it for UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Where clients connect.
    pub address: SocketAddr,
    /// The port that the server binds.
    pub server_port: u16,
    /// UDP, else TCP.
    pub udp: bool,
}

impl FromStr for Publication {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not ADDRESS:PORT:SERVERPORT (as 127.0.0.1:8080:80) or PORT:SERVERPORT, either \
                 with /udp behind it for UDP"
            )
        };
        let (plain, udp) = text.strip_suffix("/udp").map_or((text, false), |plain| (plain, true));
        let (front, server_port) = plain.rsplit_once(':').ok_or_else(wrong)?;
        let server_port = server_port.parse().map_err(|_| wrong())?;
        let address = match front.parse::<u16>() {
            Ok(port) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
            Err(_) => front.parse().map_err(|_| wrong())?,
        };
        Ok(Self { address, server_port, udp })
    }
}

/// The sockets of one port of the server.
#[derive(Debug)]
pub(super) struct Port {
    pub server_port: u16,
    pub address: SocketAddr,
    v6_only: bool,
    /// None if each replica has a machine of its own.
    pub shared: Option<TcpListener>,
    /// Sockets of those on this machine.
    pub own: Vec<(u8, SocketAddr, Option<TcpListener>)>,
}

/// Where the replicas are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// All on this machine.
    Here(Vec<u8>),
    /// One on each machine: the own one, and where all of them take clients.
    Machines { own: u8, services: Vec<(u8, IpAddr)> },
}

impl Place {
    /// As the cluster says; `ids` are on this machine.
    pub fn of(cluster: &Cluster, ids: &[u8]) -> Self {
        if cluster.machines.is_empty() {
            return Self::Here(ids.to_vec());
        }
        let services = cluster.machines.iter().map(|machine| (machine.id, machine.service)).collect();
        Self::Machines { own: ids.first().copied().unwrap_or(0), services }
    }
}

#[derive(Debug)]
pub(super) struct Ports {
    place: Place,
    bound: Vec<Port>,
    /// Ports of the server whose addresses `--publish` chose.
    chosen: BTreeSet<u16>,
    /// Addresses of the server that are taken care of.
    followed: BTreeSet<(IpAddr, u16)>,
}

/// What became of a new listener of the server.
#[derive(Debug)]
pub(super) enum Followed<'a> {
    /// Clients can connect.
    Bound(&'a Port),
    /// This machine has no such address, but another listener of the same port has one.
    NotHere(SocketAddr),
    /// It is an address that other machines cannot reach.
    Private(SocketAddr),
    /// Somebody else on this machine has the port, and the server asked for any: it can do without clients there.
    Taken(SocketAddr),
}

impl Ports {
    /// Binds what was asked for by `--publish`, before anything runs.
    pub fn new(place: Place, wanted: &[Publication]) -> Result<Self, LauncherError> {
        let mut ports = Self { place, bound: vec![], chosen: BTreeSet::new(), followed: BTreeSet::new() };
        for publication in wanted.iter().filter(|publication| !publication.udp) {
            ports.bind(publication.server_port, publication.address, false)?;
            ports.chosen.insert(publication.server_port);
        }
        Ok(ports)
    }

    /// A replica comes: on this machine, or with its address for clients.
    pub fn add(&mut self, id: u8, service: Option<IpAddr>) -> Result<(), LauncherError> {
        match &mut self.place {
            Place::Here(ids) => ids.push(id),
            Place::Machines { services, .. } => services.extend(service.map(|ip| (id, ip))),
        }
        for port in &mut self.bound {
            let (address, v6_only) = (port.address, port.v6_only);
            let made = match (&self.place, service) {
                (Place::Here(_), _) => own_socket(id, own_ip(address, v6_only), v6_only),
                (_, Some(ip)) => Ok((id, SocketAddr::new(ip, address.port()), None)),
                (_, None) => continue,
            };
            let port_number = port.server_port;
            port.own.push(made.map_err(|source| LauncherError::Port {
                address,
                port: port_number,
                source,
            })?);
        }
        Ok(())
    }

    /// A replica is gone.
    pub fn remove(&mut self, id: u8) {
        match &mut self.place {
            Place::Here(ids) => ids.retain(|other| *other != id),
            Place::Machines { services, .. } => services.retain(|(other, _)| *other != id),
        }
        for port in &mut self.bound {
            port.own.retain(|(other, ..)| *other != id);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.bound.iter()
    }

    /// Binds what the server listens on, where it listens, unless it is bound; tells what is new.
    pub fn follow(&mut self, listeners: &[Listener]) -> Result<Vec<Followed<'_>>, LauncherError> {
        if let Place::Machines { own, services } = self.place.clone() {
            return self.follow_on_machine(own, &services, listeners);
        }
        let (before, mut others) = (self.bound.len(), Vec::new());
        // IPv4 first: that is the address that people expect to see first.
        let mut sorted: Vec<_> = listeners.iter().filter(|listener| !listener.udp).collect();
        sorted.sort_by_key(|listener| listener.address.is_ipv6());
        for listener in sorted {
            let (ip, port) = (listener.address, listener.port);
            if self.chosen.contains(&port) || !self.followed.insert((ip, port)) {
                continue;
            }
            match self.bind(port, SocketAddr::new(ip, port), listener.v6_only) {
                Err(LauncherError::Port { source, .. }) if self.is_spare(ip, port, &source) => {
                    others.push(Followed::NotHere(SocketAddr::new(ip, port)));
                }
                Err(LauncherError::Port { source, .. }) if listener.any_port && is_taken(&source) => {
                    others.push(Followed::Taken(SocketAddr::new(ip, port)));
                }
                done => done?,
            }
        }
        Ok(self.bound[before..].iter().map(Followed::Bound).chain(others).collect())
    }

    /// On several machines a port is published once, at the machine's service address, if the server would take clients
    /// there.
    fn follow_on_machine(
        &mut self,
        own: u8,
        services: &[(u8, IpAddr)],
        listeners: &[Listener],
    ) -> Result<Vec<Followed<'_>>, LauncherError> {
        let (before, mut private, mut taken) = (self.bound.len(), Vec::new(), Vec::new());
        let Some(&(_, service)) = services.iter().find(|(id, _)| *id == own) else { return Ok(vec![]) };
        for listener in listeners.iter().filter(|listener| !listener.udp) {
            let (ip, port) = (listener.address, listener.port);
            if self.chosen.contains(&port) {
                continue;
            }
            if !ip.is_unspecified() && !services.iter().any(|(_, service)| *service == ip) {
                if self.followed.insert((ip, port)) {
                    private.push((ip, port));
                }
            } else if self.followed.insert((service, port)) {
                match self.bind(port, SocketAddr::new(service, port), false) {
                    Err(LauncherError::Port { source, .. }) if listener.any_port && is_taken(&source) => {
                        taken.push(Followed::Taken(SocketAddr::new(service, port)));
                    }
                    done => done?,
                }
            }
        }
        private.retain(|(_, port)| !self.followed.contains(&(service, *port)));
        let private = private.into_iter().map(|(ip, port)| Followed::Private(SocketAddr::new(ip, port)));
        Ok(self.bound[before..].iter().map(Followed::Bound).chain(private).chain(taken).collect())
    }

    /// A machine without IPv6 still runs a server that listens on both.
    fn is_spare(&self, ip: IpAddr, server_port: u16, error: &io::Error) -> bool {
        let no_such = matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL));
        no_such && ip.is_ipv6() && self.bound.iter().any(|port| port.server_port == server_port)
    }

    fn bind(&mut self, server_port: u16, address: SocketAddr, v6_only: bool) -> Result<(), LauncherError> {
        let open = || -> io::Result<Port> {
            let shared = listening(address, v6_only)?;
            let own_ip = own_ip(address, v6_only);
            let bound = shared.local_addr()?;
            let (shared, own) = match &self.place {
                Place::Here(ids) => {
                    let own = ids.iter().map(|&id| own_socket(id, own_ip, v6_only));
                    (Some(shared), own.collect::<io::Result<_>>()?)
                }
                Place::Machines { own, services } => {
                    let mut shared = Some(shared);
                    let one = |&(id, ip): &(u8, IpAddr)| {
                        let socket = if id == *own { shared.take() } else { None };
                        (id, SocketAddr::new(ip, bound.port()), socket)
                    };
                    (None, services.iter().map(one).collect())
                }
            };
            Ok(Port { server_port, address: bound, v6_only, own, shared })
        };
        let port = open().map_err(|source| LauncherError::Port { address, port: server_port, source })?;
        self.bound.push(port);
        Ok(())
    }
}

fn is_taken(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EADDRINUSE)
}

/// Where the replicas' own sockets of a port are.
fn own_ip(address: SocketAddr, v6_only: bool) -> IpAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => ip,
        _ if v6_only => Ipv6Addr::LOCALHOST.into(),
        _ => Ipv4Addr::LOCALHOST.into(),
    }
}

fn own_socket(id: u8, ip: IpAddr, v6_only: bool) -> io::Result<(u8, SocketAddr, Option<TcpListener>)> {
    let socket = listening(SocketAddr::new(ip, 0), v6_only)?;
    Ok((id, socket.local_addr()?, Some(socket)))
}

fn listening(address: SocketAddr, v6_only: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&made, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&made, sockopt::Ipv6V6Only, &v6_only)?;
    }
    bind(made.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&made, Backlog::new(BACKLOG)?)?;
    Ok(made.into())
}

#[cfg(test)]
mod tests {
    use super::{Followed, Place, Ports, Publication};
    use crate::launcher::LauncherError;
    use crate::sockets::Listener;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

    fn listener(address: IpAddr, port: u16) -> Listener {
        Listener {
            id: 1,
            port,
            backlog: 5,
            address,
            v6_only: true,
            udp: false,
            reuse: false,
            any_port: false,
        }
    }

    #[test]
    fn reads_publications() {
        let of = |text: &str| text.parse::<Publication>().map(|p| (p.address.to_string(), p.server_port));
        assert_eq!(of("127.0.0.1:8080:80"), Ok(("127.0.0.1:8080".to_owned(), 80)));
        assert_eq!(of("[::1]:8080:80"), Ok(("[::1]:8080".to_owned(), 80)));
        assert_eq!(of("8080:80"), Ok(("0.0.0.0:8080".to_owned(), 80)));
        assert!("8053:53/udp".parse::<Publication>().unwrap().udp);
        assert!(!"8053:53".parse::<Publication>().unwrap().udp);
        assert!(of("80").is_err() && of("localhost:1:2").is_err() && of("1.2.3.4:99999:1").is_err());
    }

    #[test]
    fn a_taken_port_is_told_and_a_known_one_is_kept() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let v4 = listener(Ipv4Addr::LOCALHOST.into(), port);
        let mut ports = Ports::new(Place::Here(vec![1, 2]), &[]).unwrap();
        let error = ports.follow(std::slice::from_ref(&v4)).unwrap_err();
        assert!(matches!(error, LauncherError::Port { port: told, .. } if told == port));
        let any = Listener { any_port: true, ..v4.clone() };
        let mut ports = Ports::new(Place::Here(vec![1, 2]), &[]).unwrap();
        let followed = ports.follow(&[any]).unwrap();
        assert!(matches!(followed[..], [Followed::Taken(address)] if address.port() == port), "{followed:?}");
        drop(taken);
        let mut ports = Ports::new(Place::Here(vec![1, 2]), &[]).unwrap();
        assert_eq!(ports.follow(std::slice::from_ref(&v4)).unwrap().len(), 1);
        assert!(ports.follow(&[v4]).unwrap().is_empty());
        let bound = ports.iter().next().unwrap();
        assert_eq!((bound.address.ip(), bound.own.len()), (Ipv4Addr::LOCALHOST.into(), 2));
    }

    #[test]
    fn both_protocols_of_one_port_are_published_unless_an_address_was_chosen() {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let both = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        let both = both.map(|address| listener(address, port));
        let mut ports = Ports::new(Place::Here(vec![1]), &[]).unwrap();
        // A machine without IPv6 tells so instead of the second one.
        assert_eq!(ports.follow(&both).unwrap().len(), 2);
        assert!(ports.follow(&both).unwrap().is_empty());
        assert!(ports.iter().next().unwrap().address.is_ipv4());
        drop(ports);
        let chosen = Publication { address: "127.0.0.1:0".parse().unwrap(), server_port: port, udp: false };
        let mut ports = Ports::new(Place::Here(vec![1]), &[chosen]).unwrap();
        assert!(ports.follow(&both).unwrap().is_empty());
    }
}
