//! The server's processes, their threads' lives, their signals and their time.
//!
//! The real processes and threads are the kernel's; here stands what the log decides about them: who exists, who is
//! whose child, which signal waits for whom and which thread takes it. Preload carries it out with real calls.
//!
//! What is left out on purpose: permission checks of `kill`, and core dumps in wait statuses.

pub mod abi;
pub mod cancel;
pub mod clock;
pub mod delivery;
pub mod group;
pub mod interval;
pub mod jobs;
pub mod kill;
pub mod lifecycle;
pub mod mask;
pub mod orphans;
pub mod outside;
pub mod procfs;
pub mod queue;
pub mod rows;
pub mod signal;
pub mod signal_wait;
pub mod table;
pub mod tasks;
pub mod threads;
pub mod usage;
pub mod vfork;
pub mod wait;

pub use signal::{Disposition, Handling, PendingSignal};
pub use table::{Process, ProcessState, Processes};

#[cfg(test)]
mod tests;
