//! The few things that virtual files need of signals.

use crate::kernel::Kernel;
use crate::thread::ThreadId;

/// Bytes of a `struct signalfd_siginfo`.
pub(crate) const SIGINFO_BYTES: usize = 128;

/// True if a signal that interrupts waits is to be delivered to `me`.
pub(crate) fn waiting(_k: &mut Kernel, _me: ThreadId) -> bool {
    false
}

/// `me` wrote to something that nobody reads; `quiet` = it does not want the signal.
pub(crate) fn broken_pipe(_k: &mut Kernel, _me: ThreadId, _quiet: bool) {}

/// True if a signal of `mask` is pending for `me`: a signalfd is readable.
pub(crate) fn pending(_k: &Kernel, _me: ThreadId, _mask: u64) -> bool {
    false
}

/// Takes the next pending signal of `mask`.
pub(crate) fn take(_k: &mut Kernel, _me: ThreadId, _mask: u64) -> Option<[u8; SIGINFO_BYTES]> {
    None
}

/// Replaces the mask of `me` during a wait; returns the one before.
pub(crate) fn swap_mask(_k: &mut Kernel, _me: ThreadId, mask: u64) -> u64 {
    mask
}
