//! `futex`, for libc's inner locks and for programs that use it directly.

use core::ffi::c_int;

use crate::calls::time;
use crate::world::dmt;

/// `futex`: decodes operation and timeout; the waiting is dmt's.
pub unsafe fn futex(a: [usize; 6]) -> isize {
    let operation = a[1] as c_int;
    let command = operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
    let waits = matches!(
        command,
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET | libc::FUTEX_LOCK_PI | libc::FUTEX_WAIT_REQUEUE_PI
    );
    let deadline = if waits && a[3] != 0 {
        // SAFETY: the program's structure.
        let Some(time) = (unsafe { time::nanoseconds(a[3]) }) else { return -(libc::EINVAL as isize) };
        Some(match command {
            libc::FUTEX_WAIT => time::after(time),
            libc::FUTEX_LOCK_PI => time::deadline(libc::CLOCK_REALTIME, time),
            _ if operation & libc::FUTEX_CLOCK_REALTIME != 0 => time::deadline(libc::CLOCK_REALTIME, time),
            _ => time::deadline(libc::CLOCK_MONOTONIC, time),
        })
    } else {
        None
    };
    let private = operation & libc::FUTEX_PRIVATE_FLAG != 0;
    dmt(|call| call.futex(command, private, a[0] as u64, a[2] as u32, a[3] as u64, a[4] as u64, a[5] as u32, deadline))
        as isize
}
