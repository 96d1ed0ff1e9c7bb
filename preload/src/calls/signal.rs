//! Signals: actions, masks, sending, waiting.

use core::ffi::c_int;

use crate::calls::time;
use crate::faults;
use crate::gate;
use crate::raw;
use crate::signals::{self, Action, COUNT, LIBC_INTERNAL, NEVER_BLOCKED, PREEMPT, SET_BYTES};
use crate::tls;
use crate::world::dmt;

const EINVAL: isize = -(libc::EINVAL as isize);

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_rt_sigaction => rt_sigaction(a),
        libc::SYS_rt_sigprocmask => rt_sigprocmask(a),
        libc::SYS_rt_sigsuspend => suspend(Some(*(a[0] as *const u64) & !NEVER_BLOCKED)),
        libc::SYS_pause => suspend(None),
        libc::SYS_rt_sigpending => {
            *(a[0] as *mut u64) = dmt(|call| call.signals_pending());
            0
        },
        libc::SYS_rt_sigtimedwait => timed_wait(a),
        libc::SYS_sigaltstack => crate::altstack::change(a[0] as *const _, a[1] as *mut _),
        libc::SYS_kill => dmt(|call| call.kill(a[0] as c_int, a[1] as c_int)) as isize,
        libc::SYS_tkill => thread_kill(tgid(), a[0] as c_int, a[1] as c_int, number, a),
        libc::SYS_tgkill => thread_kill(a[0] as c_int, a[1] as c_int, a[2] as c_int, number, a),
        libc::SYS_rt_sigqueueinfo => queue(a[0] as c_int, 0, a[1] as c_int, a[2]),
        libc::SYS_rt_tgsigqueueinfo => queue(a[0] as c_int, a[1] as c_int, a[2] as c_int, a[3]),
    }
}

fn tgid() -> c_int {
    // SAFETY: no arguments.
    unsafe { raw!(libc::SYS_getpid) as c_int }
}

/// `rt_sigaction`, also of threads and sections that dmt does not act in: our own handlers stay.
pub unsafe fn rt_sigaction(a: [usize; 6]) -> isize {
    let signal = a[0] as c_int;
    if !(1..=COUNT as c_int).contains(&signal) || a[3] != SET_BYTES {
        return EINVAL;
    }
    let old = signals::action(signal);
    if a[1] != 0 {
        if matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
            return EINVAL;
        }
        // SAFETY: the program's structure.
        let new = unsafe { *(a[1] as *const Action) };
        let result = set_action(signal, new);
        if result < 0 {
            return result;
        }
    }
    if a[2] != 0 {
        // SAFETY: the program's structure.
        unsafe { *(a[2] as *mut Action) = old };
    }
    0
}

fn set_action(signal: c_int, new: Action) -> isize {
    signals::remember(signal, new);
    let plain = new.handler == libc::SIG_DFL || new.handler == libc::SIG_IGN;
    let result = match signal {
        libc::SIGSYS | libc::SIGSEGV | PREEMPT => Ok(()),
        _ if plain && faults::SIGNALS.contains(&signal) => faults::stand_in(signal),
        // SAFETY: the program's handler behind ours.
        _ => match unsafe { signals::set_kernel_action(signal, &signals::kernel_action(signal, new)) } {
            0 => Ok(()),
            error => Err(error),
        },
    };
    if let Err(error) = result {
        return error;
    }
    if tls::current().managed() && !LIBC_INTERNAL.contains(&signal) {
        dmt(|call| call.signal_action(signal, new.handler as u64, new.flags as i32));
    }
    0
}

/// `rt_sigprocmask` in the kernel, without our signals.
pub unsafe fn real_sigprocmask(a: [usize; 6]) -> isize {
    if a[1] == 0 || a[0] as c_int == libc::SIG_UNBLOCK {
        // SAFETY: forwarded promise.
        return unsafe { gate::syscall(libc::SYS_rt_sigprocmask, a) };
    }
    // SAFETY: the program's mask.
    let set = unsafe { *(a[1] as *const u64) } & !NEVER_BLOCKED;
    // SAFETY: our copy lives until the call returns.
    unsafe { raw!(libc::SYS_rt_sigprocmask, a[0], &raw const set, a[2], a[3]) }
}

/// `rt_sigprocmask`: in dmt, which chooses what to deliver. The kernel, which has one mask for all threads of a process, is told for
/// the sake of signals of its own: faults, SIGXFSZ.
pub unsafe fn rt_sigprocmask(a: [usize; 6]) -> isize {
    if !tls::current().managed() {
        // SAFETY: forwarded promise.
        return unsafe { real_sigprocmask(a) };
    }
    if a[3] != SET_BYTES {
        return EINVAL;
    }
    let old = signals::mask();
    if a[1] != 0 {
        // SAFETY: the program's mask.
        let set = unsafe { *(a[1] as *const u64) };
        let new = match a[0] as c_int {
            libc::SIG_BLOCK => old | set,
            libc::SIG_UNBLOCK => old & !set,
            libc::SIG_SETMASK => set,
            _ => return EINVAL,
        };
        signals::set_kernel_mask(new & !NEVER_BLOCKED);
        publish(new & !NEVER_BLOCKED);
    }
    if a[2] != 0 {
        // SAFETY: as above.
        unsafe { *(a[2] as *mut u64) = old };
    }
    if a[1] != 0 {
        dmt(|call| call.deliver_signals());
    }
    0
}

/// Tells dmt the mask that the server's first process has in the kernel.
fn publish_mask() {
    let mut now = 0u64;
    // SAFETY: reads the mask into our variable.
    unsafe { raw!(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, 0, &raw mut now, SET_BYTES) };
    publish(now);
}

/// Tells dmt what this thread's mask is from now on.
pub fn publish(mask: u64) {
    if tls::current().managed() {
        dmt(|call| call.set_signal_mask(mask));
    }
}

/// Tells dmt what the server's first process got from whoever started it: its mask and the signals that it ignores.
pub fn publish_inherited() {
    publish_mask();
    for signal in 1..=63 {
        let mut inherited = signals::action(signal);
        // SAFETY: asks the kernel for an action, into our variable.
        unsafe { raw!(libc::SYS_rt_sigaction, signal, 0, &raw mut inherited, SET_BYTES) };
        if inherited.handler == libc::SIG_IGN && !LIBC_INTERNAL.contains(&signal) {
            signals::remember(signal, inherited);
            dmt(|call| call.signal_action(signal, inherited.handler as u64, inherited.flags as i32));
        }
    }
}

/// What a new program gets from the one before it, where the kernel does not know it or we have to: the mask, and what is ignored.
pub fn keep_over_exec() {
    signals::set_kernel_mask(signals::mask());
    for signal in 1..=63 {
        if !LIBC_INTERNAL.contains(&signal) && dmt(|call| call.ignores(signal)) {
            signals::remember(signal, Action { handler: libc::SIG_IGN, ..signals::action(signal) });
        }
    }
}

/// Waits for a signal with a handler, under `mask` if it is given.
unsafe fn suspend(mask: Option<u64>) -> isize {
    dmt(|call| call.signal_suspend(mask)) as isize
}

unsafe fn timed_wait(a: [usize; 6]) -> isize {
    // SAFETY: the program's mask and time.
    let (set, limit) = unsafe {
        let limit = match a[2] {
            0 => None,
            at => match time::nanoseconds(at) {
                Some(ns) => Some(ns),
                None => return EINVAL,
            },
        };
        (*(a[0] as *const u64), limit)
    };
    let mut found = dmt::process::PendingSignal::NONE;
    let result = dmt(|call| call.signal_wait(set, limit, &mut found)) as isize;
    if result > 0 && a[1] != 0 {
        // SAFETY: the program's structure.
        unsafe { *(a[1] as *mut libc::siginfo_t) = signals::siginfo(&found, found.code) };
    }
    result
}

/// `tgkill`: libc's inner signals go to the kernel, because libc waits for their handlers by itself.
unsafe fn thread_kill(process: c_int, tid: c_int, signal: c_int, number: i64, a: [usize; 6]) -> isize {
    if LIBC_INTERNAL.contains(&signal) {
        // SAFETY: forwarded promise.
        return unsafe { gate::syscall(number, a) };
    }
    dmt(|call| call.thread_kill(process, tid, signal)) as isize
}

/// `rt_sigqueueinfo` and its kin, for the values that `sigqueue` sends.
unsafe fn queue(process: c_int, tid: c_int, signal: c_int, info: usize) -> isize {
    // SAFETY: the program's structure; the value lies behind pid and uid.
    let value = unsafe { *((info + 24) as *const u64) };
    dmt(|call| call.signal_queue(process, tid, signal, value)) as isize
}
