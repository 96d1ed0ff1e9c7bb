//! Descriptors of our own, which the program may not see: the coordinator's eventfd, the box for passed files, the
//! kernel's half of inotify, and the way of deleted files to init.

use core::sync::atomic::{AtomicI32, Ordering};

use dmt::bounds::{FREED_FD, MAX_FDS};

use crate::raw;

/// Where deleted files are given to init, which takes them out at [`FREED_FD`]; see [`crate::calls::disk::freed`].
pub const FREED_IN: i32 = FREED_FD - 1;
/// The inotify instance of the kernel's; see [`crate::watches`].
pub const WATCHES: i32 = MAX_FDS as i32 - 4;
/// Where files are put into the box; see [`crate::mailbox`].
pub const BOX_IN: i32 = MAX_FDS as i32 - 3;
/// Where they are taken out.
pub const BOX_OUT: i32 = MAX_FDS as i32 - 2;

/// The coordinator's eventfd, -1 if there is none.
static KICK_FD: AtomicI32 = AtomicI32::new(-1);

/// Sets the coordinator's eventfd; the constructor does it once.
pub fn set_kick_fd(fd: i32) {
    KICK_FD.store(fd, Ordering::Relaxed);
}

/// The coordinator's eventfd, or -1.
pub fn kick_fd() -> i32 {
    KICK_FD.load(Ordering::Relaxed)
}

fn all() -> [i32; 6] {
    [kick_fd(), FREED_IN, FREED_FD, WATCHES, BOX_IN, BOX_OUT]
}

/// Whether `fd` is one of them.
pub fn is_own(fd: i32) -> bool {
    fd >= 0 && all().contains(&fd)
}

/// `close_range` around them; the kernel's result.
///
/// # Safety
/// As for the call: nobody may use what is closed.
pub unsafe fn close_range(first: u32, last: u32, flags: usize) -> isize {
    let mut own = all();
    own.sort_unstable();
    let mut from = first;
    for fd in own {
        let Ok(fd) = u32::try_from(fd) else { continue };
        if fd < from || fd > last {
            continue;
        }
        // SAFETY: forwarded promise.
        let result = if fd > from { unsafe { raw!(libc::SYS_close_range, from, fd - 1, flags) } } else { 0 };
        if result < 0 {
            return result;
        }
        from = fd + 1;
    }
    // SAFETY: forwarded promise.
    if from <= last { unsafe { raw!(libc::SYS_close_range, from, last, flags) } } else { 0 }
}
