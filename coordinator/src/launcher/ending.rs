//! When a run ends because the server ended: how its replicas agree on that.

use std::time::{Duration, Instant};

use super::control::ProcessState;
use super::replica_process::ReplicaProcess;
use crate::replica::status::RECOVERING_LAG;

/// How long the others, which follow a little behind, may make no progress on their way to the server's exit.
const PATIENCE: Duration = Duration::from_secs(10);

/// A run that is about to end.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// When it ends at the latest; `None` while no end is in sight.
    pub by: Option<Instant>,
    /// Logical time of all replicas together when that was set.
    progress: u64,
}

impl Ending {
    /// The wait status of the server, once the cluster agrees that it ended. One replica's word is not enough while
    /// others could go on: its server may have been killed by hand. And those that follow get time to come to the same
    /// end, so that their files are whole, too; not those that replay the log, which may take long.
    pub fn agreed(&mut self, replicas: &[ReplicaProcess], leader: u8) -> Option<i32> {
        let exits: Vec<i32> = replicas.iter().filter_map(exit).collect();
        let live = replicas.iter().filter(|replica| follows(replica)).count();
        let by_leader = replicas
            .iter()
            .any(|replica| replica.id == leader && exit(replica).is_some_and(|status| !killed(status)));
        if !by_leader && exits.len() * 2 <= replicas.len() {
            self.by = None;
            return None;
        }
        let following = replicas.iter().filter(|replica| follows(replica));
        let progress = following.filter_map(|replica| Some(replica.status.as_ref()?.tick)).sum();
        let now = Instant::now();
        if self.by.is_none() || progress > self.progress {
            (self.by, self.progress) = (Some(now + PATIENCE), progress);
        }
        let late = self.by.is_some_and(|by| now >= by);
        (exits.len() >= live || late).then(|| exits.first().copied()).flatten()
    }
}

/// Also one that has not said yet that it knows its leader: a server may end right after the start.
fn follows(replica: &ReplicaProcess) -> bool {
    let replays = replica.status.as_ref().is_some_and(|status| status.lag > RECOVERING_LAG);
    replica.state() == ProcessState::Running && !replays
}

fn exit(replica: &ReplicaProcess) -> Option<i32> {
    replica.status.as_ref()?.server_exit.map(|exit| exit.wait_status)
}

fn killed(status: i32) -> bool {
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL
}
