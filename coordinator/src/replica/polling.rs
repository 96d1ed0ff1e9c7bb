//! How long a replica looks for news again and again before it sleeps.
//!
//! Waking a sleeping process takes longer than most of what a request makes it do, above all on a virtual machine whose processors
//! halt when idle. So after traffic of clients the loop looks on for a moment, and gives way to whoever else wants its processor.
//! Whether that pays is learnt, as the kernel's halt polling does: looking in vain halves the moment until it is nothing, and news
//! that came soon after falling asleep brings it back. Pure.

/// What is usual for `--poll`, microseconds.
pub const DEFAULT_POLL_US: u32 = 200;
/// The shortest moment that is worth the while, nanoseconds.
const SHORTEST_NS: u64 = 20_000;

/// For so long after several clients wanted something at once the next request is not looked for, nanoseconds: a crowd needs
/// the processors for itself, and waits for them and not for a wake-up.
const CROWD_NS: u64 = 10_000_000;
/// So many clients that want something at once are a throng: see [`super::batch`].
const THRONG_CLIENTS: usize = 8;
/// So many are a large one: see [`super::nearness`].
const LARGE_THRONG_CLIENTS: usize = 16;

/// What the replica waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Its peers' answer to an entry.
    Answer,
    /// The next request.
    Request,
    /// What the own server, which runs, has to say.
    Output,
}

/// See the module.
#[derive(Debug)]
pub struct Polling {
    longest: u64,
    /// The moments by what is awaited.
    moments: [u64; 3],
    /// When there was traffic of clients last.
    traffic_at: Option<u64>,
    /// When several clients wanted something at once.
    crowd_at: Option<u64>,
    /// When very many did.
    throng_at: Option<u64>,
    large_throng_at: Option<u64>,
    /// What the loop awaits, since when, and for how long it was told to look for it.
    awaited: Option<Awaited>,
    began_at: u64,
    moment: u64,
    /// What was awaited in a short sleep that has just ended.
    missed: Option<Awaited>,
}

impl Polling {
    /// Looks for news for `longest` nanoseconds at the most; 0 = never.
    pub fn new(longest: u64) -> Self {
        let moments = [longest; 3];
        Self {
            longest,
            moments,
            traffic_at: None,
            crowd_at: None,
            throng_at: None,
            large_throng_at: None,
            awaited: None,
            began_at: 0,
            moment: 0,
            missed: None,
        }
    }

    /// What the loop has just done was for clients, directly or as another replica's follower.
    pub fn note_traffic(&mut self, now: u64) {
        self.traffic_at = Some(now);
        if let Some(awaited) = self.missed.take() {
            self.moments[awaited as usize] = self.longest;
        }
    }

    /// So many clients wanted something at once.
    pub fn note_clients(&mut self, now: u64, count: usize) {
        if count > 1 {
            self.crowd_at = Some(now);
        }
        if count >= THRONG_CLIENTS {
            self.throng_at = Some(now);
        }
        if count >= LARGE_THRONG_CLIENTS {
            self.large_throng_at = Some(now);
        }
    }

    /// Whether very many clients want something at once these milliseconds.
    pub fn in_throng(&self, now: u64) -> bool {
        recent(self.throng_at, now, CROWD_NS)
    }

    /// As [`Polling::in_throng`], with twice as many.
    pub fn in_large_throng(&self, now: u64) -> bool {
        recent(self.large_throng_at, now, CROWD_NS)
    }

    /// Nothing is left to do: how long to look for what is awaited, nanoseconds.
    pub fn begin(&mut self, now: u64, awaited: Option<Awaited>) -> u64 {
        let wanted = match awaited {
            Some(Awaited::Request) => recent(self.crowd_at, now, CROWD_NS),
            // The server may be on this processor then.
            Some(Awaited::Output) => self.in_large_throng(now),
            Some(Awaited::Answer) | None => false,
        };
        let looks = recent(self.traffic_at, now, self.longest) && !wanted;
        let moment = awaited.filter(|_| looks).map_or(0, |awaited| self.moments[awaited as usize]);
        (self.awaited, self.began_at, self.moment, self.missed) = (awaited, now, moment, None);
        moment
    }

    /// The loop looked in vain for as long as it was told.
    pub fn in_vain(&mut self) {
        if let Some(awaited) = self.awaited.filter(|_| self.moment > 0) {
            let half = self.moment / 2;
            self.moments[awaited as usize] = if half < SHORTEST_NS { 0 } else { half };
        }
    }

    /// News ended the sleep that followed. If it is for clients ([`Polling::note_traffic`]), looking would have paid.
    pub fn woken(&mut self, now: u64) {
        if now.saturating_sub(self.began_at) < self.longest {
            self.missed = self.awaited;
        }
    }
}

/// Whether `at` is less than `limit` ago, all in nanoseconds.
fn recent(at: Option<u64>, now: u64, limit: u64) -> bool {
    at.is_some_and(|at| now.saturating_sub(at) < limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST_NS: u64 = 200_000;
    const REQUEST: Option<Awaited> = Some(Awaited::Request);

    #[test]
    fn only_traffic_is_followed_by_looking() {
        let mut polling = Polling::new(LONGEST_NS);
        assert_eq!(polling.begin(5, REQUEST), 0);
        polling.note_traffic(10);
        assert_eq!(polling.begin(20, REQUEST), LONGEST_NS);
        assert_eq!(polling.begin(20, None), 0, "there is nothing to look for");
        assert_eq!(polling.begin(10 + LONGEST_NS, REQUEST), 0);
        let mut never = Polling::new(0);
        never.note_traffic(10);
        never.woken(11);
        never.note_traffic(11);
        assert_eq!(never.begin(11, REQUEST), 0);
    }

    #[test]
    fn a_crowd_has_the_processors_for_itself() {
        let mut polling = Polling::new(LONGEST_NS);
        polling.note_clients(10, 2);
        polling.note_traffic(10);
        assert_eq!(polling.begin(20, REQUEST), 0);
        assert_eq!(polling.begin(20, Some(Awaited::Answer)), LONGEST_NS);
        assert!(!polling.in_throng(10));
        polling.note_clients(10, THRONG_CLIENTS);
        assert!(polling.in_throng(9 + CROWD_NS) && !polling.in_throng(10 + CROWD_NS));
        assert!(!polling.in_large_throng(10));
        polling.note_clients(10, LARGE_THRONG_CLIENTS);
        assert!(polling.in_large_throng(9 + CROWD_NS) && !polling.in_large_throng(10 + CROWD_NS));
        polling.note_traffic(10 + CROWD_NS);
        assert_eq!(polling.begin(10 + CROWD_NS, REQUEST), LONGEST_NS);
    }

    #[test]
    fn the_server_has_the_processor_for_itself_in_a_large_throng() {
        let mut polling = Polling::new(LONGEST_NS);
        polling.note_clients(10, LARGE_THRONG_CLIENTS - 1);
        polling.note_traffic(10);
        assert_eq!(polling.begin(20, Some(Awaited::Output)), LONGEST_NS);
        polling.note_clients(20, LARGE_THRONG_CLIENTS);
        assert_eq!(polling.begin(20, Some(Awaited::Output)), 0);
        polling.in_vain();
        polling.note_traffic(20 + CROWD_NS);
        assert_eq!(
            polling.begin(20 + CROWD_NS, Some(Awaited::Output)),
            LONGEST_NS,
            "not looking is not in vain"
        );
    }

    #[test]
    fn looking_in_vain_ends_and_comes_back_when_it_would_have_paid() {
        let mut polling = Polling::new(LONGEST_NS);
        let mut moments = Vec::new();
        for now in 0..6 {
            polling.note_traffic(now);
            let moment = polling.begin(now, REQUEST);
            moments.push(moment);
            polling.in_vain();
        }
        assert_eq!(moments, [200_000, 100_000, 50_000, 25_000, 0, 0]);
        assert_eq!(polling.begin(6, Some(Awaited::Answer)), LONGEST_NS, "the other kind is on its own");
        polling.begin(10, REQUEST);
        polling.woken(10 + LONGEST_NS);
        polling.note_traffic(10 + LONGEST_NS);
        let now = 500_000;
        assert_eq!(polling.begin(now, REQUEST), 0, "that was too late to be worth it");
        polling.woken(now + 20);
        assert_eq!(polling.begin(now + 30, REQUEST), 0, "that was no news of clients");
        polling.woken(now + 50);
        polling.note_traffic(now + 50);
        assert_eq!(polling.begin(now + 60, REQUEST), LONGEST_NS);
    }
}
