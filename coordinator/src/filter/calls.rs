//! The system calls that a coordinator may make. `docs/security.md` repeats them, and a test compares.

/// Under which condition a call is allowed.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// Always.
    Always,
    /// If argument `.0`, with the bits of `.1` alone, is `.2`.
    Masked(usize, u32, u32),
    /// If argument `.0` is one of these.
    OneOf(usize, &'static [u32]),
    /// If argument `.0` is the own process.
    Own(usize),
}

/// A system call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub number: i64,
    /// See [`When`].
    pub when: When,
    /// The condition in words, if there is one.
    pub text: &'static str,
}

/// Calls above the newest that was looked at when the list was made (`lsm_list_modules`) are answered as by a kernel that lacks
/// them, so that a newer libc makes do without.
pub const NEWEST: u32 = 461;

const ANY: u32 = u32::MAX;
/// A thread of the own process, in no other namespace.
const CLONE_LOOKED_AT: u32 = (libc::CLONE_THREAD
    | libc::CLONE_VM
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;
const CLONE_THREAD: u32 = (libc::CLONE_THREAD | libc::CLONE_VM) as u32;
const EXECUTABLE: u32 = libc::PROT_EXEC as u32;
/// `PR_SET_VMA`: malloc names its memory.
const PR_SET_VMA: u32 = 0x5356_4d41;

macro_rules! always {
    ($($name:literal $number:ident,)*) => {
        &[$(Call { name: $name, number: libc::$number, when: When::Always, text: "" },)*]
    };
}

/// Always allowed.
const ALWAYS: &[Call] = always! {
    // Often, or while clients wait.
    "epoll_wait" SYS_epoll_wait, "epoll_pwait" SYS_epoll_pwait, "epoll_pwait2" SYS_epoll_pwait2,
    "read" SYS_read, "write" SYS_write, "readv" SYS_readv, "writev" SYS_writev,
    "recvfrom" SYS_recvfrom, "sendto" SYS_sendto, "recvmsg" SYS_recvmsg, "sendmsg" SYS_sendmsg,
    "recvmmsg" SYS_recvmmsg, "sendmmsg" SYS_sendmmsg,
    "futex" SYS_futex, "sched_yield" SYS_sched_yield, "epoll_ctl" SYS_epoll_ctl,
    "accept" SYS_accept, "accept4" SYS_accept4, "close" SYS_close, "fdatasync" SYS_fdatasync,
    // Sockets.
    "socketpair" SYS_socketpair, "bind" SYS_bind, "listen" SYS_listen, "connect" SYS_connect,
    "shutdown" SYS_shutdown, "getsockname" SYS_getsockname, "getpeername" SYS_getpeername,
    "getsockopt" SYS_getsockopt, "setsockopt" SYS_setsockopt,
    "epoll_create1" SYS_epoll_create1, "eventfd2" SYS_eventfd2, "poll" SYS_poll, "ppoll" SYS_ppoll,
    "pipe2" SYS_pipe2,
    // Files: the log, checkpoints, layers, output.
    "open" SYS_open, "openat" SYS_openat, "stat" SYS_stat, "lstat" SYS_lstat, "fstat" SYS_fstat,
    "newfstatat" SYS_newfstatat, "statx" SYS_statx, "statfs" SYS_statfs, "fstatfs" SYS_fstatfs,
    "access" SYS_access, "faccessat" SYS_faccessat, "faccessat2" SYS_faccessat2,
    "pread64" SYS_pread64, "pwrite64" SYS_pwrite64, "preadv" SYS_preadv, "pwritev" SYS_pwritev,
    "lseek" SYS_lseek, "getdents64" SYS_getdents64, "readlink" SYS_readlink, "readlinkat" SYS_readlinkat,
    "getcwd" SYS_getcwd, "fcntl" SYS_fcntl, "flock" SYS_flock, "dup" SYS_dup, "dup2" SYS_dup2, "dup3" SYS_dup3,
    "ftruncate" SYS_ftruncate, "fallocate" SYS_fallocate, "fsync" SYS_fsync, "sync_file_range" SYS_sync_file_range,
    "msync" SYS_msync,
    "fadvise64" SYS_fadvise64, "copy_file_range" SYS_copy_file_range, "sendfile" SYS_sendfile,
    "splice" SYS_splice, "mkdir" SYS_mkdir, "mkdirat" SYS_mkdirat, "rmdir" SYS_rmdir, "unlink" SYS_unlink,
    "unlinkat" SYS_unlinkat, "rename" SYS_rename, "renameat" SYS_renameat, "renameat2" SYS_renameat2,
    "link" SYS_link, "linkat" SYS_linkat, "symlink" SYS_symlink, "symlinkat" SYS_symlinkat,
    "chmod" SYS_chmod, "fchmod" SYS_fchmod, "fchmodat" SYS_fchmodat, "lchown" SYS_lchown,
    "fchownat" SYS_fchownat, "utimensat" SYS_utimensat, "umask" SYS_umask,
    "llistxattr" SYS_llistxattr, "lgetxattr" SYS_lgetxattr, "lsetxattr" SYS_lsetxattr,
    // Memory and threads.
    "munmap" SYS_munmap, "mremap" SYS_mremap, "brk" SYS_brk, "madvise" SYS_madvise, "membarrier" SYS_membarrier,
    "set_robust_list" SYS_set_robust_list, "rseq" SYS_rseq, "sigaltstack" SYS_sigaltstack,
    "rt_sigaction" SYS_rt_sigaction, "rt_sigprocmask" SYS_rt_sigprocmask, "rt_sigreturn" SYS_rt_sigreturn,
    "sched_getaffinity" SYS_sched_getaffinity, "sched_getscheduler" SYS_sched_getscheduler,
    "getpid" SYS_getpid, "getppid" SYS_getppid, "gettid" SYS_gettid, "getuid" SYS_getuid, "geteuid" SYS_geteuid,
    "getgid" SYS_getgid, "getegid" SYS_getegid, "exit" SYS_exit, "exit_group" SYS_exit_group,
    // Time, randomness, the machine.
    "clock_gettime" SYS_clock_gettime, "clock_getres" SYS_clock_getres, "gettimeofday" SYS_gettimeofday,
    "time" SYS_time, "nanosleep" SYS_nanosleep, "clock_nanosleep" SYS_clock_nanosleep,
    "restart_syscall" SYS_restart_syscall, "getrandom" SYS_getrandom, "uname" SYS_uname, "sysinfo" SYS_sysinfo,
    // The container's init, by its descriptor.
    "pidfd_send_signal" SYS_pidfd_send_signal, "waitid" SYS_waitid,
};

/// Allowed with some arguments.
const SOMETIMES: &[Call] = &[
    Call {
        name: "mmap",
        number: libc::SYS_mmap,
        when: When::Masked(2, EXECUTABLE, 0),
        text: "not executable",
    },
    Call {
        name: "mprotect",
        number: libc::SYS_mprotect,
        when: When::Masked(2, EXECUTABLE, 0),
        text: "not executable",
    },
    Call {
        name: "clone",
        number: libc::SYS_clone,
        when: When::Masked(0, CLONE_LOOKED_AT, CLONE_THREAD),
        text: "threads, no namespaces",
    },
    Call {
        name: "socket",
        number: libc::SYS_socket,
        when: When::OneOf(0, &[libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32]),
        text: "Unix, IPv4, IPv6",
    },
    Call {
        name: "ioctl",
        number: libc::SYS_ioctl,
        when: When::OneOf(
            1,
            &[libc::FIONBIO as u32, libc::FIONREAD as u32, libc::TIOCOUTQ as u32, libc::TCGETS as u32],
        ),
        text: "FIONBIO, FIONREAD, TIOCOUTQ, TCGETS",
    },
    Call {
        name: "prctl",
        number: libc::SYS_prctl,
        when: When::OneOf(
            0,
            &[libc::PR_SET_NAME as u32, libc::PR_GET_NAME as u32, libc::PR_SET_TIMERSLACK as u32, PR_SET_VMA],
        ),
        text: "names, timer slack",
    },
    Call {
        name: "mknodat",
        number: libc::SYS_mknodat,
        when: When::Masked(3, ANY, 0),
        text: "no device but an overlay's mark of a removed file",
    },
    Call {
        name: "sched_setscheduler",
        number: libc::SYS_sched_setscheduler,
        when: When::Masked(0, ANY, 0),
        text: "its own",
    },
    Call {
        name: "sched_setaffinity",
        number: libc::SYS_sched_setaffinity,
        when: When::Masked(0, ANY, 0),
        text: "its own",
    },
    Call {
        name: "sched_getattr",
        number: libc::SYS_sched_getattr,
        when: When::Masked(0, ANY, 0),
        text: "its own",
    },
    Call {
        name: "sched_setattr",
        number: libc::SYS_sched_setattr,
        when: When::Masked(0, ANY, 0),
        text: "its own",
    },
    Call { name: "prlimit64", number: libc::SYS_prlimit64, when: When::Masked(0, ANY, 0), text: "its own" },
    Call { name: "tgkill", number: libc::SYS_tgkill, when: When::Own(0), text: "itself" },
];

/// All of them.
pub fn calls() -> impl Iterator<Item = &'static Call> {
    ALWAYS.iter().chain(SOMETIMES)
}
