//! What three replicas of a redis without clients cost.

use std::time::Duration;

use crate::servers::redis::Redis;
use crate::subject::{Running, Subject};

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(20);

/// Cost of doing nothing.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Part of one core, all processes together.
    pub cores: f64,
    /// Log entries a second.
    pub entries: f64,
}

/// Measures it.
pub fn cost() -> Idle {
    let mut running = Running::start(&Redis, Subject::THREE);
    let before = running.counters();
    std::thread::sleep(WATCHED);
    let after = running.counters();
    running.stop();
    let seconds = WATCHED.as_secs_f64();
    let idle = Idle {
        cores: after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds,
        entries: after.entries.saturating_sub(before.entries) as f64 / seconds,
    };
    println!("idle: {:.1} % of a core, {:.1} entries/s", idle.cores * 100.0, idle.entries);
    idle
}
