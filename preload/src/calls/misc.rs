//! Small things: yielding, processors, limits of what a program may ask of its process.

use core::ffi::c_int;

use dmt::process::procfs::{KERNEL_RELEASE, KERNEL_VERSION};

use crate::gate;
use crate::raw;
use crate::world::{apart, dmt};

/// Bytes of the processor mask that programs see.
const MASK_BYTES: usize = 8;

/// Passes the turn on.
pub fn sched_yield() -> isize {
    dmt(|call| call.yield_turn());
    0
}

/// `sched_getaffinity`: one processor, which is what a program has in serial mode.
pub unsafe fn sched_getaffinity(a: [usize; 6]) -> isize {
    if a[1] < MASK_BYTES || !a[1].is_multiple_of(MASK_BYTES) {
        return -(libc::EINVAL as isize);
    }
    // SAFETY: the program's mask of at least eight bytes.
    unsafe { *(a[2] as *mut u64) = 1 };
    MASK_BYTES as isize
}

/// `sched_setaffinity`: nothing to choose from; where threads really run is up to [`crate::affinity`].
pub unsafe fn sched_setaffinity(a: [usize; 6]) -> isize {
    if a[1] == 0 {
        return -(libc::EINVAL as isize);
    }
    // SAFETY: the program's mask of at least one byte.
    let first = unsafe { *(a[2] as *const u8) };
    if first & 1 == 0 { -(libc::EINVAL as isize) } else { 0 }
}

/// `prctl`: what would take the ground away from under us is refused.
pub unsafe fn prctl(a: [usize; 6]) -> isize {
    const PR_GET_TSC: c_int = 25;
    const PR_SET_TSC: c_int = 26;
    const PR_SET_SYSCALL_USER_DISPATCH: c_int = 59;
    match a[0] as c_int {
        libc::PR_SET_SECCOMP | PR_GET_TSC | PR_SET_TSC | PR_SET_SYSCALL_USER_DISPATCH => {
            -(libc::EINVAL as isize)
        }
        libc::PR_SET_PDEATHSIG => dmt(|call| call.set_death_signal(a[1] as u64)) as isize,
        // SAFETY: the program's variable.
        libc::PR_GET_PDEATHSIG => unsafe { tell(a[1], dmt(|call| call.death_signal())) },
        libc::PR_SET_CHILD_SUBREAPER => {
            dmt(|call| call.set_subreaper(a[1] != 0));
            0
        }
        // SAFETY: as above.
        libc::PR_GET_CHILD_SUBREAPER => unsafe { tell(a[1], dmt(|call| call.is_subreaper()).into()) },
        // SAFETY: forwarded promise.
        _ => unsafe { gate::syscall(libc::SYS_prctl, a) },
    }
}

/// The kernel would end children and find orphans a parent at a time of its own, so it does not know of these two.
unsafe fn tell(to: usize, value: c_int) -> isize {
    // SAFETY: forwarded promise.
    unsafe { *(to as *mut c_int) = value };
    0
}

/// `arch_prctl`. A program that sets its own thread pointer does without libc, whose threads are all that can be scheduled.
pub unsafe fn arch_prctl(a: [usize; 6]) -> isize {
    const ARCH_SET_FS: usize = 0x1002;
    if a[0] == ARCH_SET_FS {
        let remedy = b"build it against libc (Go: CGO_ENABLED=1)";
        crate::fatal::die("this program makes threads without libc, and they cannot be scheduled", remedy);
    }
    // SAFETY: forwarded promise.
    unsafe { gate::syscall(libc::SYS_arch_prctl, a) }
}

/// `personality`: a program may change it, but for where the next program's memory lies, which must be the same on all replicas
/// and leave room for what is ours.
pub unsafe fn personality(a: [usize; 6]) -> isize {
    const ASK: u32 = u32::MAX;
    const LAYOUT: u32 = (libc::ADDR_COMPAT_LAYOUT | libc::ADDR_LIMIT_32BIT | libc::ADDR_LIMIT_3GB) as u32;
    let wanted = a[0] as u32;
    let kept = if wanted == ASK { ASK } else { wanted & !LAYOUT | libc::ADDR_NO_RANDOMIZE as u32 };
    // SAFETY: no pointers.
    unsafe { raw!(libc::SYS_personality, kept) }
}

/// Bytes of a page.
const PAGE_BYTES: usize = 4096;

/// `mincore`: whether there are such pages is the kernel's to say; which of them it has in memory at this moment differs from
/// replica to replica, so all are.
pub unsafe fn mincore(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise.
    let result = apart(|| unsafe { gate::syscall(libc::SYS_mincore, a) });
    if result == 0 {
        // SAFETY: the kernel has just written a byte for each page.
        unsafe { core::ptr::write_bytes(a[2] as *mut u8, 1, a[1].div_ceil(PAGE_BYTES)) };
    }
    result
}

/// `getrusage`: the CPU time that replicas agree on, the rest is zero.
pub unsafe fn getrusage(a: [usize; 6]) -> isize {
    let who = a[0] as c_int;
    if !matches!(who, libc::RUSAGE_SELF | libc::RUSAGE_CHILDREN | libc::RUSAGE_THREAD) {
        return -(libc::EINVAL as isize);
    }
    let used = dmt(|call| call.cpu_time(who));
    // SAFETY: the program's structure.
    unsafe {
        let out = a[1] as *mut libc::rusage;
        out.write(core::mem::zeroed());
        (*out).ru_utime = libc::timeval {
            tv_sec: (used / 1_000_000_000) as i64,
            tv_usec: (used % 1_000_000_000 / 1000) as i64,
        };
    }
    0
}

/// Nanoseconds of a clock tick of `times`.
const CLOCK_TICK_NS: u64 = 1_000_000_000 / 100;

/// `times`.
pub unsafe fn times(a: [usize; 6]) -> isize {
    let (now, own, children) = dmt(|call| {
        (call.with(|k| k.monotonic()), call.cpu_time(libc::RUSAGE_SELF), call.cpu_time(libc::RUSAGE_CHILDREN))
    });
    if a[0] != 0 {
        // SAFETY: the program's structure.
        unsafe {
            *(a[0] as *mut libc::tms) = libc::tms {
                tms_utime: (own / CLOCK_TICK_NS) as i64,
                tms_stime: 0,
                tms_cutime: (children / CLOCK_TICK_NS) as i64,
                tms_cstime: 0,
            }
        };
    }
    (now / CLOCK_TICK_NS) as isize
}

/// Memory that `sysinfo` reports, bytes.
const MEMORY_BYTES: u64 = 8 << 30;

/// `sysinfo`: a machine that is the same on every replica.
pub unsafe fn sysinfo(a: [usize; 6]) -> isize {
    let up = dmt(|call| call.with(|k| k.monotonic())) / 1_000_000_000;
    // SAFETY: the program's structure.
    unsafe {
        let out = a[0] as *mut libc::sysinfo;
        out.write(core::mem::zeroed());
        (*out).uptime = up as i64;
        (*out).totalram = MEMORY_BYTES;
        (*out).freeram = MEMORY_BYTES / 2;
        (*out).procs = 1;
        (*out).mem_unit = 1;
    }
    0
}

/// `uname`: the machine's kernel is not that of the other replicas' machines; files of /proc tell the same.
pub unsafe fn uname(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise.
    let result = unsafe { gate::syscall(libc::SYS_uname, a) };
    if result == 0 {
        let out = a[0] as *mut libc::utsname;
        // SAFETY: the program's structure, which the kernel has just filled.
        let (release, version) = unsafe { (&mut (*out).release, &mut (*out).version) };
        for (field, text) in [(release, KERNEL_RELEASE), (version, KERNEL_VERSION)] {
            field.fill(0);
            field.iter_mut().zip(text).for_each(|(to, from)| *to = from.cast_signed());
        }
    }
    result
}
