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

/// The calls of this family.
///
/// # Safety
/// As the system call.
pub unsafe fn call(number: i64, mut a: [usize; 6]) -> Option<isize> {
    const WAIT: usize = libc::MS_SYNC as usize;
    const START: usize = libc::MS_ASYNC as usize;
    if !REAL.load(Ordering::Relaxed) {
        match number {
            libc::SYS_sync => return Some(0),
            // Both at once are an error, which the kernel tells.
            libc::SYS_msync if a[2] & (WAIT | START) == WAIT => a[2] = a[2] & !WAIT | START,
            _ => {}
        }
    }
    // SAFETY: forwarded promise.
    matches!(number, libc::SYS_sync | libc::SYS_msync).then(|| unsafe { kernel::call(number, a) })
}
