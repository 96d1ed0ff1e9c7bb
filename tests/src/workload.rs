//! Clients that keep a journal while replicas die, whatever the server is.

use std::iter::Sum;
use std::time::{Duration, Instant};

/// A gap that begins later than this after a failure is not of that failure.
const GAP_WINDOW: Duration = Duration::from_secs(2);

/// What the comparison with the journal found, when it found nothing wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged operations, all there exactly once.
    pub acknowledged: usize,
    /// Operations without an answer that had happened.
    pub unknown_done: usize,
    /// Operations without an answer that had not happened.
    pub unknown_lost: usize,
    /// Objects whose history was too much to be checked.
    pub undecided: usize,
}

impl Sum for Verdict {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            acknowledged: sum.acknowledged + part.acknowledged,
            unknown_done: sum.unknown_done + part.unknown_done,
            unknown_lost: sum.unknown_lost + part.unknown_lost,
            undecided: sum.undecided + part.undecided,
        })
    }
}

/// A replica's death under load.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// When.
    pub at: Instant,
    /// When the load was turned down: until then the clients' silence is the server's.
    pub rest: Instant,
}

impl Failure {
    /// Since `at`, and the load is about to be turned down.
    pub fn since(at: Instant) -> Self {
        Self { at, rest: Instant::now() }
    }
}

/// Running clients.
pub trait Workload {
    /// Acknowledged operations so far.
    fn acknowledged(&mut self) -> u64;

    /// Turns the load down to a few operations a second, or up again. A replica that comes back replays the whole log;
    /// beside a leader at full speed, on the same few CPUs, it may never get to its end.
    fn rest(&mut self, rests: bool);

    /// Stops the clients, holds the server against their notes, and says what they noticed of these failures,
    /// as far as they kept the time: see [`gaps`].
    fn finish(self: Box<Self>, failures: &[Failure]) -> Result<(Verdict, Vec<Duration>), String>;
}

/// What clients noticed of each failure: the longest time between two of the acknowledgements at `ends` that ended after
/// it and began before the load was turned down.
pub fn gaps(mut ends: Vec<Instant>, failures: &[Failure]) -> Vec<Duration> {
    ends.sort_unstable();
    let after = |failure: &Failure| {
        let window = failure.rest.min(failure.at + GAP_WINDOW);
        let pairs = ends
            .windows(2)
            .filter(|pair| pair[1] > failure.at && pair[0] < window && pair[1] <= failure.rest);
        pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    };
    failures.iter().map(after).collect()
}
