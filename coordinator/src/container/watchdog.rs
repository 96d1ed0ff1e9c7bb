//! The watchdog: a thread of init that notices a turn holder which computes for long without an operation.
//!
//! On a leader it closes the bubble and then preempts; on a follower it helps to catch a thread that the log says was
//! preempted. It decides nothing that is not logged: it sets bits of `wanted` and sends a signal, and the server's
//! own thread turns that into an entry. Rules: design, section 7 (preemption and bubbles); words: `dmt::control`.
//!
//! The kernel brings a running thread's CPU time up to date only at timer ticks, so a limit is noticed up to one tick
//! (1 to 4 ms) late. That costs latency, never correctness. Where threads spin again and again, the limit is not waited
//! for: while preemptions go on, the watchdog looks far more often, and asks each thread that stands at the same tick
//! twice whether it is in a spin loop that the log already knows (`dmt::spin`).

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dmt::bounds::{CLOSE_GAP_US, INHERITED_SPIN_LIMIT_US, LOOP_LIMIT_US};
use dmt::control::{ARENA_MAGIC, CRANE_LEADER, Control, PREEMPT_SIGNAL, wanted};

use super::deaths::Deaths;
use super::{ARENA_FILE, ArenaMapping, SHARED_MOUNT};

/// Time between two looks while the server works.
const SAMPLE: Duration = Duration::from_millis(2);
/// Time without an operation after which a thread is asked where it is.
const SUSPECT: Duration = Duration::from_micros(100);
/// Time between two looks while threads are being preempted.
const SPIN_SAMPLE: Duration = Duration::from_micros(50);
/// Looks after which a question counts as not heard.
const UNANSWERED_LOOKS: u32 = 40;
/// Of so many quick looks one is a normal one, too: what measures CPU time.
const NORMAL_LOOK: u32 = 20;
/// Looks in that state after the last preemption.
const SPIN_SAMPLES: u32 = 2000;
/// The longest time between two looks while it is quiescent, or waits for an entry: wake-ups that nobody notices in the CPU time.
const IDLE_SAMPLE: Duration = Duration::from_millis(32);
/// Looks at a thread in a long call of the kernel, of which one is whether it still lives.
const LONG_CALL_LOOKS: u32 = 64;
/// Looks at a server that does nothing before the time between two of them grows: it doubles with each.
const IDLE_SAMPLES: u32 = 8;

/// Maps the arena and starts the thread.
pub(super) fn start() -> Result<(), String> {
    let path = Path::new(SHARED_MOUNT).join(ARENA_FILE);
    let map = || ArenaMapping::open(&path).map_err(|e| format!("cannot map {}: {e}", path.display()));
    let arena = map()?;
    let thread = |e| format!("cannot start a thread of init: {e}");
    let deaths = Deaths::start(map()?).map_err(thread)?;
    super::replaced::start(map()?).map_err(thread)?;
    super::freed::start(map()?).map_err(thread)?;
    let run = move || watch(&arena, &deaths);
    match std::thread::Builder::new().name("brolga-watchdog".to_owned()).stack_size(64 * 1024).spawn(run) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot start the watchdog: {error}")),
    }
}

fn watch(arena: &ArenaMapping, deaths: &Deaths) -> ! {
    // SAFETY: the control page stands at the start of the arena, is all atomics, and the mapping lives as long as this
    // function, which never returns.
    let control = unsafe { &*arena.as_ptr::<Control>() };
    let mut state = State::default();
    let mut spins = Spins::default();
    let (mut idle, mut calls) = (0, 0_u32);
    sleep_exactly();
    loop {
        std::thread::sleep(if spins.left > 0 { SPIN_SAMPLE } else { pause(idle) });
        if spins.go_on(control) {
            continue;
        }
        let sample = Sample::read(control);
        if control.server_runs() && !control.server_computes() {
            // A long call of the kernel: what its thread computed before and after it are two stretches.
            (idle, state) = (0, State::default());
            calls += 1;
            if calls.is_multiple_of(LONG_CALL_LOOKS) {
                deaths.look(&sample);
            }
            continue;
        }
        if !control.server_runs() || control.magic.load(Ordering::Relaxed) != ARENA_MAGIC {
            idle = idle.saturating_add(1);
            state = State::default();
            continue;
        }
        let action = state.advance(&sample, || cpu_time_us(sample.pid));
        if state.stands_still {
            deaths.look(&sample);
        }
        idle = if state.stands_still { idle.saturating_add(1) } else { 0 };
        let may_signal = state.may_signal();
        act(control, &sample, action, may_signal);
        if action == Action::default() && may_signal {
            ask_where(control, &sample);
        }
    }
}

/// Time to the next look after so many at a server that does nothing.
fn pause(idle: u32) -> Duration {
    let doublings = idle.saturating_sub(IDLE_SAMPLES).min(IDLE_SAMPLE.as_millis().ilog2());
    (SAMPLE * (1 << doublings)).min(IDLE_SAMPLE)
}

/// A thread of the leader that makes no operation for as little as this may be in a spin loop: it is asked where it is, and
/// a loop that its code shows to be one is stopped for good (`dmt::spin_point`).
fn ask_where(control: &Control, before: &Sample) {
    if !before.leader {
        return;
    }
    std::thread::sleep(SUSPECT);
    let now = Sample::read(control);
    if now.is_suspect(before) && control.server_computes() {
        signal(&now);
    }
}

/// The kernel may otherwise let a sleep last 50 us longer.
fn sleep_exactly() {
    // SAFETY: no pointers; the slack of this thread, nanoseconds.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1000) };
}

/// Quick looks at a server whose threads spin.
#[derive(Debug, Default)]
struct Spins {
    preemptions: u64,
    left: u32,
    tick: u64,
    pid: i32,
    unanswered: u32,
}

impl Spins {
    /// Signals that wait for a thread which waits for a processor would all arrive before its next instruction, so it is
    /// asked again only when it has answered, or seems not to have heard.
    fn may_ask(&mut self, control: &Control) -> bool {
        let waits = control.wanted.fetch_or(wanted::ASKED, Ordering::SeqCst) & wanted::ASKED != 0;
        self.unanswered = if waits && self.unanswered < UNANSWERED_LOOKS { self.unanswered + 1 } else { 0 };
        self.unanswered == 0
    }

    /// Takes a quick look; false if it is time for a normal one.
    fn go_on(&mut self, control: &Control) -> bool {
        let preemptions = control.preemptions.load(Ordering::Relaxed);
        if preemptions != self.preemptions {
            (self.preemptions, self.left) = (preemptions, SPIN_SAMPLES);
        }
        let sample = Sample::read(control);
        let same = (sample.tick, sample.pid) == (self.tick, self.pid) && sample.pid != 0;
        (self.tick, self.pid) = (sample.tick, sample.pid);
        if !same {
            self.unanswered = 0;
        } else if self.left > 0 && control.server_computes() && self.may_ask(control) {
            signal(&sample);
        }
        self.left = self.left.saturating_sub(1);
        !self.left.is_multiple_of(NORMAL_LOOK)
    }
}

/// What the watchdog reads of the control page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Logical time.
    pub tick: u64,
    /// Process of the turn holder.
    pub pid: i32,
    /// Threads that could run; 0 = nothing to watch.
    pub runnable: u32,
    leader: bool,
    inherited: bool,
    spin_limit_us: u64,
}

impl Sample {
    /// Reads it.
    pub fn read(control: &Control) -> Self {
        let lead_from = control.lead_from.load(Ordering::Relaxed);
        Self {
            tick: control.tick.load(Ordering::Relaxed),
            pid: control.turn_pid.load(Ordering::Relaxed),
            runnable: control.runnable.load(Ordering::Relaxed),
            // A leader to be still replays what is decided, preemptions among it, and does so as a follower.
            leader: control.applied.load(Ordering::Relaxed) >= lead_from || lead_from == CRANE_LEADER,
            inherited: control.bubble_ballot.load(Ordering::Relaxed)
                != control.ballot.load(Ordering::Relaxed),
            spin_limit_us: u64::from(control.spin_limit_us.load(Ordering::Relaxed)),
        }
    }

    /// True if the leader's turn holder has made no operation since `before`: it may be in a spin loop.
    pub fn is_suspect(&self, before: &Self) -> bool {
        self.leader && self.pid != 0 && (self.tick, self.pid) == (before.tick, before.pid)
    }

    fn limit_us(&self) -> u64 {
        if self.spin_limit_us == 0 { dmt::bounds::DEFAULT_SPIN_LIMIT_US.into() } else { self.spin_limit_us }
    }

    /// CPU time after which the turn holder is stopped if it is in a loop that only waits.
    fn ask_after_us(&self) -> Option<u64> {
        (self.runnable > 0).then_some(LOOP_LIMIT_US.min(self.limit_us()))
    }

    /// CPU time after which the turn holder is to be preempted, if it may be.
    fn preempt_after_us(&self) -> Option<u64> {
        let limit = self.limit_us();
        match (self.runnable, self.leader, self.inherited) {
            // The number is that of the last change of turn. Whom the turn holder has woken since, its handler knows.
            (0, ..) => None,
            (_, true, true) => Some(INHERITED_SPIN_LIMIT_US.max(limit)),
            // A follower's handler looks whether the next entry is this thread's preemption, and else does nothing.
            _ => Some(limit),
        }
    }
}

/// What to do about a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    close: bool,
    /// A loop that only waits is stopped.
    spin: bool,
    preempt: bool,
    /// Even a bubble of another leader may be cut.
    inherited: bool,
}

impl Action {
    /// The bits of [`wanted`] that it sets.
    pub fn bits(self) -> u32 {
        (u32::from(self.close) * wanted::CLOSE)
            | (u32::from(self.spin) * wanted::SPIN)
            | (u32::from(self.preempt) * wanted::PREEMPT)
            | (u32::from(self.inherited) * wanted::PREEMPT_INHERITED)
    }

    /// True if the preempt signal goes with it.
    pub fn signals(self) -> bool {
        self.spin || self.preempt
    }
}

/// The stretch without an operation that is being watched.
#[derive(Debug, Default)]
pub struct State {
    tick: u64,
    pid: i32,
    /// CPU time of the process when the stretch was first seen.
    since_us: Option<u64>,
    /// The turn holder has used no CPU time since the last look: a follower that waits for the next entry.
    stands_still: bool,
    last_us: u64,
    /// Looks at this stretch.
    looks: u32,
    /// The thread was asked whether it is in a loop that only waits.
    asked: bool,
}

impl State {
    /// Takes one sample; `cpu_time` is asked only within a stretch.
    pub fn advance(&mut self, sample: &Sample, cpu_time: impl FnOnce() -> Option<u64>) -> Action {
        if (sample.tick, sample.pid) != (self.tick, self.pid) || sample.pid == 0 {
            *self = Self { tick: sample.tick, pid: sample.pid, looks: 1, ..Self::default() };
            return Action::default();
        }
        self.looks = self.looks.saturating_add(1);
        let Some(now) = cpu_time() else {
            self.stands_still = true;
            return Action::default();
        };
        self.stands_still = now == std::mem::replace(&mut self.last_us, now);
        let gap = now.saturating_sub(*self.since_us.get_or_insert(now));
        // One that computed before it came to such a loop is asked again.
        let long = sample.ask_after_us().is_some_and(|limit| gap >= limit);
        let asked = std::mem::replace(&mut self.asked, long);
        let spin = long && (!asked || self.may_signal());
        Action {
            close: sample.leader && !sample.inherited && gap >= CLOSE_GAP_US,
            spin,
            preempt: sample.preempt_after_us().is_some_and(|limit| gap >= limit),
            inherited: gap >= INHERITED_SPIN_LIMIT_US,
        }
    }

    /// Signals to one stretch come further and further apart: some long calls of the kernel begin anew at each.
    fn may_signal(&self) -> bool {
        self.looks.is_power_of_two()
    }
}

fn act(control: &Control, sample: &Sample, action: Action, may_signal: bool) {
    let bits = action.bits();
    if bits == 0 || control.tick.load(Ordering::SeqCst) != sample.tick {
        return;
    }
    let first = control.wanted.load(Ordering::Relaxed) & bits != bits;
    if first {
        control.wanted.fetch_or(bits, Ordering::SeqCst);
    }
    if action.spin || action.preempt && (may_signal || first) {
        // Sent again while nothing changes: the handler ignores one that comes too late.
        signal(sample);
    }
}

fn signal(sample: &Sample) {
    // SAFETY: no pointers; a thread that is gone is just not found.
    unsafe { libc::syscall(libc::SYS_tgkill, sample.pid, sample.pid, PREEMPT_SIGNAL) };
}

/// CPU time that the process, which has one thread of the kernel, has used, microseconds.
fn cpu_time_us(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let nanoseconds: u64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(nanoseconds / 1000)
}

#[cfg(test)]
mod tests;
