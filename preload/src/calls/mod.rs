//! System calls by number: the common entry of the SIGSYS handler and of `syscall()`, and the families that the hooks
//! call directly.
//!
//! Functions take the six raw arguments and return what the kernel would (negative errno on failure). They are unsafe
//! for one reason only: the arguments may be pointers, and then they are the program's promise.

pub mod ancillary;
pub mod capabilities;
pub mod disk;
mod family;
pub mod fifo;
pub mod file;
pub mod futex;
pub mod identity;
pub mod ipc;
pub mod limits;
pub mod lock;
pub mod misc;
pub mod netlink;
pub mod open;
pub mod process;
pub mod procfs;
pub mod queue;
pub mod random;
pub mod ready;
pub mod refuse;
pub mod shortage;
pub mod signal;
pub mod socket;
pub mod stamp;
pub mod sync;
pub mod thread;
pub mod time;
pub mod timer;
pub mod vector;

use crate::kernel;
use crate::syscalls::{self, Class};
use crate::threads;

/// Six arguments; missing ones are 0.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => {{
        let given = [$($arg as usize),*];
        let mut all = [0usize; 6];
        all[..given.len()].copy_from_slice(&given);
        all
    }};
}

/// Carries out call `number` of a managed thread; `caller` is the address to name if it is refused.
///
/// # Safety
/// As the system call.
pub unsafe fn call(number: usize, a: [usize; 6], caller: usize) -> isize {
    match syscalls::class(number) {
        // SAFETY: forwarded promise.
        Some((_, Class::Passed(_))) => unsafe { kernel::call(number as i64, a) },
        // SAFETY: forwarded promise.
        Some((name, Class::Scheduled | Class::Emulated)) => unsafe { handle(number as i64, a) }
            .unwrap_or_else(|| refuse::refuse(name, number, libc::ENOSYS, caller)),
        Some((name, Class::Refused(errno))) => refuse::refuse(name, number, errno, caller),
        None => refuse::refuse("unclassified", number, libc::ENOSYS, caller),
    }
}

crate::families! {
    /// The calls that are not the kernel's alone; `None` if nothing handles this one yet.
    unsafe fn handle(number, a) = alone, time, timer, signal, ready, socket, vector, file, stamp, disk::stat, disk::links,
        disk::names,
        sync, identity, ipc, queue
}

crate::family! {
    /// The calls that are no family.
    unsafe fn alone(number, a) {
        libc::SYS_exit => threads::exit(a[0]),
        libc::SYS_exit_group => process::exit_group(a[0]),
        libc::SYS_execve => process::execve(a),
        libc::SYS_execveat => process::execveat(a),
        libc::SYS_wait4 => process::wait4(a),
        libc::SYS_waitid => process::waitid(a),
        libc::SYS_futex => futex::futex(a),
        libc::SYS_sched_setparam
        | libc::SYS_sched_setscheduler
        | libc::SYS_sched_setattr
        | libc::SYS_setpriority
        | libc::SYS_ioprio_set => thread::set_scheduling(number, a),
        libc::SYS_sched_getparam
        | libc::SYS_sched_getscheduler
        | libc::SYS_sched_getattr
        | libc::SYS_sched_rr_get_interval
        | libc::SYS_getpriority
        | libc::SYS_ioprio_get => thread::scheduling(number, a),
        libc::SYS_gettid => thread::gettid(),
        libc::SYS_set_tid_address => thread::set_tid_address(a),
        libc::SYS_set_robust_list | libc::SYS_rseq => 0,
        libc::SYS_sched_yield => misc::sched_yield(),
        libc::SYS_sched_getaffinity => misc::sched_getaffinity(a),
        libc::SYS_sched_setaffinity => misc::sched_setaffinity(a),
        libc::SYS_prctl => thread::prctl(a),
        libc::SYS_personality => misc::personality(a),
        libc::SYS_mincore => misc::mincore(a),
        libc::SYS_capget => capabilities::capget(a),
        libc::SYS_capset => capabilities::capset(a),
        libc::SYS_getrlimit => limits::getrlimit(a),
        libc::SYS_setrlimit => limits::setrlimit(a),
        libc::SYS_prlimit64 => limits::prlimit64(a),
        libc::SYS_getrusage => misc::getrusage(a),
        libc::SYS_times => misc::times(a),
        libc::SYS_sysinfo => misc::sysinfo(a),
        libc::SYS_uname => misc::uname(a),
        libc::SYS_arch_prctl => misc::arch_prctl(a),
        libc::SYS_getrandom => random::getrandom(a),
        libc::SYS_getdents64 => disk::listing::getdents64(a),
        libc::SYS_statfs | libc::SYS_fstatfs => disk::space::statfs(number, a),
        libc::SYS_open | libc::SYS_creat | libc::SYS_openat | libc::SYS_openat2 => open::open(number, a),
    }
}
