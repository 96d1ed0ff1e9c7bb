//! Waiting for readiness: poll, select, epoll; and the files that exist to be waited for.

use core::ffi::c_int;

use dmt::file::abi::{EpollEvent, PollFd, TimerSpec};
use dmt::file::poll::SelectSets;

use crate::calls::file::{self, install};
use crate::calls::time::{nanoseconds, spec, store_spec};
use crate::signals::NEVER_BLOCKED;
use crate::world::dmt;

const EINVAL: isize = -(libc::EINVAL as isize);
const EBADF: isize = -(libc::EBADF as isize);
const NS_PER_MS: u64 = 1_000_000;
/// Events that one epoll_wait returns at the most.
const MAX_EVENTS: usize = 4096;
/// Descriptors in one poll.
const MAX_POLL: usize = dmt::bounds::MAX_FDS;

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_poll => poll(a[0], a[1], milliseconds(a[2]), None),
        libc::SYS_ppoll => ppoll(a),
        libc::SYS_select => select(a, select_timeout(a[4]), None),
        libc::SYS_pselect6 => pselect6(a),
        libc::SYS_epoll_create | libc::SYS_epoll_create1 => epoll_create(number, a),
        libc::SYS_epoll_ctl => epoll_ctl(a),
        libc::SYS_epoll_wait => epoll_wait(a, milliseconds(a[3]), None),
        libc::SYS_epoll_pwait => epoll_wait(a, milliseconds(a[3]), mask(a[4])),
        libc::SYS_epoll_pwait2 => match timeout(a[3]) {
            Ok(limit) => epoll_wait(a, limit, mask(a[4])),
            Err(error) => error,
        },
        libc::SYS_timerfd_create => {
            install(dmt(|call| call.timerfd(a[0] as c_int, a[1] as c_int)), a[1], false)
        },
        libc::SYS_timerfd_settime => timerfd_settime(a),
        libc::SYS_timerfd_gettime => timerfd_gettime(a),
        libc::SYS_signalfd => signalfd([a[0], a[1], a[2], 0, 0, 0]),
        libc::SYS_signalfd4 => signalfd(a),
    }
}

/// A time-out in milliseconds; negative = none.
pub fn milliseconds(value: usize) -> Option<u64> {
    let value = value as c_int;
    (value >= 0).then(|| value as u64 * NS_PER_MS)
}

/// A time-out in a structure; 0 = none.
unsafe fn timeout(at: usize) -> Result<Option<u64>, isize> {
    if at == 0 {
        return Ok(None);
    }
    // SAFETY: the program's structure.
    unsafe { nanoseconds(at) }.map(Some).ok_or(EINVAL)
}

/// A signal mask; 0 = none.
unsafe fn mask(at: usize) -> Option<u64> {
    // SAFETY: the program's mask of eight bytes.
    (at != 0).then(|| unsafe { *(at as *const u64) } & !NEVER_BLOCKED)
}

/// `poll`.
pub unsafe fn poll(at: usize, count: usize, limit: Option<u64>, mask: Option<u64>) -> isize {
    if count > MAX_POLL {
        return EINVAL;
    }
    let fds = if count == 0 {
        &mut [][..]
    } else {
        // SAFETY: the program's array.
        unsafe { core::slice::from_raw_parts_mut(at as *mut PollFd, count) }
    };
    for entry in fds.iter_mut() {
        entry.revents = if entry.fd < 0 || file::is_virtual(entry.fd as usize) {
            0
        } else if file::is_open(entry.fd) {
            entry.events & (libc::POLLIN | libc::POLLOUT | libc::POLLRDNORM | libc::POLLWRNORM)
        } else {
            libc::POLLNVAL
        };
    }
    dmt(|call| call.poll(fds, limit, mask)) as isize
}

/// `ppoll`.
pub unsafe fn ppoll(a: [usize; 6]) -> isize {
    // SAFETY: the program's structures.
    unsafe {
        match timeout(a[2]) {
            Ok(limit) => poll(a[0], a[1], limit, mask(a[3])),
            Err(error) => error,
        }
    }
}

unsafe fn select_timeout(at: usize) -> Result<Option<u64>, isize> {
    if at == 0 {
        return Ok(None);
    }
    // SAFETY: the program's structure.
    let t = unsafe { *(at as *const libc::timeval) };
    if t.tv_sec < 0 || t.tv_usec < 0 {
        return Err(EINVAL);
    }
    Ok(Some(t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1000))
}

/// `select`.
pub unsafe fn select(a: [usize; 6], limit: Result<Option<u64>, isize>, mask: Option<u64>) -> isize {
    let limit = match limit {
        Ok(limit) => limit,
        Err(error) => return error,
    };
    let count = a[0] as c_int;
    if !(0..=MAX_POLL as c_int).contains(&count) {
        return EINVAL;
    }
    let words = (count as usize).div_ceil(64);
    let set = |at: usize| match at {
        0 => &mut [][..],
        // SAFETY: the program's sets of at least `count` bits, in whole words.
        _ => unsafe { core::slice::from_raw_parts_mut(at as *mut u64, words) },
    };
    let sets = SelectSets { read: set(a[1]), write: set(a[2]), except: set(a[3]) };
    for fd in 0..count {
        let bit = |set: &[u64]| set.get(fd as usize / 64).is_some_and(|word| word >> (fd % 64) & 1 != 0);
        let named = bit(sets.read) || bit(sets.write) || bit(sets.except);
        if named && !file::is_virtual(fd as usize) && !file::is_open(fd) {
            return EBADF;
        }
    }
    dmt(|call| call.select(count, sets, limit, mask)) as isize
}

/// `pselect6`: its last argument points to the mask's address and size.
pub unsafe fn pselect6(a: [usize; 6]) -> isize {
    // SAFETY: the program's structures.
    unsafe {
        let inner = if a[5] == 0 { 0 } else { *(a[5] as *const usize) };
        select(a, timeout(a[4]), mask(inner))
    }
}

unsafe fn epoll_create(number: i64, a: [usize; 6]) -> isize {
    let flags = if number == libc::SYS_epoll_create1 { a[0] } else { 0 };
    if number == libc::SYS_epoll_create && a[0] as c_int <= 0 || flags & !(libc::EPOLL_CLOEXEC as usize) != 0
    {
        return EINVAL;
    }
    install(dmt(|call| call.epoll_create()), flags, false)
}

/// `epoll_ctl`.
pub unsafe fn epoll_ctl(a: [usize; 6]) -> isize {
    if !file::is_virtual(a[2]) {
        return if file::is_open(a[2] as c_int) { -(libc::EPERM as isize) } else { EBADF };
    }
    let event = if a[3] == 0 {
        EpollEvent::default()
    } else {
        // SAFETY: the program's event; it may be absent for a deletion.
        unsafe { (a[3] as *const EpollEvent).read_unaligned() }
    };
    dmt(|call| call.epoll_ctl(a[0] as c_int, a[1] as c_int, a[2] as c_int, event)) as isize
}

/// `epoll_wait` and its kin.
pub unsafe fn epoll_wait(a: [usize; 6], limit: Option<u64>, mask: Option<u64>) -> isize {
    if a[2] as c_int <= 0 {
        return EINVAL;
    }
    // SAFETY: the program's array; the structure is packed, so any address is aligned.
    let events = unsafe { core::slice::from_raw_parts_mut(a[1] as *mut EpollEvent, a[2].min(MAX_EVENTS)) };
    dmt(|call| call.epoll_wait(a[0] as c_int, events, limit, mask)) as isize
}

/// `timerfd_settime`.
pub unsafe fn timerfd_settime(a: [usize; 6]) -> isize {
    // SAFETY: the program's structures.
    unsafe {
        let Some(new) = spec(a[2]) else { return EINVAL };
        let mut old = TimerSpec::default();
        let result = dmt(|call| call.timerfd_settime(a[0] as c_int, a[1] as c_int, new, &mut old));
        if result == 0 {
            store_spec(a[3], old);
        }
        result as isize
    }
}

/// `timerfd_gettime`.
pub unsafe fn timerfd_gettime(a: [usize; 6]) -> isize {
    let mut now = TimerSpec::default();
    let result = dmt(|call| call.timerfd_gettime(a[0] as c_int, &mut now));
    if result == 0 {
        // SAFETY: the program's structure.
        unsafe { store_spec(a[1], now) };
    }
    result as isize
}

/// `signalfd4`.
pub unsafe fn signalfd(a: [usize; 6]) -> isize {
    // SAFETY: the program's mask.
    let Some(set) = (unsafe { mask(a[1]) }) else { return EINVAL };
    match a[0] as c_int {
        -1 => install(dmt(|call| call.signalfd(set, a[3] as c_int)), a[3], false),
        fd => match dmt(|call| call.signalfd_set(fd, set)) as isize {
            0.. => fd as isize,
            error => error,
        },
    }
}
