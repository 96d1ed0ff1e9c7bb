//! Space on disk: what a program hears of it, and what happens when one replica has none left.

use core::fmt::Write;

use super::place::{FileSystem, Place};
use crate::calls::refuse;
use crate::fatal::Line;
use crate::kernel;
use crate::raw;
use crate::world::{apart, dmt};

/// Blocks and files that every file system has, half of them free.
const TOTAL: u64 = 1 << 28;
/// Time between two tries on a full disk, nanoseconds.
const RETRY_NS: i64 = 100_000_000;
/// Tries between two lines in the log.
const TRIES_PER_LINE: u32 = 300;
/// No call of the kernel moves more bytes.
const MOST_BYTES: usize = 0x7fff_f000;
/// A disk with so much left, in bytes, had room for an extended attribute.
const ATTRIBUTE_ROOM: u64 = 1 << 20;
const NO_SPACE: isize = -(libc::ENOSPC as isize);
const NO_QUOTA: isize = -(libc::EDQUOT as isize);

/// `statfs` and `fstatfs`.
///
/// # Safety
/// As the system calls.
pub unsafe fn statfs(number: i64, a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise; after success the kernel has filled the structure.
    unsafe {
        let done = kernel::call(number, a);
        if done == 0 {
            let out = &mut *(a[1] as *mut libc::statfs);
            if out.f_blocks != 0 {
                (out.f_blocks, out.f_bfree, out.f_bavail) = (TOTAL, TOTAL / 2, TOTAL / 2);
                (out.f_files, out.f_ffree) = (TOTAL, TOTAL / 2);
            }
            // Made of the device's number, which is another one on each replica.
            out.f_fsid = core::mem::zeroed();
        }
        done
    }
}

/// Carries out call `number` with arguments `a`, which `call` does. A full disk is one replica's own affair, so the server does not
/// hear of it: it waits until there is space. That of a device, or of a file system in memory, is answered as it is.
///
/// # Safety
/// The arguments are those of the call: a path points to a C string.
#[inline]
pub unsafe fn patient(number: i64, a: [usize; 6], call: impl Fn() -> isize) -> isize {
    match call() {
        // SAFETY: forwarded promise.
        NO_SPACE | NO_QUOTA if unsafe { is_full(number, a) } => wait(call),
        result => result,
    }
}

/// Carries out a call that writes to `fd` as many bytes as `asked` says when some are written. Where only a part had room, the rest is
/// written when there is more: how much that was is one replica's own affair, too. `write` is told how much is done already.
#[inline]
pub fn whole(fd: usize, asked: impl Fn() -> usize, write: impl Fn(usize) -> isize) -> isize {
    let done = write(0);
    if done <= 0 {
        return done;
    }
    let asked = asked().min(MOST_BYTES);
    if done as usize >= asked { done } else { complete(fd, asked, done as usize, write) }
}

/// Also of what had another reason to be short: a limit of the file's size, the end of what is copied.
#[cold]
fn complete(fd: usize, asked: usize, mut done: usize, write: impl Fn(usize) -> isize) -> isize {
    while done < asked && is_on_disk(fd) {
        match write(done) {
            more if more <= 0 => break,
            more => done += more as usize,
        }
    }
    done as isize
}

/// Whether `fd` is a file on a disk.
fn is_on_disk(fd: usize) -> bool {
    apart(|| {
        super::look_fd(fd).is_some_and(|real| real.is_regular())
            && FileSystem::of(fd).is_some_and(|found| !found.is_memory())
    })
}

/// Whether it is for want of space on a disk that a call failed.
#[cold]
unsafe fn is_full(number: i64, a: [usize; 6]) -> bool {
    // SAFETY: forwarded promise.
    let place = unsafe { Place::of(number, a) };
    match (number, place) {
        // No file system takes an attribute of any size.
        (libc::SYS_setxattr | libc::SYS_lsetxattr | libc::SYS_fsetxattr, _) => apart(|| {
            place.file_system().is_some_and(|found| !found.is_memory() && found.free_bytes() < ATTRIBUTE_ROOM)
        }),
        (libc::SYS_fchmod | libc::SYS_fchown | libc::SYS_utimensat, _) | (_, Place::Named(..)) => {
            apart(|| place.file_system().is_some_and(|found| !found.is_memory()))
        }
        (_, Place::Open(fd)) => is_on_disk(fd),
    }
}

#[cold]
fn wait(call: impl Fn() -> isize) -> isize {
    let pause = libc::timespec { tv_sec: 0, tv_nsec: RETRY_NS };
    for tries in 0u32.. {
        if tries.is_multiple_of(TRIES_PER_LINE) {
            let mut line = Line::new();
            let _ =
                write!(line, "the disk is full: the server waits until there is space for what it writes");
            refuse::log(&line);
        }
        // SAFETY: our own structure.
        unsafe { raw!(libc::SYS_nanosleep, &raw const pause, 0) };
        match call() {
            NO_SPACE | NO_QUOTA => {}
            result => return result,
        }
        // A server that is to be ended must not wait for ever.
        if dmt(|call| call.shared().control.halt.load(core::sync::atomic::Ordering::Relaxed)) != 0 {
            break;
        }
    }
    NO_SPACE
}
