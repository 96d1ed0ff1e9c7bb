//! What the tests with real servers share: a cluster in a scratch directory, small clients, a journal of acknowledged
//! writes, and comparisons. The demonstration, the soak test and the benchmarks use it, too.
//!
//! Everything here panics with a full sentence when something is not as it must be: the caller is a test.

pub mod answers;
pub mod campaign;
pub mod checkpoints;
pub mod clamd;
pub mod clients;
pub mod cluster;
pub mod control_group;
pub mod database;
pub mod gerbera;
pub mod h2load;
pub mod http;
pub mod journal;
pub mod layers;
pub mod ledger;
pub mod long_cable;
pub mod machines;
pub mod mariadb;
pub mod memcache;
pub mod mounts;
pub mod postgres;
pub mod power;
pub mod process;
pub mod python;
pub mod redis_benchmark;
pub mod resp;
pub mod scratch;
pub mod serial;
pub mod sim;
pub mod small_disk;
pub mod stats;
pub mod status;
pub mod steps;
pub mod stores;
pub mod tls;
pub mod transfers;
pub mod trio;
pub mod wait;
pub mod web_servers;
pub mod workload;
