//! What a thread asks of itself: its id and its name.

use core::ffi::{c_char, c_int};

use dmt::thread::ThreadId;

use crate::calls::misc;
use crate::carrier::{self, NAME_BYTES};
use crate::gate;
use crate::raw;
use crate::tls;
use crate::world::call_as;

/// `gettid`.
pub fn gettid() -> isize {
    tls::current().tid() as isize
}

/// `set_tid_address`.
pub fn set_tid_address(a: [usize; 6]) -> isize {
    carrier::clear_at_exit(tls::current().id() as ThreadId, a[0]);
    gettid()
}

/// `prctl`, which is about the calling thread.
///
/// # Safety
/// As the system call.
pub unsafe fn prctl(a: [usize; 6]) -> isize {
    let id = tls::current().id() as ThreadId;
    // SAFETY: forwarded promise: a text that ends with a zero, room for a name.
    unsafe {
        match a[0] as c_int {
            libc::PR_SET_NAME => set_name(id, a[1] as *const u8),
            libc::PR_GET_NAME => (a[1] as *mut [u8; NAME_BYTES]).write(name(id)),
            _ => return misc::prctl(a),
        }
    }
    0
}

/// Whether a thread is its process's first, whose name the kernel has: it is the process's.
fn is_first(id: ThreadId) -> bool {
    call_as(id).with(|k| k.processes.get(k.process_of(id)).main == id)
}

/// The name of a thread of this process.
pub fn name(id: ThreadId) -> [u8; NAME_BYTES] {
    if is_first(id) { process_name() } else { carrier::name(id) }
}

/// The name of this process: of its first thread.
pub fn process_name() -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    // SAFETY: the kernel writes as many bytes.
    unsafe { raw!(libc::SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

/// Names a thread of this process; what is too long is cut.
///
/// # Safety
/// The text ends with a zero.
pub unsafe fn set_name(id: ThreadId, text: *const u8) {
    let mut name = [0; NAME_BYTES];
    for (at, byte) in name[..NAME_BYTES - 1].iter_mut().enumerate() {
        // SAFETY: forwarded promise; nothing behind the zero is read.
        *byte = unsafe { *text.add(at) };
        if *byte == 0 {
            break;
        }
    }
    if is_first(id) {
        // SAFETY: the kernel reads a text of ours.
        unsafe { raw!(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr()) };
    } else {
        carrier::set_name(id, name);
    }
}

/// The thread that a call about scheduling is about, and which argument says so; `None` if it is about a process, a group or a user.
fn scheduled(number: i64, a: [usize; 6]) -> Option<(ThreadId, usize)> {
    const IOPRIO_WHO_PROCESS: usize = 1;
    let who = match number {
        libc::SYS_getpriority | libc::SYS_setpriority if a[0] == libc::PRIO_PROCESS as usize => 1,
        libc::SYS_ioprio_get | libc::SYS_ioprio_set if a[0] == IOPRIO_WHO_PROCESS => 1,
        libc::SYS_getpriority | libc::SYS_setpriority | libc::SYS_ioprio_get | libc::SYS_ioprio_set => {
            return None;
        }
        _ => 0,
    };
    let me = tls::current().id() as ThreadId;
    let id = match a[who] as i32 {
        0 => me,
        tid => call_as(me).with(|k| k.threads.by_tid(tid))?,
    };
    (!is_first(id)).then_some((id, who))
}

/// How the kernel is to schedule a thread: of no consequence, as dmt does it, unless it is a process's first, for which the kernel takes it
/// of the process.
///
/// # Safety
/// As the system call.
pub unsafe fn set_scheduling(number: i64, a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise.
    if scheduled(number, a).is_some() { 0 } else { unsafe { gate::syscall(number, a) } }
}

/// How the kernel schedules a thread: as its process.
///
/// # Safety
/// As the system call.
pub unsafe fn scheduling(number: i64, mut a: [usize; 6]) -> isize {
    if let Some((id, who)) = scheduled(number, a) {
        a[who] = call_as(id).with(|k| k.processes.get(k.process_of(id)).pid as usize);
    }
    // SAFETY: forwarded promise.
    unsafe { gate::syscall(number, a) }
}

/// The thread with this handle, in this process.
fn of_handle(handle: libc::pthread_t) -> Option<ThreadId> {
    let me = tls::current().id() as ThreadId;
    call_as(me).with(|k| k.thread_by_handle(k.process_of(me), handle))
}

/// `pthread_setname_np`: 0 or an errno.
///
/// # Safety
/// The text ends with a zero.
pub unsafe fn pthread_setname(handle: libc::pthread_t, text: *const c_char) -> c_int {
    // SAFETY: forwarded promise, here and below.
    if unsafe { libc::strlen(text) } >= NAME_BYTES {
        return libc::ERANGE;
    }
    let Some(id) = of_handle(handle) else { return libc::ESRCH };
    // SAFETY: as above.
    unsafe { set_name(id, text.cast()) };
    0
}

/// `pthread_getname_np`: 0 or an errno.
///
/// # Safety
/// There is room for so many bytes.
pub unsafe fn pthread_getname(handle: libc::pthread_t, out: *mut c_char, bytes: usize) -> c_int {
    if bytes < NAME_BYTES {
        return libc::ERANGE;
    }
    let Some(id) = of_handle(handle) else { return libc::ESRCH };
    // SAFETY: forwarded promise.
    unsafe { out.cast::<[u8; NAME_BYTES]>().write(name(id)) };
    0
}
