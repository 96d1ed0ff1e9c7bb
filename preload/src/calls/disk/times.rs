//! Times and numbers of files that the server makes or changes, stored with them: see [`dmt::disk::mark`].
//!
//! Only a file's owner may set its times. What cannot be stored is kept in dmt's table.

use core::ffi::c_int;

use dmt::disk::{FileKey, Mark, Real, Time, written::kept};

use super::{MAX_PATH_BYTES, is_empty, look, look_fd, now, show_in, timespec};
use crate::args;
use crate::kernel;
use crate::raw;
use crate::watches;
use crate::world::{apart, dmt};

const KEEP: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT };
const EACCES: isize = -(libc::EACCES as isize);
const EPERM: isize = -(libc::EPERM as isize);

/// What happened to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Its content; of a directory: its names.
    Content,
    /// Its attributes or its own name.
    Attributes,
}

/// Stores a file's times. Without a path `directory` is the file's own descriptor.
///
/// # Safety
/// `path` is 0 or points to a C string.
unsafe fn store(directory: usize, path: usize, flags: c_int, mark: Mark, modified: Option<Time>) -> isize {
    let pair = [timespec(mark.encode()), modified.map_or(KEEP, timespec)];
    // SAFETY: our own two times; the path is the caller's promise.
    unsafe { kernel::quiet_call(libc::SYS_utimensat, args!(directory, path, pair.as_ptr(), flags)) }
}

/// Stores the times of an open file that no process writes any more.
pub fn store_written(fd: usize, key: FileKey, modified: Time, changed: Time) -> bool {
    // SAFETY: no path.
    unsafe { store(fd, 0, 0, Mark::new(key.own_inode(), changed), Some(modified)) == 0 }
}

fn new_mark() -> (Mark, Time) {
    dmt(|call| {
        call.with(|k| {
            let now = Time::of_clock(k.clock());
            (Mark::new(k.disk.next_inode(), now), now)
        })
    })
}

/// A file has been made and is open as `fd`.
pub fn made_fd(fd: usize) {
    let (mark, now) = new_mark();
    // SAFETY: no path.
    unsafe { store(fd, 0, 0, mark, Some(now)) };
}

/// A file has been made at `path`: it gets its number and times, and so does the directory.
///
/// # Safety
/// `path` points to a C string.
pub unsafe fn made(directory: usize, path: usize) {
    let (mark, now) = new_mark();
    // SAFETY: forwarded promise.
    unsafe {
        store(directory, path, libc::AT_SYMLINK_NOFOLLOW, mark, Some(now));
        parent_changed(directory, path);
    }
}

/// A file has been changed.
///
/// # Safety
/// `path` is 0 (then `directory` is the open file) or points to a C string.
pub unsafe fn changed(directory: usize, path: usize, flags: c_int, change: Change) {
    // SAFETY: forwarded promise.
    apart(|| unsafe {
        let flags = flags & (libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH);
        let real = if path == 0 { look_fd(directory) } else { look(directory, path, flags) };
        let Some(real) = real else { return };
        let now = now();
        let shown = dmt(|call| call.with(|k| show_in(k, &real)));
        let modified = if change == Change::Content { now } else { shown.modified };
        set(directory, path, flags, &real, modified, now);
    });
}

/// Sets the times of the file `real`, with it or in the table; false if neither was possible.
unsafe fn set(
    directory: usize,
    path: usize,
    flags: c_int,
    real: &Real,
    modified: Time,
    changed: Time,
) -> bool {
    let (key, slot) = dmt(|call| {
        call.with(|k| {
            let key = k.disk.key(real);
            let slot = k.disk.written.find(key);
            // The first change of a directory marks it, which also copies it into the upper layer.
            if slot.is_some() || !real.is_directory() || real.mark().is_none() || !k.disk.written.has_room() {
                return (key, slot);
            }
            let slot = k.disk.written.find_or_make(key, modified, changed);
            slot.into_iter().for_each(|id| k.disk.written.keep(id, kept::DIRECTORY));
            (key, slot)
        })
    });
    if let Some(id) = slot {
        dmt(|call| {
            call.with(|k| {
                let slot = k.disk.written.get_mut(id);
                (slot.modified, slot.changed) = (modified, changed);
            });
        });
        return true;
    }
    // SAFETY: forwarded promise.
    let stored =
        unsafe { store(directory, path, flags, Mark::new(key.own_inode(), changed), Some(modified)) };
    stored == 0 || keep(key, modified, changed)
}

/// Keeps times that cannot be stored.
fn keep(key: FileKey, modified: Time, changed: Time) -> bool {
    dmt(|call| {
        call.with(|k| match k.disk.written.find_or_make(key, modified, changed) {
            Some(id) => {
                k.disk.written.keep(id, kept::FOREIGN);
                true
            }
            None => false,
        })
    })
}

/// Names in the directory of `path` have changed.
///
/// # Safety
/// `path` points to a C string.
pub unsafe fn parent_changed(directory: usize, path: usize) {
    let mut room = [0u8; MAX_PATH_BYTES];
    // SAFETY: forwarded promise; the copy ends with a zero byte.
    unsafe {
        let name = core::ffi::CStr::from_ptr(path as *const core::ffi::c_char).to_bytes();
        let parent = parent_of(name);
        if parent.len() < room.len() {
            room[..parent.len()].copy_from_slice(parent);
            changed(directory, room.as_ptr() as usize, 0, Change::Content);
        }
    }
}

/// The directory `real` has been removed.
pub fn removed(real: &Real) {
    dmt(|call| {
        call.with(|k| {
            let key = k.disk.key(real);
            k.disk.written.forget(key);
        });
    });
}

/// The directory part of a path.
fn parent_of(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    match path[..end].iter().rposition(|&byte| byte == b'/') {
        Some(0) => b"/",
        Some(at) => &path[..at],
        None if end == 0 && !path.is_empty() => b"/",
        None => b".",
    }
}

/// `utimensat`, where "now" is the virtual clock's and an access time is not stored.
///
/// # Safety
/// As the system call.
pub unsafe fn utimensat(directory: usize, path: usize, times: *const libc::timespec, flags: usize) -> isize {
    // SAFETY: forwarded promise.
    apart(|| unsafe { set_times(directory, path, times, flags) })
}

unsafe fn set_times(directory: usize, path: usize, times: *const libc::timespec, flags: usize) -> isize {
    // SAFETY: forwarded promise; our own structures.
    unsafe {
        let pair =
            if times.is_null() { [libc::UTIME_NOW; 2] } else { [(*times).tv_nsec, (*times.add(1)).tv_nsec] };
        let real = if path == 0 { look_fd(directory) } else { look(directory, path, flags as c_int) };
        let legal = |ns: i64| matches!(ns, libc::UTIME_NOW | libc::UTIME_OMIT | 0..1_000_000_000);
        let Some(real) = real.filter(|_| pair.into_iter().all(legal)) else {
            // The kernel knows the error.
            return raw!(libc::SYS_utimensat, directory, path, times, flags);
        };
        if pair == [libc::UTIME_OMIT; 2] {
            return 0;
        }
        let now = now();
        let modified = match pair[1] {
            libc::UTIME_NOW => now,
            libc::UTIME_OMIT => dmt(|call| call.with(|k| show_in(k, &real))).modified,
            nanoseconds => Time { seconds: (*times.add(1)).tv_sec, nanoseconds },
        };
        let mark = Mark::new(real.mark().map_or(0, |mark| mark.inode), now);
        match watches::observed(|| store(directory, path, flags as c_int, mark, Some(modified))) {
            0 => {
                set_in_table(&real, modified, now);
                0
            }
            // Who may write may set both times to now, though nothing else.
            EPERM | EACCES if pair == [libc::UTIME_NOW; 2] && may_write(directory, path, flags) => {
                set(directory, path, flags as c_int, &real, modified, now);
                0
            }
            error => error,
        }
    }
}

fn set_in_table(real: &Real, modified: Time, changed: Time) {
    dmt(|call| {
        call.with(|k| {
            let key = k.disk.key(real);
            if let Some(id) = k.disk.written.find(key) {
                let slot = k.disk.written.get_mut(id);
                (slot.modified, slot.changed) = (modified, changed);
            }
        });
    });
}

unsafe fn may_write(directory: usize, path: usize, flags: usize) -> bool {
    let flags = flags | libc::AT_EACCESS as usize;
    // SAFETY: forwarded promise.
    unsafe {
        if is_empty(path) {
            let own = flags | libc::AT_EMPTY_PATH as usize;
            return raw!(libc::SYS_faccessat2, directory, c"".as_ptr(), libc::W_OK, own) == 0;
        }
        raw!(libc::SYS_faccessat2, directory, path, libc::W_OK, flags) == 0
    }
}
