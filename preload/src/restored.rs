//! What a restored checkpoint lacks: the kernel gives its threads back without the trap on the time-stamp counter and free to run
//! on any processor, and its processes with a vDSO as new.
//!
//! Each thread asks whenever it comes to run, at its first turn after a restore before any code of the program.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::{affinity, fatal, tls, tsc, vdso, world};

/// The control page's `restores` for which this process's vDSO was patched.
static PATCHED: AtomicU32 = AtomicU32::new(0);

/// Puts it right for the calling thread, which the server waits for, and its process.
#[inline]
pub fn put_right() {
    let now = world::arena().shared.control.restores.load(Ordering::Relaxed);
    if tls::current().saw_restores(now) != now {
        after(now);
    }
}

#[cold]
fn after(now: u32) {
    tsc::trap();
    affinity::reset();
    if PATCHED.swap(now, Ordering::Relaxed) != now
        && let Err(error) = vdso::patch()
    {
        use core::fmt::Write;
        let mut line = fatal::Line::new();
        let _ = writeln!(line, "brolga: cannot patch the vDSO of a restored process (error {})", -error);
        fatal::die_with(&line);
    }
}
