//! The records of a traced replay, in memory.

use std::collections::BTreeSet;
use std::fmt;

use dmt::digest::Traced;
use dmt::tracing::{CallHead, Record};

/// Operations that are kept at the most, and as many calls.
const MAX_RECORDS: usize = 1 << 20;
/// Bytes of a call's data that are shown.
const SHOWN_BYTES: usize = 60;

/// One call of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Numbers.
    pub head: CallHead,
    /// Operations of the trace that were done before its end.
    pub operations: usize,
    /// Name of the function, or of the system call.
    pub name: String,
    /// The path that it was given, or that of its descriptor, or nothing.
    pub path: String,
    /// The first bytes that it moved.
    pub sample: Vec<u8>,
    /// Return addresses, the innermost first.
    pub callers: Vec<u64>,
}

/// All records of one replay, in order.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Operations.
    pub operations: Vec<Traced>,
    /// Calls.
    pub calls: Vec<Call>,
    /// The processes that left calls.
    pub pids: BTreeSet<i32>,
}

impl Trace {
    /// Takes a record in.
    pub fn take(&mut self, record: &Record<'_>) {
        match record {
            Record::Operation(traced) if self.operations.len() < MAX_RECORDS => self.operations.push(*traced),
            Record::Call(head, rest) if self.calls.len() < MAX_RECORDS => {
                self.pids.insert(head.pid);
                self.calls.extend(Call::parse(head, rest, self.operations.len()));
            }
            _ => {}
        }
    }

    /// The processes that left records.
    pub fn pids(&self) -> impl Iterator<Item = i32> {
        self.pids.iter().copied()
    }

    /// The call in which the operation with this number was done: the first of its thread to end behind it, if it had begun.
    pub fn call_of(&self, operation: usize) -> Option<&Call> {
        let done = self.operations.get(operation)?;
        let from = self.calls.partition_point(|call| call.operations <= operation);
        let call = self.calls[from..].iter().find(|call| call.head.thread == done.thread)?;
        (call.head.begin < done.tick).then_some(call)
    }

    /// The last `count` operations of `thread` before the one with this number.
    pub fn before(&self, operation: usize, thread: u16, count: usize) -> Vec<usize> {
        let end = operation.min(self.operations.len());
        let own = (0..end).rev().filter(|&at| self.operations[at].thread == thread).take(count);
        let mut own: Vec<_> = own.collect();
        own.reverse();
        own
    }
}

impl Call {
    fn parse(head: &CallHead, rest: &[u8], operations: usize) -> Option<Self> {
        let (callers, rest) = rest.split_at_checked(usize::from(head.callers) * 8)?;
        let (name, rest) = rest.split_at_checked(head.name.into())?;
        let (path, rest) = rest.split_at_checked(head.path.into())?;
        let sample = rest.get(..head.sample.into())?;
        let (callers, _) = callers.as_chunks::<8>();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(Self {
            head: *head,
            operations,
            name: text(name),
            path: text(path),
            sample: sample.to_vec(),
            callers: callers.iter().map(|address| u64::from_le_bytes(*address)).collect(),
        })
    }

    /// Whether it is what another execution did, with the same outcome.
    pub fn same_outcome(&self, other: &Self) -> bool {
        let outcome = |call: &Self| (call.head.result, call.head.errno, call.head.data_digest);
        outcome(self) == outcome(other)
    }

    /// Whether it came from the filter.
    pub fn is_trapped(&self) -> bool {
        self.head.number != u32::MAX
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        let count = usize::from(self.head.argument_count).min(6);
        // What the filter caught has six registers, whatever the call takes.
        let shown = if self.is_trapped() { count.min(4) } else { count };
        for (at, argument) in self.head.arguments[..shown].iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match *argument as i64 {
                small @ -4096..65536 => write!(f, "{comma}{small}")?,
                _ => write!(f, "{comma}{argument:#x}")?,
            }
        }
        f.write_str(if self.is_trapped() { ", ..)" } else { ")" })?;
        write!(f, " = {}", self.head.result)?;
        if self.head.errno != 0 {
            write!(f, " ({})", nix::errno::Errno::from_raw(self.head.errno))?;
        }
        if !self.path.is_empty() {
            write!(f, "  on {}", self.path)?;
        }
        match Attributes::of(self) {
            Some(attributes) => write!(f, "  {attributes}"),
            None if self.sample.is_empty() => Ok(()),
            None => write!(f, "  {}", Shown(&self.sample)),
        }
    }
}

/// What `stat` and its like gave.
struct Attributes([u64; 18]);

impl Attributes {
    fn of(call: &Call) -> Option<Self> {
        let (words, rest) = call.sample.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let words = words.try_into().ok().filter(|_| rest.is_empty() && call.name.contains("stat"))?;
        Some(Self(words))
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As x86-64 Linux lays it out.
        let [device, inode, links, _, _, _, size, _, _, times @ ..] = &self.0;
        write!(f, "device {device:#x} inode {inode} links {links} size {size}")?;
        for (name, at) in [("atime", 0), ("mtime", 2), ("ctime", 4)] {
            write!(f, " {name} {}.{:09}", times[at], times[at + 1])?;
        }
        Ok(())
    }
}

/// Bytes as a string if they are text, else in hexadecimal.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_BYTES)];
        let more = if shown.len() < self.0.len() { ".." } else { "" };
        if shown.iter().all(|byte| byte.is_ascii_graphic() || b" \r\n\t".contains(byte)) {
            return write!(f, "\"{}{more}\"", shown.escape_ascii());
        }
        shown.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(more)
    }
}
