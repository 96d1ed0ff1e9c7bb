//! `brolga checkpoint`.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::launcher::LauncherError;
use crate::launcher::control::{ClusterStatus, MemberStatus, ProcessState, Reply, Request, ask};
use crate::replica::checkpoint_status::CheckpointStatus;
use crate::replica::status::Role;

/// Time between two looks at the status.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// How long followers that are behind may take to catch up.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(30);
/// How long a checkpoint may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Has a replica take a checkpoint, and waits for it; returns the exit code.
pub(super) fn take(state: &Path, replica: Option<u8>) -> Result<i32, LauncherError> {
    let (before, id) = match replica {
        Some(id) => (status(state)?, id),
        None => await_follower(state)?,
    };
    let alone = before.replicas.len() == 1;
    let (pid, before) = of(&before, id).unwrap_or_default();
    ask(state, &Request::Checkpoint(id))?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        // One that has just died has no status for a moment, and then that of its successor.
        let now = of(&status(state)?, id).filter(|(now, _)| *now == pid).map(|(_, now)| now);
        let Some(now) = now else {
            return Err(LauncherError::Refused(format!(
                "replica {id} died before it had taken a checkpoint"
            )));
        };
        if now.taken > before.taken {
            if let Some(kept) = now.kept.first() {
                println!(
                    "replica {id}: checkpoint at entry {}, logical time {}, digest {}, {} KB; its server stood still for {} ms{}",
                    kept.entry,
                    kept.tick,
                    kept.digest,
                    kept.bytes / 1024,
                    now.pause_ms,
                    if alone { ", and its clients waited" } else { "" }
                );
            }
            return Ok(0);
        }
        if now.failed > before.failed {
            let reason = now.last_error.unwrap_or_default();
            return Err(LauncherError::Refused(format!("replica {id} took no checkpoint: {reason}")));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    let seconds = PATIENCE.as_secs();
    Err(LauncherError::Refused(format!(
        "replica {id} has taken no checkpoint for {seconds} s; see `brolga status`"
    )))
}

pub(super) fn status(state: &Path) -> Result<ClusterStatus, LauncherError> {
    match ask(state, &Request::Status)? {
        Reply::Status(status) => Ok(*status),
        _ => Err(LauncherError::NotRunning(state.to_owned())),
    }
}

/// A replica's process, and what it tells of its checkpoints.
fn of(status: &ClusterStatus, id: u8) -> Option<(i32, CheckpointStatus)> {
    let status = status.replicas.iter().find(|member| member.id == id)?.status.as_ref()?;
    Some((status.pid, status.checkpoints.clone()))
}

/// Which follower is to take it. On a busy machine all of them may be behind for a moment.
fn await_follower(state: &Path) -> Result<(ClusterStatus, u8), LauncherError> {
    let begun = Instant::now();
    loop {
        let status = status(state)?;
        if let Some(id) = choose(&status) {
            return Ok((status, id));
        }
        let recovers = |member: &MemberStatus| {
            member.status.as_ref().is_some_and(|status| status.role == Role::Recovering)
        };
        if !status.replicas.iter().any(recovers) || begun.elapsed() >= RECOVERY_PATIENCE {
            return Err(LauncherError::Refused(
                "no follower runs: a checkpoint of the leader would make its clients wait".to_owned(),
            ));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}

/// The follower whose newest checkpoint is the oldest; the only replica, if there is but one.
fn choose(status: &ClusterStatus) -> Option<u8> {
    let alone = status.replicas.len() == 1;
    let follower = |member: &&MemberStatus| {
        // Not one on another machine.
        member.process == ProcessState::Running
            && member.status.as_ref().is_some_and(|status| alone || status.role == Role::Follower)
    };
    let newest = |member: &&MemberStatus| {
        let kept = member.status.as_ref().and_then(|status| status.checkpoints.kept.first());
        kept.map_or(0, |kept| kept.entry)
    };
    status.replicas.iter().filter(follower).min_by_key(newest).map(|member| member.id)
}
