//! What dmt needs of the world: park and wake a thread, and the leader's clock at admission.

use crate::atomic::AtomicU32;

/// Implemented by preload with system calls through the gate, and by the simulator without an operating system.
pub trait Platform {
    /// Sleeps while `*word == expected`, for `timeout_ns` at the most. May return early. The futex is shared between
    /// processes.
    fn wait(&self, word: &AtomicU32, expected: u32, timeout_ns: Option<u64>);
    /// Wakes all sleepers on `word`.
    fn wake(&self, word: &AtomicU32);
    /// The leader's real time, nanoseconds since the Unix epoch. Used only at admission; what it returns travels in
    /// the entry.
    fn real_time(&self) -> u64;
    /// Sends the signal to the calling thread itself, so that its handler (or the default action) has run when this
    /// returns.
    fn deliver(&self, signal: &crate::process::PendingSignal);
    /// The branch at this address of the calling process has become a spin point: from now on a thread that takes it
    /// comes to [`crate::call::Call::spin_point`].
    fn arm_spin_point(&self, branch: u64) {
        let _ = branch;
    }
    /// Wakes a sleeping coordinator (a write to its eventfd).
    fn kick_coordinator(&self);
}
