//! redis-server without persistence, and redis-benchmark.

use std::path::Path;
use std::time::Duration;

use brolga_tests::redis_benchmark::{self, Load as Request};
use brolga_tests::resp::{self, Reply};

use crate::load::{Load, Outcome};
use crate::server::Server;

/// Clients, requests in a pipeline, and requests for each second of measuring.
const LOADS: [(u32, u32, u64); 3] = [(1, 1, 8_000), (50, 1, 40_000), (50, 16, 200_000)];

/// See the module.
#[derive(Debug)]
pub struct Redis;

impl Server for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn usual_port(&self) -> u16 {
        6379
    }

    fn command(&self, _data: &Path, port: u16) -> Vec<String> {
        let port = port.to_string();
        ["redis-server", "--port", &port, "--save", "", "--protected-mode", "no"].map(str::to_owned).to_vec()
    }

    fn answers(&self, port: u16) -> bool {
        resp::Redis::connect(port)
            .and_then(|mut redis| redis.call(&["PING"]))
            .is_ok_and(|reply| reply == Reply::Simple("PONG".into()))
    }

    fn loads(&self, time: Duration) -> Vec<Load> {
        let load = |command, (clients, pipeline, rate)| {
            let name = match pipeline {
                1 => format!("redis {command} c={clients}"),
                _ => format!("redis {command} c={clients} P={pipeline}"),
            };
            let requests = ((rate as f64 * time.as_secs_f64()) as u64).max(1000);
            Load::new(name, move |port| run(port, Request { command, clients, pipeline, requests }))
        };
        LOADS.into_iter().flat_map(|kind| ["SET", "GET"].map(|command| load(command, kind))).collect()
    }
}

fn run(port: u16, request: Request) -> Outcome {
    let redis_benchmark::Outcome { rate, p50, p99 } =
        redis_benchmark::run(port, request).unwrap_or_else(|error| panic!("{error}"));
    Outcome { rate, p50, p99, requests: request.requests }
}
