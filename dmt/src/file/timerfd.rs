//! timerfd.

use crate::call::Call;
use crate::file::abi::{
    CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM, CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_REALTIME_ALARM, EAGAIN,
    EBADF, EINVAL, ENFILE, O_NONBLOCK, O_RDWR, POLLIN, TFD_TIMER_ABSTIME, TimerSpec,
};
use crate::file::event::copy_out;
use crate::file::memory::UserMemory;
use crate::file::waiting::{Try, Wait};
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::op::Op;
use crate::park::Space;
use crate::timers::{TimerKind, TimerSlot};

/// State of a timerfd.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct TimerState {
    /// Next expiry on the virtual clock; 0 = disarmed.
    deadline: u64,
    /// Period, nanoseconds.
    interval: u64,
    /// Expirations not yet read.
    pub(crate) expirations: u64,
    clock: i32,
    slot: TimerSlot,
}

impl Kernel {
    /// The timerfd with this file number expired.
    pub fn timerfd_fired(&mut self, id: FileId) {
        let now = self.clock();
        let timer = &mut self.files.get_mut(id).timer;
        timer.slot = 0;
        timer.expirations += 1;
        let missed = now.saturating_sub(timer.deadline).checked_div(timer.interval);
        if let Some(missed) = missed {
            timer.expirations += missed;
            timer.deadline += (missed + 1) * timer.interval;
            let deadline = timer.deadline;
            let slot = self.timers.arm(deadline, TimerKind::File, id);
            self.files.get_mut(id).timer.slot = slot.unwrap_or(0);
        } else {
            timer.deadline = 0;
        }
        self.notify(id, POLLIN);
    }

    pub(crate) fn disarm_timerfd(&mut self, id: FileId) {
        let timer = &mut self.files.get_mut(id).timer;
        timer.deadline = 0;
        let slot = core::mem::take(&mut timer.slot);
        if slot != 0 {
            self.timers.disarm(slot);
        }
    }

    pub(crate) fn read_timerfd(&mut self, id: FileId, target: &mut UserMemory<'_>) -> Try {
        if target.left() < 8 {
            return Try::Done(-EINVAL);
        }
        let file = self.files.get_mut(id);
        if file.timer.expirations == 0 {
            return if file.nonblocking() { Try::Done(-EAGAIN) } else { Wait::after(Space::Read, 0, 0) };
        }
        let expirations = core::mem::take(&mut file.timer.expirations);
        copy_out(target, &expirations.to_le_bytes());
        Try::Done(8)
    }

    fn timerfd_setting(&self, id: FileId) -> TimerSpec {
        let timer = self.files.get(id).timer;
        // An armed timer never shows 0: it is about to fire.
        let value = if timer.deadline == 0 { 0 } else { timer.deadline.saturating_sub(self.clock()).max(1) };
        TimerSpec { interval: timer.interval, value }
    }

    fn set_timerfd(&mut self, id: FileId, flags: i32, new: TimerSpec) {
        self.disarm_timerfd(id);
        let now = self.clock();
        let clock = self.files.get(id).timer.clock;
        let deadline = match (flags & TFD_TIMER_ABSTIME != 0, clock) {
            (false, _) => now.saturating_add(new.value),
            (true, CLOCK_REALTIME | CLOCK_REALTIME_ALARM) => new.value,
            (true, _) => self.from_monotonic(new.value),
        };
        let slot = (new.value > 0).then(|| self.timers.arm(deadline, TimerKind::File, id)).flatten();
        let timer = &mut self.files.get_mut(id).timer;
        (timer.interval, timer.expirations, timer.slot) = (new.interval, 0, slot.unwrap_or(0));
        timer.deadline = if new.value > 0 { deadline.max(1) } else { 0 };
    }
}

impl Call<'_> {
    /// `timerfd_create`: returns a file number.
    pub fn timerfd(&self, clock: i32, flags: i32) -> i64 {
        self.quick(Op::TimerFd, clock as u64, |k, _| {
            let known = matches!(
                clock,
                CLOCK_REALTIME
                    | CLOCK_MONOTONIC
                    | CLOCK_BOOTTIME
                    | CLOCK_REALTIME_ALARM
                    | CLOCK_BOOTTIME_ALARM
            );
            if !known {
                return -EINVAL;
            }
            let Some(id) = k.files.create(FileKind::TimerFd, O_RDWR | flags & O_NONBLOCK) else {
                return -ENFILE;
            };
            k.files.get_mut(id).timer.clock = clock;
            i64::from(id)
        })
    }

    fn on_timerfd(&self, op: Op, fd: i32, f: impl FnOnce(&mut Kernel, FileId) -> i64) -> i64 {
        self.quick(op, fd as u64, |k, me| match k.descriptor(me, fd) {
            Some(file) if k.files.get(file).kind == FileKind::TimerFd => f(k, file),
            Some(_) => -EINVAL,
            None => -EBADF,
        })
    }

    /// `timerfd_settime`; `old` gets the setting before.
    pub fn timerfd_settime(&self, fd: i32, flags: i32, new: TimerSpec, old: &mut TimerSpec) -> i64 {
        self.on_timerfd(Op::TimerSet, fd, |k, file| {
            *old = k.timerfd_setting(file);
            k.set_timerfd(file, flags, new);
            0
        })
    }

    /// `timerfd_gettime`.
    pub fn timerfd_gettime(&self, fd: i32, current: &mut TimerSpec) -> i64 {
        self.on_timerfd(Op::TimerFd, fd, |k, file| {
            *current = k.timerfd_setting(file);
            0
        })
    }
}
