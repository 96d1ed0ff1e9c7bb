//! The virtual kernel: all deterministic state, and the primitives that operations are made of.
//!
//! Everything here is a pure state machine. An operation is a closure that returns [`Step::Done`], or queues its thread
//! with [`Kernel::wait`] and returns [`Step::Block`]; it is called again when the thread has been woken and holds the
//! turn. [`crate::call::Call`] is the thin layer that really parks threads; the simulator has another.

use core::sync::atomic::Ordering;

use crate::affinity::CpuMask;
use crate::digest::{self, Trace, Traced};
use crate::disk::Disk;
use crate::file::Files;
use crate::ipc::Ipc;
use crate::link::Shared;
use crate::op::Op;
use crate::park::{ParkingLot, Space, WaitKey};
use crate::process::Processes;
use crate::random::Random;
use crate::sched::Scheduler;
use crate::thread::{ThreadId, ThreadState, Threads, Wake};
use crate::timers::{TimerKind, Timers};

/// Result of one try of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// The operation is done.
    Done(T),
    /// The thread is queued; try again when it has the turn.
    Block,
    /// A signal ended the wait; take the signals that are due, then try again.
    Restart,
}

/// All deterministic state of a replica's server. All zeroes is its first state.
#[repr(C)]
pub struct Kernel {
    /// Processors that the server may use, for the platform; empty = not known.
    pub processors: CpuMask,
    /// Turn, run queue, bubbles.
    pub sched: Scheduler,
    /// Threads.
    pub threads: Threads,
    /// Processes, their descriptors and signals.
    pub processes: Processes,
    /// Open files, their buffers and watchers.
    pub files: Files,
    /// Inodes, devices and times of files on disk.
    pub disk: Disk,
    /// System V semaphores and message queues.
    pub ipc: Ipc,
    /// Deadlines.
    pub timers: Timers,
    /// Randomness.
    pub random: Random,
    /// Last operations.
    pub trace: Trace,
    lot: ParkingLot,
    /// pthread objects that processes share and somebody waited for; part of their keys.
    pub(crate) shared_objects: u32,
    /// 1 once somebody waited for a robust mutex.
    pub(crate) robust_waits: u32,
    /// Rolling digest.
    pub digest: u64,
}

impl Kernel {
    /// Virtual clock, nanoseconds since the Unix epoch: the last entry's clock and one per tick since. It is
    /// monotonic, because an entry's clock is never before the virtual clock at its admission.
    pub fn clock(&self) -> u64 {
        self.sched.clock + (self.sched.tick - self.sched.stamp)
    }

    /// `CLOCK_MONOTONIC`: starts at 1000 s with the genesis.
    pub fn monotonic(&self) -> u64 {
        self.clock() - self.sched.genesis_clock + 1_000_000_000_000
    }

    /// A deadline on the monotonic clock as one on the virtual clock.
    pub fn from_monotonic(&self, deadline: u64) -> u64 {
        (deadline + self.sched.genesis_clock).saturating_sub(1_000_000_000_000)
    }

    /// Queues thread `me` for `key`, with a deadline on the virtual clock if `deadline` is given. The operation then
    /// returns [`Step::Block`]. If no timer is left ([`crate::bounds::MAX_TIMERS`]), the wait has no deadline and a
    /// warning is the coordinator's to give; the bound is above what [`crate::bounds::MAX_THREADS`] can arm.
    pub fn wait(&mut self, me: ThreadId, key: WaitKey, deadline: Option<u64>) {
        let timer =
            deadline.and_then(|d| self.timers.arm(d, TimerKind::Thread, u32::from(me))).unwrap_or_default();
        let bucket = ParkingLot::bucket(key);
        let tail = self.lot.ends(bucket)[1];
        let thread = self.threads.get_mut(me);
        debug_assert!(thread.key.space == Space::None, "a thread waits for one thing at a time");
        thread.state = ThreadState::Waiting;
        thread.wake = Wake::None;
        thread.key = key;
        thread.timer = timer;
        thread.prev = tail;
        thread.next = 0;
        thread.arrival = self.sched.tick;
        if tail == 0 {
            self.lot.ends(bucket)[0] = me;
        } else {
            self.threads.get_mut(tail).next = me;
        }
        self.lot.ends(bucket)[1] = me;
    }

    /// Why `me` was woken since its last [`Kernel::wait`]; reading it resets it.
    pub fn take_wake(&mut self, me: ThreadId) -> Wake {
        core::mem::replace(&mut self.threads.get_mut(me).wake, Wake::None)
    }

    /// Makes a waiting thread runnable, at the tail of the run queue.
    pub fn wake_thread(&mut self, id: ThreadId, why: Wake) {
        self.unpark(id);
        let thread = self.threads.get_mut(id);
        let timer = core::mem::take(&mut thread.timer);
        thread.wake = why;
        thread.state = ThreadState::Runnable;
        if timer != 0 && why != Wake::Timeout {
            self.timers.disarm(timer);
        }
        self.sched.enqueue(&mut self.threads, id);
    }

    /// Takes a killed thread out of its wait.
    pub(crate) fn cancel_wait(&mut self, id: ThreadId) {
        self.unpark(id);
        let timer = core::mem::take(&mut self.threads.get_mut(id).timer);
        if timer != 0 {
            self.timers.disarm(timer);
        }
    }

    fn unpark(&mut self, id: ThreadId) {
        let thread = self.threads.get_mut(id);
        let (key, prev, next) = (thread.key, thread.prev, thread.next);
        assert!(key.space != Space::None, "only a waiting thread can be woken");
        thread.key = WaitKey::number(Space::None, 0);
        (thread.prev, thread.next) = (0, 0);
        let bucket = ParkingLot::bucket(key);
        if prev == 0 {
            self.lot.ends(bucket)[0] = next;
        } else {
            self.threads.get_mut(prev).next = next;
        }
        if next == 0 {
            self.lot.ends(bucket)[1] = prev;
        } else {
            self.threads.get_mut(next).prev = prev;
        }
    }

    /// The first thread that waits for `key` and that `accept` takes.
    pub fn first_waiter(
        &self,
        key: WaitKey,
        accept: impl Fn(&Threads, ThreadId) -> bool,
    ) -> Option<ThreadId> {
        let mut id = self.lot.head(ParkingLot::bucket(key));
        while id != 0 {
            let thread = self.threads.get(id);
            if thread.key == key && accept(&self.threads, id) {
                return Some(id);
            }
            id = thread.next;
        }
        None
    }

    /// Wakes up to `most` threads that wait for `key` and that `accept` takes, in order of arrival; returns how many.
    pub fn wake(&mut self, key: WaitKey, most: u64, accept: impl Fn(&Threads, ThreadId) -> bool) -> u64 {
        let mut woken = 0;
        while woken < most {
            let Some(id) = self.first_waiter(key, &accept) else { break };
            self.wake_thread(id, Wake::Event);
            woken += 1;
        }
        woken
    }

    /// Wakes the longest waiter for `key`, if any.
    pub fn wake_one(&mut self, key: WaitKey) -> bool {
        self.wake(key, 1, |_, _| true) == 1
    }

    /// Wakes all waiters for `key`.
    pub fn wake_all(&mut self, key: WaitKey) -> u64 {
        self.wake(key, u64::MAX, |_, _| true)
    }

    /// Moves a waiter to another key without waking it (futex requeue); it goes to the tail of the new queue.
    pub fn requeue(&mut self, id: ThreadId, key: WaitKey) {
        self.unpark(id);
        let timer = core::mem::take(&mut self.threads.get_mut(id).timer);
        let wake = self.threads.get(id).wake;
        self.wait(id, key, None);
        let thread = self.threads.get_mut(id);
        (thread.timer, thread.wake) = (timer, wake);
    }

    /// Fires all deadlines that the virtual clock has passed, in order.
    pub fn fire_timers(&mut self, shared: &Shared) {
        let now = self.clock();
        while let Some((kind, id)) = self.timers.pop_due(now) {
            match kind {
                TimerKind::Thread => self.wake_thread(id as ThreadId, Wake::Timeout),
                TimerKind::File => self.timerfd_fired(id),
                TimerKind::Process => self.interval_timer_fired(shared, id as u16),
            }
        }
    }

    /// Enters a finished operation into digest and trace.
    #[inline]
    pub fn note(&mut self, me: ThreadId, op: Op, object: u64, result: i64) {
        let tick = self.sched.tick;
        let head = tick << 26 ^ (u64::from(me) << 12) ^ op as u64;
        self.digest = digest::mix(self.digest, head ^ object.rotate_left(17), result as u64);
        self.trace.push(Traced {
            tick,
            object,
            result,
            thread: me,
            op: op as u16,
            digest: self.digest as u32,
        });
    }

    /// Copies the words that others watch into the control page.
    pub fn publish(&self, shared: &Shared) {
        let control = &shared.control;
        control.digest.store(self.digest, Ordering::Relaxed);
        control.clock.store(self.sched.clock, Ordering::Relaxed);
        control.pool_used.store(self.files.pool_used(), Ordering::Relaxed);
    }
}
