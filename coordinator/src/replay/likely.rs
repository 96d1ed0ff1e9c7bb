//! What is likely behind a difference, from what the calls before it gave. Pure.

use std::fmt;

use super::parting::Suspect;

/// A class of sources of nondeterminism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Likely {
    /// The contents or attributes of a file, or of `/proc` and `/sys`.
    FileSystem(String),
    /// A clock.
    Time(String),
    /// A call that the kernel answers and that nobody classified as different from replica to replica.
    Call(String),
    /// A thread was preempted nearby.
    Race,
    /// The code around the call makes its own randomness.
    Instruction {
        /// Its name.
        name: &'static str,
        /// The function that has it.
        function: String,
    },
    /// No call gave anything else.
    Silent,
    /// Nothing is known of one of the two but its operations.
    Unknown,
}

/// The class of the most telling suspect; `preempted`: the log says that a thread was preempted just before; `instruction`:
/// what the functions around the call contain.
pub fn classify(
    suspects: &[Suspect<'_>],
    preempted: bool,
    instruction: Option<(&'static str, String)>,
) -> Likely {
    let telling = suspects.iter().find(|suspect| suspect.weight() > 2);
    if let Some(suspect) = telling {
        return of_call(suspect);
    }
    if let Some((name, function)) = instruction {
        return Likely::Instruction { name, function };
    }
    if preempted {
        return Likely::Race;
    }
    match suspects.iter().find(|suspect| suspect.weight() == 2) {
        Some(suspect) => of_call(suspect),
        None => Likely::Silent,
    }
}

fn of_call(suspect: &Suspect<'_>) -> Likely {
    let call = suspect.call();
    let what =
        if call.path.is_empty() { call.name.clone() } else { format!("{} on {}", call.name, call.path) };
    let clock = ["clock", "time", "times", "getrusage"].iter().any(|word| call.name.contains(word));
    if !call.path.is_empty() {
        Likely::FileSystem(what)
    } else if clock {
        Likely::Time(what)
    } else {
        Likely::Call(what)
    }
}

impl fmt::Display for Likely {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileSystem(what) => write!(
                f,
                "file-system input: {what} gave something else. The replicas need the same files; what /proc and /sys tell \
                 of the machine, and what other programs change, is not the same"
            ),
            Self::Time(what) => write!(f, "time: {what} gave something else; please report it, Brolga should answer it"),
            Self::Call(what) => write!(
                f,
                "unclassified call: {what} gave something else; please report it, Brolga should answer it itself"
            ),
            Self::Race => f.write_str(
                "a race: a thread was preempted shortly before, and what it did not protect by a lock may then be seen in \
                 between (`--spin-limit` makes preemptions rarer)",
            ),
            Self::Instruction { name, function } => {
                write!(f, "an instruction: {function}() contains {name}, which gives each replica something else")
            }
            Self::Silent => f.write_str(
                "no call gave anything else: an instruction (RDRAND, RDSEED, CPUID), a file that is mapped into memory, \
                 memory that is shared with a process outside, or a fault of Brolga's",
            ),
            Self::Unknown => f.write_str("unknown: of one of the two executions only its operations were kept"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Likely, classify};
    use crate::replay::parting::Suspect;
    use crate::replay::trace::Call;
    use dmt::tracing::CallHead;

    fn call(name: &str, path: &str) -> Call {
        let (sample, callers) = (Vec::new(), Vec::new());
        let head = CallHead::default();
        Call { head, operations: 0, name: name.to_owned(), path: path.to_owned(), sample, callers }
    }

    #[test]
    fn the_most_telling_call_names_the_class() {
        let (read, stat, clock) = (call("read", "/proc/loadavg"), call("fstat", "/x"), call("times", ""));
        let both = |call| Suspect { left: Some(call), right: Some(call), last: false };
        let of = |suspects: &[_], preempted| classify(suspects, preempted, None);
        let file = Likely::FileSystem("read on /proc/loadavg".to_owned());
        assert_eq!(of(&[both(&read), both(&stat)], true), file);
        assert_eq!(of(&[both(&clock)], false), Likely::Time("times".to_owned()));
        assert_eq!(of(&[both(&stat)], true), Likely::Race, "attributes always differ");
        assert_eq!(of(&[both(&stat)], false), Likely::FileSystem("fstat on /x".to_owned()));
        let last = Suspect { last: true, ..both(&stat) };
        assert_eq!(of(&[last], true), Likely::FileSystem("fstat on /x".to_owned()), "but not the last thing");
        assert_eq!(of(&[], false), Likely::Silent);
        let rdrand = Some(("RDRAND", "token".to_owned()));
        assert!(matches!(classify(&[both(&stat)], false, rdrand), Likely::Instruction { .. }));
    }
}
