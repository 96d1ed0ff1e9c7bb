//! Replays: a replica's log executed again, alone, without network or peers, and held against what happened.
//!
//! [`recording`] is what a replica left behind, [`execution`] runs a server on it, [`explain`] finds the operation at which
//! two executions part, and says what it can about it.
#![expect(clippy::disallowed_methods, reason = "a replay that stands still is given up")]

pub mod dump;
mod error;
pub mod execution;
pub mod explain;
pub mod gdb;
pub mod likely;
pub mod maps;
pub mod parting;
pub mod recording;
pub mod report;
pub mod symbols;
pub mod trace;

pub use error::ReplayError;
