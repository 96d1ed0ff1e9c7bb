//! Published UDP ports: one socket of the host for each, which the supervisor holds and all replicas share. The leader reads
//! from it.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use nix::sys::socket::{SockaddrStorage, getsockname};

use super::LauncherError;
use super::publish::Publication;
use crate::replica::datagram_socket::bound;
use crate::sockets::Listener;

#[derive(Debug)]
pub(super) struct UdpPort {
    pub server_port: u16,
    pub address: SocketAddr,
    pub socket: OwnedFd,
}

#[derive(Debug)]
pub(super) struct UdpPorts {
    bound: Vec<UdpPort>,
    /// Ports of the server whose addresses `--publish` chose.
    chosen: BTreeSet<u16>,
    /// Addresses of the server that are taken care of.
    followed: BTreeSet<(IpAddr, u16)>,
}

/// What became of a new UDP socket of the server.
#[derive(Debug)]
pub(super) enum FollowedUdp<'a> {
    /// Clients can send.
    Bound(&'a UdpPort),
    /// Nobody can.
    Failed(SocketAddr, io::Error),
}

impl UdpPorts {
    /// Binds what was asked for by `--publish`, before anything runs.
    pub fn new(wanted: &[Publication]) -> Result<Self, LauncherError> {
        let mut ports = Self { bound: vec![], chosen: BTreeSet::new(), followed: BTreeSet::new() };
        for publication in wanted.iter().filter(|publication| publication.udp) {
            let Publication { server_port, address, .. } = *publication;
            let port = open(server_port, address, false, false);
            ports.bound.push(port.map_err(|source| LauncherError::Port {
                address,
                port: server_port,
                source,
            })?);
            ports.chosen.insert(server_port);
        }
        Ok(ports)
    }

    pub fn iter(&self) -> impl Iterator<Item = &UdpPort> {
        self.bound.iter()
    }

    /// Binds what the server has bound for clients, at the same address, unless it is done; tells what is new. A server may
    /// bind ports that are of no interest to anybody, so one that is taken ends nothing.
    pub fn follow(&mut self, listeners: &[Listener]) -> Vec<FollowedUdp<'_>> {
        let (before, mut failed) = (self.bound.len(), Vec::new());
        for listener in listeners.iter().filter(|listener| listener.udp) {
            let (ip, port) = (listener.address, listener.port);
            if self.chosen.contains(&port) || !self.followed.insert((ip, port)) {
                continue;
            }
            let address = SocketAddr::new(ip, port);
            match open(port, address, listener.v6_only, listener.reuse) {
                Ok(port) => self.bound.push(port),
                Err(error) => failed.push(FollowedUdp::Failed(address, error)),
            }
        }
        self.bound[before..].iter().map(FollowedUdp::Bound).chain(failed).collect()
    }
}

fn open(server_port: u16, address: SocketAddr, v6_only: bool, reuse: bool) -> io::Result<UdpPort> {
    let socket = bound(address, v6_only, reuse)?;
    let name: SockaddrStorage = getsockname(std::os::fd::AsRawFd::as_raw_fd(&socket))?;
    let port = name.as_sockaddr_in().map(|a| a.port()).or(name.as_sockaddr_in6().map(|a| a.port()));
    let address = SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
    Ok(UdpPort { server_port, address, socket })
}

#[cfg(test)]
mod tests {
    use super::{FollowedUdp, UdpPorts};
    use crate::launcher::Publication;
    use crate::sockets::Listener;
    use std::net::{Ipv4Addr, UdpSocket};

    #[test]
    fn a_taken_port_is_told_and_a_chosen_one_not_followed() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let address = Ipv4Addr::LOCALHOST.into();
        let listener = Listener {
            id: 1,
            port,
            backlog: 0,
            address,
            v6_only: false,
            udp: true,
            reuse: false,
            any_port: false,
        };
        let mut ports = UdpPorts::new(&[]).unwrap();
        let told = ports.follow(std::slice::from_ref(&listener));
        assert!(matches!(told[..], [FollowedUdp::Failed(..)]), "{told:?}");
        let chosen: Publication = format!("127.0.0.1:0:{port}/udp").parse().unwrap();
        let mut ports = UdpPorts::new(&[chosen]).unwrap();
        assert!(ports.follow(std::slice::from_ref(&listener)).is_empty());
        assert_ne!(ports.iter().next().unwrap().address.port(), 0);
        drop(taken);
        let mut ports = UdpPorts::new(&[]).unwrap();
        assert!(matches!(ports.follow(&[listener])[..], [FollowedUdp::Bound(_)]));
    }
}
