//! When a server that keeps diverging is not rebuilt any more. Pure.

/// A server that diverged this often without ever getting further stays fenced.
pub const MAX_DIVERGENCES: u32 = 3;

/// See the module. The digests of a rebuilt server agree again all the way to where it diverged before; only what it does
/// right beyond that place shows that the rebuild helped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Divergences {
    count: u32,
    /// Highest entry in whose bubble a digest differed.
    furthest: u64,
}

impl Divergences {
    /// A digest differed in the bubble of `entry`. True if the server is fenced now.
    pub fn add(&mut self, entry: u64) -> bool {
        self.count += 1;
        self.furthest = self.furthest.max(entry);
        self.fenced()
    }

    /// The digests of all entries before `until` are equal.
    pub fn agreed(&mut self, until: u64) {
        if !self.fenced() && until > self.furthest {
            self.count = 0;
        }
    }

    /// True if no more rebuild is to be tried.
    pub fn fenced(&self) -> bool {
        self.count >= MAX_DIVERGENCES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_always_diverges_is_fenced_though_its_replay_agrees_up_to_there() {
        let mut divergences = Divergences::default();
        for _ in 1..MAX_DIVERGENCES {
            assert!(!divergences.add(70));
            divergences.agreed(1);
            divergences.agreed(70);
        }
        assert!(divergences.add(70));
        divergences.agreed(1000);
        assert!(divergences.fenced(), "an old report frees nobody");
    }

    #[test]
    fn a_server_that_got_further_has_all_its_tries_again() {
        let mut divergences = Divergences::default();
        for entry in [70, 80, 90, 100, 110] {
            assert!(!divergences.add(entry));
            divergences.agreed(entry);
            divergences.agreed(entry + 1);
        }
        assert_eq!(divergences.count, 0);
    }
}
