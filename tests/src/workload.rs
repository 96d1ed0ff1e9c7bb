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
}

impl Sum for Verdict {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            acknowledged: sum.acknowledged + part.acknowledged,
            unknown_done: sum.unknown_done + part.unknown_done,
            unknown_lost: sum.unknown_lost + part.unknown_lost,
        })
    }
}

/// Running clients.
pub trait Workload {
    /// Acknowledged operations so far.
    fn acknowledged(&mut self) -> u64;

    /// Turns the load down to a few operations a second, or up again. A replica that comes back replays the whole log;
    /// beside a leader at full speed, on the same few CPUs, it may never get to its end.
    fn rest(&mut self, rests: bool);

    /// Stops the clients, holds the server against their notes, and says what they noticed of failures at these moments,
    /// as far as they kept the time: see [`gaps`].
    fn finish(self: Box<Self>, failures: &[Instant]) -> Result<(Verdict, Vec<Duration>), String>;
}

/// What clients noticed of failures, in the order of their moments: for each, the longest time between two of the
/// acknowledgements at `ends` that ended after the failure and began before the next one.
pub fn gaps(mut ends: Vec<Instant>, failures: &[Instant]) -> Vec<Duration> {
    ends.sort_unstable();
    let after = |moment: Instant, next: Option<Instant>| {
        let window = moment + GAP_WINDOW;
        let window = next.map_or(window, |next| next.min(window));
        let pairs = ends.windows(2).filter(|pair| pair[1] > moment && pair[0] < window);
        pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    };
    let next = failures.iter().skip(1).copied().map(Some).chain([None]);
    failures.iter().zip(next).map(|(&moment, next)| after(moment, next)).collect()
}
