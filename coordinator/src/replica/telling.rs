//! The status goes to the supervisor.

use super::config::FromReplica;
use super::driver::Phase;
use super::frames::Control;
use super::run::{Replica, STATUS_NS};
use super::status::{DamagedLog, RECOVERING_LAG, Role};

impl Replica {
    /// Notes how long a turn of the loop took: while it lasts, peers hear nothing from this replica.
    pub(super) fn note_turn(&mut self, took: u64) {
        let longest = &mut self.status.longest_turn_us;
        if took / 1000 <= *longest {
            return;
        }
        *longest = took / 1000;
        if took >= LONG_TURN_NS {
            tracing::warn!(
                "a turn of the loop took {} ms: the disk or the machine is slow",
                took / 1_000_000
            );
        }
    }

    /// Sends the status if it is time; `status_at = 0` makes it time.
    pub(super) fn send_status_if_due(&mut self, now: u64) {
        if now < self.status_at {
            return;
        }
        self.status_at = now + STATUS_NS;
        self.digest_file.flush();
        self.read_arena_status();
        let paxos = self.driver.consensus.paxos();
        let wire = self.peers.wire_bytes();
        let status = &mut self.status;
        status.pid = std::process::id() as i32;
        status.ballot = paxos.ballot().0;
        status.leader = self.driver.leader().unwrap_or(0);
        status.committed = paxos.commit();
        status.first_entry = paxos.first();
        status.lag = status.committed.saturating_sub(status.applied);
        (status.entries, status.bubbles) = (self.driver.entries, self.driver.bubbles);
        status.connections = self.clients.count() as u64;
        status.relayed = self.relay.count() as u64;
        status.relayed_bytes = self.relay.bytes;
        status.refused = self.relay.refused + self.clients.refused;
        (status.peer_bytes_out, status.peer_bytes_in) = wire;
        status.peers_connected = self.peers.connected();
        let why = self.driver.consensus.log().lost();
        status.damaged_log = why.map(|why| DamagedLog { why: why.to_owned(), unheard: paxos.unheard() });
        status.members = (**paxos.decided_members()).clone();
        status.disk_full = self.driver.consensus.disk_full();
        status.log_bytes = directory_bytes(&self.log_directory);
        status.role = match self.driver.phase() {
            Phase::Leading { .. } => Role::Leader,
            Phase::TakingOver { .. } => Role::TakingOver,
            Phase::Follower if self.driver.leader().is_none() || status.lag > RECOVERING_LAG => {
                Role::Recovering
            }
            // Not before its digest was found to be the leader's.
            Phase::Follower if self.checkpointing.is_unproven(status.committed) => Role::Recovering,
            Phase::Follower => Role::Follower,
        };
        if self.apart {
            for peer in self.peers.connected() {
                self.peers.send_control(peer, &Control::Status(Box::new(self.status.clone())));
            }
        }
        // A supervisor that is gone shows as the end of its channel.
        let _ = self.supervisor.send(&FromReplica::Status(Box::new(self.status.clone())));
    }
}

/// A turn of the loop that is worth a line in the log, nanoseconds. Several times that, and the others elect a leader.
const LONG_TURN_NS: u64 = 100_000_000;

fn directory_bytes(directory: &std::path::Path) -> u64 {
    let Ok(files) = std::fs::read_dir(directory) else { return 0 };
    files.flatten().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}
