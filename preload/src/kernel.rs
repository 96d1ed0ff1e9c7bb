//! Calls on plain files that the kernel carries out for the program, while the caller keeps the turn.
//!
//! They can take long without the program computing: the first change of a big file of the host copies it into the upper
//! layer. A signal of the watchdog would make the kernel begin that anew, again and again, so it looks away meanwhile. Where a full
//! disk is in the way, the caller waits ([`space`]).

use core::sync::atomic::Ordering;

use crate::calls::disk::{failed, space};
use crate::gate;
use crate::watches;
use crate::world;

/// Makes the call, and tells those who watch the file.
///
/// # Safety
/// As the system call; the caller is a thread of dmt that holds the turn.
#[inline]
pub unsafe fn call(number: i64, a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise.
    watches::observed(|| unsafe { quiet_call(number, a) })
}

/// Makes a call of our own, of which nobody is told.
///
/// # Safety
/// As the system call; the caller is a thread of dmt that holds the turn.
#[inline]
pub unsafe fn quiet_call(number: i64, a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise.
    let result = unsafe { space::patient(number, a, || carry_out(number, a)) };
    if result == failed::EIO || result == failed::EROFS {
        // SAFETY: forwarded promise.
        unsafe { failed::failed(number, a, result) };
    }
    result
}

#[inline]
unsafe fn carry_out(number: i64, a: [usize; 6]) -> isize {
    let inside = &world::arena().shared.control.in_kernel;
    inside.store(1, Ordering::Relaxed);
    // SAFETY: forwarded promise.
    let result = unsafe { gate::syscall(number, a) };
    inside.store(0, Ordering::Relaxed);
    result
}

/// True while the thread with the turn is in such a call.
pub fn is_busy() -> bool {
    world::arena().shared.control.in_kernel.load(Ordering::Relaxed) != 0
}
