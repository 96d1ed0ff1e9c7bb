//! `futex`, for libc's inner locks and for programs that use it directly.

use core::ffi::c_int;

use dmt::sync::futex::FutexArgs;

use crate::calls::time;
use crate::shared_memory;
use crate::world::dmt;

/// `futex`: decodes the time-out; the rest is dmt's.
pub unsafe fn futex(a: [usize; 6]) -> isize {
    let op = a[1] as c_int;
    let mut timeout = None;
    if FutexArgs::has_timeout(op) && a[3] != 0 {
        // SAFETY: the program's structure.
        timeout = unsafe { time::nanoseconds(a[3]) };
        if timeout.is_none() {
            return -(libc::EINVAL as isize);
        }
    }
    let is_private = op & libc::FUTEX_PRIVATE_FLAG != 0;
    let name = |address| if is_private { None } else { shared_memory::name(address) };
    let args = FutexArgs {
        address: a[0] as *mut u32,
        name: name(a[0]),
        op,
        value: a[2] as u32,
        timeout,
        value2: a[3] as u32,
        address2: a[4] as *mut u32,
        name2: if FutexArgs::has_second_word(op) { name(a[4]) } else { None },
        value3: a[5] as u32,
    };
    // SAFETY: the program's words.
    dmt(|call| unsafe { call.futex(&args) }) as isize
}
