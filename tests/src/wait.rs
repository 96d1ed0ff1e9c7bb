//! Waiting for a condition with a deadline, by asking again; nothing here sleeps instead of asking.

use std::time::{Duration, Instant};

/// Pause between two questions; what is awaited may be in another process, which nobody could wake us from.
pub const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// What a loaded machine may need for a step of a cluster (start, election, rebuild).
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `probe` until it answers, at most for `limit`; `None` then.
pub fn poll<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Asks `probe` until it answers; panics after `limit`, naming what was awaited.
pub fn until<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    poll(limit, probe).unwrap_or_else(|| panic!("waited {limit:?} in vain: {what}"))
}
