//! Connections at the peer port that have not proved yet who they are: how many there may be, and how much the log says of them.
//!
//! Whoever reaches the port can open connections and say nothing. So there is a bound for all and one for each address, and a new
//! connection takes the place of an old one: a peer needs a few milliseconds to prove itself, and is silent in none of them.

use std::net::IpAddr;

/// Connections of unknown peers at the same time.
pub(super) const MAX_STRANGERS: usize = 64;
/// Of them, from one address. Replicas on one machine share one, and each dials once.
const MAX_OF_ONE_ADDRESS: usize = 32;

/// What speaks for a connection to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stranger {
    /// The connection's number: the higher, the newer.
    pub(super) key: u64,
    /// Where it comes from.
    pub(super) address: IpAddr,
    /// Whether a replica has this address.
    pub(super) of_member: bool,
    /// Whether it has said anything.
    pub(super) speaks: bool,
}

/// Who must go for one more connection from `address`, if there is no room for it.
pub(super) fn to_evict(strangers: &[Stranger], address: IpAddr) -> Option<u64> {
    let worth = |stranger: &&Stranger| (stranger.of_member, stranger.speaks, stranger.key);
    let same: Vec<_> = strangers.iter().filter(|stranger| stranger.address == address).collect();
    if same.len() >= MAX_OF_ONE_ADDRESS {
        return same.into_iter().min_by_key(worth).map(|stranger| stranger.key);
    }
    let full = strangers.len() >= MAX_STRANGERS;
    strangers.iter().filter(|_| full).min_by_key(worth).map(|stranger| stranger.key)
}

/// A stretch of time in which so many refusals are told, nanoseconds; the others are counted.
const STRETCH_NS: u64 = 10_000_000_000;
/// Refusals that are told one by one in a stretch.
const TOLD_IN_A_STRETCH: u32 = 10;

/// Tells of refused connections, but does not let them fill the log.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    now: u64,
    begun: u64,
    told: u32,
    untold: u64,
}

impl Refusals {
    /// Says what time it is.
    pub(super) fn set_time(&mut self, now: u64) {
        self.now = now;
        if now < self.begun + STRETCH_NS {
            return;
        }
        if self.untold > 0 {
            let seconds = (now - self.begun) / 1_000_000_000;
            tracing::warn!(
                "refused {} more peer connections in {seconds} s; let only peers reach this port",
                self.untold
            );
            *self = Self { now, begun: now, ..Self::default() };
        }
    }

    /// When the count of those that were not told is due.
    pub(super) fn deadline(&self) -> Option<u64> {
        (self.untold > 0).then_some(self.begun + STRETCH_NS)
    }

    /// Whether to tell of one more.
    pub(super) fn tells(&mut self) -> bool {
        if self.now >= self.begun + STRETCH_NS {
            (self.begun, self.told) = (self.now, 0);
        }
        let tells = self.told < TOLD_IN_A_STRETCH;
        if tells {
            self.told += 1;
        } else {
            self.untold += 1;
        }
        tells
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{
        MAX_OF_ONE_ADDRESS, MAX_STRANGERS, Refusals, STRETCH_NS, Stranger, TOLD_IN_A_STRETCH, to_evict,
    };

    fn from(host: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, host).into()
    }

    fn stranger(key: u64, host: u8, speaks: bool) -> Stranger {
        Stranger { key, address: from(host), of_member: host == 1, speaks }
    }

    #[test]
    fn the_oldest_silent_one_of_the_same_address_goes_first() {
        let mut all: Vec<_> = (0..MAX_OF_ONE_ADDRESS as u64).map(|key| stranger(key, 9, key == 0)).collect();
        assert_eq!(to_evict(&all, from(8)), None);
        assert_eq!(to_evict(&all, from(9)), Some(1), "the very first has said something");
        all.iter_mut().for_each(|stranger| stranger.speaks = true);
        assert_eq!(to_evict(&all, from(9)), Some(0));
    }

    #[test]
    fn those_from_addresses_of_replicas_stay_when_many_hosts_fill_the_port() {
        let mut all: Vec<_> =
            (0..MAX_STRANGERS as u64).map(|key| stranger(key, 100 + (key % 8) as u8, key % 2 == 0)).collect();
        assert_eq!(to_evict(&all, from(1)), Some(1));
        assert_eq!(to_evict(&all[1..], from(1)), None, "there is room");
        all[1] = stranger(1, 1, false);
        assert_eq!(to_evict(&all, from(200)), Some(3));
        all.retain(|stranger| stranger.speaks || stranger.of_member);
        assert!(to_evict(&all, from(1)).is_none());
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_told() {
        let mut refusals = Refusals::default();
        refusals.set_time(5);
        let told = (0..100_000).filter(|_| refusals.tells()).count();
        assert_eq!(told, TOLD_IN_A_STRETCH as usize);
        assert_eq!(refusals.untold, 100_000 - u64::from(TOLD_IN_A_STRETCH));
        assert_eq!(refusals.deadline(), Some(STRETCH_NS));
        refusals.set_time(STRETCH_NS);
        assert_eq!((refusals.untold, refusals.deadline()), (0, None));
        assert!(refusals.tells(), "a new stretch");
        refusals.set_time(9 * STRETCH_NS);
        assert_eq!((0..100).filter(|_| refusals.tells()).count(), TOLD_IN_A_STRETCH as usize);
    }
}
