//! Randomness: everything comes from dmt's ChaCha20 stream.

use crate::world::dmt;

/// Bytes taken from the stream in one go.
const CHUNK: usize = 256;

/// Fills `out`.
pub fn fill(out: &mut [u8]) {
    for chunk in out.chunks_mut(CHUNK) {
        dmt(|call| call.random(chunk));
    }
}

/// All flags of `getrandom`; the last two exclude each other.
const FLAGS: u32 = libc::GRND_NONBLOCK | BOTH;
const BOTH: u32 = libc::GRND_RANDOM | libc::GRND_INSECURE;

/// `getrandom`.
pub unsafe fn getrandom(a: [usize; 6]) -> isize {
    let flags = a[2] as u32;
    if flags & !FLAGS != 0 || flags & BOTH == BOTH {
        return -(libc::EINVAL as isize);
    }
    // SAFETY: the program's buffer.
    fill(unsafe { core::slice::from_raw_parts_mut(a[0] as *mut u8, a[1]) });
    a[1] as isize
}
