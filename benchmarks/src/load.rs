//! The loads of each server.

use std::time::Duration;

use brolga_tests::redis_benchmark::{self, Load as Redis};

use crate::server::Server;
use crate::{memcached, wrk};

const MEMCACHED_CONNECTIONS: usize = 32;
const NGINX_CONNECTIONS: u32 = 50;

/// What a load measured.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Requests a second.
    pub rate: f64,
    /// Median latency, milliseconds.
    pub p50: f64,
    /// 99th percentile of the latency, milliseconds.
    pub p99: f64,
    /// Requests made.
    pub requests: u64,
}

/// A load.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// redis-benchmark.
    Redis(Redis),
    /// The generator beside this file.
    Memcached {
        /// How long.
        time: Duration,
    },
    /// wrk with kept connections.
    Nginx {
        /// How long.
        time: Duration,
    },
}

impl Load {
    /// All loads of a server, made smaller by `divide`.
    pub fn all(server: Server, divide: u64) -> Vec<Self> {
        let time = Duration::from_secs(5) / u32::try_from(divide).expect("a small divisor");
        match server {
            Server::Redis => [(1, 1, 40_000), (50, 1, 200_000), (50, 16, 1_000_000)]
                .into_iter()
                .flat_map(|(clients, pipeline, requests)| {
                    let requests = (requests / divide).max(1000);
                    ["SET", "GET"].map(|command| Self::Redis(Redis { command, clients, pipeline, requests }))
                })
                .collect(),
            Server::Memcached => vec![Self::Memcached { time }],
            Server::Nginx => vec![Self::Nginx { time }],
        }
    }

    /// Its row in the tables.
    pub fn name(self) -> String {
        match self {
            Self::Redis(Redis { command, clients, pipeline: 1, .. }) => {
                format!("redis {command} c={clients}")
            }
            Self::Redis(Redis { command, clients, pipeline, .. }) => {
                format!("redis {command} c={clients} P={pipeline}")
            }
            Self::Memcached { .. } => format!("memcached get/set 9:1 c={MEMCACHED_CONNECTIONS}"),
            Self::Nginx { .. } => format!("nginx keep-alive c={NGINX_CONNECTIONS}"),
        }
    }

    /// Runs it.
    pub fn run(self, port: u16) -> Outcome {
        match self {
            Self::Redis(load) => {
                let redis_benchmark::Outcome { rate, p50, p99 } =
                    redis_benchmark::run(port, load).unwrap_or_else(|error| panic!("{error}"));
                Outcome { rate, p50, p99, requests: load.requests }
            }
            Self::Memcached { time } => memcached::run(port, MEMCACHED_CONNECTIONS, time),
            Self::Nginx { time } => wrk::run(port, NGINX_CONNECTIONS, time),
        }
    }
}
