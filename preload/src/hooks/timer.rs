//! POSIX timers. A `timer_t` is the timer's number. libc's own functions are not used, because its helper thread for
//! `SIGEV_THREAD` would be one that nobody schedules.

use core::ffi::{c_int, c_void};

use crate::args;
use crate::calls::timer as calls;
use crate::errno::libc_int;
use crate::hook;
use crate::timers;
use crate::world::dmt;

/// What libc hands out as a timer.
type Timer = *mut c_void;

hook! {
    fn timer_create(clock: c_int, event: *const calls::Event, out: *mut Timer) -> c_int {
        // SAFETY: the program's structures.
        unsafe {
            let event = event.as_ref().copied();
            let made = match event {
                Some(event) if event.notify == calls::SIGEV_THREAD => timers::create(clock, event),
                _ => calls::make(clock, event),
            };
            if made >= 0 {
                *out = made as Timer;
            }
            libc_int(made.min(0))
        }
    }

    fn timer_settime(timer: Timer, flags: c_int, new: *const libc::itimerspec, old: *mut libc::itimerspec) -> c_int {
        // SAFETY: the program's own arguments, here and below.
        libc_int(unsafe { calls::set(args!(timer, flags, new, old)) })
    }

    fn timer_gettime(timer: Timer, out: *mut libc::itimerspec) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::get(args!(timer, out)) })
    }

    fn timer_getoverrun(timer: Timer) -> c_int {
        libc_int(dmt(|call| call.timer_getoverrun(timer as usize as c_int)) as isize)
    }

    fn timer_delete(timer: Timer) -> c_int {
        libc_int(dmt(|call| call.timer_delete(timer as usize as c_int)) as isize)
    }
}
