//! How coordinator and server sleep and wake each other without a lost wake-up: who wants to sleep says so first and looks
//! once more then; who has changed something looks then whether the other sleeps.

use crate::atomic::{AtomicU32, Ordering, fence};
use crate::control::Control;
use crate::platform::Platform;

/// The coordinator sleeps, and must be kicked.
const ASLEEP: u32 = 1;
/// The coordinator looks again and again whether this is still so.
const LOOKING: u32 = 2;

impl Control {
    /// The coordinator is about to sleep; false if `news` shows that something came after all.
    pub fn coordinator_sleeps(&self, news: impl FnOnce() -> bool) -> bool {
        self.coordinator_awaits(ASLEEP, news)
    }

    /// The coordinator is about to look for a kick ([`Control::was_kicked`]), which then costs the server no system call; else as
    /// [`Control::coordinator_sleeps`].
    pub fn coordinator_looks(&self, news: impl FnOnce() -> bool) -> bool {
        self.coordinator_awaits(LOOKING, news)
    }

    /// Whether the coordinator, which looked, was kicked.
    pub fn was_kicked(&self) -> bool {
        self.coordinator_asleep.load(Ordering::SeqCst) == 0
    }

    fn coordinator_awaits(&self, how: u32, news: impl FnOnce() -> bool) -> bool {
        self.coordinator_asleep.store(how, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if news() {
            self.coordinator_woke();
            return false;
        }
        true
    }

    /// The coordinator sleeps no more.
    pub fn coordinator_woke(&self) {
        self.coordinator_asleep.store(0, Ordering::SeqCst);
    }

    /// The server wrote something: true if it must kick the coordinator to have it read. `news` tells whether there is
    /// anything to read.
    pub fn must_kick(&self, news: impl FnOnce() -> bool) -> bool {
        fence(Ordering::SeqCst);
        news() && self.coordinator_asleep.swap(0, Ordering::SeqCst) == ASLEEP
    }

    /// The coordinator changed something: true if it must wake the server, which sleeps on `inbound`.
    pub fn must_wake(&self) -> bool {
        self.inbound.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.server_idle.load(Ordering::SeqCst) != 0
    }

    /// The server sleeps until something changes after it read `seen` from `inbound`. `kick` has what it wrote read.
    pub fn await_change(
        &self,
        platform: &dyn Platform,
        seen: u32,
        timeout: Option<u64>,
        kick: impl FnOnce(),
    ) {
        self.server_idle.store(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        kick();
        let inbound: &AtomicU32 = &self.inbound;
        if inbound.load(Ordering::SeqCst) == seen {
            platform.wait(inbound, seen, timeout);
        }
        self.server_idle.store(0, Ordering::SeqCst);
    }
}
