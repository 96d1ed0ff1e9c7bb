//! What a signal is: numbers, sets, default actions, dispositions, and what travels with a pending one.

use crate::control::PREEMPT_SIGNAL;
use crate::process::abi::*;

/// Signals of Linux are 1 to this.
pub const SIGNALS: usize = 64;

/// A set of signals, laid out as the kernel's `sigset_t`.
pub type SignalSet = u64;

/// The set with this signal alone.
#[inline]
pub const fn bit(signal: i32) -> SignalSet {
    1 << (signal - 1)
}

/// Signals that no mask holds back: by POSIX the first two; the others are ours.
pub const UNBLOCKABLE: SignalSet = bit(SIGKILL) | bit(SIGSTOP) | bit(SIGSYS) | bit(PREEMPT_SIGNAL);
/// Signals whose default action is to do nothing.
const IGNORED_BY_DEFAULT: SignalSet = bit(SIGCHLD) | bit(SIGCONT) | bit(SIGURG) | bit(SIGWINCH);
/// Signals whose default action stops the process, which is done when they are sent or no longer blocked
/// ([`crate::process::jobs`]): no thread takes them.
pub(crate) const STOPS: SignalSet = bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);

/// A signal to be delivered to the calling thread. It comes from the arena and is copied to the program's stack, so it has no bytes
/// that nobody sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PendingSignal {
    /// Its number.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_pid`; for `SI_TIMER` the timer's number.
    pub pid: i32,
    /// `si_uid`; for `SI_TIMER` the overrun count.
    pub uid: u32,
    /// `si_value`, or the exit status for SIGCHLD.
    pub value: u64,
    /// Its default action ends the process: preload calls [`crate::call::Call::fatal_signal`], then dies of it.
    pub fatal: bool,
    /// Zeros.
    pub rest: [u8; 7],
}

impl PendingSignal {
    /// No signal.
    pub const NONE: Self = Self { signal: 0, code: 0, pid: 0, uid: 0, value: 0, fatal: false, rest: [0; 7] };
}

const _: () = assert!(size_of::<PendingSignal>() == 4 * size_of::<i32>() + size_of::<u64>() + 1 + 7);

/// What a process does on a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Handling {
    /// The default action.
    #[default]
    Default = 0,
    /// Nothing.
    Ignore = 1,
    /// A function of the program.
    Handler = 2,
}

/// A disposition, as `sigaction` sets it. The handler's address and mask are preload's and the kernel's to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Disposition {
    /// `SA_` flags.
    pub flags: u32,
    /// What is done.
    pub handling: Handling,
}

impl Disposition {
    /// True if no thread takes `signal`: it does nothing to the process, or stops it as a whole.
    pub fn ignores(&self, signal: i32) -> bool {
        match self.handling {
            Handling::Handler => false,
            Handling::Ignore => signal != SIGKILL,
            Handling::Default => (IGNORED_BY_DEFAULT | STOPS) & bit(signal) != 0,
        }
    }

    /// True if `signal` stops the process.
    pub fn stops(&self, signal: i32) -> bool {
        self.handling == Handling::Default && STOPS & bit(signal) != 0
    }

    /// True if `signal` ends the process.
    pub fn is_fatal(&self, signal: i32) -> bool {
        self.handling == Handling::Default && !self.ignores(signal)
    }
}

/// True for signals of which each sending is delivered (queued), not only the first.
pub fn is_real_time(signal: i32) -> bool {
    signal >= SIGRTMIN
}
