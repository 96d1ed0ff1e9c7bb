//! The kernel's half of inotify ([`dmt::file::inotify`]): one instance that all processes of the replica inherit.
//!
//! What a call did to a watched file is taken out of it right after the call, by the thread that made it and has the turn.
//! What was in it before the call is thrown away: that others made, who look around in the replica (`brolga exec`), or we,
//! when we stored a file's times. While nothing is watched, a call costs one look into dmt.

use core::ffi::c_int;

use dmt::file::inotify::{HEADER_BYTES, Happened};

use crate::calls::file::is_open;
use crate::own::WATCHES;
use crate::raw;
use crate::world::{apart, dmt};

/// Bytes taken out at once; the longest event has 272.
const BUFFER_BYTES: usize = 2048;

/// Makes the instance, in the server's first process.
pub fn open() -> Result<(), isize> {
    // SAFETY: a descriptor that nobody else knows yet; the number that it gets is ours.
    unsafe {
        let made = raw!(libc::SYS_inotify_init1, libc::IN_NONBLOCK | libc::IN_CLOEXEC);
        if made < 0 {
            return Err(made);
        }
        let placed = raw!(libc::SYS_dup3, made, WATCHES, 0);
        raw!(libc::SYS_close, made);
        if placed < 0 { Err(placed) } else { Ok(()) }
    }
}

/// Makes a call that may do something to a watched file, and tells dmt what it did.
#[inline]
pub fn observed(call: impl FnOnce() -> isize) -> isize {
    if !dmt(|call| call.is_watching()) {
        return call();
    }
    drop_events();
    let result = call();
    tell_events();
    result
}

/// What the kernel does to files while it executes a program is told by the new program's constructor.
pub fn before_exec() {
    if dmt(|call| call.is_watching()) {
        drop_events();
    }
}

/// See [`before_exec`].
pub fn after_exec() {
    if dmt(|call| call.is_watching()) {
        tell_events();
    }
}

#[cold]
fn drop_events() {
    while let Some(place) = dmt(|call| call.take_unwatched()) {
        forget(place);
    }
    take_events(|_| {});
}

#[cold]
fn tell_events() {
    take_events(|event| dmt(|call| call.inotify_happened(event)));
}

/// Takes all events out of the kernel's instance. What is left of them on the stack is each replica's own.
fn take_events(mut tell: impl FnMut(&Happened<'_>)) {
    apart(|| {
        let mut buffer = [0u8; BUFFER_BYTES];
        loop {
            // SAFETY: a buffer of our own.
            let got = unsafe { raw!(libc::SYS_read, WATCHES, buffer.as_mut_ptr(), BUFFER_BYTES) };
            let Some(mut rest) = usize::try_from(got).ok().and_then(|got| buffer.get(..got)) else { return };
            while let Some((event, behind)) = first_event(rest) {
                tell(&event);
                rest = behind;
            }
        }
    });
}

/// The first of the kernel's events, and the bytes behind it.
fn first_event(bytes: &[u8]) -> Option<(Happened<'_>, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let word = |at: usize| u32::from_le_bytes(core::array::from_fn(|i| header[at + i]));
    let (name, rest) = rest.split_at_checked(word(12) as usize)?;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    let event = Happened { place: word(0) as i32, mask: word(4), cookie: word(8), name: &name[..end] };
    Some((event, rest))
}

/// `inotify_add_watch`.
///
/// # Safety
/// As the system call.
pub unsafe fn add(a: [usize; 6]) -> isize {
    let watch = |mask: u32| {
        // SAFETY: the program's path.
        unsafe { raw!(libc::SYS_inotify_add_watch, WATCHES, a[1], mask) as i32 }
    };
    named(a[0], dmt(|call| call.inotify_add_watch(a[0] as c_int, a[2] as u32, watch, forget)))
}

/// `inotify_rm_watch`.
pub fn remove(a: [usize; 6]) -> isize {
    named(a[0], dmt(|call| call.inotify_remove_watch(a[0] as c_int, a[1] as c_int, forget)))
}

/// The error for a descriptor that is none of dmt's.
fn named(fd: usize, result: i64) -> isize {
    if result == -i64::from(libc::EBADF) && is_open(fd as c_int) {
        return -(libc::EINVAL as isize);
    }
    result as isize
}

/// The kernel need not watch `place` any more; that it says so is thrown away.
fn forget(place: i32) {
    // SAFETY: numbers only.
    unsafe { raw!(libc::SYS_inotify_rm_watch, WATCHES, place) };
}
