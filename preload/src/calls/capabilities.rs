//! Capabilities (`capget`, `capset`). Root that has given some up has them again in the next program that it executes, and the
//! kernel then takes away what may not outlive such a gain: also that addresses are not randomised, without which no two
//! replicas are alike. So for the kernel root keeps what it was permitted, and here is what the program has left of that. What is
//! in effect, and what is inherited, is as the program says.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::gate;
use crate::raw;

/// Version 3 of the structures: two words each.
const VERSION_3: u32 = 0x2008_0522;
const EPERM: isize = -(libc::EPERM as isize);

/// What this process is permitted. Natively each thread has its own; programs change that of all.
static PERMITTED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Effective, permitted, inheritable; then the same of the numbers from 32 on.
type Data = [u32; 6];

fn joined(data: &Data, at: usize) -> u64 {
    u64::from(data[at]) | u64::from(data[at + 3]) << 32
}

fn put_permitted(data: &mut Data, mask: u64) {
    (data[1], data[4]) = (mask as u32, (mask >> 32) as u32);
}

/// Whether the structures are of the known version, and mean the caller.
unsafe fn is_own(header: usize) -> bool {
    // SAFETY: the program's header.
    unsafe {
        let [version, pid] = *(header as *const [u32; 2]);
        version == VERSION_3 && (pid == 0 || pid as isize == raw!(libc::SYS_getpid))
    }
}

/// `capget`.
///
/// # Safety
/// As the system call.
pub unsafe fn capget(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise.
    unsafe {
        let result = gate::syscall(libc::SYS_capget, a);
        if result == 0 && a[1] != 0 && is_own(a[0]) {
            let data = &mut *(a[1] as *mut Data);
            let left = PERMITTED.load(Ordering::Relaxed);
            put_permitted(data, joined(data, 1) & left);
        }
        result
    }
}

/// `capset`.
///
/// # Safety
/// As the system call.
pub unsafe fn capset(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise; the last structure is ours.
    unsafe {
        if a[0] == 0 || a[1] == 0 || !is_own(a[0]) {
            return gate::syscall(libc::SYS_capset, a);
        }
        let asked = *(a[1] as *const Data);
        let (permitted, left) = (joined(&asked, 1), PERMITTED.load(Ordering::Relaxed));
        if (permitted | joined(&asked, 0)) & !left != 0 || joined(&asked, 0) & !permitted != 0 {
            return EPERM;
        }
        let mut now: Data = [0; 6];
        let is_root = raw!(libc::SYS_getuid) == 0 || raw!(libc::SYS_geteuid) == 0;
        let mut kept = asked;
        if is_root && raw!(libc::SYS_capget, a[0], now.as_mut_ptr()) == 0 {
            if permitted & !joined(&now, 1) != 0 {
                return EPERM;
            }
            put_permitted(&mut kept, joined(&now, 1));
        }
        let result = gate::syscall(libc::SYS_capset, [a[0], kept.as_ptr() as usize, 0, 0, 0, 0]);
        if result == 0 {
            PERMITTED.store(permitted, Ordering::Relaxed);
        }
        result
    }
}
