//! Clocks, sleeps and interval timers.

use core::ffi::c_int;

use dmt::file::abi::TimerSpec;

use crate::gate;
use crate::tls;
use crate::world::{dmt, timespec};

const NS: u64 = 1_000_000_000;
/// What every clock claims as its resolution.
const RESOLUTION_NS: i64 = 1;

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_clock_gettime => clock_gettime(a),
        libc::SYS_clock_getres => clock_getres(a),
        libc::SYS_gettimeofday => gettimeofday(a),
        libc::SYS_time => time(a),
        libc::SYS_getcpu => getcpu(a),
        libc::SYS_nanosleep => nanosleep(a),
        libc::SYS_clock_nanosleep => clock_nanosleep(a),
        libc::SYS_setitimer => setitimer(a),
        libc::SYS_getitimer => getitimer(a),
        libc::SYS_alarm => alarm(a),
        libc::SYS_settimeofday
        | libc::SYS_clock_settime
        | libc::SYS_clock_adjtime
        | libc::SYS_adjtimex => -(libc::EPERM as isize),
    }
}

/// Whether `clock` counts from the epoch; the others count from the start of the run.
fn is_real_time(clock: c_int) -> bool {
    const CLOCK_TAI: c_int = 11;
    const CLOCK_REALTIME_ALARM: c_int = 8;
    matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | CLOCK_TAI | CLOCK_REALTIME_ALARM)
}

/// Reads a clock: an operation, so that a loop that waits for time to pass makes it pass.
fn read(clock: c_int) -> u64 {
    dmt(|call| if is_real_time(clock) { call.realtime() } else { call.monotonic() })
}

/// A deadline on `clock` as one on dmt's virtual clock.
pub fn deadline(clock: c_int, at: u64) -> u64 {
    if is_real_time(clock) { at } else { dmt(|call| call.with(|k| k.from_monotonic(at))) }
}

/// A deadline `ns` from now on dmt's virtual clock.
pub fn after(ns: u64) -> u64 {
    dmt(|call| call.with(|k| k.clock())).saturating_add(ns)
}

/// Nanoseconds in a structure of the program's; `None` if it is no valid time.
pub unsafe fn nanoseconds(at: usize) -> Option<u64> {
    // SAFETY: the caller's promise.
    let t = unsafe { *(at as *const libc::timespec) };
    (t.tv_sec >= 0 && (0..NS as i64).contains(&t.tv_nsec))
        .then(|| (t.tv_sec as u64).saturating_mul(NS) + t.tv_nsec as u64)
}

/// A timer's setting in a `struct itimerspec` of the program's; `None` if it is no valid one.
pub unsafe fn spec(at: usize) -> Option<TimerSpec> {
    // SAFETY: two times in a row.
    unsafe {
        Some(TimerSpec { interval: nanoseconds(at)?, value: nanoseconds(at + size_of::<libc::timespec>())? })
    }
}

/// Stores a timer's setting, if the program gave room for it.
pub unsafe fn store_spec(at: usize, spec: TimerSpec) {
    if at != 0 {
        // SAFETY: the program's structure.
        unsafe { *(at as *mut [libc::timespec; 2]) = [timespec(spec.interval), timespec(spec.value)] };
    }
}

/// `clock_gettime`; also the vDSO's.
pub unsafe fn clock_gettime(a: [usize; 6]) -> isize {
    if !tls::current().active() {
        // SAFETY: forwarded promise.
        return unsafe { gate::syscall(libc::SYS_clock_gettime, a) };
    }
    let known = (0..=11).contains(&(a[0] as c_int)) || (a[0] as c_int) < 0;
    if !known {
        return -(libc::EINVAL as isize);
    }
    // SAFETY: the program's structure.
    unsafe { *(a[1] as *mut libc::timespec) = timespec(read(a[0] as c_int)) };
    0
}

/// `clock_getres`; also the vDSO's.
pub unsafe fn clock_getres(a: [usize; 6]) -> isize {
    if a[1] != 0 {
        // SAFETY: the program's structure.
        unsafe { *(a[1] as *mut libc::timespec) = libc::timespec { tv_sec: 0, tv_nsec: RESOLUTION_NS } };
    }
    0
}

/// `gettimeofday`; also the vDSO's.
pub unsafe fn gettimeofday(a: [usize; 6]) -> isize {
    if !tls::current().active() {
        // SAFETY: forwarded promise.
        return unsafe { gate::syscall(libc::SYS_gettimeofday, a) };
    }
    let now = read(libc::CLOCK_REALTIME);
    // SAFETY: the program's structures.
    unsafe {
        if a[0] != 0 {
            *(a[0] as *mut libc::timeval) =
                libc::timeval { tv_sec: (now / NS) as i64, tv_usec: (now % NS / 1000) as i64 };
        }
        if a[1] != 0 {
            *(a[1] as *mut [c_int; 2]) = [0, 0];
        }
    }
    0
}

/// `time`; also the vDSO's.
pub unsafe fn time(a: [usize; 6]) -> isize {
    if !tls::current().active() {
        // SAFETY: forwarded promise.
        return unsafe { gate::syscall(libc::SYS_time, a) };
    }
    let now = (read(libc::CLOCK_REALTIME) / NS) as i64;
    if a[0] != 0 {
        // SAFETY: the program's variable.
        unsafe { *(a[0] as *mut i64) = now };
    }
    now as isize
}

/// `getcpu`: always the first processor.
pub unsafe fn getcpu(a: [usize; 6]) -> isize {
    for at in [a[0], a[1]] {
        if at != 0 {
            // SAFETY: the program's variable.
            unsafe { *(at as *mut u32) = 0 };
        }
    }
    0
}

/// `nanosleep`.
pub unsafe fn nanosleep(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise.
    unsafe { clock_nanosleep([libc::CLOCK_MONOTONIC as usize, 0, a[0], a[1], 0, 0]) }
}

/// `clock_nanosleep`.
pub unsafe fn clock_nanosleep(a: [usize; 6]) -> isize {
    let absolute = a[1] as c_int & libc::TIMER_ABSTIME != 0;
    // SAFETY: the program's structure.
    let Some(time) = (unsafe { nanoseconds(a[2]) }) else { return -(libc::EINVAL as isize) };
    let until = if absolute { deadline(a[0] as c_int, time) } else { after(time) };
    let result = dmt(|call| call.sleep_until(until)) as isize;
    if result == -(libc::EINTR as isize) && !absolute && a[3] != 0 {
        let left = until.saturating_sub(dmt(|call| call.with(|k| k.clock())));
        // SAFETY: the program's structure.
        unsafe { *(a[3] as *mut libc::timespec) = timespec(left) };
    }
    result
}

fn of_timeval(t: libc::timeval) -> u64 {
    t.tv_sec.max(0) as u64 * NS + t.tv_usec.max(0) as u64 * 1000
}

fn to_timeval(ns: u64) -> libc::timeval {
    libc::timeval { tv_sec: (ns / NS) as i64, tv_usec: (ns % NS / 1000) as i64 }
}

/// `setitimer`.
pub unsafe fn setitimer(a: [usize; 6]) -> isize {
    let (mut new, mut old) = ([0u64; 2], [0u64; 2]);
    if a[1] != 0 {
        // SAFETY: the program's structure.
        let t = unsafe { *(a[1] as *const libc::itimerval) };
        new = [of_timeval(t.it_value), of_timeval(t.it_interval)];
    }
    let result = dmt(|call| call.interval_timer(a[0] as c_int, Some(new), &mut old));
    if result == 0 {
        // SAFETY: the program's structure, if it gave one.
        unsafe { store_itimer(a[2], old) };
    }
    result as isize
}

/// `getitimer`.
pub unsafe fn getitimer(a: [usize; 6]) -> isize {
    let mut old = [0; 2];
    let result = dmt(|call| call.interval_timer(a[0] as c_int, None, &mut old));
    if result == 0 {
        // SAFETY: the program's structure.
        unsafe { store_itimer(a[1], old) };
    }
    result as isize
}

unsafe fn store_itimer(at: usize, [value, interval]: [u64; 2]) {
    if at != 0 {
        // SAFETY: the caller's promise.
        unsafe {
            *(at as *mut libc::itimerval) =
                libc::itimerval { it_value: to_timeval(value), it_interval: to_timeval(interval) };
        }
    }
}

/// `alarm`.
pub fn alarm(a: [usize; 6]) -> isize {
    let mut old = [0; 2];
    dmt(|call| call.interval_timer(libc::ITIMER_REAL as c_int, Some([a[0] as u64 * NS, 0]), &mut old));
    old[0].div_ceil(NS) as isize
}
