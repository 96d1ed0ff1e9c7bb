//! One replica's daemon: it joins clients, peers, Paxos, log and the server's arena in one thread.

pub mod clients;
pub mod config;
pub mod consensus;
pub mod crane;
pub mod digests;
mod divergences;
pub mod driver;
mod effects;
pub mod entries;
mod error;
mod farewell;
pub mod flow;
pub mod frames;
pub mod intake;
mod keeper;
pub mod outputs;
mod pace;
mod peer;
mod peers;
pub mod poll;
mod ports;
mod rebuild;
mod relay;
mod run;
mod server;
mod signals;
pub mod socket;
pub mod status;
mod telling;
mod tls;
mod trace;
mod upcalls;

pub use error::ReplicaError;
pub use run::run;
