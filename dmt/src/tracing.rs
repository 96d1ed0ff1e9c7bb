//! The full trace of a replay: every operation, and every call of the program with its arguments, what it gave, and who
//! made it, from one tick on, through a ring of its own. For people who look for the place where two executions part.
//!
//! Nothing here changes the kernel's state but for a cursor: a traced replay goes the same way as one that is not. The
//! ring loses nothing; the server waits, with the turn, until the coordinator has taken enough.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::atomic::Ordering;
use crate::call::Call;
use crate::digest::Traced;
use crate::link::Link;

/// Tag of a frame that holds one [`Traced`].
pub const TAG_OPERATION: u32 = 1;
/// Tag of a frame that holds one [`CallHead`] and what belongs to it.
pub const TAG_CALL: u32 = 2;
/// Callers that are kept of one call, the innermost first.
pub const MAX_CALLERS: usize = 24;
/// Bytes that are kept of what a call moved, and of a path.
pub const MAX_SAMPLE_BYTES: usize = 256;
/// Free bytes of the ring that one record needs at the most.
const RECORD_BYTES: usize = 2048;
/// How long a server waits for room in the ring before it looks again, nanoseconds.
const ROOM_RETRY_NS: u64 = 1_000_000;

/// What a replay tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Tracing {
    /// Operations, which dmt knows by itself: the program's threads do nothing for it.
    Operations = 1,
    /// Operations and the program's calls.
    Calls = 2,
}

/// One call of the program. In the frame follow `callers` addresses of 8 bytes, the call's name, a path, and a sample of
/// the bytes that it moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallHead {
    /// Logical time at its beginning, ticks.
    pub begin: u64,
    /// Logical time at its end, ticks.
    pub tick: u64,
    /// The rolling digest at its end.
    pub digest: u64,
    /// What it returned.
    pub result: i64,
    /// Its arguments as words; those that do not exist are 0.
    pub arguments: [u64; 6],
    /// Digest of all bytes that it moved, 0 if none are known.
    pub data_digest: u64,
    /// Kernel process id in the container.
    pub pid: i32,
    /// `errno`, if the result says that it is set.
    pub errno: i32,
    /// Number of the system call that the filter caught; `u32::MAX` if the call came through a hook.
    pub number: u32,
    /// dmt's thread.
    pub thread: u16,
    /// Arguments that exist.
    pub argument_count: u16,
    /// Addresses that follow.
    pub callers: u16,
    /// Bytes of the name.
    pub name: u16,
    /// Bytes of the path.
    pub path: u16,
    /// Bytes of the sample.
    pub sample: u16,
}

/// A frame of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// An operation.
    Operation(Traced),
    /// A call and what belongs to it.
    Call(CallHead, &'a [u8]),
}

impl Call<'_> {
    /// True if what happens now is to be traced.
    pub fn is_traced_now(&self) -> bool {
        self.tick_now() >= self.shared().control.trace_from.load(Ordering::Relaxed)
    }

    /// Logical time, ticks.
    pub fn tick_now(&self) -> u64 {
        self.with(|k| k.sched.tick)
    }

    /// Writes all operations since the last time into the ring.
    #[cold]
    pub fn stream(&self) {
        let from = self.shared().control.trace_from.load(Ordering::Relaxed);
        while let Some(traced) = self.with(|k| k.trace.next_to_stream()) {
            if traced.tick >= from {
                self.record(TAG_OPERATION, &[traced.as_bytes()]);
            }
        }
    }

    /// Writes one call into the ring, behind its operations. `head` but for what dmt knows.
    pub fn trace_call(&self, mut head: CallHead, callers: &[u64], rest: [&[u8]; 3]) {
        self.stream();
        self.with(|k| (head.tick, head.digest) = (k.sched.tick, k.digest));
        head.thread = self.thread();
        self.record(TAG_CALL, &[head.as_bytes(), callers.as_bytes(), rest[0], rest[1], rest[2]]);
    }

    fn record(&self, tag: u32, parts: &[&[u8]]) {
        let ring = &self.shared().trace;
        while !ring.fits(RECORD_BYTES) {
            let control = &self.shared().control;
            let seen = control.inbound.load(Ordering::SeqCst);
            control.server_idle.store(1, Ordering::SeqCst);
            self.platform().kick_coordinator();
            if control.halt.load(Ordering::SeqCst) != 0 {
                return;
            }
            if !ring.fits(RECORD_BYTES) {
                self.platform().wait(&control.inbound, seen, Some(ROOM_RETRY_NS));
            }
            control.server_idle.store(0, Ordering::SeqCst);
        }
        // SAFETY: the holder of the turn is the only producer.
        let pushed = unsafe { ring.push(tag, parts) };
        debug_assert!(pushed, "a record is longer than RECORD_BYTES");
    }
}

impl Link {
    /// Makes the server trace `what` from tick `from` on. Before the server starts.
    pub fn trace(&self, from: u64, what: Tracing) {
        self.control().trace_from.store(from, Ordering::SeqCst);
        self.control().tracing.store(what as u32, Ordering::SeqCst);
    }

    /// Takes all records that wait. False if the ring is damaged.
    pub fn take_trace(&mut self, mut each: impl FnMut(Record<'_>)) -> bool {
        let ring = &self.shared().trace;
        loop {
            // SAFETY: the Link is the only consumer, and everything before the head was released.
            let frame = match unsafe { ring.try_peek(ring.head()) } {
                Ok(Some(frame)) => frame,
                Ok(None) => return true,
                Err(_) => return false,
            };
            match frame.tag {
                TAG_OPERATION => {
                    if let Ok((traced, _)) = Traced::read_from_prefix(frame.body) {
                        each(Record::Operation(traced));
                    }
                }
                _ => {
                    if let Ok((head, rest)) = CallHead::read_from_prefix(frame.body) {
                        each(Record::Call(head, rest));
                    }
                }
            }
            ring.release(frame.end);
        }
    }
}

const _: () = assert!(
    size_of::<CallHead>() + 8 * MAX_CALLERS + 2 * MAX_SAMPLE_BYTES + 128 < RECORD_BYTES - 8,
    "the longest record fits"
);
