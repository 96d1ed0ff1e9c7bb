//! The invariants, each a named checker that sees everything that happens in all replicas at once.
//!
//! The checkers know nothing of the code under test but entry headers: what is decided, what is durable and what a client
//! saw is collected here, independently of what the replicas believe.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use coordinator::paxos::Members;
use dmt::entry::{Entry, EntryHeader, EntryKind, EventKind, OUTBOUND_CONNECTION, STAMP_AUTO};
use zerocopy::FromBytes;

use super::platform::Admission;
use super::quorums::Quorums;

/// A bubble ends where an operation would begin after its last tick; until then the turn may be handed over, a tick each,
/// once to each thread.
const HAND_OVERS: u64 = 8;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The checker's name.
    pub rule: &'static str,
    /// What happened.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

/// Names of the checkers.
pub mod rule {
    /// An entry is stamped where the bubble before it ends.
    pub const I1_STAMPS: &str = "I1 stamps";
    /// A replica is inside the bubble of the last entry that it applied.
    pub const I2_INSIDE: &str = "I2 inside its bubble";
    /// Output is released only if its entry is committed and on a majority, and no later leader cuts its bubble.
    pub const I3_OUTPUT: &str = "I3 output commit";
    /// A server that applied an entry that was not decided is discarded.
    pub const I4_REBUILD: &str = "I4 rebuild";
    /// Each event of a connection is in the log once, in order.
    pub const I5_EXACTLY_ONCE: &str = "I5 exactly once";
    /// All replicas decide the same log.
    pub const AGREEMENT: &str = "prefix agreement";
    /// All servers that applied the same entries did the same.
    pub const DIGESTS: &str = "equal digests";
    /// What clients saw is what one server without failures could have answered.
    pub const LINEARIZABLE: &str = "linearizability";
    /// After the faults are over, everything goes on.
    pub const LIVENESS: &str = "liveness";
    /// A log could not be opened again after a crash.
    pub const RECOVERY: &str = "log recovery";
    /// Configurations follow each other by one voter at a time, and who was removed leads no more.
    pub const MEMBERS: &str = "members";
    /// A log is cut only where a majority has checkpoints.
    pub const CHECKPOINTS: &str = "checkpoints";
    /// A server stopped because it found itself wrong.
    pub const DIVERGED: &str = "server divergence";
}

/// What one server did at the end of a bubble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerDigest {
    /// Entry whose bubble ended.
    pub entry: u64,
    /// Logical time.
    pub tick: u64,
    /// The digest.
    pub value: u64,
}

/// The header of an entry's bytes.
pub fn header(value: &[u8]) -> &EntryHeader {
    EntryHeader::ref_from_prefix(value).expect("an entry has a header").0
}

/// Under crane an entry is applied where the bubble before it ends, wherever that is. That of a spin point, which grants
/// nothing, has a stamp all the same: where its loop is stopped.
fn is_of_crane(head: &EntryHeader) -> bool {
    head.stamp.get() == STAMP_AUTO || head.grant.get() == 0
}

/// See the module.
pub struct Checker {
    /// Who has what, and who counts.
    pub quorums: Quorums,
    /// The decided log.
    pub decided: Vec<Arc<[u8]>>,
    digests: BTreeMap<u64, (u8, ServerDigest)>,
    sequences: BTreeMap<u64, u64>,
    /// Highest virtual clock, to see that it never runs back.
    clock: u64,
    violation: Option<Violation>,
    /// Outputs checked.
    pub outputs: u64,
    /// Digests compared with another replica's.
    pub compared: u64,
    /// Preemptions decided.
    pub preemptions: u64,
    /// Closings decided.
    pub closings: u64,
}

impl Checker {
    /// For a cluster of `replicas`.
    pub fn new(replicas: usize) -> Self {
        Self {
            quorums: Quorums::new(replicas),
            decided: Vec::new(),
            digests: BTreeMap::new(),
            sequences: BTreeMap::new(),
            clock: 0,
            violation: None,
            outputs: 0,
            compared: 0,
            preemptions: 0,
            closings: 0,
        }
    }

    /// Notes a broken rule; the first one counts.
    pub fn fail(&mut self, rule: &'static str, detail: String) {
        self.violation.get_or_insert(Violation { rule, detail });
    }

    /// The first rule that was broken.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Replica `id` says that `value` is decided at `index`.
    pub fn decided(&mut self, id: u8, index: u64, value: &Arc<[u8]>) {
        match self.decided.get(index as usize) {
            Some(known) if known == value => {}
            Some(_) => self.fail(
                rule::AGREEMENT,
                format!("replica {id} decided another value at {index} than was decided before"),
            ),
            None if index as usize == self.decided.len() => {
                if !self.is_on_majority(index, value) {
                    self.fail(
                        rule::AGREEMENT,
                        format!(
                            "replica {id} took entry {index} as decided before a majority had it durably"
                        ),
                    );
                }
                self.check_entry(index, value);
                if let Err(detail) = self.quorums.decided(value) {
                    self.fail(rule::MEMBERS, format!("entry {index}: {detail}"));
                }
                self.decided.push(value.clone());
            }
            None => self.fail(
                rule::AGREEMENT,
                format!("replica {id} decided entry {index}, but entry {} is not", self.decided.len()),
            ),
        }
    }

    fn check_entry(&mut self, index: u64, value: &[u8]) {
        let entry = match Entry::parse(value) {
            Ok(entry) => entry,
            Err(error) => {
                return self.fail(rule::AGREEMENT, format!("entry {index} is malformed: {error:?}"));
            }
        };
        let head = entry.header;
        if head.index.get() != index {
            self.fail(rule::AGREEMENT, format!("entry {index} says that it is entry {}", head.index.get()));
        }
        // Under crane the entry has the clock of the coordinator's machine, and the server keeps the later one.
        if !is_of_crane(head) && head.clock.get() < self.clock {
            self.fail(rule::I1_STAMPS, format!("the virtual clock runs back at entry {index}"));
        }
        self.clock = head.clock.get();
        match entry.kind() {
            EntryKind::Preempt => self.preemptions += 1,
            EntryKind::Close => self.closings += 1,
            _ => {}
        }
        if let Some(before) = self.decided.last().cloned() {
            self.check_successor(header(&before), head, entry.kind());
        }
        self.check_sequences(index, &entry);
    }

    /// I1 as far as two headers show it, and the second half of I3.
    fn check_successor(&mut self, before: &EntryHeader, after: &EntryHeader, kind: EntryKind) {
        if is_of_crane(after) || is_of_crane(before) {
            return;
        }
        let (start, end) = (before.stamp.get(), before.stamp.get() + before.grant.get());
        let index = after.index.get();
        if !(start..=end + HAND_OVERS).contains(&after.stamp.get()) {
            let stamp = after.stamp.get();
            self.fail(
                rule::I1_STAMPS,
                format!("entry {index} at tick {stamp} is outside the bubble {start}..={end} before it"),
            );
        }
        if kind == EntryKind::Close && before.ballot != after.ballot {
            self.fail(
                rule::I3_OUTPUT,
                format!(
                    "entry {index} cuts a bubble that another leader opened: its output may be out already"
                ),
            );
        }
    }

    /// I5.
    fn check_sequences(&mut self, index: u64, entry: &Entry<'_>) {
        for event in entry.events().filter(|event| {
            !matches!(event.kind, EventKind::Preempt | EventKind::SpinPoint | EventKind::Members)
        }) {
            let (connection, sequence) = (event.header.connection.get(), event.header.sequence.get());
            if event.kind == EventKind::Outbound {
                // Connections outside end with the leadership that made them: no event of one may follow.
                let outbound = self.sequences.iter_mut().filter(|(id, _)| **id & OUTBOUND_CONNECTION != 0);
                outbound.for_each(|(_, next)| *next = u64::MAX);
                continue;
            }
            let next = self.sequences.entry(connection).or_insert(0);
            let fits = match event.kind {
                EventKind::Connect | EventKind::Connected | EventKind::Refused => sequence == 0 && *next == 0,
                // Some may be lost, with a server that had not admitted them.
                EventKind::Datagram => sequence >= *next,
                // The leader of before may have proposed events that were lost with it, never more than once.
                _ => sequence == *next && *next > 0,
            };
            let wanted = *next;
            *next = if *next == u64::MAX { *next } else { sequence + 1 };
            if !fits {
                self.fail(
                    rule::I5_EXACTLY_ONCE,
                    format!(
                        "entry {index} has event {sequence} ({:?}) of connection {connection:#x}, expected {wanted}",
                        event.kind
                    ),
                );
            }
        }
    }

    fn is_on_majority(&self, index: u64, value: &Arc<[u8]>) -> bool {
        self.quorums.is_on_majority(&self.decided, index, value)
    }

    /// Replica `id` leads, or is about to, and knows of no configuration that is decided and later than this one.
    pub fn leads(&mut self, id: u8, known: &Members) {
        if id <= known.highest && !known.has(id) {
            self.fail(
                rule::MEMBERS,
                format!("replica {id} leads, and knows that it was removed by epoch {}", known.epoch),
            );
        }
    }

    /// I3: replica `id` hands output to a client that its server produced in the bubble of entry `tag`, which it applied
    /// as `value`.
    pub fn released(&mut self, id: u8, tag: u64, value: Option<&Arc<[u8]>>) {
        self.outputs += 1;
        let Some(value) = value else {
            return self
                .fail(rule::I3_OUTPUT, format!("replica {id} released output of an unknown entry {tag}"));
        };
        if !self.is_on_majority(tag, value) {
            let why = match self.decided.get(tag as usize) {
                Some(decided) if decided != value => "another entry was decided",
                Some(_) => "its majority lost it",
                None => "no majority has it",
            };
            self.fail(rule::I3_OUTPUT, format!("replica {id} released output of entry {tag}, but {why}"));
        }
    }

    /// I1: the server of replica `id` admitted `after` behind `before`, at one of the moments in `looks`.
    pub fn admitted(&mut self, id: u8, before: &EntryHeader, after: &EntryHeader, looks: &[Admission]) {
        let (tick, end) = (after.stamp.get(), before.stamp.get() + before.grant.get());
        if EntryKind::from_wire(after.kind.get()) != Some(EntryKind::Bubble) || tick >= end {
            return;
        }
        if !looks.iter().any(|look| look.tick == tick && look.quiescent) {
            self.fail(
                rule::I1_STAMPS,
                format!(
                    "replica {id} admitted entry {} at tick {tick}, inside the bubble that ends at {end}, while a thread \
                     could run",
                    after.index.get()
                ),
            );
        }
    }

    /// I2: the server of replica `id`, which leads or not, has applied `applied` entries and is at `tick`, inside a
    /// bubble that it believes to be `start..=end`.
    pub fn at(&mut self, id: u8, applied: u64, tick: u64, start: u64, end: u64, last: Option<&Arc<[u8]>>) {
        if !(start..=end + HAND_OVERS).contains(&tick) {
            self.fail(rule::I2_INSIDE, format!("replica {id} is at tick {tick}, outside {start}..={end}"));
        }
        let (Some(last), Some(index)) = (last, applied.checked_sub(1)) else { return };
        let head = header(last);
        if head.index.get() != index || is_of_crane(head) {
            return;
        }
        let mut latest = head.stamp.get() + head.grant.get() + HAND_OVERS;
        if self.decided.get(index as usize) == Some(last)
            && let Some(next) = self.decided.get(applied as usize)
        {
            latest = latest.min(header(next).stamp.get());
        }
        if tick > latest || tick < head.stamp.get() {
            self.fail(
                rule::I2_INSIDE,
                format!("replica {id} applied entry {index} and is at tick {tick}, but the bubble ended at {latest}"),
            );
        }
    }

    /// I4: replica `id` knows that `commit` entries are decided, and its server lives on with these `applied`.
    pub fn lives_on(&mut self, id: u8, commit: u64, applied: &[Arc<[u8]>], from: &mut u64) {
        let until = commit.min(applied.len() as u64);
        while *from < until {
            let index = *from as usize;
            if self.decided.get(index).is_some_and(|decided| *decided != applied[index]) {
                self.fail(
                    rule::I4_REBUILD,
                    format!("replica {id} knows that its server applied a wrong entry {index}, and goes on"),
                );
            }
            *from += 1;
        }
    }

    /// The server of replica `id` had this digest, having applied `applied`. Only what is decided can be compared: false
    /// = not yet.
    pub fn digest(&mut self, id: u8, digest: ServerDigest, applied: &[Arc<[u8]>]) -> bool {
        let (index, next) = (digest.entry as usize, digest.entry as usize + 1);
        if next >= self.decided.len() || next >= applied.len() {
            return false;
        }
        if self.decided[index] != applied[index] || self.decided[next] != applied[next] {
            return true;
        }
        let after = header(&self.decided[next]);
        let stamp = after.stamp.get();
        if !is_of_crane(after) && stamp != digest.tick {
            let tick = digest.tick;
            self.fail(
                rule::I2_INSIDE,
                format!(
                    "replica {id} ended the bubble of entry {index} at tick {tick}, the log says {stamp}"
                ),
            );
        }
        match self.digests.get(&digest.entry) {
            None => {
                self.digests.insert(digest.entry, (id, digest));
            }
            Some((other, known)) if *known != digest => {
                let (other, known) = (*other, *known);
                self.fail(
                    rule::DIGESTS,
                    format!(
                        "after entry {index}, replica {id} has {digest:x?} and replica {other} {known:x?}"
                    ),
                );
            }
            Some(_) => self.compared += 1,
        }
        true
    }
}
