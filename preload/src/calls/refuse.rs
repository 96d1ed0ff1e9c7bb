//! What brolga does not let through: each gives one line in the replica's log, which says what, who, and what to do.

use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use dmt::thread::ThreadId;
use dmt::upcall::{UpcallKind, WARNING, WARNING_ONCE};

use crate::calls::thread;
use crate::fatal::Line;
use crate::place::Place;
use crate::raw;
use crate::syscalls::LIMIT;
use crate::tls;
use crate::world::dmt;

/// What is refused that is no system call as a whole; numbers behind those of the calls.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Other {
    /// Raw and packet sockets.
    RawSocket = LIMIT,
    /// A message that would change the network.
    NetlinkWrite,
    /// More processes than [`dmt::bounds::MAX_PROCESSES`].
    Processes,
    /// More threads than [`dmt::bounds::MAX_THREADS`].
    Threads,
    /// Processes that want namespaces of their own.
    Namespaces,
}

/// Numbers of all that can be refused.
const NUMBERS: usize = LIMIT + 32 + FAMILIES;
const _: () = assert!((Other::Namespaces as usize) < NUMBERS - FAMILIES);
/// Families of sockets that are named one by one.
const FAMILIES: usize = 64;

/// One bit for each number that this process has logged: a program that tries again and again is named once.
static SAID: [AtomicU64; NUMBERS.div_ceil(64)] = [const { AtomicU64::new(0) }; NUMBERS.div_ceil(64)];

/// Fails with `errno` and says so in the log. `caller` is the address behind the call.
pub fn refuse(name: &str, number: usize, errno: i32, caller: usize) -> isize {
    if first_time(number) {
        let mut line = Line::new();
        let _ = write!(line, "refused system call {name} ({number}) with {}: called by ", Name(errno));
        let _ = write!(line, "{}, at {}; {}", Caller, Place::of(caller), remedy(number as i64));
        log_once(&line);
    }
    -(errno as isize)
}

/// The same for one use of a call that is else allowed.
pub fn refuse_use(what: &str, number: Other, errno: i32, remedy: &str) -> isize {
    refuse_kind(what, number as usize, errno, remedy)
}

/// The same for a socket of a family that only the kernel has; each family is named.
pub fn refuse_family(family: i32, what: &str, errno: i32, remedy: &str) -> isize {
    let place = usize::try_from(family).unwrap_or(0) % FAMILIES;
    refuse_kind(what, NUMBERS - FAMILIES + place, errno, remedy)
}

fn refuse_kind(what: &str, number: usize, errno: i32, remedy: &str) -> isize {
    if first_time(number) {
        let mut line = Line::new();
        let _ = write!(line, "refused {what} with {}: called by {Caller}; {remedy}", Name(errno));
        log_once(&line);
    }
    -(errno as isize)
}

/// The server has as many `things` as there may be.
pub fn bound(things: &str, most: usize, number: Other) {
    let mut what = Line::new();
    let _ = write!(what, "more than {most} {things}");
    let what = core::str::from_utf8(what.bytes()).unwrap_or(things);
    refuse_use(what, number, libc::EAGAIN, "let the server start fewer");
}

fn first_time(number: usize) -> bool {
    let number = number.min(NUMBERS - 1);
    let bit = 1 << (number % 64);
    SAID[number / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0
}

/// One line for the replica's log.
pub fn log(line: &Line) {
    send(line, WARNING);
}

/// One line for the replica's log, if that has no such line yet, be it of another process.
pub fn log_once(line: &Line) {
    send(line, WARNING_ONCE);
}

fn send(line: &Line, severity: u64) {
    dmt(|call| {
        call.room();
        call.with(|k| k.upcall(call.shared(), UpcallKind::Log, [severity, 0, 0, 0], 0, &[line.bytes()]));
        call.kick();
    });
}

/// What the user can do about it.
fn remedy(number: i64) -> &'static str {
    const IO_URING: i64 = libc::SYS_io_uring_setup;
    const IO_URING_LAST: i64 = libc::SYS_io_uring_register;
    match number {
        IO_URING..=IO_URING_LAST | libc::SYS_io_setup..=libc::SYS_io_cancel | SYS_IO_PGETEVENTS => {
            "the kernel would write to memory at a time of its own: if the server does not go on without, \
             switch asynchronous I/O off in its configuration"
        }
        libc::SYS_ptrace
        | libc::SYS_process_vm_readv
        | libc::SYS_process_vm_writev
        | libc::SYS_pidfd_getfd
        | libc::SYS_kcmp => {
            "what another process does at this moment differs on every replica: debug from outside with `brolga exec`"
        }
        libc::SYS_perf_event_open | libc::SYS_bpf | libc::SYS_fanotify_init | libc::SYS_syslog => {
            "what the kernel measures differs on every replica: switch this monitoring off"
        }
        libc::SYS_userfaultfd => {
            "page faults come at a time of their own on every replica: use the server's mode without userfaultfd"
        }
        libc::SYS_mount
        | libc::SYS_umount2
        | libc::SYS_pivot_root
        | libc::SYS_setns
        | libc::SYS_open_tree..=libc::SYS_fspick
        | libc::SYS_mount_setattr => "a replica's container is fixed: mount before `brolga run`, on the host",
        libc::SYS_unshare
        | libc::SYS_seccomp
        | libc::SYS_landlock_create_ruleset..=libc::SYS_landlock_restrict_self => {
            "a replica's container is fixed and has its own filter: switch this sandbox off if the server does not go on without"
        }
        libc::SYS_add_key..=libc::SYS_keyctl => {
            "the kernel's keys are not the replica's own: let the server keep them in files or memory"
        }
        _ => "the server cannot use it here; if it does not go on without, say so in an issue",
    }
}

const SYS_IO_PGETEVENTS: i64 = 333;

/// `nginx (process 1000, thread 1001)`.
struct Caller;

impl core::fmt::Display for Caller {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let tls = tls::current();
        let name = if tls.managed() { thread::name(tls.id() as ThreadId) } else { thread::process_name() };
        // SAFETY: no arguments.
        let pid = unsafe { raw!(libc::SYS_getpid) };
        let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        let name = core::str::from_utf8(&name[..len]).unwrap_or("?");
        let tid = if tls.managed() { tls.tid() as isize } else { pid };
        write!(f, "{name} (process {pid}, thread {tid})")
    }
}

/// An errno by its name.
struct Name(i32);

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            libc::EPERM => f.write_str("EPERM"),
            libc::ENOSYS => f.write_str("ENOSYS"),
            libc::EAGAIN => f.write_str("EAGAIN"),
            libc::EAFNOSUPPORT => f.write_str("EAFNOSUPPORT"),
            libc::EPROTONOSUPPORT => f.write_str("EPROTONOSUPPORT"),
            other => write!(f, "errno {other}"),
        }
    }
}
