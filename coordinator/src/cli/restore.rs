//! `brolga restore`.

use std::path::Path;
use std::time::{Duration, Instant};

use super::checkpoint::status;
use crate::checkpoint::{CheckpointError, Store, Stored, verify_files};
use crate::launcher::LauncherError;
use crate::launcher::cluster::Cluster;
use crate::launcher::control::{ClusterStatus, MemberStatus, Request, ask};
use crate::launcher::state::{StateDirectory, replica_directory};
use crate::replica::status::{DigestState, Role};

/// Time between two looks at the status.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How long a restore and its replay may go on without any progress.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be restored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Which replica, if not all.
    pub replica: Option<u8>,
    /// Which checkpoint, if not the newest.
    pub entry: Option<u64>,
    /// Only look.
    pub list: bool,
}

/// Restores replicas from checkpoints; returns the exit code.
pub(super) fn restore(state: &Path, wanted: Wanted) -> Result<i32, LauncherError> {
    let ids: Vec<u8> = match wanted.replica {
        Some(id) => vec![id],
        None => (1..=u8::MAX).filter(|id| replica_directory(state, *id).is_dir()).collect(),
    };
    let missing = ids.iter().find(|id| !replica_directory(state, **id).is_dir());
    if ids.is_empty() || missing.is_some() {
        let which = missing.map_or_else(|| "no replica".to_owned(), |id| format!("no replica {id}"));
        return Err(LauncherError::Refused(format!("there is {which} in {}", state.display())));
    }
    if wanted.list {
        // Each is told, whatever the others are.
        return Ok(i32::from(!ids.into_iter().fold(true, |all, id| all & tell_all(state, id))));
    }
    match (status(state), wanted.replica) {
        (Ok(running), Some(id)) => restart(state, &running, id, wanted.entry),
        (Ok(_), None) => Err(LauncherError::Refused(
            "the cluster runs: say by --replica which replica is to be stopped and restored".to_owned(),
        )),
        (Err(LauncherError::NotRunning(_)), _) => prepare(state, &ids, wanted),
        (Err(error), _) => Err(error),
    }
}

fn store(state: &Path, id: u8) -> Store {
    Store::beside(&replica_directory(state, id).join("log"))
}

/// Prints a replica's checkpoints; false if one of them is damaged.
fn tell_all(state: &Path, id: u8) -> bool {
    let found = store(state, id).survey();
    if found.is_empty() {
        println!("replica {id}: no checkpoints");
    }
    let whole = found.into_iter().map(|found| match found.and_then(|stored| whole(&stored).map(|()| stored)) {
        Ok(stored) => {
            let (place, kilobytes) = (&stored.manifest.place, stored.manifest.bytes() / 1024);
            println!(
                "replica {id}: checkpoint at entry {}, logical time {}, digest {:016x}, {kilobytes} KB: whole",
                place.next, place.tick, place.digest
            );
            true
        }
        Err(error) => {
            println!("replica {id}: DAMAGED: {error}");
            false
        }
    });
    // Each is told, whatever the others are.
    whole.fold(true, |all, one| all & one)
}

/// Compares it with its manifest.
fn whole(stored: &Stored) -> Result<(), CheckpointError> {
    verify_files(stored)
}

/// The checkpoint that is meant, if it is whole.
fn choose(state: &Path, id: u8, entry: Option<u64>) -> Result<Stored, LauncherError> {
    let (usable, damaged): (Vec<_>, Vec<_>) = store(state, id).survey().into_iter().partition(Result::is_ok);
    let mut usable: Vec<Stored> = usable.into_iter().flatten().collect();
    let entries: Vec<_> = usable.iter().map(|stored| stored.manifest.place.next.to_string()).collect();
    let found = match entry {
        Some(entry) => usable.iter().position(|stored| stored.manifest.place.next == entry),
        None => (!usable.is_empty()).then_some(0),
    };
    let refused = |what: String| LauncherError::Refused(format!("replica {id} {what}"));
    let Some(found) = found else {
        let asked =
            entry.map_or("no checkpoint".to_owned(), |entry| format!("no checkpoint at entry {entry}"));
        let has = match entries.is_empty() {
            true => "none that can be used".to_owned(),
            false => format!("those at {}", entries.join(", ")),
        };
        let damage = damaged.into_iter().filter_map(Result::err).map(|error| format!("; {error}"));
        return Err(refused(format!("has {asked}, but {has}{}", damage.collect::<String>())));
    };
    let stored = usable.swap_remove(found);
    let entry = stored.manifest.place.next;
    whole(&stored)
        .map_err(|error| refused(format!("cannot use its checkpoint at entry {entry}: {error}")))?;
    Ok(stored)
}

fn write_choice(state: &Path, id: u8, stored: &Stored) -> Result<(), LauncherError> {
    let written = store(state, id).choose(stored.manifest.place.next);
    written.map_err(|error| LauncherError::Refused(error.to_string()))
}

/// Of a cluster that does not run: it restores them when it is started.
fn prepare(state: &Path, ids: &[u8], wanted: Wanted) -> Result<i32, LauncherError> {
    // Nobody starts it meanwhile.
    let directory = StateDirectory::open(state)?;
    let command = Cluster::load(directory.path())?.map(|cluster| cluster.command_line());
    let (found, refused): (Vec<_>, Vec<_>) = ids
        .iter()
        .map(|&id| choose(state, id, wanted.entry).map(|stored| (id, stored)))
        .partition(Result::is_ok);
    let refused: Vec<_> =
        refused.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    if found.is_empty() {
        return Err(LauncherError::Refused(refused.join("\n")));
    }
    for (id, stored) in found.into_iter().flatten() {
        write_choice(state, id, &stored)?;
        println!(
            "replica {id}: restores its checkpoint at entry {} when it is started",
            stored.manifest.place.next
        );
    }
    for reason in refused {
        println!("{reason}; it starts as usual");
    }
    println!("start the cluster as before: {}", command.unwrap_or_default());
    Ok(0)
}

/// Stops a replica of a running cluster and starts it from the checkpoint; returns when its digest is the others'.
fn restart(state: &Path, running: &ClusterStatus, id: u8, entry: Option<u64>) -> Result<i32, LauncherError> {
    let stored = choose(state, id, entry)?;
    let entry = stored.manifest.place.next;
    let decided = running.replicas.iter().filter_map(|member| Some(member.status.as_ref()?.committed)).max();
    let old = member(running, id).and_then(|member| member.status.as_ref()).map_or(0, |status| status.pid);
    write_choice(state, id, &stored)?;
    let begun = Instant::now();
    // One that was stopped before is just started.
    let _ = ask(state, &Request::Kill(id));
    ask(state, &Request::Start(id, None))?;
    let (mut seen, mut moved) = (0, Instant::now());
    while moved.elapsed() < PATIENCE {
        let now = status(state)?;
        let alone = now.replicas.len() == 1;
        let status = member(&now, id).and_then(|member| member.status.as_ref()).filter(|s| s.pid != old);
        if let Some(status) = status.filter(|status| status.container_pid != 0) {
            let checkpoints = &status.checkpoints;
            if let Some(error) = &checkpoints.restore_error {
                return Err(LauncherError::Refused(format!(
                    "replica {id} did not restore the checkpoint at entry {entry}: {error}; it replays its log from entry {}",
                    checkpoints.restored_from.unwrap_or(0)
                )));
            }
            if let DigestState::Diverged { entry, tick, reason } = &status.digests {
                return Err(LauncherError::Refused(format!(
                    "replica {id} DIVERGED at entry {entry}, logical time {tick}, after it was restored: {reason}"
                )));
            }
            if status.applied > seen {
                (seen, moved) = (status.applied, Instant::now());
            }
            let there = status.applied >= decided.unwrap_or(0);
            if checkpoints.restored_from == Some(entry)
                && there
                && is_healthy(status.role, &status.digests, alone)
            {
                println!("{}", restored(id, entry, status.applied, begun.elapsed(), &status.digests, alone));
                return Ok(0);
            }
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    Err(LauncherError::Refused(format!(
        "replica {id} has not come back from the checkpoint at entry {entry} for {} s; see `brolga status` and `brolga logs \
         --coordinator -r {id}`",
        PATIENCE.as_secs()
    )))
}

fn member(status: &ClusterStatus, id: u8) -> Option<&MemberStatus> {
    status.replicas.iter().find(|member| member.id == id)
}

/// A follower is not before its digest was found to be the leader's. One that leads, because it is alone or was elected at once, has
/// nobody to be compared with.
fn is_healthy(role: Role, digests: &DigestState, alone: bool) -> bool {
    match role {
        Role::Leader => true,
        Role::Follower => !alone && matches!(digests, DigestState::Agrees { .. }),
        Role::Recovering | Role::TakingOver => false,
    }
}

fn restored(id: u8, entry: u64, applied: u64, took: Duration, digests: &DigestState, alone: bool) -> String {
    let proof = match digests {
        DigestState::Agrees { until } => format!("its digests are the leader's up to entry {until}"),
        _ if alone => "there is no other replica to compare it with".to_owned(),
        _ => "it leads".to_owned(),
    };
    let (replayed, ms) = (applied.saturating_sub(entry), took.as_millis());
    format!(
        "replica {id}: restored from the checkpoint at entry {entry}, {replayed} entries replayed, in {ms} ms; {proof}"
    )
}

#[cfg(test)]
mod tests {
    use super::is_healthy;
    use crate::replica::status::{DigestState, Role};

    #[test]
    fn a_follower_is_healthy_only_when_its_digest_is_known_to_be_right() {
        let agrees = DigestState::Agrees { until: 7 };
        assert!(is_healthy(Role::Follower, &agrees, false));
        assert!(!is_healthy(Role::Follower, &DigestState::Unknown, false));
        assert!(!is_healthy(Role::Recovering, &agrees, false));
        assert!(is_healthy(Role::Leader, &DigestState::Unknown, true));
    }
}
