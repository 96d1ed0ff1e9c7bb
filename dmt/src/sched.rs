//! Whose turn it is, and until when: run queue, time slices, logical time, the current bubble.
//!
//! Serial mode (`primaries` = 1): one thread of the replica runs at any time. It keeps the turn until it blocks or has
//! made `quantum` operations. The run queue is FIFO.

use core::sync::atomic::Ordering;

use crate::entry::Parameters;
use crate::grant::Grant;
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::thread::{ThreadId, ThreadState, Threads};

/// Scheduler state; all zeroes is the state before entry 0.
#[repr(C)]
pub struct Scheduler {
    /// Logical time: scheduled operations so far.
    pub tick: u64,
    /// The next operation stops at this tick for [`crate::call::Call`] to look at bubble, slice and preemption.
    pub stop_at: u64,
    /// Stamp of the last entry applied.
    pub stamp: u64,
    /// Where its bubble ends, unless the server is quiescent before.
    pub bubble_end: u64,
    /// Ballot of the leader that opened it.
    pub bubble_ballot: u64,
    /// Clock of the last entry applied, nanoseconds.
    pub clock: u64,
    /// Clock of entry 0, nanoseconds.
    pub genesis_clock: u64,
    /// Entries applied (index of the last + 1).
    pub applied: u64,
    /// Grant of the last entry that was not a closing, ticks; what adaptation starts from.
    pub grant: u64,
    /// Holder of the turn; 0 while quiescent.
    pub turn: ThreadId,
    head: ThreadId,
    tail: ThreadId,
    /// Threads in the run queue.
    pub queued: u16,
    /// 1 if entry 0 asked for the admission rules of CRANE.
    pub crane: u32,
    /// Operations in a time slice.
    pub quantum: u32,
    /// Spin limit, microseconds.
    pub spin_limit_us: u32,
    /// Cursor in the pending ring of the next input to admit.
    pub pending_cursor: u64,
    /// `pending_from` of the leadership that `pending_cursor` belongs to.
    pub pending_epoch: u64,
    /// 1 once the bubble's digest was reported.
    pub reported: u32,
    /// 1 if this replica admitted the last entry itself.
    pub admitted_last: u32,
    /// 1 if the coordinator made the last entry in the place of this server.
    pub taken_last: u32,
    /// Outputs since the coordinator was last woken; nothing depends on it elsewhere.
    pub(crate) unkicked: u32,
    /// Real time of the last wake-up between two threads, nanoseconds; likewise.
    pub(crate) kicked_at: u64,
    /// 1 once a leader admitted an empty entry for the current idle time.
    pub idle_closed: u32,
    /// Thread that the last entry preempted and that has not yet given the turn away, or 0.
    pub preempted: ThreadId,
    /// Tick at which `turn` got the turn.
    pub(crate) turn_since: u64,
    /// Preemptions applied.
    pub preemptions: u32,
    /// Tick at which a thread was last seen in a known spin loop; on this replica alone, nothing depends on it elsewhere.
    pub(crate) asked_at: u64,
    /// Where they were.
    pub(crate) places: crate::spin::Places,
    /// Spin points and the threads that stand there.
    pub spinners: crate::spin_point::Spinners,
}

impl Scheduler {
    /// Appends a runnable thread to the run queue, unless its process is stopped.
    pub fn enqueue(&mut self, threads: &mut Threads, id: ThreadId) {
        let thread = threads.get_mut(id);
        debug_assert_eq!(thread.state, ThreadState::Runnable);
        if thread.stopped {
            thread.held = true;
            return;
        }
        (thread.prev, thread.next) = (self.tail, 0);
        if self.tail == 0 {
            self.head = id;
        } else {
            threads.get_mut(self.tail).next = id;
        }
        self.tail = id;
        self.queued += 1;
    }

    /// Takes a thread out of the run queue that has been killed.
    pub(crate) fn remove(&mut self, threads: &mut Threads, id: ThreadId) {
        if threads.get(id).spinning {
            return self.remove_spinner(threads, id);
        }
        let thread = threads.get_mut(id);
        let (prev, next) = (core::mem::take(&mut thread.prev), core::mem::take(&mut thread.next));
        if prev == 0 {
            self.head = next;
        } else {
            threads.get_mut(prev).next = next;
        }
        if next == 0 {
            self.tail = prev;
        } else {
            threads.get_mut(next).prev = prev;
        }
        self.queued -= 1;
    }

    /// Takes the next thread out of the run queue and gives it the turn with a fresh slice.
    ///
    /// That is a tick: a thread that gets the turn in the middle of an operation (it was woken, or its slice had ended)
    /// runs on without a new one, and an entry that is stamped there must not take effect before the change on a follower.
    pub fn pick(&mut self, threads: &mut Threads) -> Option<ThreadId> {
        if self.turn != 0 {
            threads.get_mut(self.turn).ticks += self.tick - self.turn_since;
            if !threads.get(self.turn).spinning {
                self.note_work();
            }
        }
        self.turn_since = self.tick;
        if self.head == 0 && self.spinners.count > 0 {
            self.release_spinners(threads);
        }
        if self.head == 0 {
            self.turn = 0;
            return None;
        }
        let id = self.head;
        self.tick += 1;
        let slice_end = self.tick + u64::from(self.quantum.max(1));
        let thread = threads.get_mut(id);
        self.head = thread.next;
        thread.next = 0;
        thread.slice_end = slice_end;
        if self.head == 0 {
            self.tail = 0;
        } else {
            threads.get_mut(self.head).prev = 0;
        }
        self.queued -= 1;
        self.turn = id;
        Some(id)
    }

    /// True once a thread was found spinning.
    pub(crate) fn has_spinners(&self) -> bool {
        self.preemptions != 0 || self.spinners.any()
    }

    /// Takes over parameters from the genesis or a `Reconfigure` event. Values out of range are clamped, the same way
    /// everywhere; `primaries` other than 1 is for parallel mode, which does not exist yet, and counts as 1.
    pub fn set_parameters(&mut self, parameters: &Parameters) {
        self.quantum = parameters.quantum.get().clamp(1, 1 << 20);
        self.spin_limit_us = parameters.spin_limit_us.get().clamp(100, 10_000_000);
    }
}

impl Kernel {
    /// The word through which a thread of the kernel gets the turn: that of thread `id`, or the one that carries all threads of
    /// its process. Without a reference to the rest of the kernel.
    ///
    /// # Safety
    /// `kernel` points to a live kernel. No turn is needed for a thread that exists: only an address is computed.
    pub unsafe fn grant_word(kernel: *mut Kernel, id: ThreadId, carried: bool) -> *const Grant {
        // SAFETY: promise of the caller; the numbers are checked by the tables.
        unsafe {
            let thread = (*kernel).threads.get(id);
            if carried { Self::carrier_word(kernel, thread.process) } else { &raw const thread.granted }
        }
    }

    /// The word through which the carrier of a process gets the turn.
    ///
    /// # Safety
    /// As [`Kernel::grant_word`].
    pub unsafe fn carrier_word(kernel: *mut Kernel, process: u16) -> *const Grant {
        // SAFETY: promise of the caller; the number is checked by the table.
        unsafe { &raw const (*kernel).processes.get(process).granted }
    }

    /// Chooses who runs next and says so on the control page.
    pub fn pick(&mut self, shared: &Shared) -> Option<ThreadId> {
        let next = self.sched.pick(&mut self.threads);
        shared.control.tick.store(self.sched.tick, Ordering::Relaxed);
        self.show_turn(shared);
        next
    }

    /// Gives the turn to the first thread, which was in no queue.
    pub fn hold_turn(&mut self, shared: &Shared, me: ThreadId) {
        self.sched.turn = me;
        self.show_turn(shared);
    }

    fn show_turn(&self, shared: &Shared) {
        let control = &shared.control;
        let turn = self.sched.turn;
        // What the watchdog saw was another thread.
        control.wanted.store(0, Ordering::Relaxed);
        let pid = if turn == 0 { 0 } else { self.processes.get(self.process_of(turn)).pid };
        control.turn_pid.store(pid, Ordering::Relaxed);
        control.turn.store(u32::from(turn), Ordering::Relaxed);
        let runnable = u32::from(self.sched.queued) + u32::from(turn != 0);
        control.runnable.store(runnable, Ordering::Release);
    }

    /// True if `me` has ended and no other thread is alive.
    pub fn nobody_is_left(&self, me: ThreadId) -> bool {
        let ended =
            |id: ThreadId| matches!(self.threads.get(id).state, ThreadState::Free | ThreadState::Ended);
        ended(me) && self.threads.ids().all(ended)
    }

    /// Bookkeeping of the thread that just got the turn: where it must stop next.
    pub fn took_turn(&mut self, shared: &Shared, me: ThreadId) {
        if !self.set_stop(shared, me) {
            self.sched.stop_at = self.sched.tick;
        }
    }

    /// Puts `me` at the tail of the run queue if anyone else is runnable; then the caller switches.
    pub fn rotate(&mut self, me: ThreadId) -> bool {
        if self.sched.spinners.count > 0 {
            // Whoever polls may wait for one of them.
            self.sched.note_work();
            self.sched.release_spinners(&mut self.threads);
        }
        if self.sched.queued == 0 {
            self.threads.get_mut(me).slice_end = self.sched.tick + u64::from(self.sched.quantum.max(1));
            return false;
        }
        self.sched.enqueue(&mut self.threads, me);
        true
    }

    /// At a stop: true if `me` used up its slice and was queued behind others.
    pub fn slice_is_over(&mut self, me: ThreadId) -> bool {
        self.sched.tick >= self.threads.get(me).slice_end && self.rotate(me)
    }

    /// Sets the next stop; false if a follower may not go on because it does not know the next entry.
    pub fn set_stop(&mut self, shared: &Shared, me: ThreadId) -> bool {
        let Some(bubble) = self.bubble_stop(shared) else { return false };
        self.sched.stop_at = bubble.min(self.threads.get(me).slice_end);
        true
    }

    /// True if the entry just applied took the turn from `me` (preemption); the caller switches.
    pub fn take_rotation(&mut self, me: ThreadId) -> bool {
        core::mem::take(&mut self.sched.preempted) == me
    }
}
