//! Randomness. C++'s `std::random_device` asks the processor (RDSEED, RDRAND), which nobody can catch, so its function in libstdc++ is
//! replaced, which programs call out of line.

use core::ffi::{c_int, c_uint, c_void};

use crate::args;
use crate::calls::random;
use crate::errno::{libc_int, libc_result};
use crate::hook;

/// The most that `getentropy` gives at once, bytes.
const ENTROPY_MAX: usize = 256;

unsafe fn slice<'a>(out: *mut c_void, len: usize) -> &'a mut [u8] {
    // SAFETY: the caller's promise: the program's buffer.
    unsafe { core::slice::from_raw_parts_mut(out.cast(), len) }
}

fn word() -> u32 {
    let mut bytes = [0; 4];
    random::fill(&mut bytes);
    u32::from_le_bytes(bytes)
}

hook! {
    fn getrandom(out: *mut c_void, len: usize, flags: c_uint) -> isize {
        // SAFETY: the program's buffer, here and below.
        libc_result(unsafe { random::getrandom(args!(out, len, flags)) })
    }

    fn getentropy(out: *mut c_void, len: usize) -> c_int {
        if len > ENTROPY_MAX {
            return libc_int(-(libc::EIO as isize));
        }
        // SAFETY: as above.
        random::fill(unsafe { slice(out, len) });
        0
    }

    fn arc4random() -> u32 {
        word()
    }

    fn arc4random_buf(out: *mut c_void, len: usize) {
        // SAFETY: as above.
        random::fill(unsafe { slice(out, len) });
    }

    fn arc4random_uniform(bound: u32) -> u32 {
        if bound < 2 {
            return 0;
        }
        // Values below this would make the small results more likely than the others.
        let uneven = bound.wrapping_neg() % bound;
        loop {
            let value = word();
            if value >= uneven {
                return value % bound;
            }
        }
    }

    /// `std::random_device::_M_getval()`.
    #[allow(non_snake_case)]
    fn _ZNSt13random_device9_M_getvalEv(device: *mut c_void) -> u32 {
        let _ = device;
        word()
    }

    /// `std::random_device::_M_getval_pretr1()`, for programs of before C++11.
    #[allow(non_snake_case)]
    fn _ZNSt13random_device16_M_getval_pretr1Ev(device: *mut c_void) -> u32 {
        let _ = device;
        word()
    }
}
