//! The control socket: what `brolga status`, `stop`, `kill`, `start` say to the supervisor, one request a connection.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, listen, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::LauncherError;
use super::state::control_socket;
use crate::channel::{Channel, Received};
use crate::paxos::{Change, Members};
use crate::replica::config::NewFile;
use crate::replica::status::ReplicaStatus;

/// How long the supervisor waits for a client that connected and says nothing, seconds.
const PATIENCE_SECONDS: i64 = 1;

/// Command line to supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Answered by [`Reply::Status`].
    Status,
    /// End the cluster; the connection closes when all is over.
    Stop,
    /// Kill replica `0` at once, and keep it down.
    Kill(u8),
    /// Bring a replica back, with the `brolga` of this path if there is one.
    Start(u8, Option<PathBuf>),
    /// Have a replica take a checkpoint; its status tells how that went.
    Checkpoint(u8),
    /// Give these files their new content, then send this signal to the server; answered once that is decided.
    Signal(i32, Vec<NewFile>),
    /// Test: corrupt the next input of a replica.
    Corrupt(u8),
    /// Change the members; answered by [`Reply::Epoch`] when the leader makes it an entry.
    Change(Change),
}

/// Supervisor to command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done, or on its way.
    Done,
    /// The request makes no sense now.
    Refused(String),
    /// See [`ClusterStatus`].
    Status(Box<ClusterStatus>),
    /// The configuration of this epoch is on its way.
    Epoch(u64),
}

/// Version of requests and replies. The first bytes of a message of any version are this number.
pub const CONTROL_VERSION: u32 = 4;

/// What travels: the version can be read even if the rest cannot.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    version: u32,
    body: Vec<u8>,
}

/// Why a message was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it speaks version {0} of the control protocol, and this one version {CONTROL_VERSION}: use the same brolga for both"
)]
pub struct OtherVersion(u32);

fn seal<T: Serialize>(message: &T) -> Envelope {
    Envelope { version: CONTROL_VERSION, body: postcard::to_stdvec(message).unwrap_or_default() }
}

fn open<T: DeserializeOwned>(envelope: &Envelope) -> Result<T, OtherVersion> {
    let read = postcard::from_bytes(&envelope.body).ok().filter(|_| envelope.version == CONTROL_VERSION);
    read.ok_or(OtherVersion(envelope.version))
}

/// Sends an answer; a client that is gone does not want it.
pub(super) fn answer(client: &Channel, reply: &Reply) {
    let _ = client.send(&seal(reply));
}

/// The whole picture of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Name.
    pub name: String,
    /// Version of Brolga.
    pub version: String,
    /// The server's command.
    pub command: String,
    /// Process id of the supervisor.
    pub supervisor: u32,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// The leader, 0 if there is none.
    pub leader: u8,
    /// Who takes part, as far as that is decided.
    pub members: Members,
    /// Every live replica's digests were compared and none differs.
    pub digests_agree: bool,
    /// The published ports.
    pub ports: Vec<PortStatus>,
    /// All replicas.
    pub replicas: Vec<MemberStatus>,
}

/// One port of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// The port that the server bound.
    pub server_port: u16,
    /// Where clients connect.
    pub address: SocketAddr,
    /// It is a UDP port; those have no other addresses.
    pub udp: bool,
    /// Each replica's own address; the replica passes clients on to the leader.
    pub own: Vec<OwnAddress>,
}

/// Where one replica alone takes clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnAddress {
    /// The replica.
    pub replica: u8,
    /// Its address.
    pub address: SocketAddr,
}

/// What the supervisor knows of a replica's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessState {
    /// It runs.
    Running,
    /// It died and will be started again soon.
    Restarting,
    /// `brolga kill` stopped it.
    Stopped,
    /// It died too often.
    GivenUp,
    /// It runs on another machine.
    Elsewhere,
    /// It is on another machine, and nothing is heard of it.
    Unreachable,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Id.
    pub id: u8,
    /// Its process.
    pub process: ProcessState,
    /// Times that it was restarted after it died.
    pub restarts: u32,
    /// Entries committed a second, lately.
    pub entries_per_second: u64,
    /// Its own last words, if it runs.
    pub status: Option<ReplicaStatus>,
}

/// Asks the supervisor of a state directory.
pub fn ask(state: &Path, request: &Request) -> Result<Reply, LauncherError> {
    let channel = dial(state)?;
    let lost = || LauncherError::NotRunning(state.to_owned());
    channel.send(&seal(request)).map_err(|_| lost())?;
    let received = channel.receive::<Envelope>();
    let envelope = match received.map_err(LauncherError::system("read the supervisor's answer"))? {
        Received::Message(envelope, _) => envelope,
        Received::Closed | Received::Empty => return Err(lost()),
    };
    match open(&envelope) {
        Err(other) => {
            Err(LauncherError::Refused(format!("cannot talk to the cluster's supervisor: {other}")))
        }
        Ok(Reply::Refused(message)) => Err(LauncherError::Refused(message)),
        Ok(reply) => {
            if *request == Request::Stop {
                // The end of the connection is the end of the cluster.
                let _ = channel.receive::<Envelope>();
            }
            Ok(reply)
        }
    }
}

fn dial(state: &Path) -> Result<Channel, LauncherError> {
    let make = || -> nix::Result<OwnedFd> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(&control_socket(state))?)?;
        Ok(socket)
    };
    match make() {
        Ok(socket) => Ok(Channel::from_socket(socket)),
        Err(Errno::ENOENT | Errno::ECONNREFUSED | Errno::ENOTDIR) => {
            Err(LauncherError::NotRunning(state.to_owned()))
        }
        Err(error) => Err(LauncherError::State { path: control_socket(state), source: error.into() }),
    }
}

/// The supervisor's end.
#[derive(Debug)]
pub(super) struct ControlSocket {
    pub socket: OwnedFd,
}

impl ControlSocket {
    /// Binds the socket; only the owner may connect.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listen(&socket, Backlog::new(16)?)?;
        Ok(Self { socket })
    }

    /// The next request and the connection to answer on.
    pub fn accept(&self) -> Option<(Request, Channel)> {
        let raw = accept4(self.socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC).ok()?;
        // SAFETY: accept has just made it, nobody else knows it.
        let socket = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(raw) };
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE_SECONDS, 0)).ok()?;
        let channel = Channel::from_socket(socket);
        match channel.receive::<Envelope>().ok()? {
            Received::Message(envelope, _) => match open(&envelope) {
                Ok(request) => Some((request, channel)),
                Err(other) => {
                    answer(
                        &channel,
                        &Reply::Refused(format!("this brolga is not the supervisor's: {other}")),
                    );
                    None
                }
            },
            Received::Empty | Received::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CONTROL_VERSION, Envelope, Request, open, seal};

    #[test]
    fn another_version_is_refused_by_number() {
        assert_eq!(open::<Request>(&seal(&Request::Kill(3))), Ok(Request::Kill(3)));
        let later = Envelope { version: CONTROL_VERSION + 1, ..seal(&Request::Status) };
        let told = open::<Request>(&later).unwrap_err().to_string();
        assert!(told.contains(&format!("speaks version {}", CONTROL_VERSION + 1)), "{told}");
    }
}
