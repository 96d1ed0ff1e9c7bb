//! Files of /proc and /sys: their inode numbers and times are made by the kernel when somebody looks. A program sees
//! numbers made of the paths.

use core::ffi::c_int;

use dmt::disk::listing::position;
use dmt::disk::{Real, Shown, Time};

use super::{MAX_PATH_BYTES, is_empty, path_of};
use crate::raw;
use crate::world::dmt;

/// What the kernel puts behind the path of an open file of a process that is gone.
const DELETED: &[u8] = b" (deleted)";
/// The root of such a file system has this number everywhere.
const ROOT: u64 = 1;

/// Puts the numbers of a file of /proc or /sys right; `file` = directory, path, flags. False if it is of a process that does not
/// exist any more.
///
/// # Safety
/// The path is 0 or points to a C string.
pub unsafe fn show(real: &Real, shown: &mut Shown, file: [usize; 3]) -> bool {
    let start = dmt(|call| call.with(|k| Time::of_clock(k.sched.genesis_clock)));
    (shown.modified, shown.changed) = (start, start);
    if real.inode == ROOT {
        return true;
    }
    let mut room = [0; MAX_PATH_BYTES];
    // SAFETY: forwarded promise.
    let is_open = unsafe { is_empty(file[1]) };
    // SAFETY: as above.
    let path = unsafe { path(file, is_open, &mut room) };
    let path = path.strip_suffix(DELETED).unwrap_or(path);
    shown.inode = position(path) >> 16 | 1 << 32;
    // Without a path it has gone meanwhile.
    is_open || !path.is_empty() && dmt(|call| call.with(|k| k.has_task(path)))
}

unsafe fn path(file: [usize; 3], is_open: bool, room: &mut [u8; MAX_PATH_BYTES]) -> &[u8] {
    // SAFETY: forwarded promise; the descriptor is ours.
    unsafe {
        if is_open {
            return path_of(file[0], room);
        }
        let no_follow = if file[2] as c_int & libc::AT_SYMLINK_NOFOLLOW != 0 { libc::O_NOFOLLOW } else { 0 };
        let fd = raw!(libc::SYS_openat, file[0], file[1], libc::O_PATH | libc::O_CLOEXEC | no_follow, 0);
        if fd < 0 {
            return b"";
        }
        let path = path_of(fd as usize, room);
        raw!(libc::SYS_close, fd);
        path
    }
}
