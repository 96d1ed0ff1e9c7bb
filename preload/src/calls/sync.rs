//! Waiting for the disk: it costs nothing, unless the user wants it to (`--elide-fsync=false`).
//!
//! The overlay does most of that: it is mounted `volatile`, and answers `fsync` and its kin at once. What goes past it is
//! answered here: `msync`, because a mapping is one of the file below the overlay, `O_SYNC`, which that file is opened with, too,
//! and `sync`, which is for the whole machine.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::kernel;

/// Whether the program's waiting for the disk is real.
static REAL: AtomicBool = AtomicBool::new(false);

/// Makes it real; the constructor does it once.
pub fn make_real() {
    REAL.store(true, Ordering::Relaxed);
}

/// Takes what makes each write wait for the disk out of the arguments of an `open` or `openat`.
pub fn spare(number: i64, a: &mut [usize; 6]) {
    let flags = match number {
        libc::SYS_open => &mut a[1],
        libc::SYS_openat => &mut a[2],
        _ => return,
    };
    // `O_SYNC` has the bit of `O_DSYNC` in it.
    if *flags & libc::O_DSYNC as usize != 0 && !REAL.load(Ordering::Relaxed) {
        *flags &= !(libc::O_SYNC as usize);
    }
}

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_sync if !REAL.load(Ordering::Relaxed) => 0,
        libc::SYS_sync => kernel::call(number, a),
        libc::SYS_msync => msync(a),
    }
}

unsafe fn msync(mut a: [usize; 6]) -> isize {
    const WAIT: usize = libc::MS_SYNC as usize;
    const START: usize = libc::MS_ASYNC as usize;
    // Both at once are an error, which the kernel tells.
    if a[2] & (WAIT | START) == WAIT && !REAL.load(Ordering::Relaxed) {
        a[2] = a[2] & !WAIT | START;
    }
    // SAFETY: forwarded promise.
    unsafe { kernel::call(libc::SYS_msync, a) }
}
