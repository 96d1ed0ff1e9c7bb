//! Which replicas of a cluster run on this machine, and where all of them find each other.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrStorage, bind, getsockname, setsockopt, socket,
    sockopt,
};

use super::LauncherError;
use super::cluster_file_error::ClusterFileError;

/// See the module.
#[derive(Debug)]
pub struct Seats {
    /// The replicas of this machine.
    pub ids: Vec<u8>,
    /// Peer addresses of all replicas.
    pub peers: Vec<(u8, SocketAddr)>,
    /// The directory of keys.
    pub keys: PathBuf,
    /// Bound but not listening: they keep the peer ports for this cluster while a replica is down.
    reserved: Vec<(u8, OwnedFd)>,
}

impl Seats {
    /// All replicas are here, on loopback ports that are free now.
    pub fn of_one_machine(ids: &[u8], keys: PathBuf) -> Result<Self, LauncherError> {
        let mut seats = Self { ids: vec![], peers: vec![], keys, reserved: vec![] };
        ids.iter().try_for_each(|&id| seats.add(id))?;
        Ok(seats)
    }

    /// One more replica is here.
    pub fn add(&mut self, id: u8) -> Result<(), LauncherError> {
        let (socket, address) = reserve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .map_err(LauncherError::system("reserve a port for a replica"))?;
        self.ids.push(id);
        self.peers.push((id, address));
        self.reserved.push((id, socket));
        Ok(())
    }

    /// One is here no more.
    pub fn remove(&mut self, id: u8) {
        self.ids.retain(|other| *other != id);
        self.peers.retain(|(other, _)| *other != id);
        self.reserved.retain(|(other, _)| *other != id);
    }

    /// One replica is here.
    pub fn of_machine(id: u8, peers: Vec<(u8, SocketAddr)>, keys: PathBuf) -> Result<Self, LauncherError> {
        let own = peers.iter().filter(|(peer, _)| *peer == id).map(|&(_, address)| address);
        let reserve = |address| {
            reserve(address)
                .map(|(socket, _)| (id, socket))
                .map_err(|error| ClusterFileError::PeerPort { address, source: error.into() })
        };
        let reserved = own.map(reserve).collect::<Result<_, _>>()?;
        Ok(Self { ids: vec![id], peers, keys, reserved })
    }
}

/// A port that stays ours: a socket that is bound with `SO_REUSEADDR` and never listens lets a replica bind and listen on the
/// same port, and keeps others off while the replica is down.
fn reserve(wanted: SocketAddr) -> nix::Result<(OwnedFd, SocketAddr)> {
    let family = if wanted.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(wanted))?;
    let bound: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let port = bound.as_sockaddr_in().map_or(wanted.port(), SockaddrIn::port);
    Ok((socket, SocketAddr::new(wanted.ip(), port)))
}
