//! Limits of a process (`getrlimit`, `setrlimit`, `prlimit64`). What is ours in its address space is not counted: a program that
//! gives itself 200 MB of it (`RLIMIT_AS`) has 200 MB.

use crate::apart;
use crate::gate;
use dmt::arena::ARENA_BYTES;

/// Our library, its own small mappings and what is left of pages, bytes: an estimate from above.
const LIBRARY_BYTES: u64 = 16 << 20;
/// Address space of ours, bytes.
const OWN_BYTES: u64 = (ARENA_BYTES + apart::ALL_BYTES) as u64 + LIBRARY_BYTES;

/// A limit as the program knows it, as the kernel is to keep it. One that is none stays none.
fn to_kernel(limit: u64) -> u64 {
    match limit {
        libc::RLIM_INFINITY => limit,
        _ => limit.saturating_add(OWN_BYTES).min(libc::RLIM_INFINITY - 1),
    }
}

fn to_program(limit: u64) -> u64 {
    if limit == libc::RLIM_INFINITY { limit } else { limit.saturating_sub(OWN_BYTES) }
}

/// `prlimit64`.
///
/// # Safety
/// As the system call.
pub unsafe fn prlimit64(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise: the program's structures.
    unsafe {
        if a[1] as u32 != libc::RLIMIT_AS {
            return gate::syscall(libc::SYS_prlimit64, a);
        }
        let mut wanted = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
        let mut changed = a;
        if a[2] != 0 {
            let asked = (a[2] as *const libc::rlimit64).read();
            wanted.rlim_cur = to_kernel(asked.rlim_cur);
            wanted.rlim_max = to_kernel(asked.rlim_max);
            changed[2] = &raw mut wanted as usize;
        }
        let result = gate::syscall(libc::SYS_prlimit64, changed);
        if result == 0 && a[3] != 0 {
            let old = a[3] as *mut libc::rlimit64;
            (*old).rlim_cur = to_program((*old).rlim_cur);
            (*old).rlim_max = to_program((*old).rlim_max);
        }
        result
    }
}

/// `getrlimit`.
///
/// # Safety
/// As the system call.
pub unsafe fn getrlimit(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise; the structures are the same on this architecture.
    if a[1] == 0 { -(libc::EFAULT as isize) } else { unsafe { prlimit64([0, a[0], 0, a[1], 0, 0]) } }
}

/// `setrlimit`.
///
/// # Safety
/// As the system call.
pub unsafe fn setrlimit(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise; the structures are the same on this architecture.
    if a[1] == 0 { -(libc::EFAULT as isize) } else { unsafe { prlimit64([0, a[0], a[1], 0, 0, 0]) } }
}

#[cfg(test)]
mod tests {
    use super::{OWN_BYTES, to_kernel, to_program};

    #[test]
    fn a_program_gets_back_what_it_has_set() {
        for limit in [0, 1, 200 << 20, libc::RLIM_INFINITY] {
            assert_eq!(to_program(to_kernel(limit)), limit);
        }
        assert_eq!(to_kernel(libc::RLIM_INFINITY - 5), libc::RLIM_INFINITY - 1, "a limit stays one");
        assert_eq!(to_program(OWN_BYTES - 1), 0);
    }
}
