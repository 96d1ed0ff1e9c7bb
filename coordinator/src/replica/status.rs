//! What a replica tells its supervisor about itself, once a second and at once when its role changes.
//!
//! The supervisor stores the last one of each replica; `brolga status` prints them. Times are left out on purpose: two
//! statuses can be subtracted to get rates.

use serde::{Deserialize, Serialize};

use super::checkpoint_status::CheckpointStatus;
use super::transfer::TransferStatus;
use crate::paxos::Members;
use crate::sockets::Listener;

/// A follower that is this many entries behind replays rather than follows.
pub const RECOVERING_LAG: u64 = 4096;

/// What a replica does in the cluster now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Replays its log before it serves; also while its server is being rebuilt.
    #[default]
    Recovering,
    /// Applies what the leader decides.
    Follower,
    /// Was elected and brings its server to the horizon before it admits.
    TakingOver,
    /// Admits inputs and answers clients.
    Leader,
}

/// What is known about this replica's digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum DigestState {
    /// Nothing was compared yet.
    #[default]
    Unknown,
    /// All entries before this one were compared and are equal.
    Agrees {
        /// First entry not compared.
        until: u64,
    },
    /// This replica's server differed and is fenced until it is rebuilt.
    Diverged {
        /// First entry whose digest differed.
        entry: u64,
        /// Logical time at the end of that entry's bubble.
        tick: u64,
        /// How it was noticed.
        reason: String,
    },
}

/// The last time that this replica's server went another way than the leader's. Unlike [`DigestState::Diverged`] it stays when
/// the server is rebuilt, and when the coordinator is started anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// First entry whose digest differed.
    pub entry: u64,
    /// Logical time at the end of that entry's bubble.
    pub tick: u64,
    /// How it was noticed.
    pub reason: String,
    /// Divergences since the replica was made, this one included.
    pub count: u64,
}

/// How the server's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerExit {
    /// Raw wait status (`waitpid`).
    pub wait_status: i32,
}

/// A log that is being learned anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedLog {
    /// What was wrong with it: file and byte.
    pub why: String,
    /// Replicas of which it must still hear what they promised.
    pub unheard: Vec<u8>,
}

/// The whole picture of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ReplicaStatus {
    /// Id, from 1.
    pub id: u8,
    /// Process id of the coordinator.
    pub pid: i32,
    /// Process id of the container's init, seen from the host; 0 while there is none.
    pub container_pid: i32,
    /// Role.
    pub role: Role,
    /// Highest ballot seen.
    pub ballot: u64,
    /// The leader that it knows, 0 if none.
    pub leader: u8,
    /// Entries known committed.
    pub committed: u64,
    /// Entries that its server applied.
    pub applied: u64,
    /// Logical time of its server, ticks.
    pub tick: u64,
    /// Rolling digest of its server; sixteen hexadecimal digits in JSON, whose readers round large numbers.
    #[serde(with = "hexadecimal")]
    pub digest: u64,
    /// Committed entries that its server has not applied.
    pub lag: u64,
    /// Client connections that it holds (leader).
    pub connections: u64,
    /// Client connections that it forwards to the leader (follower).
    pub relayed: u64,
    /// Bytes forwarded in both directions since its start.
    pub relayed_bytes: u64,
    /// Connections refused because a bound was met.
    pub refused: u64,
    /// Comparison with the leader.
    pub digests: DigestState,
    /// The last divergence, if there was one.
    pub last_divergence: Option<Divergence>,
    /// Entries committed since the coordinator started.
    pub entries: u64,
    /// Of these, entries without any event: pure bubbles.
    pub bubbles: u64,
    /// Bytes sent to peers since its start.
    pub peer_bytes_out: u64,
    /// Bytes received from peers since its start.
    pub peer_bytes_in: u64,
    /// Peers with an authenticated connection now.
    pub peers_connected: Vec<u8>,
    /// Preemptions of spinning threads.
    pub preemptions: u64,
    /// Times that the server was killed and rebuilt from the log.
    pub rebuilds: u64,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// Longest turn of the coordinator's loop so far, microseconds. Several hundred thousand cost a leader its
    /// leadership; the disk or the machine is too slow then.
    pub longest_turn_us: u64,
    /// Who takes part, as far as that is decided and known here.
    pub members: Members,
    /// The log cannot be written because the disk is full; nothing is acknowledged until it can.
    pub disk_full: bool,
    /// Its log was damaged, and it has no vote until it has learned everything anew.
    pub damaged_log: Option<DamagedLog>,
    /// Index of the first entry of its log; those before are cut off.
    pub first_entry: u64,
    /// A checkpoint of another replica on its way here.
    pub transfer: Option<TransferStatus>,
    /// Its checkpoints.
    pub checkpoints: CheckpointStatus,
    /// Listening sockets of the server.
    pub listeners: Vec<Listener>,
    /// Set when the server ended.
    pub server_exit: Option<ServerExit>,
}

/// A number as text where people read.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.collect_str(&format_args!("{number:016x}"))
        } else {
            number.serialize(to)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        if from.is_human_readable() {
            u64::from_str_radix(&String::deserialize(from)?, 16).map_err(D::Error::custom)
        } else {
            u64::deserialize(from)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ReplicaStatus;

    #[test]
    fn a_digest_survives_both_encodings() {
        let status = ReplicaStatus { digest: u64::MAX - 1, ..ReplicaStatus::default() };
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.contains("\"digest\":\"fffffffffffffffe\""), "{text}");
        assert_eq!(serde_json::from_str::<ReplicaStatus>(&text).unwrap(), status);
        let bytes = postcard::to_stdvec(&status).unwrap();
        assert_eq!(postcard::from_bytes::<ReplicaStatus>(&bytes).unwrap(), status);
    }
}
