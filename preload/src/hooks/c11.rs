//! C11 threads: `mtx_`, `cnd_`, `thrd_` are the pthread objects under other names, with other results.

use core::ffi::{c_int, c_void};

use dmt::sync::Deadline;
use dmt::sync::cond::Cond;
use dmt::sync::mutex::Mutex;

use super::deadline;
use crate::hook;
use crate::threads;
use crate::world::dmt;

const SUCCESS: c_int = 0;
const BUSY: c_int = 1;
const ERROR: c_int = 2;
const TIMED_OUT: c_int = 4;

fn result(error: c_int) -> c_int {
    match error {
        0 => SUCCESS,
        libc::EBUSY => BUSY,
        libc::ETIMEDOUT => TIMED_OUT,
        _ => ERROR,
    }
}

hook! {
    fn mtx_lock(mutex: *mut Mutex) -> c_int {
        // SAFETY: the program's objects, here and below.
        result(dmt(|call| unsafe { call.mutex_lock(mutex) }))
    }

    fn mtx_unlock(mutex: *mut Mutex) -> c_int {
        // SAFETY: as above.
        result(dmt(|call| unsafe { call.mutex_unlock(mutex) }))
    }

    fn mtx_trylock(mutex: *mut Mutex) -> c_int {
        // SAFETY: as above.
        result(dmt(|call| unsafe { call.mutex_trylock(mutex) }))
    }

    fn mtx_timedlock(mutex: *mut Mutex, at: *const libc::timespec) -> c_int {
        // SAFETY: as above; and the program's time.
        let Some(limit) = (unsafe { deadline(libc::CLOCK_REALTIME, at) }) else { return ERROR };
        // SAFETY: as above.
        result(dmt(|call| unsafe { call.mutex_timedlock(mutex, limit) }))
    }

    fn mtx_destroy(_mutex: *mut Mutex) {}

    fn cnd_wait(cond: *mut Cond, mutex: *mut Mutex) -> c_int {
        // SAFETY: as above.
        result(dmt(|call| unsafe { call.cond_wait(cond, mutex, Deadline::Never) }))
    }

    fn cnd_timedwait(cond: *mut Cond, mutex: *mut Mutex, at: *const libc::timespec) -> c_int {
        // SAFETY: as above; and the program's time.
        let Some(limit) = (unsafe { deadline(libc::CLOCK_REALTIME, at) }) else { return ERROR };
        // SAFETY: as above.
        result(dmt(|call| unsafe { call.cond_wait(cond, mutex, limit) }))
    }

    fn cnd_signal(cond: *mut Cond) -> c_int {
        // SAFETY: as above.
        result(dmt(|call| unsafe { call.cond_signal(cond) }))
    }

    fn cnd_broadcast(cond: *mut Cond) -> c_int {
        // SAFETY: as above.
        result(dmt(|call| unsafe { call.cond_broadcast(cond) }))
    }

    fn cnd_destroy(_cond: *mut Cond) {}

    fn call_once(once: *mut c_int, routine: extern "C" fn()) {
        // SAFETY: the program's control word.
        unsafe { super::once::pthread_once(once, routine) };
    }

    fn thrd_create(out: *mut libc::pthread_t, start: threads::Start11, argument: *mut c_void) -> c_int {
        // SAFETY: as pthread_create, without attributes; the result widens to a pointer the same way.
        let start = unsafe { core::mem::transmute::<threads::Start11, threads::Start>(start) };
        // SAFETY: the program's arguments.
        result(unsafe { super::thread::pthread_create(out, core::ptr::null(), start, argument) })
    }

    fn thrd_join(thread: libc::pthread_t, out: *mut c_int) -> c_int {
        let mut value = core::ptr::null_mut();
        // SAFETY: the program's thread and variable.
        unsafe {
            let error = super::thread::pthread_join(thread, &raw mut value);
            if error == 0 && !out.is_null() {
                *out = value as usize as c_int;
            }
            result(error)
        }
    }

    fn thrd_detach(thread: libc::pthread_t) -> c_int {
        // SAFETY: the program's thread.
        result(unsafe { super::thread::pthread_detach(thread) })
    }

    fn thrd_yield() {
        crate::calls::misc::sched_yield();
    }

    fn thrd_sleep(time: *const libc::timespec, left: *mut libc::timespec) -> c_int {
        // SAFETY: the program's structures.
        match unsafe { crate::calls::time::nanosleep(crate::args!(time, left)) } as c_int {
            0 => 0,
            e if e == -libc::EINTR => -1,
            _ => -2,
        }
    }
}
