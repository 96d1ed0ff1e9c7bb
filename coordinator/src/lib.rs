//! Brolga's coordinator: the launcher, the replica container, the client side, Paxos and the durable log.

pub mod channel;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod container;
pub mod doctor;
pub mod filter;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod launcher;
pub mod line_sums;
pub mod log;
pub mod paxos;
pub mod private;
pub mod privileges;
pub mod process_name;
mod processors;
pub mod replay;
pub mod replica;
pub mod slices;
pub mod sockets;
mod stderr;
