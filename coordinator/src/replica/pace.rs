//! How often a follower's server is woken for new entries.
//!
//! Nobody waits for a follower's server, and a wake-up costs more than a small entry. So entries gather for a moment; a
//! follower that becomes leader is at the most that moment behind. Pure.

/// A follower's server that was woken is not woken again for this long, nanoseconds, unless
const PACE_NS: u64 = 1_000_000;
/// so many entries wait.
const PACE_ENTRIES: u32 = 32;

/// See the module.
#[derive(Debug, Default)]
pub struct Pace {
    waiting: u32,
    woken_at: u64,
}

impl Pace {
    /// So many entries were given to the server, which was not woken for them.
    pub fn given(&mut self, entries: u32) {
        self.waiting = self.waiting.saturating_add(entries);
    }

    /// The server was woken.
    pub fn woken(&mut self, now: u64) {
        *self = Self { waiting: 0, woken_at: now };
    }

    /// When it must be woken, `None` = entries that it does not know of do not exist.
    pub fn deadline(&self) -> Option<u64> {
        match self.waiting {
            0 => None,
            PACE_ENTRIES.. => Some(0),
            _ => Some(self.woken_at + PACE_NS),
        }
    }

    /// Whether it must be woken now.
    pub fn is_due(&self, now: u64) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_after_a_rest_wakes_at_once_and_the_next_ones_gather() {
        let mut pace = Pace::default();
        assert!(!pace.is_due(u64::MAX), "there is nothing to wake for");
        pace.given(1);
        assert!(pace.is_due(PACE_NS));
        pace.woken(PACE_NS);
        pace.given(1);
        assert!(!pace.is_due(2 * PACE_NS - 1));
        assert_eq!(pace.deadline(), Some(2 * PACE_NS));
        assert!(pace.is_due(2 * PACE_NS));
        pace.given(PACE_ENTRIES - 1);
        assert!(pace.is_due(PACE_NS), "many entries do not wait");
    }
}
