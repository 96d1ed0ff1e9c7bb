//! POSIX message queues, which are dmt's.

use core::ffi::{CStr, c_char, c_int};

use dmt::ipc::posix_queue::{Attributes, NAME_BYTES, Notice, Opening};

use crate::calls::file::install;
use crate::calls::time::nanoseconds;
use crate::calls::timer::{Event, SIGEV_THREAD};
use crate::raw;
use crate::world::dmt;

const EINVAL: isize = -(libc::EINVAL as isize);
const EMSGSIZE: isize = -(libc::EMSGSIZE as isize);
/// More than any queue takes; what a program claims beyond that is not looked at.
const MOST_BYTES: usize = dmt::bounds::MAX_POSIX_MESSAGE_BYTES;

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_mq_open => open(a),
        libc::SYS_mq_unlink => dmt(|call| call.posix_queue_unlink(name(a[0]))) as isize,
        libc::SYS_mq_timedsend => send(a),
        libc::SYS_mq_timedreceive => receive(a),
        libc::SYS_mq_notify => notify(a),
        libc::SYS_mq_getsetattr => attributes(a),
    }
}

/// The name at `at`; of one that is too long, enough to show that.
unsafe fn name<'a>(at: usize) -> &'a [u8] {
    // SAFETY: the program's string.
    let name = unsafe { CStr::from_ptr(at as *const c_char) }.to_bytes();
    &name[..name.len().min(NAME_BYTES + 1)]
}

/// What the process's mask leaves of the rights of a new file.
fn masked(mode: usize) -> u32 {
    // SAFETY: sets a number and sets it back; only this thread runs.
    unsafe {
        let mask = raw!(libc::SYS_umask, 0);
        raw!(libc::SYS_umask, mask);
        (mode as isize & !mask) as u32
    }
}

unsafe fn open(a: [usize; 6]) -> isize {
    let flags = a[1] as c_int;
    // SAFETY: the program's string, and its structure if it gave one.
    let asked = unsafe {
        let size = (a[3] as *const Attributes).as_ref().filter(|_| flags & libc::O_CREAT != 0);
        Opening { name: name(a[0]), flags, mode: masked(a[2]), size: size.copied() }
    };
    // Queues are closed by exec, whatever the program says.
    install(dmt(|call| call.posix_queue_open(&asked)), libc::O_CLOEXEC as usize, false)
}

/// A deadline at `at`, which may be none; `None` if it is no valid time.
unsafe fn deadline(at: usize) -> Option<Option<u64>> {
    // SAFETY: the program's structure.
    if at == 0 { Some(None) } else { unsafe { nanoseconds(at) }.map(Some) }
}

unsafe fn send(a: [usize; 6]) -> isize {
    // SAFETY: the program's message and time.
    unsafe {
        let Some(deadline) = deadline(a[4]) else { return EINVAL };
        if a[2] > MOST_BYTES {
            return EMSGSIZE;
        }
        let bytes = if a[2] == 0 { &[] } else { core::slice::from_raw_parts(a[1] as *const u8, a[2]) };
        dmt(|call| call.posix_send(a[0] as c_int, bytes, a[3] as u32, deadline)) as isize
    }
}

unsafe fn receive(a: [usize; 6]) -> isize {
    let mut priority = 0;
    // SAFETY: the program's buffer, time and variable.
    unsafe {
        let Some(deadline) = deadline(a[4]) else { return EINVAL };
        let length = a[2].min(MOST_BYTES);
        let out =
            if length == 0 { &mut [][..] } else { core::slice::from_raw_parts_mut(a[1] as *mut u8, length) };
        let got = dmt(|call| call.posix_receive(a[0] as c_int, out, &mut priority, deadline)) as isize;
        if got >= 0 && a[3] != 0 {
            *(a[3] as *mut u32) = priority;
        }
        got
    }
}

/// `mq_notify`, but for `SIGEV_THREAD`: libc's helper thread for that waits where nobody schedules it.
///
/// # Safety
/// As the system call.
pub unsafe fn notify(a: [usize; 6]) -> isize {
    // SAFETY: the program's structure, if it gave one.
    let event = unsafe { (a[1] as *const Event).as_ref() };
    if event.is_some_and(|event| event.notify == SIGEV_THREAD) {
        return -(libc::ENOSYS as isize);
    }
    let notice = event.map(|event| Notice { value: event.value, how: event.notify, signal: event.signal });
    dmt(|call| call.posix_notify(a[0] as c_int, notice)) as isize
}

unsafe fn attributes(a: [usize; 6]) -> isize {
    let mut old = Attributes::default();
    // SAFETY: the program's structures, if it gave them.
    unsafe {
        let flags = (a[1] as *const Attributes).as_ref().map(|new| new.flags);
        let result = dmt(|call| call.posix_attributes(a[0] as c_int, flags, &mut old)) as isize;
        if result == 0 && a[2] != 0 {
            (a[2] as *mut Attributes).write(old);
        }
        result
    }
}
