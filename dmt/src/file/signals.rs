//! The few things that virtual files need of signals.

use crate::kernel::Kernel;
use crate::process::abi::{SI_TIMER, SIGCHLD, SIGPIPE};
use crate::thread::ThreadId;

/// Bytes of a `struct signalfd_siginfo`.
pub(crate) const SIGINFO_BYTES: usize = 128;

/// True if a signal that interrupts waits is to be delivered to `me`.
pub(crate) fn waiting(k: &mut Kernel, me: ThreadId) -> bool {
    k.signal_due(me)
}

/// `me` wrote to something that nobody reads; `quiet` = it does not want the signal.
pub(crate) fn broken_pipe(k: &mut Kernel, me: ThreadId, quiet: bool) {
    if !quiet {
        k.raise_on(me, SIGPIPE);
    }
}

/// True if a signal of `mask` is pending for `me`: a signalfd is readable.
pub(crate) fn pending(k: &Kernel, me: ThreadId, mask: u64) -> bool {
    k.signals_in(me, mask)
}

/// Takes the next pending signal of `mask`.
pub(crate) fn take(k: &mut Kernel, me: ThreadId, mask: u64) -> Option<[u8; SIGINFO_BYTES]> {
    let signal = k.take_signal(me, mask)?;
    let mut bytes = [0; SIGINFO_BYTES];
    let mut put = |at: usize, word: &[u8]| bytes[at..at + word.len()].copy_from_slice(word);
    put(0, &signal.signal.to_le_bytes());
    put(8, &signal.code.to_le_bytes());
    match signal.code {
        SI_TIMER => {
            put(24, &signal.pid.to_le_bytes());
            put(32, &signal.uid.to_le_bytes());
        }
        _ => {
            put(12, &signal.pid.to_le_bytes());
            put(16, &signal.uid.to_le_bytes());
        }
    }
    if signal.signal == SIGCHLD && signal.code > 0 {
        put(40, &(signal.value as i32).to_le_bytes());
    } else {
        put(44, &(signal.value as i32).to_le_bytes());
        put(48, &signal.value.to_le_bytes());
    }
    Some(bytes)
}

/// Replaces the mask of `me` during a wait; returns the one before.
pub(crate) fn swap_mask(k: &mut Kernel, me: ThreadId, mask: u64) -> u64 {
    k.swap_signal_mask(me, mask)
}
