//! Brolga's deterministic core: the scheduler and the virtual kernel objects that it schedules.
//!
//! dmt makes no system call, reads no clock, allocates nothing and starts no thread. Its whole state is plain data in an
//! *arena*, shared memory that every process of a replica's server maps at the same address, so a fork shares it and a
//! simulator can hold several. Time and parking come in through [`platform::Platform`].
#![cfg_attr(not(any(test, loom)), no_std)]

pub mod admission;
pub mod affinity;
pub mod apply;
pub mod arena;
pub mod atomic;
mod behind;
pub mod bell;
pub mod bounds;
pub mod call;
pub mod context;
pub mod control;
mod crane;
pub mod digest;
pub mod disk;
pub mod entry;
pub mod file;
mod following;
pub mod grant;
pub mod ipc;
pub mod kernel;
mod kick;
mod leader_time;
pub mod link;
pub mod offer;
pub mod op;
pub mod park;
pub mod platform;
pub mod preemption;
pub mod process;
pub mod random;
pub mod replaced;
pub mod ring;
pub mod sched;
mod sleep;
pub mod spin;
pub mod spin_point;
pub mod sync;
#[cfg(test)]
pub mod testing;
pub mod thread;
pub mod timers;
pub mod tracing;
pub mod upcall;
