//! Processes of the server that ended in this replica, though its log says nothing of it: somebody killed them, or the kernel.
//!
//! The others' live on, so this is a divergence, and the server is rebuilt. If they died everywhere (out of memory, a stack that
//! overflowed), the supervisor notices that the server ended on a majority, and ends the cluster; so the end of the whole server
//! is judged only when it had time for that.

use super::run::Replica;
use super::status::ServerExit;
use crate::container::ExitStatus;

/// Time that the supervisor has to end the cluster, nanoseconds; more than its own patience.
const PATIENCE_NS: u64 = 2_000_000_000;

/// A death that nobody logged.
#[derive(Debug)]
pub(super) struct Death {
    judged_at: u64,
    reason: String,
}

impl Replica {
    /// The server's first process has ended, and with it all others.
    pub(super) fn server_exited(&mut self, status: ExitStatus) {
        // If it ended by an operation of its own, that comes before its end.
        self.drain_upcalls();
        tracing::warn!("the server ended: {status}");
        if self.status.server_exit.is_some() {
            return;
        }
        self.status.server_exit = Some(ServerExit { wait_status: status.wait_status() });
        self.status_at = 0;
        let reason = format!("the server was ended by {status}, of which the log knows nothing");
        self.died(PATIENCE_NS, reason);
    }

    /// One of its processes has.
    pub(super) fn process_died(&mut self, pid: i32, status: ExitStatus) {
        let reason =
            format!("the server's process {pid} was ended by {status}, of which the log knows nothing");
        tracing::error!("{reason}");
        self.died(0, reason);
    }

    fn died(&mut self, patience: u64, reason: String) {
        if self.server.is_none() {
            // Its divergence was noticed by other means.
            return;
        }
        let now = self.now();
        self.death = Some(Death { judged_at: now + patience, reason });
        self.driver.consensus.resign(now);
    }

    /// When [`Replica::judge_death`] is due.
    pub(super) fn death_deadline(&self) -> u64 {
        self.death.as_ref().map_or(u64::MAX, |death| death.judged_at)
    }

    /// Treats a death that the others do not share as what it is.
    pub(super) fn judge_death(&mut self, now: u64) {
        if self.death_deadline() > now {
            return;
        }
        let Some(death) = self.death.take() else { return };
        self.read_arena_status();
        let (entry, tick) = (self.status.applied, self.status.tick);
        self.diverged(entry, tick, &death.reason);
    }
}
