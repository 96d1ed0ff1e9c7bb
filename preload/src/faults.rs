//! Faults that have no handler of the program's. The kernel would end the process, and dmt must know of it first: then a crash is
//! the same event on all replicas. SIGSEGV has a handler of ours for other reasons, too, see [`crate::tsc`].

use core::ffi::{c_int, c_void};

use crate::errno::Kept;
use crate::signals;

/// The signals of such faults.
pub const SIGNALS: [c_int; 4] = [libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP];

/// Installs the handler for all of them.
pub fn install() -> Result<(), isize> {
    SIGNALS.into_iter().try_for_each(stand_in)
}

/// Installs it instead of the default action of `signal`.
pub fn stand_in(signal: c_int) -> Result<(), isize> {
    signals::install_own(signal, on_fault as *const () as usize, libc::SA_NODEFER | libc::SA_ONSTACK)
}

unsafe extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Kept::now();
    // SAFETY: our own arguments.
    unsafe { signals::chain(signal, info, context) };
    drop(errno);
}
