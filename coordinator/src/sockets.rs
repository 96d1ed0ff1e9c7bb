//! What a replica's coordinator knows of the server's sockets, and keeps in a checkpoint: where it listens, and its multicast
//! groups.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A socket on which the server listens inside its container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// dmt's listener id.
    pub id: u64,
    /// Port that the server bound.
    pub port: u16,
    /// Backlog that the server asked for.
    pub backlog: u32,
    /// Address that the server bound.
    pub address: IpAddr,
    /// It takes no IPv4 clients although it is bound to the IPv6 wildcard.
    pub v6_only: bool,
    /// It is a UDP socket.
    pub udp: bool,
    /// It shares its address with other programs' sockets (UDP).
    pub reuse: bool,
    /// The server asked for any port (TCP); `port` is what it was told.
    pub any_port: bool,
}

/// A socket of the server is in a multicast group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// dmt's id of the socket.
    pub socket: u64,
    /// The group.
    pub group: IpAddr,
    /// Address of the interface, if the server named it by that.
    pub interface: IpAddr,
    /// Index of the interface in the replica, if it named it by that; else 0.
    pub index: u32,
}
