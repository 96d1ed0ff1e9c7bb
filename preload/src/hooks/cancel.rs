//! Cancellation of threads. Its state is dmt's; libc's own is left alone.

use core::arch::naked_asm;
use core::ffi::{c_int, c_void};

use crate::cancel;
use crate::cancellation_points;
use crate::hook;
use crate::tls;
use crate::world::dmt;

const DISABLE: c_int = 1;
const ASYNCHRONOUS: c_int = 1;

unsafe fn store(old: *mut c_int, value: bool) {
    if !old.is_null() {
        // SAFETY: the program's variable.
        unsafe { *old = c_int::from(value) };
    }
}

hook! {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int {
        if !(0..=DISABLE).contains(&state) {
            return libc::EINVAL;
        }
        // SAFETY: the program's variable.
        unsafe { store(old, dmt(|call| call.disable_cancel(state == DISABLE))) };
        0
    }
}

cancellation_points! {
    fn pthread_cancel(thread: libc::pthread_t) -> c_int | is_asynchronous {
        cancel::prepare();
        dmt(|call| call.cancel(thread))
    }

    fn pthread_setcanceltype(kind: c_int, old: *mut c_int) -> c_int | is_asynchronous {
        if !(0..=ASYNCHRONOUS).contains(&kind) {
            return libc::EINVAL;
        }
        // SAFETY: the program's variable.
        unsafe { store(old, dmt(|call| call.asynchronous_cancel(kind == ASYNCHRONOUS))) };
        0
    }

    fn pthread_testcancel() -> c_int | is_not_zero {
        0
    }
}

crate::replaced! { fn pthread_exit(result: *mut c_void) }

/// Stands in for libc's `pthread_exit`: who ends already is not asked to.
///
/// # Safety
/// As the function that it replaces.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn pthread_exit(result: *mut c_void) {
    unsafe extern "C" fn body() -> usize {
        if tls::current().active() {
            dmt(|call| call.begin_exit());
        }
        pthread_exit::real() as *const () as usize
    }
    naked_asm!(
        ".cfi_startproc",
        "push rdi",
        ".cfi_adjust_cfa_offset 8",
        "call {body}",
        "pop rdi",
        ".cfi_adjust_cfa_offset -8",
        "jmp rax",
        ".cfi_endproc",
        body = sym body,
    )
}
