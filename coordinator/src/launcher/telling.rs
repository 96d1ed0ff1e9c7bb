//! What `brolga run` says in its terminal.

use std::path::Path;

use super::publish::Port;
use super::publish_udp::UdpPort;
use super::state::replica_directory;
use crate::container::OUTPUT_DIRECTORY;
use crate::replica::status::{DigestState, Divergence, ReplicaStatus};
use crate::stderr;

pub(super) use crate::stderr::say;

/// Lines of the server's stderr that are shown when it ends badly.
const TAIL_LINES: usize = 20;

pub(super) fn announce(port: &Port) {
    let own: Vec<_> = port.own.iter().map(|(id, address, _)| format!("replica {id} on {address}")).collect();
    say(&format!("clients of port {} connect to {} ({})", port.server_port, port.address, own.join(", ")));
}

pub(super) fn announce_udp(port: &UdpPort) {
    say(&format!("clients of UDP port {} send to {}", port.server_port, port.address));
}

/// Replicas that could not start. Whether the others go on is known when one of them leads; what keeps all of them from starting ends
/// the run, with one line.
#[derive(Debug, Default)]
pub(super) struct Unstarted(Vec<(u8, String)>);

impl Unstarted {
    pub(super) fn note(&mut self, id: u8, how: String, others_go_on: bool) {
        self.0.push((id, how));
        if others_go_on {
            self.tell();
        }
    }

    pub(super) fn tell(&mut self) {
        for (id, how) in self.0.drain(..) {
            say(&format!("replica {id} cannot start: {how}; the others go on"));
        }
    }

    /// What ends the run is told by its end.
    pub(super) fn forget(&mut self, how: &str) {
        self.0.retain(|(_, other)| other != how);
    }
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        for (id, how) in self.0.drain(..) {
            say(&format!("replica {id} cannot start: {how}"));
        }
    }
}

pub(super) fn tell_changes(id: u8, before: Option<&ReplicaStatus>, now: Option<&ReplicaStatus>) {
    let Some(now) = now else { return };
    let full_before = before.is_some_and(|status| status.disk_full);
    if now.disk_full && !full_before {
        say(&format!("replica {id}: the disk is full; it acknowledges nothing until there is space"));
    }
    if full_before && !now.disk_full {
        say(&format!("replica {id}: there is space on the disk again"));
    }
    let damaged = before.and_then(|status| status.damaged_log.as_ref()).is_some();
    if let (Some(log), false) = (&now.damaged_log, damaged) {
        say(&format!(
            "replica {id}: {}. It is set aside; the replica learns everything anew from all others, and has no vote until then. If \
             the logs of others are damaged, too, put whole copies in their place, or start over with --fresh",
            log.why
        ));
    }
    if now.damaged_log.is_none() && damaged {
        say(&format!("replica {id}: its log is whole again, and it votes"));
    }
    // A rebuild may begin before this is told. What the first status of a replica that was not rebuilt knows is from before its start.
    let new = now.rebuilds > 0 || matches!(now.digests, DigestState::Diverged { .. });
    if let Some(Divergence { entry, tick, reason, .. }) = &now.last_divergence
        && before.map_or(new, |status| status.last_divergence != now.last_divergence)
    {
        say(&format!(
            "replica {id} DIVERGED at entry {entry}, tick {tick}: {reason}; it is fenced and rebuilt"
        ));
    }
}

/// Says how the server ended; returns its exit code as a shell would.
pub(super) fn tell_exit(state: &Path, leader: u8, status: i32) -> i32 {
    let exit = crate::container::ExitStatus::from_wait_status(status);
    say(&format!("the server ended: {exit}"));
    let code = exit.shell_code();
    if code != 0 {
        let id = if leader == 0 { 1 } else { leader };
        let path = replica_directory(state, id).join(OUTPUT_DIRECTORY);
        for name in ["stdout", "stderr"] {
            let text = std::fs::read(path.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            if !lines.is_empty() {
                say(&format!("the last lines of its {name}:"));
            }
            lines[lines.len().saturating_sub(TAIL_LINES)..]
                .iter()
                .for_each(|line| stderr::line(&format!("  {line}")));
        }
    }
    code
}
