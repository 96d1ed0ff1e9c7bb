//! POSIX timers: `timer_create` and its kin, as system calls.

use core::ffi::c_int;

use dmt::process::interval::Notify;

use crate::calls::time::{spec, store_spec};
use crate::world::dmt;

const EINVAL: isize = -(libc::EINVAL as isize);
/// Tells by a new thread; only libc knows this one, see [`crate::timers`].
pub const SIGEV_THREAD: c_int = 2;

/// `struct sigevent`; what follows the three words depends on `notify`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Event {
    /// Given to whoever is told.
    pub value: u64,
    /// Signal number.
    pub signal: c_int,
    /// `SIGEV_SIGNAL` and its kin.
    pub notify: c_int,
    /// Function to call in a new thread; its first half is the thread to signal.
    pub function: usize,
    /// Attributes of the new thread.
    pub attributes: *const libc::pthread_attr_t,
}

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_timer_create => create(a),
        libc::SYS_timer_settime => set(a),
        libc::SYS_timer_gettime => get(a),
        libc::SYS_timer_getoverrun => dmt(|call| call.timer_getoverrun(a[0] as c_int)) as isize,
        libc::SYS_timer_delete => dmt(|call| call.timer_delete(a[0] as c_int)) as isize,
    }
}

/// Makes a timer of `clock` that tells by `event`; its number or a negative errno. Without an event it sends `SIGALRM`.
pub fn make(clock: c_int, event: Option<Event>) -> isize {
    let notify = match event {
        Some(event) => Notify {
            how: event.notify,
            signal: event.signal,
            value: Some(event.value),
            tid: event.function as c_int,
        },
        None => Notify { how: libc::SIGEV_SIGNAL, signal: libc::SIGALRM, value: None, tid: 0 },
    };
    dmt(|call| call.timer_create(clock, notify)) as isize
}

unsafe fn create(a: [usize; 6]) -> isize {
    // SAFETY: the program's structure and variable. The system call's structure is as long as ours.
    unsafe {
        let event = (a[1] != 0).then(|| *(a[1] as *const Event));
        let made = make(a[0] as c_int, event);
        if made >= 0 {
            *(a[2] as *mut c_int) = made as c_int;
        }
        made.min(0)
    }
}

/// `timer_settime`.
pub unsafe fn set(a: [usize; 6]) -> isize {
    // SAFETY: the program's structures.
    unsafe {
        if a[2] == 0 {
            return EINVAL;
        }
        let Some(new) = spec(a[2]) else { return EINVAL };
        let mut old = dmt::file::abi::TimerSpec::default();
        let result = dmt(|call| call.timer_settime(a[0] as c_int, a[1] as c_int, new, &mut old));
        if result == 0 {
            store_spec(a[3], old);
        }
        result as isize
    }
}

/// `timer_gettime`.
pub unsafe fn get(a: [usize; 6]) -> isize {
    let mut now = dmt::file::abi::TimerSpec::default();
    let result = dmt(|call| call.timer_gettime(a[0] as c_int, &mut now));
    if result == 0 {
        // SAFETY: the program's structure.
        unsafe { store_spec(a[1], now) };
    }
    result as isize
}
