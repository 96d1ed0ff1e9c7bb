//! Histories of single objects, and whether one copy of the object could have given them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::time::Instant;

use todc_utils::linearizability::history::Action;
use todc_utils::{History, WGLChecker};

use super::objects::{Objects, Operation};

/// One operation of a client.
#[derive(Clone, Debug)]
pub struct Record {
    /// The object.
    pub key: u32,
    /// Who asked.
    pub client: usize,
    /// What, and what came back.
    pub operation: Operation,
    /// When it was asked.
    pub begin: Instant,
    /// When the answer came, or the connection was lost.
    pub end: Instant,
}

/// What the search for an order may take. It takes time and memory that grow without bound with the operations that got no
/// answer; a history for which this is not enough stays undecided.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory beside what this process has, bytes.
    pub memory: u64,
    /// Time on a CPU for all histories, seconds.
    pub seconds: u64,
}

/// Enough for histories of a campaign, and what a machine that does something else meanwhile can spare.
pub const USUAL: Limits = Limits { memory: 2 << 30, seconds: 120 };

/// What the search found, when it found nothing wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Objects with a linearizable history.
    pub linearizable: usize,
    /// Objects whose history was too much for the limits.
    pub undecided: usize,
}

/// Whether each object's history is linearizable; if not, the first that is not, as a person can read it.
pub fn check(records: &[Record], limits: Limits) -> Result<Checked, String> {
    let mut objects: BTreeMap<u32, Vec<&Record>> = BTreeMap::new();
    for record in records {
        // Nothing follows from a question that got no answer.
        if record.operation.answer.is_some() || !record.operation.request.only_looks() {
            objects.entry(record.key).or_default().push(record);
        }
    }
    let objects: Vec<_> = objects.into_iter().collect();
    let (mut at, mut checked) = (0, Checked::default());
    while at < objects.len() {
        let answers = search(&objects[at..], limits);
        let fine = answers.iter().take_while(|&&answer| answer == LINEARIZABLE).count();
        checked.linearizable += fine;
        at += fine;
        if answers.get(fine).is_some() {
            let (key, history) = &objects[at];
            return Err(format!("the history of object {key} is not linearizable:\n{}", tell(history)));
        }
        if at < objects.len() {
            let (key, history) = &objects[at];
            let unanswered = history.iter().filter(|record| record.operation.answer.is_none()).count();
            println!("object {key}: undecided, {} operations, {unanswered} without an answer", history.len());
            checked.undecided += 1;
            at += 1;
        }
    }
    Ok(checked)
}

const LINEARIZABLE: u8 = 1;

/// Searches orders in a process of its own, which ends at its limits; a byte for each object that it got done with, in their
/// order, and none after the first that is wrong.
fn search(objects: &[(u32, Vec<&Record>)], limits: Limits) -> Vec<u8> {
    let (mut results, theirs) = std::io::pipe().expect("make a pipe");
    // SAFETY: the child uses nothing that another thread may have held locked but memory, which the C library hands over.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "cannot fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        limits.enforce();
        for (_, history) in objects {
            let fine = WGLChecker::<Objects>::is_linearizable(History::from_actions(actions(history)));
            let told = (&theirs).write_all(&[u8::from(fine)]);
            if !fine || told.is_err() {
                break;
            }
        }
        // SAFETY: no pointers; what the parent has to clean up is left alone.
        unsafe { libc::_exit(0) };
    }
    drop(theirs);
    let mut answers = Vec::new();
    results.read_to_end(&mut answers).expect("read from a pipe");
    // SAFETY: a child of our own that nobody else waits for.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    answers
}

impl Limits {
    /// For the calling process, from now on.
    fn enforce(self) {
        const PAGE_BYTES: u64 = 4096;
        let now = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: u64 = now.split(' ').next().and_then(|pages| pages.parse().ok()).unwrap_or(0);
        let limit = |which, value| {
            let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
            // SAFETY: a valid structure.
            unsafe { libc::setrlimit(which, &raw const limit) };
        };
        limit(libc::RLIMIT_AS, pages * PAGE_BYTES + self.memory);
        limit(libc::RLIMIT_CPU, self.seconds);
        limit(libc::RLIMIT_CORE, 0);
    }
}

/// Calls and responses in their order. Each operation is a process of its own, because a client goes on after an operation
/// that got no answer; such a one may take effect at any later time, so it ends after all others.
fn actions(history: &[&Record]) -> Vec<(usize, Action<Operation>)> {
    let mut moments: Vec<_> = history
        .iter()
        .enumerate()
        .flat_map(|(process, record)| {
            let end = record.operation.answer.is_some().then_some(record.end);
            [(false, Some(record.begin), process), (true, end, process)]
        })
        .collect();
    // Of two at the same moment nobody knows which was first: that both overlap allows more.
    moments.sort_by_key(|&(ends, moment, process)| (moment.is_none(), moment, ends, process));
    let action = |(ends, _, process): (bool, _, usize)| {
        let operation = history[process].operation.clone();
        (process, if ends { Action::Response(operation) } else { Action::Call(operation) })
    };
    moments.into_iter().map(action).collect()
}

fn tell(history: &[&Record]) -> String {
    let mut history = history.to_vec();
    history.sort_by_key(|record| record.begin);
    let first = history[0].begin;
    history.iter().fold(String::new(), |mut text, record| {
        let (from, to) = (record.begin - first, record.end - first);
        let Operation { request, answer } = &record.operation;
        let answer = answer.as_ref().map_or("no answer".to_owned(), |answer| format!("{answer:?}"));
        let _ = writeln!(text, "  client {} {from:.6?} to {to:.6?}: {request:?} -> {answer}", record.client);
        text
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::objects::{Answer, Operation, Request};
    use super::{Checked, Limits, Record, USUAL};

    fn check(records: &[Record]) -> Result<usize, String> {
        let checked = super::check(records, USUAL)?;
        assert_eq!(checked.undecided, 0);
        Ok(checked.linearizable)
    }

    /// Operations with begin and end in milliseconds.
    fn history(operations: &[(u64, u64, Request, Option<Answer>)]) -> Vec<Record> {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let record =
            |(client, (begin, end, request, answer)): (usize, &(u64, u64, Request, Option<Answer>))| {
                let operation = Operation { request: request.clone(), answer: answer.clone() };
                Record { key: 0, client, operation, begin: at(*begin), end: at(*end) }
            };
        operations.iter().enumerate().map(record).collect()
    }

    #[test]
    fn a_stale_read_is_found() {
        let write = (0, 10, Request::Write(1), Some(Answer::Done));
        let early = (5, 8, Request::Read, Some(Answer::Value(None)));
        let late = (11, 12, Request::Read, Some(Answer::Value(None)));
        assert_eq!(check(&history(&[write.clone(), early])), Ok(1));
        assert!(check(&history(&[write, late])).is_err());
    }

    #[test]
    fn two_readers_agree_on_the_order_of_writes() {
        let value = |value| Some(Answer::Value(Some(value)));
        let mut all = vec![
            (0, 9, Request::Write(1), Some(Answer::Done)),
            (0, 9, Request::Write(2), Some(Answer::Done)),
            (10, 11, Request::Read, value(1)),
            (12, 13, Request::Read, value(1)),
        ];
        assert_eq!(check(&history(&all)), Ok(1));
        all[3].3 = value(2);
        assert!(check(&history(&all)).is_err());
    }

    #[test]
    fn an_acknowledged_addition_may_neither_vanish_nor_happen_twice() {
        let add = (0, 1, Request::Add(5), Some(Answer::Number(5)));
        let count = |number| (2, 3, Request::Count, Some(Answer::Number(number)));
        assert_eq!(check(&history(&[add.clone(), count(5)])), Ok(1));
        assert!(check(&history(&[add.clone(), count(0)])).is_err());
        assert!(check(&history(&[add, count(10)])).is_err());
    }

    #[test]
    fn what_got_no_answer_may_have_happened_or_not_but_not_both() {
        let lost = (0, 1, Request::Append(7), None);
        let list = |at, values: &[u32]| (at, at + 1, Request::List, Some(Answer::Values(values.to_vec())));
        assert_eq!(check(&history(&[lost.clone(), list(2, &[])])), Ok(1));
        assert_eq!(check(&history(&[lost.clone(), list(2, &[]), list(4, &[7])])), Ok(1), "it may come late");
        assert!(check(&history(&[lost.clone(), list(2, &[7]), list(4, &[])])).is_err());
        assert!(check(&history(&[lost, list(2, &[7, 7])])).is_err());
    }

    #[test]
    fn money_neither_comes_from_nowhere_nor_goes_there() {
        let transfer = Request::Transfer { from: 0, to: 1, amount: 60 };
        let done = |at, decided| (at, at + 1, transfer.clone(), Some(Answer::Decided(decided)));
        let audit = |balances: [i64; 4]| (6, 7, Request::Audit, Some(Answer::Balances(balances.to_vec())));
        let twice = [done(0, true), done(2, false)];
        assert_eq!(check(&history(&[twice.to_vec(), vec![audit([40, 160, 100, 100])]].concat())), Ok(1));
        assert!(check(&history(&[twice.to_vec(), vec![audit([40, 100, 100, 100])]].concat())).is_err());
        assert!(check(&history(&[done(0, true), done(2, true)])).is_err(), "only 40 were left");
    }

    #[test]
    fn a_search_that_would_take_all_memory_is_given_up_and_the_next_object_is_looked_at() {
        let mut records =
            history(&(0..60).map(|value| (0, 1, Request::Add(1 << (value % 40)), None)).collect::<Vec<_>>());
        records.extend(history(&[(2, 3, Request::Count, Some(Answer::Number(-1)))]));
        let mut other = history(&[(0, 1, Request::Count, Some(Answer::Number(0)))]);
        other[0].key = 1;
        records.extend(other);
        let checked = super::check(&records, Limits { memory: 64 << 20, seconds: 2 });
        assert_eq!(checked, Ok(Checked { linearizable: 1, undecided: 1 }));
    }
}
