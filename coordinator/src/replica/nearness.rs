//! In a large throng of clients a server that does not have much more to do than its replica's loop shares a processor with it.
//!
//! The two take turns then: what one has read or written, the other needs next, and each would wait for it to come from the other
//! processor's cache, and wake the other there. That costs more than running side by side gains, unless the server has much work
//! of its own. The kernel would part them, so for most of the time both are bound to the processor where the loop is.
#![expect(clippy::disallowed_methods, reason = "the time on a processor, by which threads are placed")]

use nix::time::{ClockId, clock_gettime};

use crate::processors;

/// How long the two are bound, nanoseconds.
const BOUND_NS: u64 = 100_000_000;
/// How long they are free then, for the kernel to place them anew, nanoseconds.
const FREE_NS: u64 = 5_000_000;
/// How often it is looked what they use while they are not bound, nanoseconds.
const LOOK_NS: u64 = 50_000_000;
/// A server that uses at most this part of the loop's CPU time does not have much more to do.
const LITTLE_MORE: (u64, u64) = (5, 4);

/// See the module.
#[derive(Debug, Default)]
pub struct Nearness {
    /// When to look again.
    due: u64,
    /// CPU times at the last look, nanoseconds: the loop's, the server's.
    used: [u64; 2],
    /// The processor to which the loop is bound.
    bound: Option<usize>,
}

impl Nearness {
    /// The calling thread is the loop's. Whether there is a large throng (see [`super::polling`]) at this time, nanoseconds, and what the
    /// server says of its CPU time, see `cpu_time` of [`dmt::control::Control`]. Returns what `near` there is to be now, if that has
    /// changed.
    pub fn set(&mut self, now: u64, throng: bool, servers: u64) -> Option<u32> {
        if self.bound.is_some() && (!throng || now >= self.due) {
            self.bound = None;
            processors::roam();
            self.due = now + FREE_NS;
            return Some(0);
        }
        if !throng || now < self.due {
            return None;
        }
        if self.has_little_more([own_cpu_time(), servers]) {
            self.bound = processors::bind();
        }
        self.due = now + if self.bound.is_some() { BOUND_NS } else { LOOK_NS };
        self.bound.map(|processor| processor as u32 + 1)
    }

    /// Whether the server did not have much more to do since the last look.
    fn has_little_more(&mut self, used: [u64; 2]) -> bool {
        let before = std::mem::replace(&mut self.used, used);
        let [own, servers] = [0, 1].map(|i| used[i].saturating_sub(before[i]));
        servers > 0 && servers * LITTLE_MORE.1 <= own * LITTLE_MORE.0
    }
}

fn own_cpu_time() -> u64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_much_to_do_is_near_while_there_is_a_throng() {
        let all = processors::usable();
        let mut nearness = Nearness::default();
        assert_eq!(nearness.set(0, false, 1), None);
        let near = nearness.set(1, true, 1).expect("it is wanted near");
        assert!(near > 0);
        assert_eq!((nearness.set(2, true, 1), processors::usable()), (None, 1));
        assert_eq!((nearness.set(3, false, 2), processors::usable()), (Some(0), all));
        assert_eq!(nearness.set(3 + FREE_NS, false, 2), None);
    }

    #[test]
    fn now_and_then_the_kernel_may_place_them_anew() {
        let all = processors::usable();
        let mut nearness = Nearness::default();
        assert!(nearness.set(0, true, 1).is_some_and(|near| near > 0));
        assert_eq!((nearness.set(BOUND_NS, true, 2), processors::usable()), (Some(0), all));
        assert_eq!(nearness.set(BOUND_NS + FREE_NS - 1, true, 3), None);
        assert!(nearness.set(BOUND_NS + FREE_NS, true, 3).is_some_and(|near| near > 0));
    }

    #[test]
    fn what_both_used_since_the_last_look_counts() {
        let mut nearness = Nearness { used: [1000, 100], ..Nearness::default() };
        assert!(nearness.has_little_more([2000, 1350]));
        assert!(!nearness.has_little_more([3000, 2601]), "more than a quarter more");
        assert!(!nearness.has_little_more([4000, 2601]), "it did not sleep, so it said nothing");
        assert!(!nearness.has_little_more([5000, 0]), "it has several processes");
        assert!(!nearness.has_little_more([5000, 5000]));
    }
}
