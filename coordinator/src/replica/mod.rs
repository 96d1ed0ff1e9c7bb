//! One replica's daemon: it joins clients, peers, Paxos, the log and the server's arena in one thread.

pub mod digests;
pub mod flow;
pub mod outputs;
pub mod status;
