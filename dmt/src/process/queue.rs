//! What travels with the signals that are pending: one bounded pool for all threads and processes.

use crate::bounds::MAX_QUEUED_SIGNALS;
use crate::process::abi::SI_TIMER;
use crate::process::signal::PendingSignal;
use crate::thread::ThreadId;

/// Whom a signal was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A process: any of its threads may take it.
    Process(u16),
    /// A thread.
    Thread(ThreadId),
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Slot {
    /// 0 = the slot is free; else the order of arrival.
    sequence: u64,
    /// Process, or 0.
    process: u16,
    /// Thread, or 0.
    thread: ThreadId,
    info: PendingSignal,
}

impl Slot {
    fn is_for(&self, target: Target) -> bool {
        self.sequence != 0
            && match target {
                Target::Process(id) => self.process == id,
                Target::Thread(id) => self.thread == id,
            }
    }
}

/// The pool. All zeroes is an empty one.
#[repr(C)]
pub struct SignalQueue {
    slots: [Slot; MAX_QUEUED_SIGNALS],
    /// Slots from here on were never used.
    high: u32,
    sequence: u64,
}

impl SignalQueue {
    /// Keeps what came with a signal; false at [`MAX_QUEUED_SIGNALS`].
    pub fn push(&mut self, target: Target, info: PendingSignal) -> bool {
        let Some(index) = self.slots.iter().position(|slot| slot.sequence == 0) else { return false };
        self.sequence += 1;
        let (process, thread) = match target {
            Target::Process(id) => (id, 0),
            Target::Thread(id) => (0, id),
        };
        self.slots[index] = Slot { sequence: self.sequence, process, thread, info };
        self.high = self.high.max(index as u32 + 1);
        true
    }

    /// Takes the oldest `signal` of `target`, and says whether another one waits.
    pub fn take(&mut self, target: Target, signal: i32) -> (Option<PendingSignal>, bool) {
        let (mut oldest, mut oldest_sequence, mut count) = (None, u64::MAX, 0);
        for (index, slot) in self.slots[..self.high as usize].iter().enumerate() {
            if slot.is_for(target) && slot.info.signal == signal {
                count += 1;
                if slot.sequence < oldest_sequence {
                    (oldest, oldest_sequence) = (Some(index), slot.sequence);
                }
            }
        }
        let info = oldest.map(|index| {
            self.slots[index].sequence = 0;
            self.slots[index].info
        });
        (info, count > 1)
    }

    /// Adds one to the overrun count of a timer's signal that is already pending; false if there is none.
    pub fn overrun(&mut self, target: Target, signal: i32, code: i32, timer: i32, by: u32) -> bool {
        for slot in &mut self.slots[..self.high as usize] {
            let info = &mut slot.info;
            let same = info.signal == signal && info.code == code && info.pid == timer;
            if same && slot.is_for(target) {
                slot.info.uid = slot.info.uid.saturating_add(by);
                return true;
            }
        }
        false
    }

    /// Drops what timer number `timer` sent to `target`; true if there was something, and no other `signal` is left.
    pub fn drop_timer(&mut self, target: Target, signal: i32, timer: i32) -> bool {
        let (mut found, mut others) = (false, false);
        for slot in &mut self.slots[..self.high as usize] {
            if slot.is_for(target) && slot.info.signal == signal {
                if slot.info.code == SI_TIMER && slot.info.pid == timer {
                    (slot.sequence, found) = (0, true);
                } else {
                    others = true;
                }
            }
        }
        found && !others
    }

    /// Drops everything in `signals` that waits for `target`.
    pub fn purge(&mut self, target: Target, signals: u64) {
        for slot in &mut self.slots[..self.high as usize] {
            if slot.is_for(target) && signals >> (slot.info.signal - 1) & 1 != 0 {
                slot.sequence = 0;
            }
        }
    }
}
