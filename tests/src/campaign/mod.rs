//! Clients whose whole history is recorded while anything fails, and held against what objects may do: a history must be one
//! that a single copy of the server, which never failed, could have given (linearizability).
//!
//! The objects are small, and each is used for a while only: the search for an order takes time that grows with the
//! square of a history's length, and with the number of operations without an answer.

pub mod history;
pub mod objects;
pub mod place;
pub mod recorder;
pub mod redis;
pub mod sql;
