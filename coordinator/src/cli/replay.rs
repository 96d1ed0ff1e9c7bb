//! `brolga replay`.

use std::time::Instant;

use super::replay_args::ReplayArgs;
use crate::replay::execution::{End, Execution, Options, Outcome, first_difference};
use crate::replay::recording::Recording;
use crate::replay::{ReplayError, gdb};

/// Exit code if two executions differ.
pub(super) const DIFFERENT: i32 = 3;

/// Replays a log; returns the exit code.
pub(super) fn replay(args: &ReplayArgs) -> Result<i32, ReplayError> {
    let recording = Recording::open(&args.which.state(), args.replica)?;
    let entries = args.entries.map_or(recording.len(), |entries| entries.min(recording.len()));
    eprintln!(
        "brolga: replays {entries} entries of replica {}: {}",
        args.replica,
        recording.cluster.command_line()
    );
    let begun = Instant::now();
    let options = Options { entries: Some(entries), trace_from: None, patient: args.gdb };
    let execution = Execution::start(&recording, options)?;
    if !args.gdb {
        let outcome = execution.run(|| false)?;
        eprintln!("brolga: took {:.1} s", begun.elapsed().as_secs_f64());
        return Ok(tell(&recording, &outcome));
    }
    let mut child = gdb::attach(execution.init_pid(), &recording.container_directory(), &args.gdb_arguments)?;
    let outcome = execution.run(|| !matches!(child.try_wait(), Ok(None)))?;
    // The server is gone now; gdb may want to say so.
    let _ = child.wait();
    Ok(match outcome.end {
        End::Abandoned => 0,
        _ => tell(&recording, &outcome),
    })
}

/// Says how a replay went; the exit code.
pub(super) fn tell(recording: &Recording, outcome: &Outcome) -> i32 {
    match &outcome.end {
        End::Exited(status) => println!("the server ended: {status}"),
        End::Diverged { entry, tick, reason } => {
            println!("the replay cannot follow the log at entry {entry}, logical time {tick}: {reason}");
        }
        End::Complete | End::Abandoned => {}
    }
    if let Some(last) = outcome.digests.last() {
        println!("entry {}: logical time {}, digest {:016x}", last.entry, last.tick, last.value);
    }
    let known = outcome.digests.iter().filter(|digest| recording.digest(digest.entry).is_some()).count();
    match (first_difference(&recording.digests, &outcome.digests), &outcome.end) {
        (Some((theirs, ours)), _) => {
            println!(
                "the replay differs from the run at entry {}: digest {:016x} at logical time {}, the run had {:016x} at {}",
                ours.entry, ours.value, ours.tick, theirs.value, theirs.tick
            );
            println!("`brolga explain` finds the operation");
            DIFFERENT
        }
        (None, End::Diverged { .. }) => DIFFERENT,
        (None, _) => {
            println!("{known} digests compared with those of the run: all equal");
            0
        }
    }
}
