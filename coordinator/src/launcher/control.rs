//! The control socket: what `brolga status`, `stop`, `kill`, `start` say to the supervisor, one request a connection.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, listen, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use super::LauncherError;
use super::state::control_socket;
use crate::channel::{Channel, Received};
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
    /// Bring a replica back.
    Start(u8),
    /// Have a replica take a checkpoint; its status tells how that went.
    Checkpoint(u8),
    /// Send this signal to the server; answered once that is decided.
    Signal(i32),
    /// Test: corrupt the next input of a replica.
    Corrupt(u8),
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
    channel.send(request).map_err(|_| lost())?;
    match channel.receive::<Reply>().map_err(LauncherError::system("read the supervisor's answer"))? {
        Received::Message(Reply::Refused(message), _) => Err(LauncherError::Refused(message)),
        Received::Message(reply, _) => {
            if *request == Request::Stop {
                // The end of the connection is the end of the cluster.
                let _ = channel.receive::<Reply>();
            }
            Ok(reply)
        }
        Received::Closed | Received::Empty => Err(lost()),
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
        match channel.receive().ok()? {
            Received::Message(request, _) => Some((request, channel)),
            Received::Empty | Received::Closed => None,
        }
    }
}
