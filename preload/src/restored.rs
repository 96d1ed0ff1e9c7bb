//! What a restored checkpoint lacks: the kernel gives its processes back without the trap on the time-stamp counter, free to run
//! on any processor, and with a vDSO as new.
//!
//! A process asks whenever it comes to run, at its first turn after a restore before any code of the program.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::{affinity, carrier, fatal, tsc, vdso, world};

/// The control page's `restores` when this process last looked.
static SEEN: AtomicU32 = AtomicU32::new(0);

/// Puts it right for the calling thread's process, which the server waits for.
#[inline]
pub fn put_right() {
    let now = world::arena().shared.control.restores.load(Ordering::Relaxed);
    if SEEN.load(Ordering::Relaxed) != now {
        SEEN.store(now, Ordering::Relaxed);
        after();
    }
}

#[cold]
fn after() {
    carrier::learn();
    tsc::trap();
    affinity::reset();
    if let Err(error) = vdso::patch() {
        use core::fmt::Write;
        let mut line = fatal::Line::new();
        let _ = writeln!(line, "brolga: cannot patch the vDSO of a restored process (error {})", -error);
        fatal::die_with(&line);
    }
}
