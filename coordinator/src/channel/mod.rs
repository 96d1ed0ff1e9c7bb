//! Messages between Brolga's own processes on one machine: supervisor, replicas, container init and the command line.
//!
//! A channel is a `SOCK_SEQPACKET` unix socket: one datagram is one message (postcard), descriptors travel beside it,
//! and the death of the other side shows as [`Received::Closed`] at once.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of one message at the most.
pub const MAX_MESSAGE_BYTES: usize = 128 * 1024;
/// Descriptors beside one message at the most.
pub const MAX_MESSAGE_FDS: usize = 8;

/// One end.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// What [`Channel::receive`] found.
#[derive(Debug)]
pub enum Received<T> {
    /// A message and the descriptors beside it.
    Message(T, Vec<OwnedFd>),
    /// Nothing now (only of a non-blocking channel).
    Empty,
    /// The other side is gone.
    Closed,
}

impl Channel {
    /// Two connected ends, both blocking and closed on exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self { socket: a }, Self { socket: b }))
    }

    /// Wraps a connected `SOCK_SEQPACKET` unix socket.
    pub fn from_socket(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Chooses whether [`Channel::receive`] waits.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(&self.socket, FcntlArg::F_GETFL)?);
        let flags = if nonblocking { flags | OFlag::O_NONBLOCK } else { flags - OFlag::O_NONBLOCK };
        fcntl(&self.socket, FcntlArg::F_SETFL(flags))?;
        Ok(())
    }

    /// Sends one message; `BrokenPipe` if the other side is gone.
    pub fn send<T: Serialize>(&self, message: &T) -> io::Result<()> {
        self.send_with(message, &[])
    }

    /// Sends one message with descriptors.
    pub fn send_with<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
        if bytes.len() > MAX_MESSAGE_BYTES || fds.len() > MAX_MESSAGE_FDS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "message above MAX_MESSAGE_BYTES"));
        }
        let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        loop {
            let slices = [IoSlice::new(&bytes)];
            match sendmsg::<()>(self.socket.as_raw_fd(), &slices, control, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes one message.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Received<T>> {
        let mut bytes = vec![0; MAX_MESSAGE_BYTES];
        let mut space = cmsg_space!([std::os::fd::RawFd; MAX_MESSAGE_FDS]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let (length, fds) = loop {
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
                Ok(message) => break (message.bytes, take_fds(message.cmsgs()?)),
                // A reset is reported once, ahead of the messages that the other end sent before it ended without having
                // read all of ours: they are still there, and after them the end.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(Errno::EAGAIN) => return Ok(Received::Empty),
                Err(error) => return Err(error.into()),
            }
        };
        // No message of ours is empty, so an empty datagram is the end of the stream.
        if length == 0 {
            return Ok(Received::Closed);
        }
        let message = postcard::from_bytes(&bytes[..length]).map_err(io::Error::other)?;
        Ok(Received::Message(message, fds))
    }
}

fn take_fds(messages: impl Iterator<Item = ControlMessageOwned>) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    for message in messages {
        if let ControlMessageOwned::ScmRights(raw) = message {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    fds
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.socket
    }
}

#[cfg(test)]
mod tests {
    use super::{Channel, Received};
    use crate::launcher::control::{Reply, Request};
    use crate::replica::config::{FromReplica, ToReplica};
    use proptest::prelude::*;
    use std::os::fd::AsFd;

    #[test]
    fn carries_messages_descriptors_and_the_end() {
        let (a, b) = Channel::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        a.send_with(&("hello".to_owned(), 7_u32), &[file.as_fd()]).unwrap();
        let Received::Message((text, number), fds) = b.receive::<(String, u32)>().unwrap() else { panic!() };
        assert_eq!((text.as_str(), number, fds.len()), ("hello", 7, 1));
        b.set_nonblocking(true).unwrap();
        assert!(matches!(b.receive::<u32>().unwrap(), Received::Empty));
        drop(a);
        assert!(matches!(b.receive::<u32>().unwrap(), Received::Closed));
    }

    #[test]
    fn last_words_are_heard_although_the_speaker_left_ours_unread() {
        let (ours, theirs) = Channel::pair().unwrap();
        ours.send(&"unread").unwrap();
        theirs.send(&"last words").unwrap();
        drop(theirs);
        let heard = ours.receive::<String>().unwrap();
        assert!(matches!(heard, Received::Message(text, _) if text == "last words"));
        assert!(matches!(ours.receive::<String>().unwrap(), Received::Closed));
    }

    proptest! {
        #[test]
        fn bytes_of_anybody_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 1..300)) {
            // What a channel gives to the decoder is what came.
            let _ = postcard::from_bytes::<Request>(&bytes);
            let _ = postcard::from_bytes::<Reply>(&bytes);
            let _ = postcard::from_bytes::<FromReplica>(&bytes);
            let _ = postcard::from_bytes::<ToReplica>(&bytes);
            let _ = postcard::from_bytes::<crate::container::Report>(&bytes);
        }
    }
}
