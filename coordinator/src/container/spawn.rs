//! The coordinator's side of a start: clones init into its namespaces and executes the brolga binary there.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Pid, getegid, geteuid, pipe2};

use super::{ContainerError, ContainerSpec, INIT_COMMAND, InitConfig};
use crate::channel::Channel;

/// Descriptor of init: the channel to the coordinator.
pub(super) const CHANNEL_FD: RawFd = 3;
/// Descriptor of init: the configuration.
pub(super) const CONFIG_FD: RawFd = 4;
/// Descriptor of init: the kick eventfd.
pub(super) const KICK_SOURCE_FD: RawFd = 5;
/// Descriptors that are moved to the numbers above stand at least here before.
const STAGING_FD: RawFd = 16;

pub(super) const NAMESPACES: libc::c_int =
    libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET;

/// The server gets exactly [`dmt::bounds::MAX_FDS`] descriptors; says early if it cannot.
pub(super) fn check_open_files() -> Result<(), ContainerError> {
    let need = dmt::bounds::MAX_FDS as u64;
    let (_, have) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| ContainerError::System {
        what: "read the limit of open files",
        source: error.into(),
    })?;
    if have < need { Err(ContainerError::OpenFiles { have, need }) } else { Ok(()) }
}

/// True if namespaces must be made inside a new user namespace.
pub(super) fn needs_user_namespace() -> bool {
    !geteuid().is_root()
}

/// Everything the child needs between clone and exec, made before: the child may not allocate.
struct ChildPlan {
    program: CString,
    user_maps: Option<[(&'static CStr, Vec<u8>); 3]>,
    channel: OwnedFd,
    config: OwnedFd,
    kick: Option<OwnedFd>,
    null: OwnedFd,
    failed: OwnedFd,
}

/// Whose child init becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    /// The caller's.
    Us,
    /// That of the caller's parent.
    Ours,
}

/// An init that was started.
#[derive(Debug)]
pub(super) struct Init {
    pub pid: Pid,
    /// By which its parent ends it and waits for it.
    pub handle: OwnedFd,
    /// Tells an error number if init could not be executed, else nothing.
    pub failed: OwnedFd,
}

/// Starts init; its first message on the channel tells how the set-up went.
pub(super) fn spawn_init(
    spec: &ContainerSpec,
    channel: Channel,
    kick: Option<BorrowedFd<'_>>,
    restores: bool,
    parent: Parent,
) -> Result<Init, ContainerError> {
    let user_namespace = needs_user_namespace();
    let ids = user_namespace.then(|| (geteuid().as_raw(), getegid().as_raw()));
    let config = write_config(spec, ids, kick.is_some(), restores)
        .map_err(ContainerError::system("pass the configuration"))?;
    let (failed_read, failed) = pipe2(OFlag::O_CLOEXEC)
        .map_err(|e| ContainerError::System { what: "make a pipe", source: e.into() })?;
    let staged = |fd: BorrowedFd<'_>| stage(fd).map_err(ContainerError::system("duplicate a descriptor"));
    let null = File::open("/dev/null").map_err(ContainerError::system("open /dev/null"))?;
    let plan = ChildPlan {
        program: CString::new(spec.init_program.as_os_str().as_bytes())
            .map_err(|e| ContainerError::System { what: "name init's program", source: e.into() })?,
        user_maps: ids.map(|(user, group)| user_maps(0, user, 0, group)),
        channel: staged(std::os::fd::AsFd::as_fd(&channel))?,
        config: staged(std::os::fd::AsFd::as_fd(&config))?,
        kick: kick.map(&staged).transpose()?,
        null: staged(std::os::fd::AsFd::as_fd(&null))?,
        failed: staged(std::os::fd::AsFd::as_fd(&failed))?,
    };
    drop(failed);
    let mut flags = NAMESPACES | libc::CLONE_PIDFD | libc::SIGCHLD;
    if user_namespace {
        flags |= libc::CLONE_NEWUSER;
    }
    if parent == Parent::Ours {
        flags |= libc::CLONE_PARENT;
    }
    let mut handle: RawFd = -1;
    // SAFETY: a clone without CLONE_VM and without a new stack is a fork; `in_child` does only system calls. The kernel writes the
    // descriptor of the child to `handle`.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_long, 0, &raw mut handle, 0, 0) };
    match pid {
        -1 => return Err(ContainerError::Namespaces(io::Error::last_os_error())),
        // SAFETY: we are the child, single-threaded, before exec.
        0 => unsafe { in_child(&plan) },
        _ => {}
    }
    drop(plan);
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid fits i32"));
    // SAFETY: the kernel has just made it for us.
    let handle = unsafe { OwnedFd::from_raw_fd(handle) };
    Ok(Init { pid, handle, failed: failed_read })
}

/// The three files that map ids of a new user namespace, and what to write to them: `inside outside 1`.
pub(super) fn user_maps(
    inside_user: u32,
    user: u32,
    inside_group: u32,
    group: u32,
) -> [(&'static CStr, Vec<u8>); 3] {
    [
        (c"/proc/self/setgroups", b"deny".to_vec()),
        (c"/proc/self/uid_map", format!("{inside_user} {user} 1").into_bytes()),
        (c"/proc/self/gid_map", format!("{inside_group} {group} 1").into_bytes()),
    ]
}

/// Writes `bytes` to the file in one `write`; for use between fork and exec.
pub(super) fn write_raw(path: &CStr, bytes: &[u8]) -> bool {
    // SAFETY: a valid path and buffer; plain system calls.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        let written = fd >= 0 && libc::write(fd, bytes.as_ptr().cast(), bytes.len()) == bytes.len() as isize;
        let error = io::Error::last_os_error();
        if fd >= 0 {
            libc::close(fd);
            if let Some(code) = error.raw_os_error().filter(|_| !written) {
                *libc::__errno_location() = code;
            }
        }
        written
    }
}

/// # Safety
/// Only in a fresh child that shares nothing with the parent; never returns.
unsafe fn in_child(plan: &ChildPlan) -> ! {
    let arguments = [c"brolga".as_ptr(), INIT_ARGUMENT.as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null()];
    // SAFETY: plain system calls on values made before the clone.
    unsafe {
        let ok =
            plan.user_maps.as_ref().is_none_or(|maps| maps.iter().all(|(path, map)| write_raw(path, map)))
                && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0
                && libc::setsid() != -1
                && libc::dup2(plan.null.as_raw_fd(), 0) != -1
                && libc::dup2(plan.channel.as_raw_fd(), CHANNEL_FD) != -1
                && libc::dup2(plan.config.as_raw_fd(), CONFIG_FD) != -1
                && plan.kick.as_ref().is_none_or(|kick| libc::dup2(kick.as_raw_fd(), KICK_SOURCE_FD) != -1);
        if ok {
            libc::execve(plan.program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        }
        let error = *libc::__errno_location();
        libc::write(plan.failed.as_raw_fd(), (&raw const error).cast(), 4);
        libc::_exit(127)
    }
}

const INIT_ARGUMENT: &CStr = c"container-init";
const _: () = assert!(INIT_ARGUMENT.count_bytes() == INIT_COMMAND.len());

fn stage(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(STAGING_FD))?;
    // SAFETY: fcntl has just made it, nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn write_config(
    spec: &ContainerSpec,
    outer_ids: Option<(u32, u32)>,
    has_kick: bool,
    restores: bool,
) -> io::Result<File> {
    let bytes = |text: &OsStr| text.as_bytes().to_vec();
    let config = InitConfig {
        directory: bytes(spec.directory.as_os_str()),
        hidden: spec.hidden.iter().map(|path| bytes(path.as_os_str())).collect(),
        system: spec.system.as_ref().map(|path| bytes(path.as_os_str())),
        program: bytes(spec.program.as_os_str()),
        arguments: spec.arguments.iter().map(|argument| bytes(argument)).collect(),
        environment: spec.environment.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
        limits: spec.limits.clone(),
        working_directory: bytes(spec.working_directory.as_os_str()),
        interfaces: spec.interfaces.clone(),
        shared: spec.shared.as_ref().map(|path| bytes(path.as_os_str())),
        outer_ids,
        has_kick,
        restores,
    };
    let mut file = File::from(memfd_create("brolga-container", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&postcard::to_stdvec(&config).map_err(io::Error::other)?)?;
    file.rewind()?;
    Ok(file)
}
