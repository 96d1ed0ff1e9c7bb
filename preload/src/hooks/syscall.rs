//! `syscall()`: libc's door to every system call.

use core::arch::naked_asm;
use core::ffi::c_long;

use crate::calls;
use crate::errno::libc_result;
use crate::tls;
use crate::{call_begins, call_ends};

crate::replaced! { fn syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long }

/// Stands in for libc's `syscall`. A stub, because only here the address of the caller is known: a refused call is logged
/// with it.
///
/// # Safety
/// As the function that it replaces.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    naked_asm!(
        "mov r11, qword ptr [rip + brolga_tls@gottpoff]",
        "mov rax, qword ptr [rsp]",
        "mov qword ptr fs:[r11 + {caller}], rax",
        "jmp {body}",
        caller = const tls::CALLER_OFFSET,
        body = sym body,
    )
}

unsafe extern "C" fn body(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    let arguments = [a, b, c, d, e, f];
    // The registers of a fork are needed as they are at the instruction: let the filter catch it.
    let tls = tls::current();
    if !tls.active() || calls::process::is_fork(number as usize, arguments) {
        // SAFETY: the replaced function with the program's own arguments.
        return unsafe { syscall::real()(number, a, b, c, d, e, f) };
    }
    if number == libc::SYS_rt_sigreturn {
        return libc_result(-(libc::ENOSYS as isize)) as c_long;
    }
    if tls.traced() {
        call_begins!(in number; a, b, c, d, e, f);
    }
    // SAFETY: the program's own arguments.
    let result = unsafe { calls::call(number as usize, arguments, tls.caller()) };
    call_ends!(in number, result);
    libc_result(result) as c_long
}
