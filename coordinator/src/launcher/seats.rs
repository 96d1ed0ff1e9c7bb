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
    /// All replicas are here, on loopback ports that are free now and not among `wanted`, at which the server is to be published:
    /// those can be bound beside a reserved one, and the replica could not listen then.
    pub fn of_one_machine(ids: &[u8], keys: PathBuf, wanted: &[u16]) -> Result<Self, LauncherError> {
        let mut seats = Self { ids: vec![], peers: vec![], keys, reserved: vec![] };
        let mut others = Vec::new();
        for &id in ids {
            seats.add(id)?;
            while let Some((_, address)) = seats.peers.pop_if(|(_, address)| wanted.contains(&address.port()))
            {
                // Kept until all have theirs, so that it is not found again.
                others.extend(seats.reserved.pop());
                seats.ids.pop();
                tracing::debug!("leaves {address} to the server");
                seats.add(id)?;
            }
        }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::Seats;

    #[test]
    fn no_replica_takes_a_port_at_which_the_server_is_published() {
        // Most that the kernel would give.
        let wanted: Vec<u16> = (1024..=u16::MAX).filter(|port| port % 8 != 0).collect();
        for _ in 0..20 {
            let seats = Seats::of_one_machine(&[1, 2, 3], PathBuf::new(), &wanted).unwrap();
            assert_eq!(seats.ids, [1, 2, 3]);
            assert_eq!(seats.peers.len(), seats.reserved.len());
            for (place, (id, address)) in seats.peers.iter().enumerate() {
                assert_eq!((*id, seats.reserved[place].0), (place as u8 + 1, place as u8 + 1));
                assert!(!wanted.contains(&address.port()), "{address}");
            }
        }
    }
}
