//! An explanation as text for people.

use std::fmt;

use dmt::digest::Traced;
use dmt::op::Op;

use super::execution::End;
use super::likely::Likely;
use super::symbols::Place;

/// Frames of a stack that are shown.
const SHOWN_FRAMES: usize = 8;

/// What one execution did at the parting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// How to call it.
    pub label: String,
    /// The operation; `None` if it came to none.
    pub operation: Option<Traced>,
    /// The call, if it was traced.
    pub call: Option<String>,
    /// Process id in the container, if it is known.
    pub pid: Option<i32>,
    /// How the execution ended, if it was traced.
    pub end: Option<End>,
    /// Who called, the innermost first.
    pub stack: Vec<Place>,
}

/// An operation before the parting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The operation.
    pub operation: Traced,
    /// The call in which it was done.
    pub call: Option<String>,
    /// The innermost caller in the program.
    pub caller: Option<Place>,
}

/// A call before the parting that gave each execution something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspected {
    /// Logical time.
    pub tick: u64,
    /// Who.
    pub thread: u16,
    /// How to call the two executions.
    pub labels: [String; 2],
    /// What each of the two did.
    pub texts: [String; 2],
    /// Who called, the innermost first.
    pub stack: Vec<Place>,
}

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Entry in whose bubble it is.
    pub entry: u64,
    /// The thread.
    pub thread: u16,
    /// The two executions.
    pub sides: [Side; 2],
    /// What may have been the cause.
    pub suspected: Vec<Suspected>,
    /// The class of the cause.
    pub likely: Likely,
    /// The last operations of the thread, which both did.
    pub history: Vec<Step>,
}

impl Explanation {
    /// Whether one of `sides` differs in the same operation as one of these.
    pub fn is_at(&self, sides: &[Side; 2]) -> bool {
        let places = |sides: &[Side; 2]| {
            sides.each_ref().map(|side| side.operation.map(|operation| (operation.tick, operation.thread)))
        };
        let ours = places(&self.sides);
        places(sides).into_iter().flatten().any(|place| ours.contains(&Some(place)))
    }
}

/// A call whose answer comes from outside the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Logical time.
    pub tick: u64,
    /// Who.
    pub thread: u16,
    /// The call.
    pub call: String,
    /// The innermost caller in the program.
    pub caller: Option<Place>,
}

/// Two replays agree with each other and not with the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexplained {
    /// The entry in whose bubble the run went another way.
    pub entry: u64,
    /// Logical times of its beginning and end.
    pub ticks: (u64, u64),
    /// Calls in it whose answer comes from files.
    pub outside: Vec<Outside>,
    /// How the replay ended.
    pub end: End,
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry, ticks: (begin, end), outside, end: how } = self;
        writeln!(
            f,
            "two executions go the same way in entry {entry}, logical time {begin} to {end}, and the run went another one: a \
             file or directory has changed since then, or the difference comes seldom (try again, or `brolga verify --replays N`)"
        )?;
        if let End::Exited(status) = how {
            writeln!(f, "in the replays the server ended: {status}")?;
        }
        match outside.len() {
            0 => writeln!(f, "no call in it looked at a file")?,
            _ => writeln!(f, "calls in it that looked at files, as the replay made them:")?,
        }
        for call in outside {
            write!(f, "  {:>10}  thread {}  {}", call.tick, call.thread, call.call)?;
            if let Some(caller) = &call.caller {
                write!(f, "  by {caller}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Objects below this are numbers.
const LOWEST_ADDRESS: u64 = 1 << 16;

/// An operation, for people.
#[derive(Debug)]
pub struct Operation<'a>(pub &'a Traced);

impl fmt::Display for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Traced { op, object, result, digest, .. } = self.0;
        write!(f, "{} of {object:#x}: {result} [{digest:08x}]", Op::name(*op))
    }
}

fn write_stack(f: &mut fmt::Formatter<'_>, indent: &str, stack: &[Place]) -> fmt::Result {
    // Frames of the C library above the program's say nothing, but for the name of the call.
    let own = stack.iter().filter(|place| place.is_program());
    for (at, place) in own.take(SHOWN_FRAMES).enumerate() {
        writeln!(f, "{indent}{} {place}", if at == 0 { "called by" } else { "     from" })?;
    }
    Ok(())
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(operation) = &self.operation else {
            let how = match &self.end {
                Some(End::Exited(status)) => format!("had ended ({status})"),
                Some(End::Diverged { reason, .. }) => format!("could not go on: {reason}"),
                _ => "did nothing more in this entry".to_owned(),
            };
            return writeln!(f, "  {}: {how}", self.label);
        };
        let process = self.pid.map(|pid| format!("process {pid}, ")).unwrap_or_default();
        writeln!(
            f,
            "  {}: at logical time {}, {process}thread {}: {}",
            self.label,
            operation.tick,
            operation.thread,
            Operation(operation)
        )?;
        if let Some(call) = &self.call {
            writeln!(f, "      in {call}")?;
        }
        write_stack(f, "      ", &self.stack)
    }
}

/// How far the objects of two operations lie apart, if nothing else differs.
fn elsewhere(left: &Traced, right: &Traced) -> Option<u64> {
    let same = Traced { digest: 0, object: 0, ..*left } == Traced { digest: 0, object: 0, ..*right };
    let are_addresses = left.object.min(right.object) >= LOWEST_ADDRESS;
    (same && are_addresses && left.object != right.object).then_some(left.object.abs_diff(right.object))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the first operation that differs, in the bubble of entry {}:", self.entry)?;
        write!(f, "{}{}", self.sides[0], self.sides[1])?;
        if let [Some(left), Some(right)] = [self.sides[0].operation, self.sides[1].operation]
            && (Traced { digest: 0, ..left }) == (Traced { digest: 0, ..right })
        {
            writeln!(f, "  the same operation with other bytes, as the digests in brackets say")?;
        }
        if let [Some(left), Some(right)] = [self.sides[0].operation, self.sides[1].operation]
            && let Some(bytes) = elsewhere(&left, &right)
        {
            writeln!(
                f,
                "  the same operation {bytes} bytes elsewhere in memory: something before it gave out memory differently, as a \
                 file would that was read and has another content now"
            )?;
        }
        if !self.suspected.is_empty() {
            writeln!(f, "calls before it that gave something else:")?;
        }
        for suspected in &self.suspected {
            writeln!(f, "  at logical time {}, thread {}", suspected.tick, suspected.thread)?;
            for (label, text) in suspected.labels.iter().zip(&suspected.texts) {
                writeln!(f, "    {label}: {text}")?;
            }
            write_stack(f, "      ", &suspected.stack)?;
        }
        writeln!(f, "likely {}", self.likely)?;
        if !self.history.is_empty() {
            writeln!(f, "the last {} operations of thread {} before it:", self.history.len(), self.thread)?;
        }
        for step in &self.history {
            write!(f, "  {:>10}  {}", step.operation.tick, Operation(&step.operation))?;
            if let Some(call) = &step.call {
                write!(f, "  in {call}")?;
            }
            if let Some(caller) = &step.caller {
                write!(f, "  by {caller}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
