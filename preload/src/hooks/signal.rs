//! Signals. `sigaction` and its kin are libc's, which ends in the system call that the filter catches; the frequent
//! calls are here.

use core::ffi::c_int;

use crate::altstack;
use crate::args;
use crate::calls::signal as calls;
use crate::errno::{libc_int, pthread_result};
use crate::hook;
use crate::signals::{LIBC_INTERNAL, PREEMPT, SET_BYTES, bit};

/// Sets the mask without the signals that libc keeps for itself, as libc does; its `sigset_t` has the mask in front.
unsafe fn set_mask(how: c_int, new: *const u64, old: *mut u64) -> isize {
    // SAFETY: the program's masks.
    let copy = if new.is_null() { 0 } else { unsafe { *new } } & !LIBC_INTERNAL.map(bit).iter().sum::<u64>();
    let new = if new.is_null() { core::ptr::null() } else { &raw const copy };
    // SAFETY: as above.
    unsafe { calls::rt_sigprocmask(args!(how, new, old, SET_BYTES)) }
}

hook! {
    fn sigprocmask(how: c_int, new: *const u64, old: *mut u64) -> c_int {
        // SAFETY: the program's own arguments, here and below.
        libc_int(unsafe { set_mask(how, new, old) })
    }

    fn pthread_sigmask(how: c_int, new: *const u64, old: *mut u64) -> c_int {
        // SAFETY: as above.
        pthread_result(unsafe { set_mask(how, new, old) })
    }

    fn sigaltstack(new: *const libc::stack_t, old: *mut libc::stack_t) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { altstack::change(new, old) })
    }

    fn __libc_current_sigrtmax() -> c_int {
        PREEMPT - 1
    }
}
