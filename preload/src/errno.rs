//! Between the kernel's way of reporting failure (a negative number) and libc's (-1 and `errno`).

use core::ffi::c_int;

/// The largest errno that a system call returns.
const MAX_ERRNO: isize = 4095;

/// What libc returns for the kernel's `result`.
#[inline]
pub fn libc_result(result: isize) -> isize {
    if (-MAX_ERRNO..0).contains(&result) {
        set(-result as c_int);
        return -1;
    }
    result
}

/// [`libc_result`] for functions that return an `int`.
#[inline]
pub fn libc_int(result: isize) -> c_int {
    libc_result(result) as c_int
}

/// What a pthread function returns for the kernel's `result`: the errno itself.
#[inline]
pub fn pthread_result(result: isize) -> c_int {
    if result < 0 { -result as c_int } else { 0 }
}

/// Sets `errno`.
pub fn set(value: c_int) {
    // SAFETY: libc's pointer to the calling thread's errno.
    unsafe { *libc::__errno_location() = value };
}

/// Keeps `errno` over a signal handler.
#[must_use]
pub struct Kept(c_int);

impl Kept {
    /// Remembers `errno`; dropping it puts it back.
    pub fn now() -> Self {
        // SAFETY: as in `set`.
        Self(unsafe { *libc::__errno_location() })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        set(self.0);
    }
}
