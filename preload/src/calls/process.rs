//! Processes: fork, exec, exit, wait.

use core::ffi::c_int;

use dmt::process::vfork::Launch;

use crate::calls::disk::writing;
use crate::calls::refuse::{self, Other};
use crate::calls::shortage;
use crate::calls::thread;
use crate::exec::Program;
use crate::own;
use crate::raw;
use crate::sigsys::{self, Frame};
use crate::tls::{self, Passthrough};
use crate::world::{self, dmt};
use crate::{apart, signals, threads, tsc, watches};

/// Whether this call makes a new process (and not a thread).
pub fn is_fork(number: usize, a: [usize; 6]) -> bool {
    match number as i64 {
        libc::SYS_fork | libc::SYS_vfork => true,
        libc::SYS_clone => a[0] as c_int & libc::CLONE_THREAD == 0,
        _ => false,
    }
}

/// Flags of a clone that make sense for a child with memory of its own.
const KEPT_FLAGS: usize =
    (libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::CLONE_PARENT_SETTID) as usize;

/// Namespaces that a child might ask for.
const NAMESPACES: c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Why this kind of child cannot be had, if it cannot: a negative errno. What is asked for is not to be left out in silence.
fn unfit(number: usize, a: [usize; 6]) -> Option<isize> {
    if number as i64 != libc::SYS_clone {
        return None;
    }
    if a[0] as c_int & NAMESPACES != 0 {
        let remedy = "a replica's container is fixed: switch this sandbox off, or do without namespaces";
        let what = "a process with namespaces of its own";
        return Some(refuse::refuse_use(what, Other::Namespaces, libc::EPERM, remedy));
    }
    // As a kernel that does not know them, which is what `pidfd_open` says, too.
    (a[0] as c_int & libc::CLONE_PIDFD != 0).then_some(-(libc::EINVAL as isize))
}

/// Whether the parent waits until the child executes a program or ends; and whether the call is posix_spawn's, whose child
/// has a stack of its own.
fn is_vfork(number: usize, a: [usize; 6]) -> (bool, bool) {
    match number as i64 {
        libc::SYS_vfork => (true, false),
        libc::SYS_clone => (a[0] as c_int & libc::CLONE_VFORK != 0, a[1] != 0),
        _ => (false, false),
    }
}

/// Forks. Whatever the program asked to share with the child (vfork, posix_spawn), the child gets a copy: a shared
/// memory with a suspended parent would be one thread in two processes.
pub fn fork(number: usize, a: [usize; 6], frame: &mut Frame<'_>) {
    if let Some(error) = unfit(number, a) {
        return frame.set_result(error);
    }
    let (flags, stack, parent_tid, child_tid) =
        if number as i64 == libc::SYS_clone { (a[0] & KEPT_FLAGS, a[1], a[2], a[3]) } else { (0, 0, 0, 0) };
    let reserved = dmt(|call| call.fork_reserve());
    if reserved < 0 {
        refuse::bound("processes", dmt::bounds::MAX_PROCESSES, Other::Processes);
        return frame.set_result(reserved as isize);
    }
    // The child gets the descriptors, too, but nobody would count it as a writer.
    writing::closing_all(0, usize::MAX);
    // A child that has not begun must not be taken for a thread that computes: nothing of it is an operation yet.
    let inside = Passthrough::enter();
    let name = thread::name(tls::current().id() as u16);
    // No exit signal: dmt sends SIGCHLD when it is due.
    // SAFETY: a copy of this process; the child goes on right here.
    let pid = unsafe { raw!(libc::SYS_clone, flags, 0, parent_tid, child_tid, 0) };
    if pid == 0 {
        threads::forget_others(reserved as u16);
        tls::current().adopt(reserved as u32, sigsys::gettid());
        apart::open_first(reserved as u16);
        frame.keep_signal_stack();
        dmt(|call| call.start());
        // SAFETY: a thread's name.
        unsafe { thread::set_name(reserved as u16, name.as_ptr()) };
        if stack != 0 {
            frame.set_stack(stack);
        }
    } else {
        dmt(|call| call.fork_done(reserved as u16, pid as i32));
    }
    drop(inside);
    shortage::of_processes(pid);
    frame.set_result(if pid > 0 { launch(number, a, reserved as u16, pid) } else { pid });
}

/// What the parent's call returns: the child's process id, or why posix_spawn's child could not execute its program.
fn launch(number: usize, a: [usize; 6], child: u16, pid: isize) -> isize {
    let (waits, spawns) = is_vfork(number, a);
    if !waits {
        return pid;
    }
    match dmt(|call| call.await_launch(child, pid as i32, spawns)) {
        Launch::Over => pid,
        Launch::Failed(errno) => {
            reap(pid as i32);
            -(errno as isize)
        }
    }
}

/// All options of `wait4`.
const WAIT4_OPTIONS: i32 =
    libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED | libc::__WALL | libc::__WCLONE | libc::__WNOTHREAD;

/// `wait4` in dmt, then a real child that ended is reaped.
pub unsafe fn wait4(a: [usize; 6]) -> isize {
    let options = a[2] as i32;
    if options & !WAIT4_OPTIONS != 0 {
        return -(libc::EINVAL as isize);
    }
    let mut status = 0;
    let pid = dmt(|call| call.wait_child(a[0] as i32, options | libc::WEXITED, &mut status)) as isize;
    if pid <= 0 {
        return pid;
    }
    if has_ended(status) {
        reap(pid as i32);
    }
    // SAFETY: the program's pointers, if it gave any.
    unsafe {
        if a[1] != 0 {
            *(a[1] as *mut i32) = status;
        }
        if a[3] != 0 {
            *(a[3] as *mut libc::rusage) = core::mem::zeroed();
        }
    }
    pid
}

/// Whether a wait status tells the end of a child, not that it was stopped or goes on.
fn has_ended(status: i32) -> bool {
    libc::WIFEXITED(status) || libc::WIFSIGNALED(status)
}

fn reap(pid: i32) {
    // SAFETY: waits for a child that has ended, or is about to, in dmt's eyes.
    while unsafe { raw!(libc::SYS_wait4, pid, 0, libc::__WALL, 0) } == -(libc::EINTR as isize) {}
}

/// Options of `waitid` that say what to wait for; at least one of them is needed.
const CHANGES: i32 = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED;
/// All options of `waitid`.
const WAITID_OPTIONS: i32 =
    CHANGES | libc::WNOHANG | libc::WNOWAIT | libc::__WALL | libc::__WCLONE | libc::__WNOTHREAD;

/// `waitid`, but for descriptors of processes.
pub unsafe fn waitid(a: [usize; 6]) -> isize {
    let selector = match (a[0] as u32, a[1] as i32) {
        (libc::P_ALL, _) => -1,
        (libc::P_PID, pid @ 1..) => pid,
        (libc::P_PGID, group @ 0..) => -group,
        _ => return -(libc::EINVAL as isize),
    };
    let options = a[3] as i32;
    if options & !WAITID_OPTIONS != 0 || options & CHANGES == 0 {
        return -(libc::EINVAL as isize);
    }
    let mut status = 0;
    let pid = dmt(|call| call.wait_child(selector, options, &mut status)) as isize;
    if pid > 0 && options & libc::WNOWAIT == 0 && has_ended(status) {
        reap(pid as i32);
    }
    if pid >= 0 && a[2] != 0 {
        // SAFETY: the program's siginfo.
        unsafe { fill_siginfo(a[2] as *mut libc::siginfo_t, pid as i32, status) };
    }
    pid.min(0)
}

unsafe fn fill_siginfo(info: *mut libc::siginfo_t, pid: i32, status: i32) {
    // SAFETY: the caller's promise; pid, uid and status lie behind the three words and padding.
    unsafe {
        info.write(core::mem::zeroed());
        if pid == 0 {
            return;
        }
        (*info).si_signo = libc::SIGCHLD;
        let (code, value) = match status {
            _ if libc::WIFEXITED(status) => (libc::CLD_EXITED, libc::WEXITSTATUS(status)),
            _ if libc::WIFSTOPPED(status) => (libc::CLD_STOPPED, libc::WSTOPSIG(status)),
            _ if libc::WIFCONTINUED(status) => (libc::CLD_CONTINUED, libc::SIGCONT),
            _ => (libc::CLD_KILLED, libc::WTERMSIG(status)),
        };
        (*info).si_code = code;
        let fields = info.cast::<u8>().add(16).cast::<i32>();
        fields.write(pid);
        fields.add(2).write(value);
    }
}

/// Closes all descriptors of a process that is about to end, but ours: its locks must be gone when others get the turn,
/// and the kernel would close them at its own time.
fn close_all() {
    writing::closing_all(0, usize::MAX);
    // SAFETY: nobody in this process runs any more who could use them.
    watches::observed(|| unsafe { own::close_range(0, u32::MAX, 0) });
}

/// `exit_group`: tells dmt, then goes.
pub fn exit_group(status: usize) -> ! {
    let tls = tls::current();
    let id = tls.id() as u16;
    tls.abandon();
    close_all();
    // SAFETY: libc's variable of this thread.
    world::call_as(id).note_errno(unsafe { *libc::__errno_location() });
    world::call_as(id).process_exit((status as i32 & 0xff) << 8);
    loop {
        // SAFETY: ends this process.
        unsafe { raw!(libc::SYS_exit_group, status) };
    }
}

/// Tells dmt that this process is about to die of `signal`.
pub fn killed_by(signal: c_int) {
    let tls = tls::current();
    if tls.managed() {
        let id = tls.id() as u16;
        tls.abandon();
        close_all();
        world::call_as(id).process_exit(signal);
    }
}

/// Blocks or unblocks the watchdog's signal.
pub fn hear_watchdog(how: c_int) {
    let set = signals::bit(signals::PREEMPT);
    // SAFETY: the mask lives until the call returns.
    unsafe { raw!(libc::SYS_rt_sigprocmask, how, &raw const set, 0, signals::SET_BYTES) };
}

/// `execve`.
pub unsafe fn execve(a: [usize; 6]) -> isize {
    let program = Program { directory: libc::AT_FDCWD, path: a[0], flags: 0 };
    // SAFETY: forwarded promise.
    unsafe { execute(program, a[1], a[2]) }
}

/// `execveat`.
pub unsafe fn execveat(a: [usize; 6]) -> isize {
    let program = Program { directory: a[0] as c_int, path: a[1], flags: a[4] as c_int };
    // SAFETY: forwarded promise.
    unsafe { execute(program, a[2], a[3]) }
}

/// The new program starts with a counter that does not trap, with our variables in its environment, and deaf to
/// the watchdog, whose signal would end it, until the library in it has a handler.
unsafe fn execute(program: Program, arguments: usize, environment: usize) -> isize {
    // SAFETY: the program's path.
    if let Err(errno) = unsafe { crate::exec::check(&program) } {
        return -(errno as isize);
    }
    dmt(|call| call.before_exec());
    writing::closing_all(0, usize::MAX);
    tsc::release();
    hear_watchdog(libc::SIG_BLOCK);
    watches::before_exec();
    let mut room = crate::exec::Environment::new();
    let Program { directory, path, flags } = program;
    // SAFETY: the program's own arguments.
    let result =
        unsafe { raw!(libc::SYS_execveat, directory, path, arguments, room.with_ours(environment), flags) };
    hear_watchdog(libc::SIG_UNBLOCK);
    tsc::trap();
    result
}
