//! Armed deadlines in a binary heap ordered by (deadline, order of arming), with positions so that any can be disarmed.

use crate::bounds::MAX_TIMERS;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TimerKind {
    /// Ends the wait of thread `id`.
    Thread = 0,
    /// Expires the timerfd with file number `id`.
    File = 1,
    /// The interval timer (`setitimer`, `alarm`) of process `id`.
    Process = 2,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Timer {
    deadline: u64,
    sequence: u64,
    kind: TimerKind,
    id: u32,
    position: u32,
    next_free: u16,
}

/// Number of a timer slot, from 1.
pub type TimerSlot = u16;

/// The heap. All zeroes is an empty one.
#[repr(C)]
pub struct Timers {
    slots: [Timer; MAX_TIMERS],
    heap: [TimerSlot; MAX_TIMERS],
    len: u32,
    used: u16,
    free: TimerSlot,
    sequence: u64,
}

impl Timers {
    /// The earliest deadline, nanoseconds of the virtual clock.
    pub fn earliest(&self) -> Option<u64> {
        (self.len > 0).then(|| self.slot(self.heap[0]).deadline)
    }

    /// Arms a deadline; `None` at [`MAX_TIMERS`].
    pub fn arm(&mut self, deadline: u64, kind: TimerKind, id: u32) -> Option<TimerSlot> {
        let slot = self.take_slot()?;
        self.sequence += 1;
        let position = self.len;
        self.slots[slot as usize - 1] =
            Timer { deadline, sequence: self.sequence, kind, id, position, next_free: 0 };
        self.heap[position as usize] = slot;
        self.len += 1;
        self.sift_up(position as usize);
        Some(slot)
    }

    /// Disarms a deadline that has not fired.
    pub fn disarm(&mut self, slot: TimerSlot) {
        let position = self.slot(slot).position as usize;
        self.remove_at(position);
    }

    /// Takes the earliest deadline if it is not after `now`.
    pub fn pop_due(&mut self, now: u64) -> Option<(TimerKind, u32)> {
        if self.earliest()? > now {
            return None;
        }
        let timer = *self.slot(self.heap[0]);
        self.remove_at(0);
        Some((timer.kind, timer.id))
    }

    fn slot(&self, slot: TimerSlot) -> &Timer {
        &self.slots[slot as usize - 1]
    }

    fn take_slot(&mut self) -> Option<TimerSlot> {
        if self.free != 0 {
            let slot = self.free;
            self.free = self.slot(slot).next_free;
            return Some(slot);
        }
        if (self.used as usize) < MAX_TIMERS {
            self.used += 1;
            return Some(self.used);
        }
        None
    }

    fn remove_at(&mut self, position: usize) {
        let slot = self.heap[position];
        self.len -= 1;
        let last = self.len as usize;
        if position != last {
            self.place(position, self.heap[last]);
            self.sift_up(position);
            self.sift_down(self.slots[self.heap[position] as usize - 1].position as usize);
        }
        self.slots[slot as usize - 1].next_free = self.free;
        self.free = slot;
    }

    fn place(&mut self, position: usize, slot: TimerSlot) {
        self.heap[position] = slot;
        self.slots[slot as usize - 1].position = position as u32;
    }

    fn before(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.slot(self.heap[a]), self.slot(self.heap[b]));
        (a.deadline, a.sequence) < (b.deadline, b.sequence)
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (at_a, at_b) = (self.heap[a], self.heap[b]);
        self.place(a, at_b);
        self.place(b, at_a);
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 && self.before(at, (at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let mut least = at;
            for child in [left, right] {
                if child < self.len as usize && self.before(child, least) {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Box<Timers> {
        // SAFETY: all zeroes is an empty heap (module contract).
        unsafe { Box::new(core::mem::zeroed()) }
    }

    #[test]
    fn deadlines_come_out_in_order_of_deadline_then_arming() {
        let mut timers = empty();
        let mut expected = Vec::new();
        for i in 0..500u32 {
            let deadline = u64::from(i * 7919 % 97);
            let slot = timers.arm(deadline, TimerKind::Thread, i).unwrap();
            if i % 5 == 0 {
                timers.disarm(slot);
            } else {
                expected.push((deadline, i));
            }
        }
        expected.sort_unstable();
        let mut got = Vec::new();
        while let Some(deadline) = timers.earliest() {
            assert!(deadline == 0 || timers.pop_due(deadline - 1).is_none());
            let (_, id) = timers.pop_due(deadline).unwrap();
            got.push((deadline, id));
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn the_table_is_bounded_and_slots_come_back() {
        let mut timers = empty();
        let slots: Vec<_> =
            (0..MAX_TIMERS).map(|i| timers.arm(i as u64, TimerKind::File, 0).unwrap()).collect();
        assert!(timers.arm(0, TimerKind::File, 0).is_none());
        timers.disarm(slots[17]);
        assert_eq!(timers.arm(3, TimerKind::File, 0), Some(slots[17]));
    }
}
