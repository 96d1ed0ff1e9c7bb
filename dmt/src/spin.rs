//! Places in the program where threads spin without an operation until another thread runs.
//!
//! The first preemptions at a place cost the whole spin limit each, because only that tells a spinner from a thread that
//! computes. A place where a second one came is suspected, and costs a hundredth of that; one where they come again and again
//! is known: a thread seen there twice is waiting. The table is built from the log alone, so all replicas know the same places,
//! a new leader too.

/// Places kept.
const PLACES: usize = 8;
/// Bytes of code between two instructions of one spin loop.
const LOOP_BYTES: u64 = 64;
/// Preemptions at a place after which it is suspected.
const SUSPECTED_AFTER: u32 = 2;
/// Preemptions at a place after which it is known.
const KNOWN_AFTER: u32 = 4;

/// A spin loop: the addresses at which its threads were preempted.
#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    low: u64,
    high: u64,
    count: u64,
}

impl Place {
    fn is_near(&self, at: u64) -> bool {
        self.count > 0 && at + LOOP_BYTES >= self.low && at <= self.high + LOOP_BYTES
    }

    fn is_suspected_at(&self, at: u64) -> bool {
        self.count >= u64::from(SUSPECTED_AFTER) && self.is_near(at)
    }

    fn holds(&self, at: u64) -> bool {
        self.count >= u64::from(KNOWN_AFTER) && (self.low..=self.high).contains(&at)
    }
}

/// The table; all zeroes is empty.
#[repr(C)]
pub struct Places([Place; PLACES]);

impl Places {
    /// A thread was preempted at address `at`; 0 = unknown.
    pub(crate) fn learn(&mut self, at: u64) {
        if at == 0 {
            return;
        }
        if let Some(place) = self.0.iter_mut().find(|place| place.is_near(at)) {
            (place.low, place.high) = (place.low.min(at), place.high.max(at));
            place.count += 1;
        } else if let Some(rarest) = self.0.iter_mut().min_by_key(|place| place.count) {
            *rarest = Place { low: at, high: at, count: 1 };
        }
    }

    /// True if `at` may be in a spin loop.
    pub(crate) fn suspect(&self, at: u64) -> bool {
        self.0.iter().any(|place| place.is_suspected_at(at))
    }

    /// True if `a` and `b` may be in the same spin loop.
    pub(crate) fn may_be_one(&self, a: u64, b: u64) -> bool {
        self.0.iter().any(|place| place.is_suspected_at(a) && place.is_near(b))
    }

    /// True if `at` is inside a known spin loop.
    pub(crate) fn knows(&self, at: u64) -> bool {
        self.0.iter().any(|place| place.holds(at))
    }

    /// True if `a` and `b` are inside the same known spin loop.
    pub(crate) fn are_one(&self, a: u64, b: u64) -> bool {
        self.0.iter().any(|place| place.holds(a) && place.is_near(b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Places {
        Places([Place { low: 0, high: 0, count: 0 }; PLACES])
    }

    #[test]
    fn a_place_is_known_after_some_preemptions_there() {
        let mut places = empty();
        for at in [0x1000, 0x1010, 0x1004, 0x9000] {
            places.learn(at);
        }
        assert!(!places.knows(0x1004));
        places.learn(0x1008);
        assert!(places.knows(0x1000) && places.knows(0x100c) && places.knows(0x1010));
        assert!(!places.knows(0x1011) && !places.knows(0x9000) && !places.knows(0));
        assert!(places.are_one(0x1002, 0x1020) && !places.are_one(0x1002, 0x9000));
    }

    #[test]
    fn a_place_is_suspected_at_the_second_preemption() {
        let mut places = empty();
        places.learn(0x1000);
        assert!(!places.suspect(0x1000) && !places.may_be_one(0x1000, 0x1000));
        places.learn(0x1010);
        assert!(places.suspect(0xfe0) && places.suspect(0x1040) && !places.suspect(0x2000));
        assert!(places.may_be_one(0x1040, 0xfe0) && !places.may_be_one(0x1000, 0x2000));
        assert!(!places.knows(0x1000));
    }

    #[test]
    fn a_rare_place_makes_room() {
        let mut places = empty();
        for at in 1..=20 {
            places.learn(0x1000);
            places.learn(at * 0x10_0000);
        }
        assert!(places.knows(0x1000));
    }

    #[test]
    fn an_unknown_address_is_no_place() {
        let mut places = empty();
        (0..10).for_each(|_| places.learn(0));
        assert!(!places.knows(0));
    }
}
