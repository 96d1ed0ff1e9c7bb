//! The real clock, for the leader's admissions only. Nothing that the program sees may come from here.

use crate::raw;

/// `CLOCK_REALTIME`, nanoseconds since the Unix epoch.
pub fn real_nanoseconds() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// CPU time of the calling process, which has one thread of the kernel, nanoseconds.
pub fn cpu_nanoseconds() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the structure given.
    unsafe { raw!(libc::SYS_clock_gettime, clock, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
