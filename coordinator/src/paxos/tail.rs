//! The last entries of the log in memory, bounded. What falls out is in the durable log.

use std::collections::VecDeque;

use super::types::Entry;

/// Entries `first..end`.
#[derive(Debug, Default)]
pub(super) struct Tail {
    slots: VecDeque<Slot>,
    first: u64,
    /// Bytes of all values before the first slot, since the tail was made.
    base: u64,
    max_entries: usize,
    max_bytes: u64,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    /// Bytes of all values up to and including this one, so that the size of any range is one subtraction.
    total: u64,
}

impl Tail {
    pub(super) fn new(first: u64, max_entries: usize, max_bytes: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            first,
            base: 0,
            max_entries: max_entries.max(1),
            max_bytes: max_bytes as u64,
        }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.first)?;
        self.slots.get(usize::try_from(offset).ok()?).map(|slot| &slot.entry)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let total = self.total_before(self.end()) + entry.value.len() as u64;
        self.slots.push_back(Slot { entry, total });
    }

    /// Drops the oldest entries that exceed the bound, but none from `keep` on and never the last one.
    pub(super) fn evict(&mut self, keep: u64) {
        while self.slots.len() > 1 && self.first < keep && self.exceeds() {
            if let Some(slot) = self.slots.pop_front() {
                self.base = slot.total;
                self.first += 1;
            }
        }
    }

    /// Forgets all: the next entry is `first`.
    pub(super) fn restart(&mut self, first: u64) {
        (self.first, self.base) = (first, 0);
        self.slots.clear();
    }

    /// Drops the entries before `first`, which is one that is here or before.
    pub(super) fn cut(&mut self, first: u64) {
        while self.first < first && self.slots.len() > 1 {
            if let Some(slot) = self.slots.pop_front() {
                self.base = slot.total;
                self.first += 1;
            }
        }
    }

    fn exceeds(&self) -> bool {
        self.slots.len() > self.max_entries || self.bytes(self.first, self.end()) > self.max_bytes
    }

    /// Cuts off the entries from `len` on. If none is left, the tail starts anew at `len`.
    pub(super) fn truncate(&mut self, len: u64) {
        if len <= self.first {
            self.base = 0;
            self.first = len;
            self.slots.clear();
        } else {
            self.slots.truncate((len - self.first) as usize);
        }
    }

    /// Bytes of the values in `from..to`, as far as they are in the tail.
    pub(super) fn bytes(&self, from: u64, to: u64) -> u64 {
        self.total_before(to).saturating_sub(self.total_before(from))
    }

    fn total_before(&self, index: u64) -> u64 {
        let count = index.saturating_sub(self.first).min(self.slots.len() as u64) as usize;
        if count == 0 { self.base } else { self.slots[count - 1].total }
    }

    /// Up to `max_entries` entries from `from` on; the first always, more while they stay within `max_bytes`.
    pub(super) fn batch(&self, from: u64, max_entries: usize, max_bytes: usize) -> Vec<Entry> {
        let Some(skip) = from.checked_sub(self.first).and_then(|n| usize::try_from(n).ok()) else {
            return Vec::new();
        };
        let count = self.slots.len().saturating_sub(skip).min(max_entries);
        let mut batch = Vec::with_capacity(count);
        let start = self.total_before(from);
        for slot in self.slots.range(skip.min(self.slots.len())..).take(count) {
            if !batch.is_empty() && slot.total - start > max_bytes as u64 {
                break;
            }
            batch.push(slot.entry.clone());
        }
        batch
    }
}
