//! What `brolga status --json` says.

use coordinator::replica::status::{DigestState, ReplicaStatus, Role};
use serde_json::Value;

/// The cluster at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// The replicas that run and have told about themselves.
    pub replicas: Vec<ReplicaStatus>,
    /// All of it as it came.
    pub raw: Value,
}

impl Status {
    /// Reads the text.
    pub fn parse(text: &str) -> Option<Self> {
        let raw: Value = serde_json::from_str(text).ok()?;
        let replicas = raw.get("replicas")?.as_array()?.iter().filter_map(replica).collect();
        Some(Self { replicas, raw })
    }

    /// The leader, if exactly one replica says that it is.
    pub fn leader(&self) -> Option<&ReplicaStatus> {
        let mut leaders = self.replicas.iter().filter(|replica| replica.role == Role::Leader);
        leaders.next().filter(|_| leaders.next().is_none())
    }

    /// One replica.
    pub fn replica(&self, id: u8) -> Option<&ReplicaStatus> {
        self.replicas.iter().find(|replica| replica.id == id)
    }

    /// The port of this machine on which one replica itself serves the first published port.
    pub fn own_port(&self, id: u8) -> Option<u16> {
        let own = self.raw.get("ports")?.get(0)?.get("own")?.as_array()?;
        let one = own.iter().find(|one| one.get("replica").and_then(Value::as_u64) == Some(u64::from(id)))?;
        one.get("address")?.as_str()?.rsplit(':').next()?.parse().ok()
    }

    /// All `count` replicas run, one leads, and the others follow.
    pub fn complete(&self, count: u8) -> bool {
        let followers = self.replicas.iter().filter(|replica| replica.role == Role::Follower).count();
        self.leader().is_some() && followers + 1 == usize::from(count)
    }

    /// Of the first `goal` entries, those that the replica which is farthest behind has to replay yet; `None` if none has told
    /// about itself.
    pub fn replay_left(&self, goal: u64) -> Option<u64> {
        let others = self.replicas.iter().filter(|replica| replica.role != Role::Leader);
        others.map(|replica| goal.saturating_sub(replica.applied)).max()
    }

    /// All followers have applied the first `count` entries and agree with the leader on all but the last, whose bubble
    /// may not have ended. An idle server makes entries, too (its timers), so replicas are not found at the same entry
    /// by asking one after the other.
    pub fn level_at(&self, count: u64) -> bool {
        self.replicas.iter().all(|replica| match replica.digests {
            DigestState::Diverged { .. } => false,
            // What the leader says is from the time when it followed.
            _ if replica.role == Role::Leader => true,
            DigestState::Agrees { until } => until + 1 >= count && replica.applied >= count,
            DigestState::Unknown => false,
        })
    }
}

/// The replica's own words, which stand in `status` beside what the supervisor knows of it, or at the top.
fn replica(value: &Value) -> Option<ReplicaStatus> {
    let inner = value.get("status").unwrap_or(value);
    serde_json::from_value(inner.clone()).ok()
}
