//! Arenas for simulated replicas: fresh zeroes at each start, and reused, because there are many starts in a run.

use std::cell::RefCell;
use std::ptr;

use dmt::arena::{ARENA_BYTES, Arena};

thread_local! {
    static FREE: RefCell<Vec<Mapping>> = const { RefCell::new(Vec::new()) };
}

struct Mapping(*mut u8);

/// The memory of one arena, all zeroes when it is taken.
pub struct ArenaMemory(*mut u8);

impl ArenaMemory {
    /// A fresh arena.
    pub fn take() -> Self {
        let Mapping(base) = FREE.with_borrow_mut(Vec::pop).unwrap_or_else(map);
        Self(base)
    }

    /// The arena. Valid until the `ArenaMemory` is dropped, which is the caller's to see to.
    pub fn arena(&self) -> *const Arena {
        self.0.cast()
    }
}

fn map() -> Mapping {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a new anonymous mapping at an address that the kernel chooses.
    let base = unsafe { libc::mmap(ptr::null_mut(), ARENA_BYTES, protection, flags, -1, 0) };
    assert!(base != libc::MAP_FAILED, "no memory for a simulated arena of {ARENA_BYTES} bytes");
    Mapping(base.cast())
}

impl Drop for ArenaMemory {
    fn drop(&mut self) {
        // SAFETY: the range is exactly a mapping that `map` made; its pages come back as zeroes.
        let result = unsafe { libc::madvise(self.0.cast(), ARENA_BYTES, libc::MADV_DONTNEED) };
        assert_eq!(result, 0, "the pages of an arena could not be given back");
        FREE.with_borrow_mut(|free| free.push(Mapping(self.0)));
    }
}
