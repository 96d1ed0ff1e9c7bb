//! POSIX semaphores. Initialisation and naming are libc's.

use core::ffi::c_int;

use dmt::sync::Deadline;
use dmt::sync::semaphore::Semaphore;

use super::deadline;
use crate::cancellation_points;
use crate::errno::libc_int;
use crate::hook;
use crate::world::dmt;

unsafe fn timed(sem: *mut Semaphore, clock: c_int, at: *const libc::timespec) -> c_int {
    // SAFETY: the program's time and semaphore.
    let result = unsafe {
        match deadline(clock, at) {
            Some(limit) => dmt(|call| call.sem_wait(sem, true, limit)),
            None => -i64::from(libc::EINVAL),
        }
    };
    libc_int(result as isize)
}

hook! {
    fn sem_trywait(sem: *mut Semaphore) -> c_int {
        // SAFETY: as above.
        libc_int(dmt(|call| unsafe { call.sem_wait(sem, false, Deadline::Never) }) as isize)
    }

    fn sem_post(sem: *mut Semaphore) -> c_int {
        // SAFETY: as above.
        libc_int(dmt(|call| unsafe { call.sem_post(sem) }) as isize)
    }

    fn sem_getvalue(sem: *mut Semaphore, value: *mut c_int) -> c_int {
        // Our layout has the value in the first word; libc's shifts it on some machines.
        // SAFETY: the program's semaphore and variable.
        unsafe { *value = *sem.cast::<c_int>() };
        0
    }

    fn sem_init(sem: *mut Semaphore, shared: c_int, value: core::ffi::c_uint) -> c_int {
        if value > i32::MAX as core::ffi::c_uint {
            return libc_int(-(libc::EINVAL as isize));
        }
        // SAFETY: the program's semaphore: value, waiters, then libc's flag that it is private to a process.
        unsafe {
            let words = sem.cast::<u32>();
            words.write(value);
            words.add(1).write(0);
            words.add(2).write(if shared == 0 { 0 } else { SHARED });
            // The number that dmt gives it.
            words.add(4).write(0);
        }
        0
    }

    fn sem_destroy(_sem: *mut Semaphore) -> c_int {
        0
    }
}

cancellation_points! {
    fn sem_wait(sem: *mut Semaphore) -> c_int | is_minus_one {
        // SAFETY: the program's semaphore, here and below.
        libc_int(dmt(|call| unsafe { call.sem_wait(sem, true, Deadline::Never) }) as isize)
    }

    fn sem_timedwait(sem: *mut Semaphore, at: *const libc::timespec) -> c_int | is_minus_one {
        // SAFETY: as above.
        unsafe { timed(sem, libc::CLOCK_REALTIME, at) }
    }

    fn sem_clockwait(sem: *mut Semaphore, clock: c_int, at: *const libc::timespec) -> c_int | is_minus_one {
        // SAFETY: as above.
        unsafe { timed(sem, clock, at) }
    }
}

/// libc's value of the third word of a semaphore that processes share.
const SHARED: u32 = 128;
