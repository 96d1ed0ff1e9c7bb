//! The time that a leader gives its entries.
//!
//! The virtual clock never goes back, and machines' clocks may: one that led may have been ahead of the next one's, and any may be
//! set back. If time then stood still until the real one has caught up, no timer of the server would fire meanwhile. So a leader
//! whose clock is behind lets the time go on from where it is, somewhat slower than its own clock, until both are the same again.

use core::sync::atomic::Ordering;

use crate::control::Control;

/// While the real time is behind, one part in so many of what passes is left out.
const SLOWER: u64 = 8;

impl Control {
    /// What a leader takes for the time, nanoseconds, when its machine's clock says `real`. For whoever admits now.
    pub fn leader_time(&self, real: u64) -> u64 {
        let seen = self.real_seen.load(Ordering::Relaxed);
        let clock = self.clock.load(Ordering::Relaxed);
        let (before, passed) = if seen == 0 {
            (clock, 0)
        } else {
            (self.time_given.load(Ordering::Relaxed).max(clock), real.saturating_sub(seen))
        };
        let time = real.max(before.saturating_add(passed - passed / SLOWER));
        self.real_seen.store(real, Ordering::Relaxed);
        self.time_given.store(time, Ordering::Relaxed);
        time
    }

    /// A leadership begins: what was seen before may be another machine's clock, or long ago.
    pub(crate) fn forget_time(&self) {
        self.real_seen.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::sync::atomic::Ordering;

    use crate::control::Control;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 1_000_000 * SECOND;

    fn control(clock: u64) -> Box<Control> {
        // SAFETY: a structure of atomic numbers, all zero.
        let control: Box<Control> = unsafe { Box::new(core::mem::zeroed()) };
        control.clock.store(clock, Ordering::Relaxed);
        control
    }

    #[test]
    fn a_clock_that_is_ahead_is_the_time() {
        let control = control(NOW - 5);
        for real in [NOW, NOW + 1, NOW + 7 * SECOND, NOW + 3600 * SECOND] {
            assert_eq!(control.leader_time(real), real);
        }
    }

    #[test]
    fn behind_the_one_before_time_goes_on_slower_until_both_agree() {
        let hour = 3600 * SECOND;
        let control = control(NOW + hour);
        assert_eq!(control.leader_time(NOW), NOW + hour);
        assert_eq!(control.leader_time(NOW + 8 * SECOND), NOW + hour + 7 * SECOND);
        let mut last = 0;
        for second in 9..=8 * 3600 {
            let time = control.leader_time(NOW + second * SECOND);
            assert!(time > last, "it stands still");
            last = time;
        }
        assert_eq!(control.leader_time(NOW + 9 * hour), NOW + 9 * hour, "the real time has caught up");
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_stop_time() {
        let control = control(NOW);
        assert_eq!(control.leader_time(NOW + SECOND), NOW + SECOND);
        assert_eq!(control.leader_time(NOW - 86_400 * SECOND), NOW + SECOND);
        assert_eq!(control.leader_time(NOW - 86_392 * SECOND), NOW + 8 * SECOND);
    }

    #[test]
    fn what_an_earlier_leadership_saw_counts_no_more() {
        let control = control(NOW);
        control.leader_time(1);
        control.forget_time();
        assert_eq!(control.leader_time(NOW - SECOND), NOW, "no years have passed");
    }
}
