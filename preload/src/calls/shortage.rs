//! The machine gives no process more, or no memory for a thread: a control group, the kernel's table or its memory is exhausted. That is of this
//! replica alone: the others' servers hear of nothing, so this one's must not either. The replica stops with a message that
//! says what to look at, and is rebuilt.

use core::ffi::c_int;
use core::fmt::Write;

use dmt::bounds::MAX_THREADS;

use crate::fatal;
use crate::raw;
use crate::world::dmt;

const EAGAIN: isize = -(libc::EAGAIN as isize);
const ENOMEM: isize = -(libc::ENOMEM as isize);
/// The stack of a thread whose attributes cannot be read, bytes.
const USUAL_STACK: usize = 8 << 20;

unsafe extern "C" {
    fn pthread_attr_getstacksize(attributes: *const libc::pthread_attr_t, size: *mut usize) -> c_int;
}

/// A fork failed. Returns if that is the server's own doing.
pub fn of_processes(result: isize) {
    if matches!(result, EAGAIN | ENOMEM) && !is_own_limit() {
        stop("process");
    }
}

/// `pthread_create` failed with `errno`. Returns if that is the server's own doing.
///
/// # Safety
/// The attributes are those of the call.
pub unsafe fn of_threads(errno: c_int, attributes: *const libc::pthread_attr_t) {
    // SAFETY: forwarded promise.
    if errno == libc::EAGAIN && !is_own_limit() && unsafe { has_room_for_stack(attributes) } {
        stop("thread");
    }
}

/// Whether the server lives under a limit of processes so low that it was set on purpose: it wants to hear of it.
fn is_own_limit() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: our own structure.
    let read = unsafe { raw!(libc::SYS_prlimit64, 0, libc::RLIMIT_NPROC, 0, &raw mut limit) };
    read == 0 && limit.rlim_cur < MAX_THREADS as u64
}

/// Without room for its stack no replica has the thread.
unsafe fn has_room_for_stack(attributes: *const libc::pthread_attr_t) -> bool {
    let mut bytes = 0;
    // SAFETY: forwarded promise; the mapping is our own, and gone again.
    unsafe {
        if attributes.is_null() || pthread_attr_getstacksize(attributes, &mut bytes) != 0 {
            bytes = USUAL_STACK;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let at = raw!(libc::SYS_mmap, 0, bytes, libc::PROT_NONE, flags, usize::MAX, 0);
        at >= 0 && raw!(libc::SYS_munmap, at, bytes) == 0
    }
}

#[cold]
fn stop(what: &str) -> ! {
    let mut line = fatal::Line::new();
    let _ = write!(
        line,
        "the machine gives this replica no {what} more: look at pids.max of its control group, kernel.threads-max, \
         kernel.pid_max and its free memory"
    );
    let text = core::str::from_utf8(line.bytes()).unwrap_or("the machine gives this replica no process more");
    dmt(|call| call.fail_for_good(text))
}
