//! Where clients of a campaign find the server.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::machines::{Machines, enter_network};

/// See the module.
#[derive(Debug)]
pub struct Place {
    /// Addresses of the same server: a client that gets no connection at one of them tries the next.
    pub addresses: Vec<SocketAddr>,
    /// How long a connection may take.
    pub connect: Duration,
    /// How long an answer may take; then the connection is given up.
    pub answer: Duration,
    network: Option<File>,
}

impl Place {
    /// A port of this machine, where clients are patient: whatever fails, the server is behind it again.
    pub fn here(port: u16) -> Self {
        let addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
        let (connect, answer) = (Duration::from_secs(2), Duration::from_secs(30));
        Self { addresses, connect, answer, network: None }
    }

    /// A port of the first `replicas` of several machines, for clients on a machine of their own: those of a machine that is cut off
    /// try another one.
    pub fn on(machines: &Machines, replicas: u8, port: u16) -> Self {
        let addresses = (1..=replicas).map(|id| machines.port(id, port)).collect();
        let (connect, answer) = (Duration::from_millis(300), Duration::from_secs(2));
        Self { addresses, connect, answer, network: Some(machines.network(machines.clients())) }
    }

    /// Has the calling thread be there.
    pub fn enter(&self) {
        if let Some(network) = &self.network {
            enter_network(network).expect("enter the clients' network");
        }
    }
}

/// A client's addresses: its own one first, so that never all are at one that is cut off, and then the others.
#[derive(Debug)]
pub struct Addresses {
    all: Vec<SocketAddr>,
    own: usize,
    next: usize,
}

impl Addresses {
    /// Those of a place, for the client with this number.
    pub fn of(place: &Place, number: usize) -> Self {
        Self { all: place.addresses.clone(), own: number, next: number }
    }

    /// The one to try now.
    pub fn take(&mut self) -> SocketAddr {
        let address = self.all[self.next % self.all.len()];
        self.next += 1;
        address
    }

    /// There was an answer: after a loss the own one comes first again.
    pub fn found(&mut self) {
        self.next = self.own;
    }
}
