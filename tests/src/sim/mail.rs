//! What travels between replicas, clients and the world.

use super::check::Checker;
use super::image::Images;
use super::plan::Plan;
use super::rng::Rng;

/// What reaches a coordinator.
#[derive(Debug)]
pub enum Mail {
    /// A peer's frame, as it stands on the wire.
    Frame(u8, Vec<u8>),
    /// The connection to a peer stands.
    PeerUp(u8),
    /// The connection to a peer broke.
    PeerDown(u8),
    /// A client (number, its connection attempt) wants to connect.
    Connect(usize, u64),
    /// Bytes of a client.
    Bytes(usize, u64, Vec<u8>),
    /// A client took so many bytes out of its socket.
    Taken(usize, u64, usize),
    /// A client sends no more.
    Fin(usize, u64),
    /// A client is gone.
    Reset(usize, u64),
    /// A datagram with this id.
    Datagram(u64),
}

/// What a coordinator sends.
#[derive(Debug)]
pub enum Sent {
    /// A frame to a peer. `promises` = it is a promise that was granted to that peer.
    Peer {
        /// The peer.
        to: u8,
        /// The frame.
        frame: Vec<u8>,
        /// See above.
        promises: bool,
    },
    /// To a client's connection attempt.
    Client(usize, u64, Reply),
    /// Over a connection that the server made to a host outside.
    Abroad(u64, Vec<u8>),
    /// The answer to the datagram with this id.
    Answer(u64),
}

/// What reaches a client.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Its connection stands.
    Accepted,
    /// Bytes.
    Bytes(Vec<u8>),
    /// The server sends no more.
    Fin,
    /// Nobody listens, or the connection broke.
    Reset,
}

/// What a turn of the loop needs from outside.
pub struct Around<'a> {
    /// Simulated time.
    pub now: u64,
    /// The schedule's parameters.
    pub plan: &'a Plan,
    /// The checkers.
    pub checker: &'a mut Checker,
    /// All checkpoints.
    pub images: &'a mut Images,
    /// What was sent.
    pub sent: &'a mut Vec<Sent>,
    /// Chance.
    pub rng: &'a mut Rng,
    /// Lines for a person who follows the schedule.
    pub trace: &'a mut dyn FnMut(String),
}
