//! The control page of the arena: words that the coordinator and the server's processes share outside the rings.
//!
//! Each word has one writer, named here. Nothing deterministic may be computed from a word that the coordinator
//! writes, except by a leader at admission, whose choice then travels in the entry.

use crate::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use crate::bounds::MAX_PROCESSES;

/// Value of [`Control::lead_from`] on a follower.
pub const FOLLOWER: u64 = u64::MAX;
/// Value of [`Control::lead_from`] on the leader under `--admission crane`: it admits nothing, but emits output.
pub const CRANE_LEADER: u64 = u64::MAX - 1;
/// Signal with which the watchdog takes the turn from a spinner; hidden from the server.
pub const PREEMPT_SIGNAL: i32 = 64;
/// First word of an initialised arena.
pub const ARENA_MAGIC: u64 = u64::from_le_bytes(*b"BROLGA01");

/// Bits of [`Control::wanted`].
pub mod wanted {
    /// The watchdog saw a long stretch without an operation: a leader closes the bubble at the next operation.
    pub const CLOSE: u32 = 1;
    /// The watchdog caught a spinner: whoever handles the preempt signal passes the turn on.
    pub const PREEMPT: u32 = 2;
    /// With [`PREEMPT`]: the stretch was so long that even a bubble which another leader opened may be cut.
    pub const PREEMPT_INHERITED: u32 = 4;
    /// The watchdog asked a thread whether it is in a known spin loop, and it has not answered.
    pub const ASKED: u32 = 8;
    /// The stretch is as long as a loop that only waits may last: whoever handles the preempt signal stops it if it is one.
    pub const SPIN: u32 = 16;
}

/// Values of [`Control::offer`].
pub mod offer {
    /// The server admits itself.
    pub const NONE: u32 = 0;
    /// C: it makes the next entry.
    pub const TAKEN: u32 = 2;
    /// S: it is quiescent, and the coordinator may make the entry after these.
    ///
    /// The number (its last 30 bits) is part of the word: between two looks of the coordinator the server may have taken the offer
    /// back, made the entry itself and offered the next one.
    pub const fn open(applied: u64) -> u32 {
        1 | (applied as u32) << 2
    }
}

/// Values of [`Control::freeing`].
pub mod freeing {
    /// Init has not been asked to free deleted files.
    pub const UNASKED: u32 = 0;
    /// S: it is asked to.
    pub const ASKED: u32 = 1;
    /// Init: it takes descriptors of deleted files from the server's [`crate::bounds::FREED_FD`], and closes them.
    pub const READY: u32 = 2;
    /// Init: it cannot.
    pub const UNABLE: u32 = 3;
}

/// The words. `C:` written by the coordinator, `S:` by the thread that holds the turn, `W:` by the watchdog.
#[cfg_attr(not(loom), repr(C, align(4096)))]
pub struct Control {
    /// C: [`ARENA_MAGIC`], stored last when the arena is made.
    pub magic: AtomicU64,
    /// C: bumped after each change that an idle server should look at. The server sleeps on it (futex).
    pub inbound: AtomicU32,
    /// S: 1 while a server thread sleeps (or is about to) on `inbound`.
    pub server_idle: AtomicU32,
    /// C: 1 while the coordinator sleeps (or is about to): then the server must kick it after an upcall.
    pub coordinator_asleep: AtomicU32,
    /// W/C/S: bits of [`wanted`]; set by the watchdog, cleared by the turn holder.
    pub wanted: AtomicU32,
    /// C: index of the first entry that this replica may admit itself, or [`FOLLOWER`]. All entries below it are in
    /// the entries ring before it is stored.
    pub lead_from: AtomicU64,
    /// C: ballot under which it leads; goes into the headers of the entries that it admits.
    pub ballot: AtomicU64,
    /// C: cursor of the pending ring at which this leadership's inputs start; stored before `lead_from`.
    pub pending_from: AtomicU64,
    /// S: cursor of the pending ring up to which inputs have been applied: their bytes are not read again. C: moved to
    /// the ring's tail when a leadership starts.
    pub pending_applied: AtomicU64,
    /// C: commit index + 1 (0 = nothing committed).
    pub committed: AtomicU64,
    /// S: entries applied (index of the last + 1).
    pub applied: AtomicU64,
    /// S: logical time.
    pub tick: AtomicU64,
    /// S: rolling digest.
    pub digest: AtomicU64,
    /// S: virtual clock of the last entry, nanoseconds.
    pub clock: AtomicU64,
    /// S: threads that could run now, the turn holder included; 0 = quiescent.
    pub runnable: AtomicU32,
    /// S: dmt thread that holds the turn.
    pub turn: AtomicU32,
    /// S: kernel process id (in the replica's pid namespace) of the turn holder, 0 while quiescent.
    pub turn_pid: AtomicI32,
    /// S: blocks of the buffer pool in use; the coordinator stops reading clients above `POOL_HIGH_WATER_BLOCKS`.
    pub pool_used: AtomicU64,
    /// S: ballot of the leader that opened the current bubble; a leader with another one has inherited it (see the
    /// preemption rules).
    pub bubble_ballot: AtomicU64,
    /// C: 1 = stop executing for good at the next scheduling point (the replica is being torn down).
    pub halt: AtomicU32,
    /// S: spin limit in force, microseconds.
    pub spin_limit_us: AtomicU32,
    /// S: preemptions so far.
    pub preemptions: AtomicU64,
    /// S: real time of the leader's last admission, nanoseconds; only for the adaptation of the grant.
    pub admitted_at: AtomicU64,
    /// S/C: whether the coordinator may make the next entry for a quiescent leader, and which; see [`offer`]. The one that takes it
    /// may write `pending_applied` and `admitted_at`.
    pub offer: AtomicU32,
    /// S: grant of the entry that is offered, ticks.
    pub offered_grant: AtomicU64,
    /// S: 1 while the turn holder is in a call that the kernel carries out (a file's): not to be disturbed by a signal.
    pub in_kernel: AtomicU32,
    /// S: kernel process ids of the processes that live in dmt's eyes, by slot; 0 = none. Init looks whether the kernel agrees.
    pub pids: [AtomicI32; MAX_PROCESSES],
    /// C: a [`crate::tracing::Tracing`], 0 = none: what goes into the trace ring; set before the server starts, for a replay.
    pub tracing: AtomicU32,
    /// C: first tick that is traced.
    pub trace_from: AtomicU64,
    /// C: a test's request to corrupt one byte of the next `Data` event that this replica applies (divergence test).
    pub corrupt_next: AtomicU32,
    /// C: times that this server was brought back from a checkpoint; stored before it runs again. A thread that finds another
    /// number than at its last look puts right what the kernel forgot of it ([`crate::platform::Platform::resumed`]).
    pub restores: AtomicU32,
    /// Whoever admits: the real time of its last look, nanoseconds, 0 = none in this leadership; and what
    /// [`Control::leader_time`] made of it.
    pub real_seen: AtomicU64,
    /// See `real_seen`.
    pub time_given: AtomicU64,
    /// C: what a test adds to this machine's clock, nanoseconds (wraps around); 0 otherwise.
    pub clock_shift: AtomicU64,
    /// C: 1 = there is no other replica.
    pub alone: AtomicU32,
    /// C: the processor, from 1, on which a server of one process is to wake; 0 = on any. A wish.
    pub near: AtomicU32,
    /// S: CPU time of a server of one process when it slept last, nanoseconds; 0 if it has several. For that wish only.
    pub cpu_time: AtomicU64,
    /// S and init: whether init frees deleted files beside the server; see [`freeing`]. A futex of init's.
    pub freeing: AtomicU32,
}
#[cfg(not(loom))]
const _: () = assert!(size_of::<Control>() == 4096);

impl Control {
    /// The process in this slot (from 1) lives from now on as `pid`, or no more (0).
    pub(crate) fn set_pid(&self, slot: u16, pid: i32) {
        self.pids[usize::from(slot) - 1].store(pid, Ordering::SeqCst);
    }

    /// All zeroes.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            magic: AtomicU64::new(0),
            inbound: AtomicU32::new(0),
            server_idle: AtomicU32::new(0),
            coordinator_asleep: AtomicU32::new(0),
            wanted: AtomicU32::new(0),
            lead_from: AtomicU64::new(0),
            ballot: AtomicU64::new(0),
            pending_from: AtomicU64::new(0),
            pending_applied: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            tick: AtomicU64::new(0),
            digest: AtomicU64::new(0),
            clock: AtomicU64::new(0),
            runnable: AtomicU32::new(0),
            turn: AtomicU32::new(0),
            turn_pid: AtomicI32::new(0),
            pool_used: AtomicU64::new(0),
            bubble_ballot: AtomicU64::new(0),
            halt: AtomicU32::new(0),
            spin_limit_us: AtomicU32::new(0),
            preemptions: AtomicU64::new(0),
            admitted_at: AtomicU64::new(0),
            offer: AtomicU32::new(0),
            offered_grant: AtomicU64::new(0),
            in_kernel: AtomicU32::new(0),
            pids: core::array::from_fn(|_| AtomicI32::new(0)),
            tracing: AtomicU32::new(0),
            trace_from: AtomicU64::new(0),
            corrupt_next: AtomicU32::new(0),
            restores: AtomicU32::new(0),
            real_seen: AtomicU64::new(0),
            time_given: AtomicU64::new(0),
            clock_shift: AtomicU64::new(0),
            alone: AtomicU32::new(0),
            near: AtomicU32::new(0),
            cpu_time: AtomicU64::new(0),
            freeing: AtomicU32::new(freeing::UNASKED),
        }
    }

    /// True while a server thread executes: somebody holds the turn, and does not sleep for the coordinator's sake (a
    /// follower holds the turn while it waits for the next entry).
    pub fn server_runs(&self) -> bool {
        self.runnable.load(Ordering::SeqCst) != 0 && self.server_idle.load(Ordering::SeqCst) == 0
    }

    /// True while it executes code of its own: then a thread that makes no operation may spin.
    pub fn server_computes(&self) -> bool {
        self.server_runs() && self.in_kernel.load(Ordering::SeqCst) == 0
    }
}
