//! How a server that is far behind the others lets them go first.
//!
//! A follower that was held back (for a checkpoint) or that replays its log has all that it missed before it, and keeps a processor
//! for milliseconds. If another replica's server is on the same machine, clients wait for that. So it gives way now and then to
//! whoever wants the processor. Nothing that a replica does depends on this.

use core::sync::atomic::Ordering;

use crate::call::Call;
use crate::control::Control;

/// Decided entries that wait, from which on a server is behind.
const BEHIND_ENTRIES: u64 = 64;
/// Entries between two times that it gives way.
const STRETCH_ENTRIES: u64 = 16;

impl Call<'_> {
    /// An entry was applied.
    pub(crate) fn give_way_if_behind(&self) {
        if is_due(&self.shared().control) {
            self.platform().give_way();
        }
    }
}

fn is_due(control: &Control) -> bool {
    let applied = control.applied.load(Ordering::Relaxed);
    let waiting = control.committed.load(Ordering::Relaxed).saturating_sub(applied);
    waiting >= BEHIND_ENTRIES && applied.is_multiple_of(STRETCH_ENTRIES)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{BEHIND_ENTRIES, STRETCH_ENTRIES, is_due};
    use crate::testing::Server;
    use core::sync::atomic::Ordering;

    #[test]
    fn who_is_far_behind_gives_way_now_and_then() {
        let (server, _) = Server::leader(100);
        let control = &server.arena.shared.control;
        let ways = |behind: u64| {
            let due = |applied| {
                control.applied.store(applied, Ordering::SeqCst);
                control.committed.store(applied + behind, Ordering::SeqCst);
                is_due(control)
            };
            (1000..1000 + 4 * STRETCH_ENTRIES).filter(|&applied| due(applied)).count()
        };
        assert_eq!(ways(BEHIND_ENTRIES), 4);
        assert_eq!(ways(BEHIND_ENTRIES - 1), 0);
        control.committed.store(0, Ordering::SeqCst);
        control.applied.store(STRETCH_ENTRIES, Ordering::SeqCst);
        assert!(!is_due(control), "a leader is ahead");
    }
}
