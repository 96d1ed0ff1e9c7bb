//! When a replica takes a checkpoint of its own accord: `--checkpoint-every`.
//!
//! Time, or the log, is divided into stretches that have the replicas' numbers in turn. Each replica knows by itself which is its
//! own, so nobody has to tell it, and no two stand still at once; a leader lets its turn pass. Pure.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Seconds below which a checkpoint would be taken while the last one is still being written.
const LEAST_SECONDS: u64 = 1;
/// The same in entries.
const LEAST_ENTRIES: u64 = 100;

/// How often one of the replicas takes a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Every {
    /// After so many seconds.
    Seconds(u64),
    /// After so many entries.
    Entries(u64),
}

impl FromStr for Every {
    type Err = String;

    /// `60s`, `5m`, `1h`, or a number of entries.
    fn from_str(text: &str) -> Result<Self, String> {
        let unit = |letter| text.strip_suffix(letter);
        let seconds = [('s', 1), ('m', 60), ('h', 3600)].into_iter();
        let timed = seconds.into_iter().find_map(|(letter, factor)| Some((unit(letter)?, factor)));
        let (number, factor) = timed.unwrap_or((text, 1));
        let number: Option<u64> = number.parse().ok().and_then(|number: u64| number.checked_mul(factor));
        match (number, timed.is_some()) {
            (Some(seconds), true) if seconds >= LEAST_SECONDS => Ok(Self::Seconds(seconds)),
            (Some(entries), false) if entries >= LEAST_ENTRIES => Ok(Self::Entries(entries)),
            _ => Err(format!("a time such as 60s, 5m, 1h, or a number of entries from {LEAST_ENTRIES} on")),
        }
    }
}

/// The turns of one replica.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    every: Option<Every>,
    id: u8,
    replicas: u8,
    /// The stretch that was found last.
    stretch: Option<u64>,
}

impl Schedule {
    /// Of replica `id`, from 1.
    pub fn new(every: Option<Every>, id: u8, replicas: u8) -> Self {
        Self { every, id, replicas, stretch: None }
    }

    /// The members changed: this replica is the `place`th, from 1, of `replicas`; 0 = none of them.
    pub fn renew(&mut self, place: u8, replicas: u8) {
        (self.id, self.replicas) = (place, replicas);
    }

    /// True, once, when a stretch of this replica has begun. `seconds`: of the real time; `entries`: decided.
    pub fn is_due(&mut self, seconds: u64, entries: u64) -> bool {
        let now = match self.every {
            None => return false,
            Some(Every::Seconds(length)) => seconds / length,
            Some(Every::Entries(length)) => entries / length,
        };
        // The one that the replica was started in began long ago.
        let before = self.stretch.replace(now).unwrap_or(now);
        now != before && now % u64::from(self.replicas.max(1)) + 1 == u64::from(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::{Every, Schedule};

    #[test]
    fn times_and_entries() {
        for (text, every) in [
            ("60s", Every::Seconds(60)),
            ("5m", Every::Seconds(300)),
            ("1h", Every::Seconds(3600)),
            ("1000", Every::Entries(1000)),
        ] {
            assert_eq!(text.parse(), Ok(every), "{text}");
        }
        for text in ["", "s", "0s", "-1s", "99", "1d", "18446744073709551615h", "1.5m"] {
            assert!(text.parse::<Every>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_replicas_take_turns_and_none_begins_with_one() {
        for every in [Every::Seconds(10), Every::Entries(10)] {
            let mut all: Vec<_> = (1..=3).map(|id| Schedule::new(Some(every), id, 3)).collect();
            let mut taken = Vec::new();
            for now in 5..=65 {
                taken.extend(all.iter_mut().filter_map(|one| one.is_due(now, now).then_some((now, one.id))));
            }
            assert_eq!(taken, [(10, 2), (20, 3), (30, 1), (40, 2), (50, 3), (60, 1)]);
        }
        assert!(!Schedule::new(None, 1, 3).is_due(1, 1));
    }
}
