//! What clients asked and were told, and whether one append list can have said it.

use super::check::{Violation, rule};
use super::toy::extend_hash;

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Simulated time at which the client had it.
    pub at: u64,
    /// Length of the list after the operation.
    pub version: u64,
    /// Hash of the list after the operation.
    pub hash: u64,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Unique id, from 1; its place in the history.
    pub id: u64,
    /// It appends; otherwise it reads.
    pub appends: bool,
    /// Simulated time at which the client began to send it.
    pub invoked: u64,
    /// The answer; `None` if the client never got one.
    pub answer: Option<Answer>,
}

/// All requests of all clients.
#[derive(Debug, Default)]
pub struct History {
    /// In order of invocation.
    pub operations: Vec<Operation>,
}

impl History {
    /// Adds a request and returns its id.
    pub fn invoke(&mut self, appends: bool, now: u64) -> u64 {
        let id = self.operations.len() as u64 + 1;
        self.operations.push(Operation { id, appends, invoked: now, answer: None });
        id
    }

    /// A reply came.
    pub fn answer(&mut self, id: u64, answer: Answer) -> Result<(), Violation> {
        let Some(operation) = id.checked_sub(1).and_then(|at| self.operations.get_mut(at as usize)) else {
            return wrong(format!("a reply to request {id}, which nobody made"));
        };
        if operation.answer.replace(answer).is_some() {
            return wrong(format!("request {id} was answered twice"));
        }
        Ok(())
    }

    /// Requests that were answered.
    pub fn answered(&self) -> usize {
        self.operations.iter().filter(|operation| operation.answer.is_some()).count()
    }

    /// Checks every answer against the list that the servers ended up with.
    ///
    /// Each operation happened at a version of the list: an append made it, a read saw it. So the history is linearizable
    /// if the versions exist, have the right contents, and never contradict real time.
    pub fn check(&self, list: &[u64]) -> Result<(), Violation> {
        let mut hashes = vec![0];
        let mut seen = vec![false; self.operations.len() + 1];
        for &id in list {
            hashes.push(extend_hash(hashes[hashes.len() - 1], id));
            let known = id.checked_sub(1).and_then(|at| self.operations.get(at as usize));
            if !known.is_some_and(|operation| operation.appends) {
                return wrong(format!("the list has {id}, which nobody appended"));
            }
            if std::mem::replace(&mut seen[id as usize], true) {
                return wrong(format!("{id} was appended twice"));
            }
        }
        for operation in &self.operations {
            let Some(answer) = operation.answer else { continue };
            let Some(hash) = hashes.get(answer.version as usize) else {
                return wrong(format!("request {} was answered, but its effect is lost", operation.id));
            };
            if *hash != answer.hash {
                return wrong(format!(
                    "request {} saw another list than the final one's beginning",
                    operation.id
                ));
            }
            if operation.appends && (answer.version == 0 || list[answer.version as usize - 1] != operation.id)
            {
                return wrong(format!("append {} is not where its answer says", operation.id));
            }
        }
        self.check_real_time(list)
    }

    /// No operation may come after, in the list, one that began after it had ended.
    fn check_real_time(&self, list: &[u64]) -> Result<(), Violation> {
        let mut ends: Vec<(u64, u64, u64)> =
            self.operations.iter().filter_map(|o| o.answer.map(|a| (a.at, a.version, o.id))).collect();
        ends.sort_unstable();
        let mut starts: Vec<(u64, u64, bool, u64)> = Vec::new();
        for operation in &self.operations {
            let place = |id| list.iter().position(|&other| other == id).map(|at| at as u64 + 1);
            // An append that was never answered may still have happened.
            let version = operation.answer.map(|a| a.version).or_else(|| place(operation.id));
            if let Some(version) = version {
                starts.push((operation.invoked, version, operation.appends, operation.id));
            }
        }
        starts.sort_unstable();
        let (mut done, mut highest, mut by) = (0, 0, 0);
        for (invoked, version, appends, id) in starts {
            while done < ends.len() && ends[done].0 < invoked {
                if ends[done].1 > highest {
                    (highest, by) = (ends[done].1, ends[done].2);
                }
                done += 1;
            }
            if version < highest + u64::from(appends) {
                return wrong(format!(
                    "request {id} happened at version {version}, but {by} had seen version {highest} before it began"
                ));
            }
        }
        Ok(())
    }
}

fn wrong<T>(detail: String) -> Result<T, Violation> {
    Err(Violation { rule: rule::LINEARIZABLE, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends 1, 2, a read and an append 4, each after the other.
    fn history() -> (History, Vec<u64>) {
        let mut history = History::default();
        let (mut hash, mut version) = (0, 0);
        for (at, appends) in [(0, true), (10, true), (20, false), (30, true)] {
            let id = history.invoke(appends, at);
            if appends {
                hash = extend_hash(hash, id);
                version += 1;
            }
            history.answer(id, Answer { at: at + 5, version, hash }).unwrap();
        }
        (history, vec![1, 2, 4])
    }

    #[test]
    fn a_serial_history_passes() {
        let (history, list) = history();
        assert_eq!(history.check(&list), Ok(()));
    }

    #[test]
    fn lost_doubled_and_moved_appends_are_found() {
        let (history, _) = history();
        for list in [vec![1, 2], vec![1, 2, 4, 4], vec![2, 1, 4], vec![1, 4], vec![1, 2, 4, 9]] {
            assert!(history.check(&list).is_err(), "{list:?}");
        }
    }

    #[test]
    fn a_stale_read_is_found() {
        let (mut history, list) = history();
        history.operations[2].answer = Some(Answer { at: 25, version: 1, hash: extend_hash(0, 1) });
        assert!(history.check(&list).is_err(), "the read began after append 2 was answered");
        history.operations[2].invoked = 12;
        assert_eq!(history.check(&list), Ok(()), "the read overlaps append 2");
    }

    #[test]
    fn an_unanswered_append_may_or_may_not_have_happened() {
        let (mut history, list) = history();
        history.operations[3].answer = None;
        assert_eq!(history.check(&list), Ok(()));
        assert_eq!(history.check(&list[..2]), Ok(()));
    }

    #[test]
    fn a_second_answer_is_found() {
        let (mut history, _) = history();
        let again = history.operations[0].answer.unwrap();
        assert!(history.answer(1, again).is_err());
    }
}
