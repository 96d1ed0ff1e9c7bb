//! The cluster simulator: whole clusters in one thread, in simulated time, every choice made by one seed.
//!
//! Real are the coordinator's driver with consensus, log and output commit, its client side, its frames, its watchdog, and
//! dmt with its scheduler, its virtual sockets and its locks; a toy server with several threads runs on it. Simulated are
//! time, network, sockets, disks, CPUs, clients and checkpoints. Logs are cut, members come and go. A schedule has faults for a while, then everything heals and must go
//! on. The rules of [`check::rule`] hold all the time.
//!
//! `scripts/dev sim` runs many schedules. `cargo run -p brolga-tests --bin sim -- --seed N --trace` replays one.

pub mod check;
mod checkpoints;
pub mod client;
pub mod faults;
pub mod fiber;
mod hearing;
pub mod history;
pub mod image;
pub mod mail;
mod members;
pub mod memory;
pub mod network;
mod objects;
mod opening;
pub mod plan;
pub mod platform;
pub mod quorums;
pub mod replica;
mod restoring;
pub mod rng;
pub mod server;
mod serving;
pub mod socket;
mod telling;
pub mod toy;
mod transfers;
mod wiretap;
pub mod world;

pub use check::Violation;
pub use plan::{Broken, Plan};
pub use world::{Report, World};

/// Runs the schedule of `seed`.
pub fn run(seed: u64, broken: Option<Broken>) -> Result<Report, Violation> {
    World::new(Plan::new(seed, broken), false).run()
}
