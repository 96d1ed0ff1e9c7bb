//! Interval timers: `setitimer`, `alarm`, and POSIX timers.
//!
//! All of them count on the virtual clock, `ITIMER_VIRTUAL` and `ITIMER_PROF` as well: the server's CPU time is nothing
//! that replicas agree on.

use crate::bounds::MAX_PROCESS_TIMERS;
use crate::call::Call;
use crate::file::abi::TimerSpec;
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::op::Op;
use crate::process::abi::*;
use crate::process::queue::Target;
use crate::process::signal::{PendingSignal, bit};
use crate::thread::ThreadId;
use crate::timers::{TimerKind, TimerSlot};

/// `ITIMER_REAL`, `ITIMER_VIRTUAL`, `ITIMER_PROF` are the timers with these numbers; POSIX timers follow.
const ITIMERS: usize = 3;
const ITIMER_SIGNALS: [i32; ITIMERS] = [SIGALRM, SIGVTALRM, SIGPROF];
// The number shares a u16 with the process's.
const _: () = assert!(ITIMERS + MAX_PROCESS_TIMERS < 256);

/// One timer.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct IntervalTimer {
    deadline: u64,
    interval: u64,
    value: u64,
    signal: i32,
    overrun: u32,
    clock: i32,
    /// Thread that gets the signal, or 0 for the process.
    thread: ThreadId,
    /// Armed deadline, or 0.
    armed: TimerSlot,
    /// 1 if created (POSIX timers).
    used: u8,
}

/// The timers of a process.
pub(crate) type IntervalTimers = [IntervalTimer; ITIMERS + MAX_PROCESS_TIMERS];

/// Whom a POSIX timer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify {
    /// `SIGEV_SIGNAL`, `SIGEV_NONE` or `SIGEV_THREAD_ID`.
    pub how: i32,
    /// Signal number.
    pub signal: i32,
    /// `sigev_value`; `None` = the timer's number.
    pub value: Option<u64>,
    /// Kernel id of the thread, for `SIGEV_THREAD_ID`.
    pub tid: i32,
}

impl Kernel {
    fn timer_of(&mut self, process: u16, number: usize) -> &mut IntervalTimer {
        &mut self.processes.get_mut(process).timers[number]
    }

    /// What is left and the interval, nanoseconds.
    fn timer_left(&mut self, process: u16, number: usize) -> [u64; 2] {
        let now = self.clock();
        let timer = self.timer_of(process, number);
        if timer.armed == 0 {
            return [0, timer.interval];
        }
        [timer.deadline.saturating_sub(now).max(1), timer.interval]
    }

    fn timer_setting(&mut self, process: u16, number: usize) -> TimerSpec {
        let [value, interval] = self.timer_left(process, number);
        TimerSpec { interval, value }
    }

    fn disarm(&mut self, process: u16, number: usize) {
        let armed = core::mem::take(&mut self.timer_of(process, number).armed);
        if armed != 0 {
            self.timers.disarm(armed);
        }
    }

    /// Drops the signal that a POSIX timer has sent and that nobody has taken: it is of a setting that is over.
    fn forget_signal(&mut self, process: u16, number: usize) {
        let timer = *self.timer_of(process, number);
        let target = if timer.thread == 0 { Target::Process(process) } else { Target::Thread(timer.thread) };
        if timer.signal == 0 || *self.pending_mut(target) & bit(timer.signal) == 0 {
            return;
        }
        let seen = (number - ITIMERS) as i32;
        if self.processes.queue.drop_timer(target, timer.signal, seen) {
            *self.pending_mut(target) &= !bit(timer.signal);
        }
    }

    /// Arms a timer at an absolute deadline; `deadline` 0 disarms. 0 or -`EAGAIN`.
    fn set_timer(&mut self, process: u16, number: usize, deadline: u64, interval: u64) -> i64 {
        self.disarm(process, number);
        let timer = self.timer_of(process, number);
        (timer.deadline, timer.interval, timer.overrun) = (deadline, interval, 0);
        if deadline == 0 {
            timer.interval = 0;
            return 0;
        }
        self.arm(process, number, deadline)
    }

    fn arm(&mut self, process: u16, number: usize, deadline: u64) -> i64 {
        let id = u32::from(process) | (number as u32) << 8;
        let Some(armed) = self.timers.arm(deadline, TimerKind::Process, id) else { return -EAGAIN };
        let timer = self.timer_of(process, number);
        (timer.armed, timer.deadline) = (armed, deadline);
        0
    }

    /// An interval timer expired; `id` is what [`TimerKind::Process`] carries: process, and the timer's number above.
    pub fn interval_timer_fired(&mut self, _shared: &Shared, id: u16) {
        let (process, number) = (id & 0xff, usize::from(id >> 8));
        let now = self.clock();
        let timer = self.timer_of(process, number);
        timer.armed = 0;
        let mut missed = 0;
        if let Some(periods) = now.saturating_sub(timer.deadline).checked_div(timer.interval) {
            missed = periods.min(u64::from(u32::MAX)) as u32;
            let next = timer.deadline.saturating_add((periods + 1).saturating_mul(timer.interval));
            // The heap has at least the slot that just fired.
            self.arm(process, number, next);
        }
        self.timer_signal(process, number, missed);
    }

    fn timer_signal(&mut self, process: u16, number: usize, missed: u32) {
        if number < ITIMERS {
            let info =
                PendingSignal { signal: ITIMER_SIGNALS[number], code: SI_KERNEL, ..Default::default() };
            self.send_signal(Target::Process(process), info);
            return;
        }
        let timer = *self.timer_of(process, number);
        if timer.signal == 0 {
            return;
        }
        let target = if timer.thread == 0 { Target::Process(process) } else { Target::Thread(timer.thread) };
        let number_seen = (number - ITIMERS) as i32;
        let pending = *self.pending_mut(target) & bit(timer.signal) != 0;
        if pending && self.processes.queue.overrun(target, timer.signal, SI_TIMER, number_seen, missed + 1) {
            let timer = self.timer_of(process, number);
            timer.overrun = timer.overrun.saturating_add(missed + 1);
            return;
        }
        self.timer_of(process, number).overrun = missed;
        let info = PendingSignal {
            signal: timer.signal,
            code: SI_TIMER,
            pid: number_seen,
            uid: missed,
            value: timer.value,
            fatal: false,
            ..PendingSignal::NONE
        };
        self.send_signal(target, info);
    }

    /// After `execve`: POSIX timers are deleted, the others stay.
    pub(crate) fn delete_timers(&mut self, process: u16) {
        for number in ITIMERS..ITIMERS + MAX_PROCESS_TIMERS {
            self.disarm(process, number);
            self.timer_of(process, number).used = 0;
        }
    }

    /// At the end of a process.
    pub(crate) fn cancel_timers(&mut self, process: u16) {
        for number in 0..ITIMERS + MAX_PROCESS_TIMERS {
            self.disarm(process, number);
        }
    }

    fn created_timer(&mut self, process: u16, number: i32) -> Option<usize> {
        let index = usize::try_from(number).ok()?.checked_add(ITIMERS)?;
        let timer = self.processes.get(process).timers.get(index)?;
        (timer.used != 0).then_some(index)
    }
}

/// Clocks that a POSIX timer can count on; negative ids are CPU clocks of processes and threads.
fn is_timer_clock(clock: i32) -> bool {
    clock < 0
        || matches!(
            clock,
            CLOCK_REALTIME
                | CLOCK_MONOTONIC
                | CLOCK_PROCESS_CPUTIME_ID
                | CLOCK_THREAD_CPUTIME_ID
                | CLOCK_BOOTTIME
                | CLOCK_REALTIME_ALARM
                | CLOCK_BOOTTIME_ALARM
                | CLOCK_TAI
        )
}

impl Call<'_> {
    /// `setitimer` (`new` = time left and interval, nanoseconds; zero time disarms), `getitimer` (`None`), `alarm`.
    /// `old` gets the setting before. `which` is `ITIMER_REAL` (0), `ITIMER_VIRTUAL` or `ITIMER_PROF`.
    pub fn interval_timer(&self, which: i32, new: Option<[u64; 2]>, old: &mut [u64; 2]) -> i64 {
        if !(0..ITIMERS as i32).contains(&which) {
            return -EINVAL;
        }
        self.quick(Op::TimerSet, which as u64, |k, me| {
            let process = k.process_of(me);
            *old = k.timer_left(process, which as usize);
            let Some([value, interval]) = new else { return 0 };
            let deadline = if value == 0 { 0 } else { k.clock().saturating_add(value) };
            k.set_timer(process, which as usize, deadline, interval)
        })
    }

    /// `timer_create`: the timer's number (from 0), or -`EAGAIN` at [`MAX_PROCESS_TIMERS`], or -`EINVAL`.
    pub fn timer_create(&self, clock: i32, notify: Notify) -> i64 {
        self.quick(Op::TimerSet, notify.signal as u64, |k, me| {
            let process = k.process_of(me);
            if !is_timer_clock(clock) {
                return -EINVAL;
            }
            let told = notify.how != SIGEV_NONE;
            if told && !(1..=63).contains(&notify.signal) {
                return -EINVAL;
            }
            let thread = match notify.how {
                SIGEV_THREAD_ID => match k.threads.by_tid(notify.tid) {
                    Some(id) if k.process_of(id) == process => id,
                    _ => return -EINVAL,
                },
                SIGEV_SIGNAL | SIGEV_NONE => 0,
                _ => return -EINVAL,
            };
            let timers = &mut k.processes.get_mut(process).timers[ITIMERS..];
            let Some(number) = timers.iter().position(|timer| timer.used == 0) else { return -EAGAIN };
            timers[number] = IntervalTimer {
                deadline: 0,
                interval: 0,
                value: notify.value.unwrap_or(number as u64),
                signal: if told { notify.signal } else { 0 },
                overrun: 0,
                clock,
                thread,
                armed: 0,
                used: 1,
            };
            number as i64
        })
    }

    /// `timer_settime`; with `TIMER_ABSTIME` the value is a time of the timer's clock.
    pub fn timer_settime(&self, timer: i32, flags: i32, new: TimerSpec, old: &mut TimerSpec) -> i64 {
        self.quick(Op::TimerSet, timer as u64, |k, me| {
            let process = k.process_of(me);
            let Some(number) = k.created_timer(process, timer) else { return -EINVAL };
            *old = k.timer_setting(process, number);
            let TimerSpec { value, interval } = new;
            let clock = k.timer_of(process, number).clock;
            let deadline = match value {
                0 => 0,
                _ if flags & TIMER_ABSTIME != 0 => k.deadline_of(clock, value).max(1),
                _ => k.clock().saturating_add(value),
            };
            k.forget_signal(process, number);
            k.set_timer(process, number, deadline, interval)
        })
    }

    /// `timer_gettime`.
    pub fn timer_gettime(&self, timer: i32, left: &mut TimerSpec) -> i64 {
        self.quick(Op::TimerSet, timer as u64, |k, me| {
            let process = k.process_of(me);
            let Some(number) = k.created_timer(process, timer) else { return -EINVAL };
            *left = k.timer_setting(process, number);
            0
        })
    }

    /// `timer_getoverrun`.
    pub fn timer_getoverrun(&self, timer: i32) -> i64 {
        self.with(|k| {
            let process = k.process_of(self.thread());
            let Some(number) = k.created_timer(process, timer) else { return -EINVAL };
            i64::from(k.timer_of(process, number).overrun.min(i32::MAX as u32))
        })
    }

    /// `timer_delete`.
    pub fn timer_delete(&self, timer: i32) -> i64 {
        self.quick(Op::TimerSet, timer as u64, |k, me| {
            let process = k.process_of(me);
            let Some(number) = k.created_timer(process, timer) else { return -EINVAL };
            k.disarm(process, number);
            k.forget_signal(process, number);
            k.timer_of(process, number).used = 0;
            0
        })
    }
}
