//! Space on disk: what a program hears of it, and what happens when one replica has none left.

use core::fmt::Write;

use crate::calls::refuse;
use crate::fatal::Line;
use crate::kernel;
use crate::raw;
use crate::world::dmt;

/// Blocks and files that every file system has, half of them free.
const TOTAL: u64 = 1 << 28;
/// Time between two tries on a full disk, nanoseconds.
const RETRY_NS: i64 = 100_000_000;
/// Tries between two lines in the log.
const TRIES_PER_LINE: u32 = 300;
/// No call of the kernel moves more bytes.
const MOST_BYTES: usize = 0x7fff_f000;
/// File systems in memory: they have a size of their own, the same on every replica.
const TMPFS_MAGIC: i64 = 0x0102_1994;
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

/// Carries out a call that writes to `fd`. A full disk is one replica's own affair, so the server does not hear of it: it
/// waits until there is space. A descriptor of a device, or of a file system in memory, is answered as it is.
#[inline]
pub fn patient(fd: usize, call: impl Fn() -> isize) -> isize {
    match call() {
        NO_SPACE | NO_QUOTA if is_on_disk(fd) => wait(call),
        result => result,
    }
}

/// Carries out a call that writes to `fd` as many bytes as `asked` says when some are written. Where only a part had room, the rest is
/// written when there is more: how much that was is one replica's own affair, too. `write` is told how much is done already.
#[inline]
pub fn whole(fd: usize, asked: impl Fn() -> usize, write: impl Fn(usize) -> isize) -> isize {
    let done = patient(fd, || write(0));
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
        match patient(fd, || write(done)) {
            more if more <= 0 => break,
            more => done += more as usize,
        }
    }
    done as isize
}

/// As [`patient`], for calls that make names.
pub fn patient_here(call: impl Fn() -> isize) -> isize {
    match call() {
        NO_SPACE | NO_QUOTA => wait(call),
        result => result,
    }
}

fn is_on_disk(fd: usize) -> bool {
    // SAFETY: our own structure, for which all zeroes is valid.
    unsafe {
        let mut about: libc::statfs = core::mem::zeroed();
        super::look_fd(fd).is_some_and(|real| real.is_regular())
            && raw!(libc::SYS_fstatfs, fd, &raw mut about) == 0
            && about.f_type != TMPFS_MAGIC
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
