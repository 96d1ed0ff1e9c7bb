//! Finds the operation at which two executions part, and gathers what is known about it.
//!
//! Digests tell the entry; then the replays are repeated with tracing on around that entry only.

use super::ReplayError;
use super::dump::Dump;
use super::execution::{End, Execution, Options, Outcome, first_difference};
use super::likely::{Likely, classify};
use super::parting::{align, first, suspects};
use super::recording::Recording;
use super::report::{Explanation, Outside, Side, Step, Suspected, Unexplained};
use super::symbols::Symbols;
use super::trace::Trace;
use dmt::digest::Traced;
use dmt::entry::{Entry, EntryKind};
use dmt::tracing::Tracing;

/// Ticks before the entry from which on a replay is traced: room for the cause, and for what led to it.
const MARGIN_TICKS: u64 = 50_000;
/// Entries after the one that differs which the server needs to come to its end.
const ENTRIES_BEHIND: u64 = 2;
/// Operations of the thread that are told.
const HISTORY: usize = 20;
/// Entries before the one that differs in which a preemption is near.
const NEAR_ENTRIES: u64 = 4;
/// How to call two replays of one log.
pub const REPLAYS: [&str; 2] = ["first replay", "second replay"];
/// Times that an earlier entry is looked at, because two replays part even earlier than the run and its replay did.
const ATTEMPTS: u32 = 3;

/// What a comparison of two executions gives.
#[derive(Debug)]
pub enum Finding {
    /// They part here.
    Parted(Box<Explanation>),
    /// The run and two replays are the same in this entry.
    Same(u64),
    /// Two replays go the same way, and not that of the run.
    OnlyTheRun(Box<Unexplained>),
    /// The operations that were kept begin after the parting.
    TooLate(u64),
}

/// Replays `recording` completely, without tracing.
pub fn replay(recording: &Recording) -> Result<Outcome, ReplayError> {
    Execution::start(recording, Options::default())?.run(|| false)
}

/// Replays two recordings around `entry` and compares them. `labels`: how to call the two.
pub fn compare_replays(
    left: &Recording,
    right: &Recording,
    mut entry: u64,
    labels: [&str; 2],
) -> Result<Finding, ReplayError> {
    for _ in 0..ATTEMPTS {
        let ours = traced(left, entry)?;
        let theirs = traced(right, entry)?;
        let earlier = first_difference(&ours.digests, &theirs.digests).map(|(digest, _)| digest.entry);
        if let Some(earlier) = earlier.filter(|&earlier| earlier < entry) {
            entry = earlier;
            continue;
        }
        let at = first(&ours.trace.operations, &theirs.trace.operations);
        let Some(at) = at else {
            let replayed = ours.digests.iter().find(|digest| digest.entry == entry);
            let same = replayed.is_some() && replayed == left.digest(entry);
            return Ok(if same { Finding::Same(entry) } else { only_the_run(entry, &ours) });
        };
        let mut symbols = Symbols::default();
        let sides = [
            side(labels[0], &ours.trace.operations, at, Some(&ours), at, &mut symbols),
            side(labels[1], &theirs.trace.operations, at, Some(&theirs), at, &mut symbols),
        ];
        let found = suspects(&ours.trace, &theirs.trace, at);
        let callers =
            |outcome: &Outcome| outcome.trace.call_of(at).map(|call| (call.head.pid, call.callers.clone()));
        let instruction = [&ours, &theirs].into_iter().find_map(|outcome| {
            let (pid, callers) = callers(outcome)?;
            symbols.random_instruction(outcome.maps.get(&pid)?, &callers)
        });
        let likely = classify(&found, preempted_near(left, entry)?, instruction);
        let suspected = found.iter().map(|suspect| {
            let call = suspect.call();
            let maps = ours.maps.get(&call.head.pid).map_or(&[][..], Vec::as_slice);
            let text = |call: Option<&super::trace::Call>| call.map(ToString::to_string).unwrap_or_default();
            Suspected {
                tick: call.head.tick,
                thread: call.head.thread,
                labels: labels.map(str::to_owned),
                texts: [text(suspect.left), text(suspect.right)],
                stack: symbols.stack(maps, &call.callers),
            }
        });
        let suspected = suspected.collect();
        return Ok(parted(entry, sides, suspected, likely, &ours, at, &mut symbols));
    }
    Err(ReplayError::Refused(
        "each replay goes another way, and earlier than the one before; try again".to_owned(),
    ))
}

/// What the replay did in the entry is all that there is to tell.
fn only_the_run(entry: u64, outcome: &Outcome) -> Finding {
    let digests = &outcome.digests;
    let begin = digests.iter().rev().find(|digest| digest.entry < entry).map_or(0, |digest| digest.tick);
    let end = match (digests.iter().find(|digest| digest.entry == entry), &outcome.end) {
        (Some(digest), _) => digest.tick,
        (None, End::Diverged { tick, .. }) => *tick,
        (None, _) => u64::MAX,
    };
    let mut symbols = Symbols::default();
    let inside = outcome.trace.calls.iter().filter(|call| (begin..=end).contains(&call.head.tick));
    let outside: Vec<_> = inside.filter(|call| !call.path.is_empty() && call.head.data_digest != 0).collect();
    let outside = outside[outside.len().saturating_sub(HISTORY)..].iter().map(|call| {
        let maps = outcome.maps.get(&call.head.pid).map_or(&[][..], Vec::as_slice);
        let stack = symbols.stack(maps, &call.callers);
        let caller = stack.iter().find(|place| place.is_program()).or(stack.first()).cloned();
        Outside { tick: call.head.tick, thread: call.head.thread, call: call.to_string(), caller }
    });
    Finding::OnlyTheRun(Box::new(Unexplained {
        entry,
        ticks: (begin, end),
        outside: outside.collect(),
        end: outcome.end.clone(),
    }))
}

/// Compares the operations that a replica kept when it diverged with a replay of `recording`.
pub fn compare_dump(recording: &Recording, dump: &Dump, labels: [&str; 2]) -> Result<Finding, ReplayError> {
    let replayed = traced(recording, dump.entry)?;
    let (left, right) = align(&dump.operations, &replayed.trace.operations);
    let common = left.len().min(right.len());
    let Some(at) = first(&left[..common], &right[..common]) else {
        return Ok(only_the_run(dump.entry, &replayed));
    };
    if at == 0 {
        return Ok(Finding::TooLate(dump.entry));
    }
    let behind = replayed.trace.operations.len() - right.len();
    let mut symbols = Symbols::default();
    let mut sides = [
        side(labels[0], left, at, None, at, &mut symbols),
        side(labels[1], right, at, Some(&replayed), behind + at, &mut symbols),
    ];
    let threads = sides.each_ref().map(|side| side.operation.map(|operation| operation.thread));
    if threads[0] == threads[1] {
        sides[0].pid = sides[1].pid;
    }
    let finding = |sides, suspected, likely, symbols: &mut Symbols| {
        parted(dump.entry, sides, suspected, likely, &replayed, behind + at, symbols)
    };
    // Of what the replica was given only operations are kept: what differs there may differ between two replays, too.
    if let Finding::Parted(again) = compare_replays(recording, &recording.again()?, dump.entry, REPLAYS)?
        && again.is_at(&sides)
    {
        return Ok(finding(sides, again.suspected, again.likely, &mut symbols));
    }
    let likely = if preempted_near(recording, dump.entry)? { Likely::Race } else { Likely::Unknown };
    Ok(finding(sides, Vec::new(), likely, &mut symbols))
}

/// A replay up to shortly behind `entry`, traced from shortly before it.
fn traced(recording: &Recording, entry: u64) -> Result<Outcome, ReplayError> {
    let begin =
        entry.checked_sub(1).and_then(|before| recording.digest(before)).map_or(0, |digest| digest.tick);
    let options = Options {
        entries: Some(entry + ENTRIES_BEHIND),
        trace: Some((begin.saturating_sub(MARGIN_TICKS), Tracing::Calls)),
        patient: false,
    };
    Execution::start(recording, options)?.run(|| false)
}

/// What one execution did. `at`: number of the operation in `operations`; `traced_at`: in the trace of `outcome`.
fn side(
    label: &str,
    operations: &[Traced],
    at: usize,
    outcome: Option<&Outcome>,
    traced_at: usize,
    symbols: &mut Symbols,
) -> Side {
    let call = outcome.and_then(|outcome| outcome.trace.call_of(traced_at));
    let stack = match (call, outcome) {
        (Some(call), Some(outcome)) => {
            let maps = outcome.maps.get(&call.head.pid).map_or(&[][..], Vec::as_slice);
            symbols.stack(maps, &call.callers)
        }
        _ => Vec::new(),
    };
    Side {
        label: label.to_owned(),
        operation: operations.get(at).copied(),
        call: call.map(ToString::to_string),
        pid: call.map(|call| call.head.pid),
        end: outcome.map(|outcome| outcome.end.clone()),
        stack,
    }
}

fn parted(
    entry: u64,
    sides: [Side; 2],
    suspected: Vec<Suspected>,
    likely: Likely,
    outcome: &Outcome,
    at: usize,
    symbols: &mut Symbols,
) -> Finding {
    let thread = sides.iter().rev().find_map(|side| side.operation).map_or(0, |operation| operation.thread);
    let history = history(&outcome.trace, at, thread, outcome, symbols);
    Finding::Parted(Box::new(Explanation { entry, thread, sides, suspected, likely, history }))
}

fn history(trace: &Trace, at: usize, thread: u16, outcome: &Outcome, symbols: &mut Symbols) -> Vec<Step> {
    let steps = trace.before(at, thread, HISTORY).into_iter().map(|at| {
        let call = trace.call_of(at);
        let maps = call.and_then(|call| outcome.maps.get(&call.head.pid)).map_or(&[][..], Vec::as_slice);
        let stack = call.map(|call| symbols.stack(maps, &call.callers)).unwrap_or_default();
        Step {
            operation: trace.operations[at],
            call: call.map(ToString::to_string),
            caller: stack.iter().find(|place| place.is_program()).or(stack.first()).cloned(),
        }
    });
    steps.collect()
}

/// Whether a thread was preempted in the entry or shortly before it.
fn preempted_near(recording: &Recording, entry: u64) -> Result<bool, ReplayError> {
    let values = recording.read(entry.saturating_sub(NEAR_ENTRIES), recording.len().min(entry + 2))?;
    Ok(values.iter().filter_map(|value| Entry::parse(value).ok()).any(|e| e.kind() == EntryKind::Preempt))
}
