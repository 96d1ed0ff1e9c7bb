//! Starts the server inside the container: fixed pid, descriptors, limits, personality, and exec.

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::directory::OUTPUT_DIRECTORY;
use super::marks;
use super::spawn::{KICK_SOURCE_FD, user_maps, write_raw};
use super::{ARENA_FILE, InitConfig, KICK_FD, PRELOAD_FILE, SERVER_PID, SHARED_MOUNT};

/// Soft limit of the stack, bytes: it decides where the kernel puts mappings, so it is the same everywhere.
const STACK_BYTES: u64 = 8 << 20;
/// File mode mask of the server.
const UMASK: libc::mode_t = 0o022;

/// Steps between fork and exec, for the error message.
const STEPS: &[&str] = &[
    "make a session",
    "reset signals",
    "give it the limits with which the cluster was made",
    "set resource limits",
    "switch address randomisation off",
    "set up its descriptors",
    "return to the caller's user",
    "enter the working directory",
    "execute",
];

struct Plan {
    program: CString,
    working_directory: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    stdin: File,
    stdout: File,
    stderr: File,
    limits: Vec<(libc::__rlimit_resource_t, libc::rlimit)>,
    has_kick: bool,
    user_maps: Option<[(&'static CStr, Vec<u8>); 3]>,
    failed: OwnedFd,
}

/// Forks and executes the server. Returns when its image is loaded. The caller has started all its own threads.
pub(super) fn start(config: &InitConfig) -> Result<(), String> {
    let (failed_read, failed) = pipe2(OFlag::O_CLOEXEC).map_err(|e| format!("cannot make a pipe: {e}"))?;
    let plan = plan(config, failed)?;
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(&plan.arguments), pointers(&plan.environment));
    let last_pid = Path::new("/proc/sys/kernel/ns_last_pid");
    std::fs::write(last_pid, (SERVER_PID - 1).to_string())
        .map_err(|e| format!("cannot choose the server's process id ({}): {e}", last_pid.display()))?;
    // SAFETY: the child does only async-signal-safe system calls on memory made before.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => return Err(format!("cannot fork: {}", io::Error::last_os_error())),
        // SAFETY: we are the child of a fork.
        0 => unsafe { in_child(&plan, &arguments, &environment) },
        SERVER_PID => {}
        other => return Err(format!("the server got process id {other} instead of {SERVER_PID}")),
    }
    let program = plan.program.clone();
    drop(plan);
    let mut failure = [0; 8];
    if File::from(failed_read).read_exact(&mut failure).is_err() {
        return Ok(());
    }
    let [step, error] =
        [&failure[..4], &failure[4..]].map(|b| i32::from_ne_bytes(b.try_into().expect("4 bytes")));
    let step = STEPS.get(usize::try_from(step).unwrap_or(0)).unwrap_or(&"start");
    let error = io::Error::from_raw_os_error(error);
    Err(format!("cannot start {}: cannot {step}: {error}", program.to_string_lossy()))
}

fn plan(config: &InitConfig, failed: OwnedFd) -> Result<Plan, String> {
    let c = |bytes: &[u8]| {
        CString::new(bytes).map_err(|_| "a zero byte in the command or its environment".to_owned())
    };
    let mut environment = config.environment.clone();
    if config.shared.is_some() {
        let own = [
            ("LD_PRELOAD", format!("{SHARED_MOUNT}/{PRELOAD_FILE}")),
            ("BROLGA_ARENA", format!("{SHARED_MOUNT}/{ARENA_FILE}")),
            ("BROLGA_KICK_FD", KICK_FD.to_string()),
        ];
        environment.extend(own.map(|(name, value)| (name.into(), value.into_bytes())));
        environment.sort();
    }
    let joined = |(name, value): &(Vec<u8>, Vec<u8>)| c(&[name, &b"="[..], value].concat());
    let limits = config.limits.prepare()?;
    Ok(Plan {
        program: c(&config.program)?,
        working_directory: c(&config.working_directory)?,
        arguments: config.arguments.iter().map(|a| c(a)).collect::<Result<_, _>>()?,
        environment: environment.iter().map(joined).collect::<Result<_, _>>()?,
        stdin: File::open("/dev/null").map_err(|e| format!("cannot open /dev/null: {e}"))?,
        stdout: output("stdout", marks::STDOUT)?,
        stderr: output("stderr", marks::STDERR)?,
        limits: limits.into_iter().map(|(resource, limit)| (resource as _, limit)).collect(),
        has_kick: config.has_kick,
        user_maps: config.outer_ids.map(|(user, group)| user_maps(user, 0, group, 0)),
        failed,
    })
}

fn output(name: &str, inode: u32) -> Result<File, String> {
    let path = Path::new(SHARED_MOUNT).join(OUTPUT_DIRECTORY).join(name);
    let open = || {
        let file = OpenOptions::new().append(true).create(true).mode(0o666).open(&path)?;
        // Servers that dropped their privileges open /dev/stdout again by its name.
        file.set_permissions(std::fs::Permissions::from_mode(0o666))?;
        Ok(file)
    };
    let file = open();
    marks::mark(&path, inode);
    file.map_err(|e: io::Error| format!("cannot open {}: {e}", path.display()))
}

/// # Safety
/// Only in the child of a fork; never returns.
unsafe fn in_child(plan: &Plan, arguments: &[*const libc::c_char], environment: &[*const libc::c_char]) -> ! {
    let steps: [&dyn Fn() -> bool; 9] = [
        // SAFETY: no arguments.
        &|| unsafe { libc::setsid() } != -1,
        &reset_signals,
        &|| give_limits(plan),
        &set_limits,
        &no_randomisation,
        &|| set_descriptors(plan),
        &|| own_user(plan),
        // SAFETY: a valid path.
        &|| unsafe { libc::chdir(plan.working_directory.as_ptr()) } == 0,
        // SAFETY: valid, null-terminated arrays of valid strings.
        &|| unsafe { libc::execve(plan.program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) } == 0,
    ];
    let failed = steps.iter().position(|step| !step()).unwrap_or(0);
    // SAFETY: plain system calls on our own stack.
    unsafe {
        let message = [i32::try_from(failed).unwrap_or(0), *libc::__errno_location()];
        libc::write(plan.failed.as_raw_fd(), (&raw const message).cast(), size_of_val(&message));
        libc::_exit(127)
    }
}

fn reset_signals() -> bool {
    // SAFETY: the default action needs no handler; SIGKILL and SIGSTOP just refuse.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::umask(UMASK);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) == 0
    }
}

fn give_limits(plan: &Plan) -> bool {
    // SAFETY: valid structures.
    plan.limits.iter().all(|(resource, limit)| unsafe { libc::setrlimit(*resource, limit) } == 0)
}

fn set_limits() -> bool {
    let files = dmt::bounds::MAX_FDS as u64;
    let both = |limit| libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: valid structures on our stack.
    unsafe {
        let (files, core, mut stack) = (both(files), both(0), both(0));
        if libc::getrlimit(libc::RLIMIT_STACK, &raw mut stack) != 0 {
            return false;
        }
        stack.rlim_cur = STACK_BYTES.min(stack.rlim_max);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files) == 0
            && libc::setrlimit(libc::RLIMIT_CORE, &raw const core) == 0
            && libc::setrlimit(libc::RLIMIT_STACK, &raw const stack) == 0
    }
}

fn no_randomisation() -> bool {
    // SAFETY: no pointers.
    unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) != -1 }
}

fn set_descriptors(plan: &Plan) -> bool {
    let standard = [&plan.stdin, &plan.stdout, &plan.stderr];
    // SAFETY: our own descriptors; what is closed on exec here is not used again but for `failed`, which is closed on
    // exec, too.
    unsafe {
        let cloexec = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
        (0..).zip(standard).all(|(number, file)| libc::dup2(file.as_raw_fd(), number) != -1)
            && (!plan.has_kick || libc::dup2(KICK_SOURCE_FD, KICK_FD) != -1)
            && libc::close_range(3, KICK_FD as u32 - 1, cloexec) == 0
            && libc::close_range(KICK_FD as u32 + 1, u32::MAX, cloexec) == 0
    }
}

/// In a user namespace init is root; the server runs under the caller's own ids, in a namespace below.
fn own_user(plan: &Plan) -> bool {
    let Some(maps) = &plan.user_maps else { return true };
    // SAFETY: no pointers.
    unsafe { libc::unshare(libc::CLONE_NEWUSER) == 0 && maps.iter().all(|(path, map)| write_raw(path, map)) }
}

const _: () = assert!(KICK_FD as RawFd > KICK_SOURCE_FD);
