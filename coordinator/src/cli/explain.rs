//! `brolga explain`.

use super::replay::DIFFERENT;
use super::replay_args::ExplainArgs;
use crate::launcher::cluster::Cluster;
use crate::launcher::state::replica_directory;
use crate::replay::ReplayError;
use crate::replay::dump::{self, Dump};
use crate::replay::execution::{End, first_difference};
use crate::replay::explain::{Finding, REPLAYS, compare_dump, compare_replays, replay};
use crate::replay::recording::Recording;

/// Explains; returns the exit code.
pub(super) fn explain(args: &ExplainArgs) -> Result<i32, ReplayError> {
    let state = args.which.state();
    if let Some(other) = args.with {
        let left = Recording::open(&state, args.replica.unwrap_or(1))?;
        let right = Recording::open(&state, other)?;
        return between(&left, &right, args.entry);
    }
    let kept = match args.replica {
        Some(id) => dump_of(&state, id)?.map(|dump| (id, dump)),
        None => {
            let cluster = Cluster::load(&state)?.ok_or_else(|| ReplayError::NoCluster(state.clone()))?;
            cluster.ids().into_iter().find_map(|id| Some((id, dump_of(&state, id).ok()??)))
        }
    };
    let recording = Recording::open(&state, args.replica.or(kept.as_ref().map(|(id, _)| *id)).unwrap_or(1))?;
    match kept {
        Some((id, dump)) if args.entry.is_none() => diverged(&recording, id, &dump),
        _ => run_and_replay(&recording, args.entry),
    }
}

fn dump_of(state: &std::path::Path, id: u8) -> Result<Option<Dump>, ReplayError> {
    let directory = replica_directory(state, id);
    if !directory.is_dir() {
        return Err(ReplayError::NoLog { id, state: state.to_owned() });
    }
    dump::newest(&directory).map_err(ReplayError::system("read what the replica kept of a divergence"))
}

/// A replica that diverged while it ran, against a replay of its log.
fn diverged(recording: &Recording, id: u8, dump: &Dump) -> Result<i32, ReplayError> {
    println!("replica {id} diverged at entry {}; its last operations: {}", dump.entry, dump.path.display());
    let label = format!("replica {id}");
    match compare_dump(recording, dump, [&label, "replay"])? {
        Finding::Parted(explanation) => {
            print!("{explanation}");
            Ok(DIFFERENT)
        }
        Finding::OnlyTheRun(unexplained) => {
            println!(
                "a replay does all that replica {id} did: the leader went another way, or replica {id} had been rebuilt and a file of \
                 the host was not as before"
            );
            print!("{unexplained}");
            Ok(DIFFERENT)
        }
        Finding::Same(_) => run_and_replay(recording, None),
        Finding::TooLate(entry) => {
            println!(
                "the parting lies before the first operation that the replica kept; two replays are compared instead"
            );
            twice(recording, entry)
        }
    }
}

/// What a replica's server did, against a replay of its log.
pub(super) fn run_and_replay(recording: &Recording, entry: Option<u64>) -> Result<i32, ReplayError> {
    let entry = match entry {
        Some(entry) => entry,
        None => {
            let outcome = replay(recording)?;
            let different =
                first_difference(&recording.digests, &outcome.digests).map(|(_, ours)| ours.entry);
            let stuck = match outcome.end {
                End::Diverged { entry, .. } => Some(entry.saturating_sub(1)),
                _ => None,
            };
            let Some(entry) = different.or(stuck) else {
                println!(
                    "the replay did what the run did, in all {} digests that are known",
                    outcome.digests.len()
                );
                return Ok(0);
            };
            println!("a replay differs from the run in the bubble of entry {entry}");
            entry
        }
    };
    twice(recording, entry)
}

/// Two replays of the same log. Each has files of its own while the other is there, as replicas have.
fn twice(recording: &Recording, entry: u64) -> Result<i32, ReplayError> {
    let again = recording.again()?;
    tell(compare_replays(recording, &again, entry, REPLAYS)?)
}

/// Two replicas of one cluster, by what their servers did and then by replays of their logs.
fn between(left: &Recording, right: &Recording, entry: Option<u64>) -> Result<i32, ReplayError> {
    let different = first_difference(&left.digests, &right.digests).map(|(_, theirs)| theirs.entry);
    let Some(entry) = entry.or(different) else {
        println!("replicas {} and {} had the same digests as far as they are known", left.id, right.id);
        return Ok(0);
    };
    println!("replicas {} and {} differ in the bubble of entry {entry}", left.id, right.id);
    let labels = [left, right].map(|recording| format!("replay of replica {}", recording.id));
    tell(compare_replays(left, right, entry, [&labels[0], &labels[1]])?)
}

fn tell(finding: Finding) -> Result<i32, ReplayError> {
    match finding {
        Finding::Parted(explanation) => print!("{explanation}"),
        Finding::Same(entry) => {
            println!("nothing differs in entry {entry}: the run and two replays did the same");
            return Ok(0);
        }
        Finding::OnlyTheRun(unexplained) => print!("{unexplained}"),
        Finding::TooLate(entry) => println!("what was kept begins after the parting in entry {entry}"),
    }
    Ok(DIFFERENT)
}
