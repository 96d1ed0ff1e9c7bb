//! The world as dmt sees it from a simulated thread: simulated time, futexes that suspend fibers, a clock that jumps.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering};

use dmt::call::Call;
use dmt::link::Shared;
use dmt::platform::Platform;
use dmt::process::PendingSignal;
use dmt::thread::ThreadId;

use super::fiber::{Suspend, suspend};
use super::rng::Rng;

/// The simulated time 0 as a real time, nanoseconds since the Unix epoch.
pub const EPOCH_NS: u64 = 1_700_000_000_000_000_000;
/// A thread computes at most this long in one go, so that a watchdog can interrupt it, nanoseconds.
const CHUNK_NS: u64 = 200_000;

/// One look of the kernel at the leader's clock, which it takes only to admit: when, and whether anyone could run.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Logical time.
    pub tick: u64,
    /// No thread could run.
    pub quiescent: bool,
}

/// See the module.
pub struct SimPlatform {
    shared: *const Shared,
    /// Simulated time of the thread that runs.
    pub now: Cell<u64>,
    /// CPU time that the server's threads used.
    pub cpu: Cell<u64>,
    /// Percent of a work's nominal time that this replica's CPU needs.
    pub slowness: Cell<u64>,
    /// What the replica's real-time clock is off by, nanoseconds.
    pub clock_offset: Cell<i64>,
    /// The coordinator's eventfd was written.
    pub kicked: Cell<bool>,
    /// Futex words that were woken.
    pub woken: RefCell<Vec<usize>>,
    /// Thread that the watchdog's signal is on its way to; 0 = none.
    pub signalled: Cell<ThreadId>,
    /// Looks at the clock since the simulator last took them.
    pub admissions: RefCell<Vec<Admission>>,
    /// Branches at which threads are stopped.
    pub armed: RefCell<Vec<u64>>,
    slice_end: Cell<u64>,
    rng: RefCell<Rng>,
}

impl SimPlatform {
    /// A platform for the server whose arena has this shared part.
    pub fn new(shared: *const Shared, slowness: u64, rng: Rng) -> Self {
        Self {
            shared,
            now: Cell::new(0),
            cpu: Cell::new(0),
            slowness: Cell::new(slowness),
            clock_offset: Cell::new(0),
            kicked: Cell::new(false),
            woken: RefCell::default(),
            signalled: Cell::new(0),
            admissions: RefCell::default(),
            armed: RefCell::default(),
            slice_end: Cell::new(0),
            rng: RefCell::new(rng),
        }
    }

    /// The calling thread uses the CPU for `nanoseconds` of nominal time, without an operation. Whatever happens in the
    /// cluster meanwhile happens meanwhile; the watchdog may interrupt.
    pub fn compute(&self, call: &Call<'_>, nanoseconds: u64) {
        self.compute_in_loop(call, nanoseconds, 0);
    }

    /// One turn of a loop that `branch` closes and that only waits.
    pub fn spin(
        &self,
        call: &Call<'_>,
        nanoseconds: u64,
        branch: u64,
        goes_on: impl FnOnce() -> bool,
    ) -> bool {
        self.compute_in_loop(call, nanoseconds, branch);
        let again = goes_on();
        if self.armed.borrow().contains(&branch) {
            if again { call.spin_point(branch, || false) } else { call.spin_left(branch) }
        }
        again
    }

    fn compute_in_loop(&self, call: &Call<'_>, nanoseconds: u64, branch: u64) {
        let mut left = nanoseconds * self.slowness.get() / 100;
        while left > 0 {
            let chunk = left.min(CHUNK_NS);
            left -= chunk;
            self.now.set(self.now.get() + chunk);
            self.cpu.set(self.cpu.get() + chunk);
            if self.now.get() >= self.slice_end.get() {
                suspend(Suspend::Compute(0));
                self.slice_end.set(self.now.get() + self.rng.borrow_mut().between(1_000, 60_000));
            }
            if self.signalled.get() == call.thread() {
                self.signalled.set(0);
                call.preempt(0, branch);
            }
        }
    }

    /// Real time of this replica at simulated time `now`.
    pub fn clock(&self, now: u64) -> u64 {
        (EPOCH_NS + now).saturating_add_signed(self.clock_offset.get())
    }
}

impl Platform for SimPlatform {
    fn wait(&self, word: &AtomicU32, expected: u32, timeout_ns: Option<u64>) {
        if word.load(Ordering::SeqCst) == expected {
            suspend(Suspend::Wait(std::ptr::from_ref(word) as usize, timeout_ns));
        }
    }

    fn wake(&self, word: &AtomicU32) {
        self.woken.borrow_mut().push(std::ptr::from_ref(word) as usize);
    }

    fn real_time(&self) -> u64 {
        // SAFETY: the arena outlives the platform (both belong to one `Server`), and its shared part is all atomics.
        let control = unsafe { &(*self.shared).control };
        self.admissions.borrow_mut().push(Admission {
            tick: control.tick.load(Ordering::Relaxed),
            quiescent: control.runnable.load(Ordering::Relaxed) == 0,
        });
        self.clock(self.now.get())
    }

    fn deliver(&self, _: &PendingSignal) {}

    fn arm_spin_point(&self, branch: u64) {
        if !self.armed.borrow().contains(&branch) {
            self.armed.borrow_mut().push(branch);
        }
    }

    fn kick_coordinator(&self) {
        self.kicked.set(true);
    }
}
