//! The table of inotify watches and instances.

use crate::bounds::{MAX_INOTIFY_INSTANCES, MAX_INOTIFY_WATCHES};
use crate::file::FileId;
use crate::file::inotify::EVENT_BYTES;

const BUCKETS: usize = 1024;

/// Place of a watch in the table, from 1; 0 = none.
pub(super) type WatchId = u32;

/// One watch of an instance of the server's.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Watch {
    /// The instance; 0 = it was closed, and the kernel still watches for it.
    pub(super) owner: FileId,
    /// Its number in the instance.
    pub(super) number: i32,
    pub(super) place: i32,
    pub(super) mask: u32,
    /// Next of its instance, among the orphans or in the free list.
    pub(super) next: WatchId,
    /// Next with the same hash of its place.
    chain: WatchId,
}

/// What a file has no room for.
#[repr(C)]
pub(super) struct Instance {
    pub(super) file: FileId,
    pub(super) watches: WatchId,
    pub(super) last_number: i32,
    pub(super) events: u32,
    pub(super) tail_bytes: u32,
    /// The last event, which one like it is not put behind.
    pub(super) tail: [u8; EVENT_BYTES],
}

/// All instances and watches. All zeroes = none.
#[repr(C)]
pub struct Inotify {
    pub(super) instances: [Instance; MAX_INOTIFY_INSTANCES],
    pub(super) watches: [Watch; MAX_INOTIFY_WATCHES],
    chains: [WatchId; BUCKETS],
    free: WatchId,
    touched: u32,
    pub(super) used: u32,
    pub(super) orphans: WatchId,
    /// The last cookie of the kernel's and ours for it: the kernel's count the renames of the whole machine.
    cookies: [u32; 2],
}

impl Inotify {
    pub(super) fn watch(&mut self, id: WatchId) -> &mut Watch {
        &mut self.watches[id as usize - 1]
    }

    fn bucket(place: i32) -> usize {
        place as usize % BUCKETS
    }

    /// A new watch, in its chain.
    pub(super) fn take(&mut self, place: i32) -> Option<WatchId> {
        let id = if self.free != 0 {
            let id = self.free;
            self.free = self.watch(id).next;
            id
        } else if (self.touched as usize) < MAX_INOTIFY_WATCHES {
            self.touched += 1;
            self.touched
        } else {
            return None;
        };
        let chain = core::mem::replace(&mut self.chains[Self::bucket(place)], id);
        *self.watch(id) = Watch { owner: 0, number: 0, place, mask: 0, next: 0, chain };
        self.used += 1;
        Some(id)
    }

    /// Takes a watch that is in no list out of its chain.
    pub(super) fn give_back(&mut self, id: WatchId) {
        let (place, chain) = (self.watch(id).place, self.watch(id).chain);
        let bucket = Self::bucket(place);
        if self.chains[bucket] == id {
            self.chains[bucket] = chain;
        } else {
            let mut before = self.chains[bucket];
            while self.watch(before).chain != id {
                before = self.watch(before).chain;
            }
            self.watch(before).chain = chain;
        }
        let free = core::mem::replace(&mut self.free, id);
        *self.watch(id) = Watch { owner: 0, number: 0, place: 0, mask: 0, next: free, chain: 0 };
        self.used -= 1;
    }

    /// The watch behind `after` (0 = the first) on `place` that an instance has.
    pub(super) fn next_on(&mut self, place: i32, after: WatchId) -> Option<WatchId> {
        let mut id = if after == 0 { self.chains[Self::bucket(place)] } else { self.watch(after).chain };
        while id != 0 {
            let watch = self.watch(id);
            if watch.place == place && watch.owner != 0 {
                return Some(id);
            }
            id = watch.chain;
        }
        None
    }

    pub(super) fn find(&mut self, instance: usize, is: impl Fn(&Watch) -> bool) -> Option<WatchId> {
        let mut id = self.instances[instance].watches;
        while id != 0 && !is(self.watch(id)) {
            id = self.watch(id).next;
        }
        (id != 0).then_some(id)
    }

    /// Takes a watch out of its instance's list.
    pub(super) fn unlink(&mut self, instance: usize, id: WatchId) {
        let next = self.watch(id).next;
        if self.instances[instance].watches == id {
            self.instances[instance].watches = next;
        } else {
            let mut before = self.instances[instance].watches;
            while self.watch(before).next != id {
                before = self.watch(before).next;
            }
            self.watch(before).next = next;
        }
    }

    /// Our number for the kernel's cookie of this or the last event.
    pub(super) fn cookie(&mut self, of_kernel: u32) -> u32 {
        if of_kernel == 0 {
            return 0;
        }
        if self.cookies[0] != of_kernel {
            self.cookies = [of_kernel, self.cookies[1] + 1];
        }
        self.cookies[1]
    }
}
