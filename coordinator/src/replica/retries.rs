//! When to try again to bring a server back, after that has failed. Pure.
//!
//! With checkpoints of its own a replica goes from the newest to the older one, and to the log's beginning if it is there. If nothing
//! of that works, it fetches others'. Where the machine is the reason (no CRIU, no memory), these do not work either: then each try
//! would cost a transfer, so the pauses grow.

/// Pause after the first failure, nanoseconds; each later one is twice as long.
const FIRST_NS: u64 = 1_000_000_000;
/// Longest pause, nanoseconds.
const LONGEST_NS: u64 = 256_000_000_000;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retries {
    failures: u32,
    until: u64,
}

impl Retries {
    /// It has failed again; returns the pause in seconds.
    pub fn failed(&mut self, now: u64) -> u64 {
        let pause = FIRST_NS.saturating_mul(1 << self.failures.min(30)).min(LONGEST_NS);
        self.failures += 1;
        self.until = now.saturating_add(pause);
        pause / 1_000_000_000
    }

    /// It works.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// How often it has failed since it worked last.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the pause is over.
    pub fn may(&self, now: u64) -> bool {
        now >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_NS, Retries};

    #[test]
    fn pauses_double_up_to_a_bound_and_success_ends_them() {
        let mut retries = Retries::default();
        assert!(retries.may(0));
        assert_eq!([0; 10].map(|_| retries.failed(7)), [1, 2, 4, 8, 16, 32, 64, 128, 256, 256]);
        assert_eq!(retries.failures(), 10);
        assert!(!retries.may(6 + LONGEST_NS) && retries.may(7 + LONGEST_NS));
        retries.succeeded();
        assert!(retries.may(0));
        assert_eq!(retries.failed(0), 1);
    }
}
