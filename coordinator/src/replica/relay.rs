//! A follower's own client address: it forwards bytes between its clients and the leader's own address.
//!
//! Nothing is interpreted, and what cannot be passed on is not read, so a stalled side holds one small buffer. When the
//! leader changes, all relayed connections are closed: the connections at the old leader are gone, too.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::epoll::EpollFlags;

use super::farewell::{reset_on_close, send_fin};
use super::peers::start_connect;
use super::poll::{Poll, Token};

/// Connections relayed at the same time; more are closed at once.
pub const MAX_RELAYED: usize = 1024;
/// Bytes read in one direction before they were passed on.
pub const RELAY_BUFFER_BYTES: usize = 16 * 1024;

#[derive(Debug, Default)]
struct Direction {
    waiting: Vec<u8>,
    /// The source sent FIN.
    over: bool,
    /// The FIN was passed on.
    ended: bool,
}

#[derive(Debug)]
struct Pair {
    client: TcpStream,
    leader: TcpStream,
    up: Direction,
    down: Direction,
    watches: (EpollFlags, EpollFlags),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Relay {
    pairs: BTreeMap<u64, Pair>,
    next: u64,
    /// Bytes forwarded so far.
    pub bytes: u64,
    /// Connections refused so far.
    pub refused: u64,
}

impl Relay {
    /// Relayed connections.
    pub fn count(&self) -> usize {
        self.pairs.len()
    }

    /// Closes all.
    pub fn close_all(&mut self) {
        self.pairs.clear();
    }

    /// Relays a new client to the leader at `leader`.
    pub fn open(&mut self, poll: &Poll, client: TcpStream, leader: SocketAddr) {
        if self.pairs.len() >= MAX_RELAYED {
            self.refused += 1;
            return;
        }
        let Ok(leader) = start_connect(leader) else {
            self.refused += 1;
            return;
        };
        if client.set_nonblocking(true).and_then(|()| client.set_nodelay(true)).is_err() {
            return;
        }
        reset_on_close(&client);
        reset_on_close(&leader);
        let number = self.next;
        self.next += 1;
        let (client_flags, leader_flags) = (EpollFlags::EPOLLIN, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT);
        if poll.add(&client, Token::Relay(number * 2), client_flags).is_ok()
            && poll.add(&leader, Token::Relay(number * 2 + 1), leader_flags).is_ok()
        {
            let pair = Pair {
                client,
                leader,
                up: Direction::default(),
                down: Direction::default(),
                watches: (client_flags, leader_flags),
            };
            self.pairs.insert(number, pair);
        }
    }

    /// Something can be read or written at one side.
    pub fn ready(&mut self, poll: &Poll, token: u64) {
        let number = token / 2;
        let Some(pair) = self.pairs.get_mut(&number) else { return };
        let up = pump(&mut pair.client, &mut pair.leader, &mut pair.up);
        let down = pump(&mut pair.leader, &mut pair.client, &mut pair.down);
        let (Some(up), Some(down)) = (up, down) else {
            self.pairs.remove(&number);
            return;
        };
        self.bytes += up + down;
        if pair.up.ended && pair.down.ended {
            self.pairs.remove(&number);
            return;
        }
        let wanted = (interest(&pair.up, &pair.down), interest(&pair.down, &pair.up));
        if wanted.0 != pair.watches.0 {
            let _ = poll.modify(&pair.client, Token::Relay(number * 2), wanted.0);
        }
        if wanted.1 != pair.watches.1 {
            let _ = poll.modify(&pair.leader, Token::Relay(number * 2 + 1), wanted.1);
        }
        pair.watches = wanted;
    }
}

/// What a side is watched for, that is the source of `from` and the target of `to`.
fn interest(from: &Direction, to: &Direction) -> EpollFlags {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::EPOLLIN, !from.over && from.waiting.is_empty());
    flags.set(EpollFlags::EPOLLOUT, !to.waiting.is_empty());
    flags
}

/// Moves bytes until one side stops; `None` if the connection is broken.
fn pump(source: &mut TcpStream, target: &mut TcpStream, direction: &mut Direction) -> Option<u64> {
    let mut moved = 0;
    let mut buffer = [0; RELAY_BUFFER_BYTES];
    loop {
        while !direction.waiting.is_empty() {
            match target.write(&direction.waiting) {
                Ok(count) => {
                    direction.waiting.drain(..count);
                    moved += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if stalled(&error) => return Some(moved),
                Err(_) => return None,
            }
        }
        if direction.over {
            if !std::mem::replace(&mut direction.ended, true) {
                send_fin(target);
            }
            return Some(moved);
        }
        match source.read(&mut buffer) {
            Ok(0) => direction.over = true,
            Ok(count) => direction.waiting.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if stalled(&error) => return Some(moved),
            Err(_) => return None,
        }
    }
}

/// Not now: also while the connection to the leader is still being made.
fn stalled(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}
