//! `brolga replay`.

use std::time::Instant;

use dmt::tracing::Tracing;

use super::replay_args::ReplayArgs;
use crate::replay::execution::{End, Execution, Options, Outcome, first_difference};
use crate::replay::parting::first;
use crate::replay::recording::Recording;
use crate::replay::report::Operation;
use crate::replay::{ReplayError, gdb};

/// Exit code if two executions differ.
pub(super) const DIFFERENT: i32 = 3;

/// Replays a log; returns the exit code.
pub(super) fn replay(args: &ReplayArgs) -> Result<i32, ReplayError> {
    let (state, replica) = args.place()?;
    let recording = Recording::open(&state, replica)?;
    let entries = args.entries.map_or(recording.len(), |entries| entries.min(recording.len()));
    eprintln!("brolga: replays {entries} entries of replica {replica}: {}", recording.cluster.command_line());
    if args.traced {
        return traced(&recording, entries);
    }
    let begun = Instant::now();
    let options = Options { entries: Some(entries), trace: None, patient: args.gdb };
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

/// Replays twice, told of operations only and then of all calls, and says whether the program did the same; the exit code.
fn traced(recording: &Recording, entries: u64) -> Result<i32, ReplayError> {
    let run = |what| {
        let options = Options { entries: Some(entries), trace: Some((0, what)), patient: false };
        Execution::start(recording, options)?.run(|| false)
    };
    let (plain, traced) = (run(Tracing::Operations)?, run(Tracing::Calls)?);
    let code = tell(recording, &traced);
    let (left, right) = (&plain.trace.operations, &traced.trace.operations);
    let different = first_difference(&plain.digests, &traced.digests).map(|(digest, _)| digest.entry);
    let Some(at) = first(left, right) else {
        let (operations, calls) = (right.len(), traced.trace.calls.len());
        match different {
            None => {
                println!("{operations} operations and {calls} calls were traced: tracing changed nothing")
            }
            Some(entry) => {
                println!(
                    "tracing changed something in entry {entry}, behind the {operations} operations that are kept"
                );
            }
        }
        return Ok(if different.is_none() { code } else { DIFFERENT });
    };
    println!("tracing changed operation {at}:");
    for (label, operation) in [("untraced", left.get(at)), ("traced", right.get(at))] {
        match operation {
            Some(operation) => {
                println!("  {label}: at logical time {}: {}", operation.tick, Operation(operation));
            }
            None => println!("  {label}: none"),
        }
    }
    if let Some(call) = traced.trace.call_of(at) {
        println!("  in {call}");
    }
    Ok(DIFFERENT)
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
