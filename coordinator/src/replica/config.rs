//! What the supervisor gives a replica at its start, and the messages between the two.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::schedule::Every;
use super::status::ReplicaStatus;
use crate::channel::Channel;
use crate::container::ContainerSpec;
use crate::paxos::{Change, ChangeError};

/// When a majority "has" an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// In memory that outlives the process, but not the machine.
    #[default]
    Memory,
    /// After fdatasync.
    Disk,
}

/// Who orders inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// The leader's server admits inputs at its own logical time and runs ahead of consensus (design section 7).
    #[default]
    Speculative,
    /// Order first, execute after, with bubbles of 1000 ticks after 100 us of silence: the baseline.
    Crane,
}

/// A replica as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Id, from 1.
    pub id: u8,
    /// Where its peers connect to it; it binds this address itself.
    pub peer_address: SocketAddr,
}

/// PEM files of one replica's mutual TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFiles {
    /// The cluster's own certificate authority.
    pub authority: PathBuf,
    /// This replica's certificate, for the name [`peer_name`].
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The name in the certificate of replica `id`.
pub fn peer_name(id: u8) -> String {
    format!("replica-{id}.brolga")
}

/// All that [`super::run()`] needs.
#[derive(Debug)]
pub struct ReplicaConfig {
    /// This replica.
    pub id: u8,
    /// The cluster's name; part of the shared directory's name.
    pub cluster: String,
    /// All replicas whose addresses are known at the start, this one included.
    pub members: Vec<Member>,
    /// With whom the cluster was made. Who takes part now stands in the log.
    pub founders: Vec<u8>,
    /// Keys for the peer connections.
    pub keys: KeyFiles,
    /// Directory of the log.
    pub log_directory: PathBuf,
    /// First 16 bytes of a hash of command, environment and cluster name: entry 0 of a log of another one is refused.
    pub fingerprint: [u8; 16],
    /// See [`Durability`].
    pub durability: Durability,
    /// See [`Admission`].
    pub admission: Admission,
    /// Operations after which a thread passes the turn on, for entry 0.
    pub quantum: u32,
    /// How long the replica looks for news before it sleeps, microseconds; 0 = not at all.
    pub poll_us: u32,
    /// CPU time without an operation after which a leader preempts, microseconds, for entry 0.
    pub spin_limit_us: u32,
    /// How often one of the replicas takes a checkpoint.
    pub checkpoint_every: Option<Every>,
    /// Payload of the `Outbound` event: see [`super::outbound::payload`].
    pub outbound: Arc<[u8]>,
    /// Addresses of this machine that the server sees as its own.
    pub own: Vec<IpAddr>,
    /// The others have supervisors of their own, which want to know of this replica, and may have signals for its server.
    pub apart: bool,
    /// The server. `shared` and the arena are made by the replica.
    pub server: ContainerSpec,
    /// The preload library, copied into the shared directory at each start of the server.
    pub preload: PathBuf,
    /// The supervisor. Its end means: stop.
    pub supervisor: Channel,
}

/// Version of the messages between supervisor and replica, which can be of different builds while a cluster is upgraded.
pub const CHANNEL_VERSION: u32 = 2;

/// A file that gets another content in all replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewFile {
    /// Its path in the replicas; an absolute one.
    pub path: String,
    /// What is in it from then on.
    pub content: Vec<u8>,
}

/// Supervisor to replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToReplica {
    /// Clients of the server's port `server_port` connect to the listening sockets beside this message. The first of two is
    /// bound to `address`, which also names it among those of the same port; all replicas share it and only the leader
    /// accepts from it. The last is this replica's own, of which it relays to the leader while it does not lead
    /// itself. Sent again to a restarted replica.
    Publish {
        /// Port inside the container.
        server_port: u16,
        /// Where clients connect.
        address: SocketAddr,
        /// The own addresses of all replicas for this port.
        own: Vec<(u8, SocketAddr)>,
    },
    /// Datagrams for the server's port `server_port` come to the socket beside this message, bound to `address`, which all
    /// replicas share. Sent again to a restarted replica.
    PublishUdp {
        /// Port inside the container.
        server_port: u16,
        /// Where clients send.
        address: SocketAddr,
    },
    /// Take a checkpoint.
    Checkpoint,
    /// Test: change one byte of the next data that this replica's server reads.
    CorruptNext,
    /// A signal for the server; whoever leads makes an event of it. It may come again.
    Signal {
        /// The signal's id, not 0.
        id: u64,
        /// Its number.
        signal: i32,
    },
    /// A file of all replicas gets another content; whoever leads makes an event of it. It may come again.
    Replace {
        /// As a signal's.
        id: u64,
        /// The file.
        file: NewFile,
    },
    /// End in good order.
    Stop,
    /// Change the members of the cluster, if this replica leads or knows who does; answered by [`FromReplica::Changed`].
    Change {
        /// Comes back with the answer.
        id: u64,
        /// What.
        change: Change,
    },
}

/// Replica to supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromReplica {
    /// Once a second, and at once when the role, the listeners or the server's state changes.
    Status(Box<ReplicaStatus>),
    /// The replica ends because of this error.
    Failed(String),
    /// What a replica on another machine said about itself.
    Peer(Box<ReplicaStatus>),
    /// The signal with this id has taken effect, and that is decided. Told again as the log is replayed.
    Signalled(u64),
    /// What the leader said to a [`ToReplica::Change`]: the epoch of the new configuration, which is not decided yet, or why
    /// there is none.
    Changed {
        /// Of the request.
        id: u64,
        /// The leader's word.
        answer: Result<u64, ChangeError>,
    },
    /// This replica is no member any more since this epoch, and ends.
    Removed(u64),
}
