//! The hooks, by family. Each is a few lines: decode, call, set errno.

mod barrier;
mod c11;
pub mod cancel;
mod clock;
mod cond;
mod fd;
mod identity;
mod io;
mod mutex;
mod names;
mod once;
mod open;
mod queue;
mod random;
mod ready;
mod rwlock;
mod semaphore;
mod signal;
mod size;
mod socket;
mod spin;
mod stat;
mod syscall;
mod temp;
pub mod thread;
mod timer;

use core::ffi::c_int;

use dmt::sync::Deadline;

/// A deadline as pthread calls take it; `None` if the time is invalid.
///
/// # Safety
/// `at` points to a timespec.
unsafe fn deadline(clock: c_int, at: *const libc::timespec) -> Option<Deadline> {
    // SAFETY: forwarded promise.
    let ns = unsafe { crate::calls::time::nanoseconds(at as usize) }?;
    Some(if clock == libc::CLOCK_MONOTONIC { Deadline::Monotonic(ns) } else { Deadline::Real(ns) })
}
