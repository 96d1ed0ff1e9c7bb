//! Files on disk: what the kernel does, and then what replicas would not agree on put right. The rules are dmt's
//! ([`dmt::disk`]); here are the system calls.

pub mod changed;
pub mod failed;
pub mod freed;
pub mod holes;
pub mod links;
pub mod listing;
pub mod measured;
pub mod mounts;
pub mod names;
pub mod place;
pub mod space;
pub mod stat;
pub mod times;
pub mod writing;

use core::ffi::{CStr, c_int};

use dmt::disk::{Real, Shown, Time};
use dmt::kernel::Kernel;

use crate::raw;
use crate::world::dmt;

/// Bytes of the longest path.
pub const MAX_PATH_BYTES: usize = 4096;

/// What the kernel filled in.
pub fn real(stat: &libc::stat) -> Real {
    let time = |seconds, nanoseconds| Time { seconds, nanoseconds };
    Real {
        device: stat.st_dev,
        inode: stat.st_ino,
        mode: stat.st_mode,
        links: stat.st_nlink,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        accessed: time(stat.st_atime, stat.st_atime_nsec),
        modified: time(stat.st_mtime, stat.st_mtime_nsec),
        changed: time(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// The file that `path` means from `directory` on; `None` if there is none.
///
/// # Safety
/// `path` points to a C string.
pub unsafe fn look(directory: usize, path: usize, flags: c_int) -> Option<Real> {
    // SAFETY: all zeroes is a valid structure; the rest is the caller's promise.
    unsafe {
        let mut stat: libc::stat = core::mem::zeroed();
        (raw!(libc::SYS_newfstatat, directory, path, &raw mut stat, flags) == 0).then(|| real(&stat))
    }
}

/// The file that is open as `fd`.
pub fn look_fd(fd: usize) -> Option<Real> {
    // SAFETY: our own structure, for which all zeroes is valid.
    unsafe {
        let mut stat: libc::stat = core::mem::zeroed();
        (raw!(libc::SYS_fstat, fd, &raw mut stat) == 0).then(|| real(&stat))
    }
}

/// The virtual clock.
pub fn now() -> Time {
    dmt(|call| call.with(|k| Time::of_clock(k.clock())))
}

/// What a program sees of a file.
#[inline]
pub fn show(real: &Real) -> Shown {
    dmt(|call| call.with(|k| show_in(k, real)))
}

#[inline]
fn show_in(k: &mut Kernel, real: &Real) -> Shown {
    let start = Time::of_clock(k.sched.genesis_clock);
    k.disk.show(real, start)
}

/// The kernel's structure.
fn timespec(time: Time) -> libc::timespec {
    libc::timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds }
}

/// Whether the program gave an empty path, or none: then the descriptor itself is meant.
///
/// # Safety
/// `path` is 0 or points to a C string.
unsafe fn is_empty(path: usize) -> bool {
    // SAFETY: forwarded promise.
    path == 0 || unsafe { *(path as *const u8) } == 0
}

/// The path by which the kernel knows an open file; empty if it has none.
pub fn path_of(fd: usize, room: &mut [u8; MAX_PATH_BYTES]) -> &[u8] {
    use core::fmt::Write;
    let mut link = crate::fatal::Line::new();
    let _ = write!(link, "/proc/self/fd/{fd}\0");
    // SAFETY: a C string and a buffer of our own.
    let len = unsafe {
        raw!(
            libc::SYS_readlinkat,
            libc::AT_FDCWD,
            CStr::as_ptr(CStr::from_bytes_until_nul(link.bytes()).unwrap_or_default()),
            room.as_mut_ptr(),
            room.len()
        )
    };
    &room[..len.max(0) as usize]
}
