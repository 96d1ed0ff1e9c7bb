//! Clocks and sleeps.

use core::ffi::{c_int, c_uint};

use crate::args;
use crate::calls::time as calls;
use crate::cancellation_points;
use crate::errno::{libc_int, pthread_result};
use crate::hook;

hook! {
    fn clock_gettime(clock: c_int, out: *mut libc::timespec) -> c_int {
        // SAFETY: the program's own arguments, here and below.
        libc_int(unsafe { calls::clock_gettime(args!(clock, out)) })
    }

    fn clock_getres(clock: c_int, out: *mut libc::timespec) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::clock_getres(args!(clock, out)) })
    }

    fn gettimeofday(out: *mut libc::timeval, zone: *mut core::ffi::c_void) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::gettimeofday(args!(out, zone)) })
    }

    fn time(out: *mut libc::time_t) -> libc::time_t {
        // SAFETY: as above.
        unsafe { calls::time(args!(out)) as libc::time_t }
    }

    fn timespec_get(out: *mut libc::timespec, base: c_int) -> c_int {
        // SAFETY: as above. 1 is TIME_UTC.
        if base == 1 && unsafe { calls::clock_gettime(args!(libc::CLOCK_REALTIME, out)) } == 0 { base } else { 0 }
    }

    fn clock() -> libc::clock_t {
        let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: our own structure.
        unsafe { calls::clock_gettime(args!(libc::CLOCK_MONOTONIC, &raw mut used)) };
        (used.tv_sec - 1000) * 1_000_000 + used.tv_nsec / 1000
    }

    fn alarm(seconds: c_uint) -> c_uint {
        calls::alarm(args!(seconds)) as c_uint
    }

    fn setitimer(which: c_int, new: *const libc::itimerval, old: *mut libc::itimerval) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::setitimer(args!(which, new, old)) })
    }
}

cancellation_points! {
    fn nanosleep(wanted: *const libc::timespec, left: *mut libc::timespec) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { calls::nanosleep(args!(wanted, left)) })
    }

    fn clock_nanosleep(clock: c_int, flags: c_int, wanted: *const libc::timespec, left: *mut libc::timespec) -> c_int | is_not_zero {
        // SAFETY: as above.
        pthread_result(unsafe { calls::clock_nanosleep(args!(clock, flags, wanted, left)) })
    }

    fn usleep(us: c_uint) -> c_int | is_minus_one {
        let wanted = crate::world::timespec(u64::from(us) * 1000);
        // SAFETY: our own structure.
        libc_int(unsafe { calls::nanosleep(args!(&raw const wanted)) })
    }

    fn sleep(seconds: c_uint) -> c_uint | is_not_zero {
        let wanted = crate::world::timespec(u64::from(seconds) * 1_000_000_000);
        let mut left = crate::world::timespec(0);
        // SAFETY: our own structures.
        let result = unsafe { calls::nanosleep(args!(&raw const wanted, &raw mut left)) };
        if result == 0 { 0 } else { left.tv_sec as c_uint + c_uint::from(left.tv_nsec >= 500_000_000) }
    }
}
