//! Clocks, sleeps and random bytes for the server.

use crate::call::Call;
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::process::abi::*;
use crate::thread::Wake;

/// Bit of a dynamic CPU clock id (`pthread_getcpuclockid`) that says it is a thread's, as the kernel lays it out.
const CPU_CLOCK_OF_THREAD: i32 = 4;

impl Kernel {
    /// A time of `clock` as one of the virtual clock.
    pub fn deadline_of(&self, clock: i32, at: u64) -> u64 {
        match clock {
            CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_REALTIME_ALARM | CLOCK_TAI => at,
            _ => self.from_monotonic(at),
        }
    }
}

impl Call<'_> {
    /// `clock_gettime`, nanoseconds, or -`EINVAL`. An operation, so a loop that waits for time to pass makes it pass.
    /// CPU-time clocks count the operations made, as [`Call::cpu_time`] says.
    pub fn clock_gettime(&self, clock: i32) -> i64 {
        self.quick(Op::Clock, clock as u64, |k, me| match clock {
            CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_REALTIME_ALARM | CLOCK_TAI => k.clock() as i64,
            CLOCK_MONOTONIC
            | CLOCK_MONOTONIC_RAW
            | CLOCK_MONOTONIC_COARSE
            | CLOCK_BOOTTIME
            | CLOCK_BOOTTIME_ALARM => k.monotonic() as i64,
            CLOCK_PROCESS_CPUTIME_ID => k.cpu_time(me, RUSAGE_SELF) as i64,
            CLOCK_THREAD_CPUTIME_ID => k.cpu_time(me, RUSAGE_THREAD) as i64,
            ..0 if clock & CPU_CLOCK_OF_THREAD != 0 => k.cpu_time(me, RUSAGE_THREAD) as i64,
            ..0 => k.cpu_time(me, RUSAGE_SELF) as i64,
            _ => -EINVAL,
        })
    }

    /// `CLOCK_REALTIME`, nanoseconds: `gettimeofday`, `time`.
    pub fn realtime(&self) -> u64 {
        self.clock_gettime(CLOCK_REALTIME) as u64
    }

    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub fn monotonic(&self) -> u64 {
        self.clock_gettime(CLOCK_MONOTONIC) as u64
    }

    /// Sleeps until a time of the virtual clock: 0, or -`EINTR` after a handler ran. A time that has passed only yields.
    pub fn sleep_until(&self, deadline: u64) -> i64 {
        if deadline <= self.with(|k| k.clock()) {
            self.yield_turn();
            return 0;
        }
        let mut waited = false;
        self.op(Op::Sleep, deadline, |k, me| {
            if core::mem::replace(&mut waited, true) {
                match k.take_wake(me) {
                    Wake::Timeout => return Step::Done(0),
                    Wake::Signal if k.signal_due(me) => return Step::Done(-EINTR),
                    _ => {}
                }
            }
            if deadline <= k.clock() {
                return Step::Done(0);
            }
            k.wait(me, WaitKey::number(Space::Sleep, u64::from(me)), Some(deadline));
            Step::Block
        })
    }

    /// `nanosleep`, `clock_nanosleep` without `TIMER_ABSTIME`; `left` gets what remains after -`EINTR`.
    pub fn sleep(&self, nanoseconds: u64, left: &mut u64) -> i64 {
        let deadline = self.with(|k| k.clock()).saturating_add(nanoseconds);
        let result = self.sleep_until(deadline);
        *left = deadline.saturating_sub(self.with(|k| k.clock()));
        result
    }

    /// `clock_nanosleep` with `TIMER_ABSTIME`.
    pub fn sleep_until_clock(&self, clock: i32, at: u64) -> i64 {
        self.sleep_until(self.with(|k| k.deadline_of(clock, at)))
    }

    /// Fills `out` with the server's next random bytes.
    pub fn random(&self, out: &mut [u8]) {
        self.quick(Op::Random, 0, |k, _| {
            k.random.fill(out);
            out.len() as i64
        });
    }
}
