//! The atomics of the shared memory: the machine's, or under `--cfg loom` those of the model checker, which tries every
//! order in which threads can take their steps and every old value that they may still see (`tests/models.rs`).

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering, fence};
