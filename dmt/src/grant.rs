//! The word through which a thread gets the turn.

use crate::atomic::{AtomicU32, Ordering};
use crate::platform::Platform;

/// Stands in its thread's slot in the arena; all zeroes is "not granted".
#[repr(transparent)]
pub struct Grant(AtomicU32);

impl Grant {
    /// Gives the turn to this word's thread. All that the giver did before is visible to it.
    pub fn give(&self, platform: &dyn Platform) {
        // A swap is what such a store is on x86 anyway, and the model checker follows it better.
        self.0.swap(1, Ordering::SeqCst);
        platform.wake(&self.0);
    }

    /// Waits until the turn is given, and takes it.
    pub fn take(&self, platform: &dyn Platform) {
        while self.0.swap(0, Ordering::SeqCst) == 0 {
            platform.wait(&self.0, 0, None);
        }
    }

    /// Not granted.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }
}
