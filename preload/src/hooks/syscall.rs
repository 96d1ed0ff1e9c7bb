//! `syscall()`: libc's door to every system call.

use core::ffi::c_long;

use crate::calls;
use crate::errno::libc_result;
use crate::hook;

hook! {
    fn syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
        let arguments = [a, b, c, d, e, f];
        if calls::process::is_fork(number as usize, arguments) {
            // The registers of a fork are needed as they are at the instruction: let the filter catch it.
            // SAFETY: the replaced function with the program's own arguments.
            return unsafe { syscall::real()(number, a, b, c, d, e, f) };
        }
        if number == libc::SYS_rt_sigreturn {
            return libc_result(-(libc::ENOSYS as isize)) as c_long;
        }
        // SAFETY: the program's own arguments.
        libc_result(unsafe { calls::call(number as usize, arguments, 0) }) as c_long
    }
}
