//! Modification times: the virtual clock's.
//!
//! The kernel stores its own time with a file that is written, and a server shows that to clients (`Last-Modified`,
//! `ETag`) or decides by it what is new. So whoever changes a file's content here stores the virtual time after the
//! kernel's, on every replica and in every replay the same. Only a file's owner may; a file of another owner (a log that
//! was opened before privileges were dropped) keeps the kernel's time.

use core::ffi::c_int;

use crate::args;
use crate::kernel;
use crate::raw;
use crate::world::{dmt, timespec};

const EEXIST: isize = -(libc::EEXIST as isize);
const KEEP: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT };

/// The calls of this family.
pub unsafe fn call(number: i64, a: [usize; 6]) -> Option<isize> {
    // SAFETY: forwarded promise.
    Some(unsafe {
        match number {
            libc::SYS_ftruncate | libc::SYS_fallocate => {
                let done = kernel::call(number, a);
                if done == 0 {
                    modified(a[0]);
                }
                done
            }
            libc::SYS_truncate => truncate(a),
            libc::SYS_utimensat => utimensat(a[0], a[1], a[2] as *const libc::timespec, a[3]),
            libc::SYS_utime if a[1] == 0 => utimensat(libc::AT_FDCWD as usize, a[0], core::ptr::null(), 0),
            libc::SYS_utimes if a[1] == 0 => utimensat(libc::AT_FDCWD as usize, a[0], core::ptr::null(), 0),
            libc::SYS_futimesat if a[2] == 0 => utimensat(a[0], a[1], core::ptr::null(), 0),
            libc::SYS_utime | libc::SYS_utimes | libc::SYS_futimesat => kernel::call(number, a),
            _ => return None,
        }
    })
}

fn now() -> libc::timespec {
    timespec(dmt(|call| call.with(|k| k.clock())))
}

fn set_times(fd: usize, times: [libc::timespec; 2]) {
    // SAFETY: our own two structures; a refusal leaves the kernel's times.
    unsafe {
        let mut stat: libc::stat = core::mem::zeroed();
        // A device's times are the host's.
        if raw!(libc::SYS_fstat, fd, &raw mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFREG {
            raw!(libc::SYS_utimensat, fd, 0, times.as_ptr(), 0);
        }
    }
}

/// The content of `fd` has changed.
pub fn modified(fd: usize) {
    set_times(fd, [KEEP, now()]);
}

/// As [`modified`] if `result` says that bytes were written; returns it.
pub fn written(fd: usize, result: isize) -> isize {
    if result > 0 {
        modified(fd);
    }
    result
}

/// `openat` that may create or empty a file.
pub unsafe fn open(directory: usize, path: usize, flags: usize, mode: usize) -> isize {
    // SAFETY: forwarded promise.
    let open = |flags: c_int| unsafe { kernel::call(libc::SYS_openat, args!(directory, path, flags, mode)) };
    let wanted = flags as c_int;
    let temporary = wanted & libc::O_TMPFILE == libc::O_TMPFILE;
    // Nobody else makes files here while we have the turn, so asking twice is the same as asking once.
    let (fd, created) = match wanted & libc::O_CREAT != 0 {
        true => match open(wanted | libc::O_EXCL) {
            EEXIST if wanted & libc::O_EXCL == 0 => (open(wanted), false),
            fd => (fd, true),
        },
        false => (open(wanted), temporary),
    };
    if fd >= 0 && created {
        set_times(fd as usize, [now(); 2]);
    } else if fd >= 0 && wanted & libc::O_TRUNC != 0 {
        modified(fd as usize);
    }
    fd
}

unsafe fn truncate(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise, and our own structures.
    unsafe {
        let done = kernel::call(libc::SYS_truncate, a);
        if done == 0 {
            let times = [KEEP, now()];
            raw!(libc::SYS_utimensat, libc::AT_FDCWD, a[0], times.as_ptr(), 0);
        }
        done
    }
}

/// `utimensat`, where "now" is the virtual clock's.
unsafe fn utimensat(directory: usize, path: usize, times: *const libc::timespec, flags: usize) -> isize {
    // SAFETY: the program's two times, or none.
    let mut pair = if times.is_null() { [now(); 2] } else { unsafe { [*times, *times.add(1)] } };
    for time in pair.iter_mut().filter(|time| time.tv_nsec == libc::UTIME_NOW) {
        *time = now();
    }
    // SAFETY: forwarded promise.
    unsafe { kernel::call(libc::SYS_utimensat, args!(directory, path, pair.as_ptr(), flags)) }
}
