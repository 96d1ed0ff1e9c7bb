//! The one epoll of the replica: tokens, and waits with a nanosecond time-out.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

pub use nix::sys::epoll::EpollFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent};

/// Events taken out of the kernel in one turn.
const EVENTS_PER_TURN: usize = 256;
const KIND_SHIFT: u32 = 56;
const ID_MASK: u64 = (1 << KIND_SHIFT) - 1;

/// Whom an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// The server kicked us.
    Kick,
    /// The supervisor's channel.
    Supervisor,
    /// The container's channel.
    Container,
    /// The socket that peers connect to.
    PeerListener,
    /// A peer connection.
    Peer(u64),
    /// A published listening socket: port slot * 2, + 1 for the replica's own address.
    Listener(u64),
    /// A client connection.
    Client(u64),
    /// A relayed connection: number * 2, + 1 for the side of the leader.
    Relay(u64),
    /// A UDP socket.
    Datagram(u64),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, id) = match self {
            Self::Kick => (0, 0),
            Self::Supervisor => (1, 0),
            Self::Container => (2, 0),
            Self::PeerListener => (3, 0),
            Self::Peer(id) => (4, id),
            Self::Listener(id) => (5, id),
            Self::Client(id) => (6, id),
            Self::Relay(id) => (7, id),
            Self::Datagram(id) => (8, id),
        };
        debug_assert!(id <= ID_MASK);
        kind << KIND_SHIFT | id
    }

    fn unpack(packed: u64) -> Self {
        let id = packed & ID_MASK;
        match packed >> KIND_SHIFT {
            0 => Self::Kick,
            1 => Self::Supervisor,
            2 => Self::Container,
            3 => Self::PeerListener,
            4 => Self::Peer(id),
            5 => Self::Listener(id),
            6 => Self::Client(id),
            7 => Self::Relay(id),
            _ => Self::Datagram(id),
        }
    }
}

/// What is ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Whom it is for.
    pub token: Token,
    /// Which events.
    pub flags: EpollFlags,
}

impl Ready {
    /// Something can be read, or the end or an error is there to be found by reading.
    pub fn readable(&self) -> bool {
        self.flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
    }

    /// Something can be written, or an error is there to be found by writing.
    pub fn writable(&self) -> bool {
        self.flags.intersects(EpollFlags::EPOLLOUT | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
    }

    /// Both directions have ended in order: a reset and any other failure are errors as well.
    pub fn over(&self) -> bool {
        self.flags & (EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) == EpollFlags::EPOLLHUP
    }

    /// The connection is dead in both directions.
    pub fn broken(&self) -> bool {
        self.flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Poll {
    epoll: Epoll,
}

impl Poll {
    /// A new epoll.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    /// Watches `fd`, level-triggered. A closed descriptor leaves by itself.
    pub fn add(&self, fd: &impl AsFd, token: Token, flags: EpollFlags) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(flags, token.pack()))?)
    }

    /// Changes what `fd` is watched for.
    pub fn modify(&self, fd: &impl AsFd, token: Token, flags: EpollFlags) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags, token.pack()))?)
    }

    /// Stops watching `fd`.
    pub fn remove(&self, fd: &impl AsFd) {
        let _ = self.epoll.delete(fd);
    }

    /// Waits for events, at the longest `timeout_ns` nanoseconds. A signal ends the wait early.
    pub fn wait(&self, timeout_ns: u64, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_TURN];
        let timeout = libc::timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: `events` has room for as many events as the call is told, `timeout` is valid, and no mask is given.
        let count = unsafe {
            libc::epoll_pwait2(
                self.epoll.0.as_raw_fd(),
                events.as_mut_ptr(),
                EVENTS_PER_TURN as i32,
                &timeout,
                std::ptr::null(),
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        ready.extend(events[..count as usize].iter().map(|event| Ready {
            token: Token::unpack(event.u64),
            flags: EpollFlags::from_bits_truncate(event.events as i32),
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn tokens_survive_the_kernel() {
        let all = [
            Token::Kick,
            Token::Supervisor,
            Token::Container,
            Token::PeerListener,
            Token::Peer(9),
            Token::Listener(3),
            Token::Client((1 << 56) - 1),
            Token::Relay(77),
            Token::Datagram(5),
        ];
        for token in all {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
