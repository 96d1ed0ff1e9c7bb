//! Where two executions part. Pure.

use dmt::digest::Traced;

use super::trace::{Call, Trace};

/// Calls that gave something else and are told, at the most.
const MAX_SUSPECTS: usize = 5;

/// Number of the first operation that differs, in both lists; `None` if one is the beginning of the other.
pub fn first(left: &[Traced], right: &[Traced]) -> Option<usize> {
    let common = left.iter().zip(right).position(|(left, right)| left != right);
    common.or_else(|| (left.len() != right.len()).then_some(left.len().min(right.len())))
}

/// Puts two lists that begin at different places beside each other: from the first tick on that both have from its start.
pub fn align<'a>(left: &'a [Traced], right: &'a [Traced]) -> (&'a [Traced], &'a [Traced]) {
    let Some(begin) = left.first().zip(right.first()).map(|(l, r)| l.tick.max(r.tick)) else {
        return (&[], &[]);
    };
    let from = |list: &'a [Traced]| &list[list.partition_point(|operation| operation.tick <= begin)..];
    (from(left), from(right))
}

/// A call before the parting that gave one execution something else than the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect<'a> {
    /// What the first execution did.
    pub left: Option<&'a Call>,
    /// What the second one did.
    pub right: Option<&'a Call>,
    /// The thread that parts made it after its last common operation.
    pub last: bool,
}

impl<'a> Suspect<'a> {
    /// The one that is there.
    pub fn call(&self) -> &'a Call {
        self.left.or(self.right).expect("a suspect is a call of one execution at least")
    }

    /// How much it tells: what the thread was given last before all else, then contents of files before answers of the
    /// kernel before attributes of files, which differ between any two replicas and matter to few programs.
    pub fn weight(&self) -> u32 {
        match self.call().name.as_str() {
            _ if self.last => 5,
            _ if self.left.is_none() || self.right.is_none() => 1,
            name if name.contains("stat") => 2,
            name if name.contains("getdents") => 3,
            _ => 4,
        }
    }
}

/// The calls before operation `parting` that differ in what they gave, the most telling and then the latest first.
pub fn suspects<'a>(left: &'a Trace, right: &'a Trace, parting: usize) -> Vec<Suspect<'a>> {
    let mut found = Vec::new();
    let parts =
        left.operations.get(parting).or(right.operations.get(parting)).map(|operation| operation.thread);
    let last_tick =
        parts.and_then(|thread| left.before(parting, thread, 1).first().map(|&at| left.operations[at].tick));
    let threads: std::collections::BTreeSet<u16> = left.calls.iter().map(|call| call.head.thread).collect();
    for thread in threads {
        let of = |trace: &'a Trace| {
            let own = move |call: &&Call| call.head.thread == thread && call.operations <= parting;
            trace.calls.iter().filter(own)
        };
        for (ours, theirs) in of(left).zip(of(right)) {
            if (&ours.name, ours.head.tick) != (&theirs.name, theirs.head.tick) {
                // From here on the two do not correspond any more.
                found.push(Suspect { left: Some(ours), right: Some(theirs), last: false });
                break;
            }
            if !ours.same_outcome(theirs) {
                let last = parts == Some(thread) && last_tick.is_some_and(|tick| ours.head.tick >= tick);
                found.push(Suspect { left: Some(ours), right: Some(theirs), last });
            }
        }
    }
    found.sort_by_key(|suspect| std::cmp::Reverse((suspect.weight(), suspect.call().head.tick)));
    found.truncate(MAX_SUSPECTS);
    found
}

#[cfg(test)]
mod tests {
    use super::{align, first, suspects};
    use crate::replay::trace::{Call, Trace};
    use dmt::digest::Traced;
    use dmt::tracing::CallHead;

    fn operation(tick: u64, result: i64) -> Traced {
        Traced { tick, object: 1, result, thread: 1, op: 105, digest: result as u32 }
    }

    #[test]
    fn the_first_difference_is_found_also_behind_the_end_of_one() {
        let list: Vec<_> = (1..9).map(|tick| operation(tick, 0)).collect();
        assert_eq!(first(&list, &list), None);
        assert_eq!(first(&list, &list[..5]), Some(5));
        let mut other = list.clone();
        other[3] = operation(4, 1);
        assert_eq!(first(&list, &other), Some(3));
    }

    #[test]
    fn lists_that_begin_elsewhere_are_put_beside_each_other() {
        let list: Vec<_> = (1..9).map(|tick| operation(tick, 0)).collect();
        let (left, right) = align(&list, &list[4..]);
        assert_eq!(left, right);
        assert_eq!(left.first().map(|operation| operation.tick), Some(6));
        assert_eq!(align(&list, &[]), (&[][..], &[][..]));
    }

    fn call(name: &str, tick: u64, data_digest: u64) -> Call {
        let head = CallHead { tick, data_digest, thread: 1, ..CallHead::default() };
        let (path, sample, callers) = (String::new(), Vec::new(), Vec::new());
        Call { head, operations: tick as usize, name: name.to_owned(), path, sample, callers }
    }

    #[test]
    fn contents_are_suspected_before_attributes() {
        let trace = |content, attributes| Trace {
            calls: vec![call("read", 1, content), call("fstat", 2, attributes), call("close", 3, 0)],
            ..Trace::default()
        };
        let (left, right) = (trace(1, 1), trace(2, 2));
        let names: Vec<_> = suspects(&left, &right, 9).iter().map(|s| s.call().name.clone()).collect();
        assert_eq!(names, ["read", "fstat"]);
        let mut last = [trace(1, 1), trace(2, 2)];
        last.iter_mut().for_each(|trace| trace.operations = vec![operation(2, 0)]);
        let names: Vec<_> = suspects(&last[0], &last[1], 1).iter().map(|s| s.call().name.clone()).collect();
        assert_eq!(names, ["read"], "a call behind the parting is no cause");
        assert!(suspects(&left, &left, 9).is_empty());
        assert!(suspects(&left, &right, 0).is_empty(), "what comes later is no cause");
    }
}
