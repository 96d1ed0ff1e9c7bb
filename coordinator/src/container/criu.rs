//! The helper inside the container that has CRIU dump the server's processes, or restore them.
//!
//! CRIU wants to run in the namespaces of what it works on, so init starts this hidden subcommand of the brolga binary there. It
//! speaks with CRIU by its RPC, and with the coordinator by a channel: while the processes are frozen, the coordinator copies what is
//! not in CRIU's images. It has a low process id, so that the server's children get the same ids as on the other replicas.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::fcntl::{FcntlArg, fcntl};
use rust_criu::{Criu, CriuError};
use serde::{Deserialize, Serialize};

use super::{SERVER_PID, orphans};
use crate::channel::{Channel, Received};
use crate::slices::briefly;

/// Name of the hidden subcommand that is this helper.
pub const CRIU_COMMAND: &str = "container-criu";
/// CRIU's own log in the directory of its images.
pub const CRIU_LOG: &str = "criu.log";

/// Descriptor of the helper: the channel to the coordinator.
const CHANNEL_FD: RawFd = 3;
/// Descriptor of the helper: the directory of the images.
const IMAGES_FD: RawFd = 4;
/// Descriptors that are moved to the numbers above stand at least here before.
const STAGING_FD: RawFd = 16;
/// The helper and CRIU's own processes get ids from here on, far below the server's.
const FIRST_PID: i32 = 300;
/// Errors alone are worth CRIU's time.
const LOG_LEVEL: i32 = 1;
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// What CRIU is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Write the images of the server's processes, and let them go on.
    Dump,
    /// Bring them back.
    Restore,
}

/// Coordinator to init. Beside it: the helper's channel and the directory of the images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    pub task: Task,
    /// Path of CRIU's executable, as seen in the container, too.
    pub criu: Vec<u8>,
    /// Of a restore: the last process id that the container had given out.
    pub last_pid: i32,
}

/// Helper to coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// The processes stand still until [`GoOn`] is said.
    Frozen {
        /// The last process id that the container has given out to the server.
        last_pid: i32,
    },
    /// CRIU has ended; the processes run, or ran as before if it failed.
    Done(Result<(), String>),
}

/// Coordinator to helper, in answer to [`Word::Frozen`]: whether the copies were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoOn(pub bool);

/// A helper that init has started.
pub(super) struct Helper {
    pub child: Child,
    /// Id that the server's next process is to come after.
    pub last_pid: i32,
}

/// Init's part: starts the helper. Of a dump, `order.last_pid` is not known yet.
pub(super) fn start(order: &Order, fds: &[OwnedFd]) -> Result<Helper, String> {
    let [channel, images] = fds else { return Err("an order without its descriptors".to_owned()) };
    let now = last_pid()?;
    let last_pid = if order.task == Task::Dump { now } else { order.last_pid };
    let staged = |fd: &OwnedFd| -> io::Result<OwnedFd> {
        let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(STAGING_FD))?;
        // SAFETY: fcntl has just made it, nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(raw) })
    };
    let staged = |fd| staged(fd).map_err(|e| format!("cannot duplicate a descriptor: {e}"));
    let (channel, images) = (staged(channel)?, staged(images)?);
    let raw = [(channel.as_raw_fd(), CHANNEL_FD), (images.as_raw_fd(), IMAGES_FD)];
    let mut command = Command::new("/proc/self/exe");
    let task = if order.task == Task::Dump { "dump" } else { "restore" };
    let criu: OsString = std::os::unix::ffi::OsStringExt::from_vec(order.criu.clone());
    command.arg0("brolga").args([CRIU_COMMAND, task]).arg(criu).arg(last_pid.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let dumps = order.task == Task::Dump;
    // SAFETY: only async-signal-safe calls on values made before.
    unsafe {
        command.pre_exec(move || {
            if dumps {
                briefly();
            }
            // Ours are blocked, and CRIU waits for its children's.
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            match raw.iter().all(|&(from, to)| libc::dup2(from, to) != -1) {
                true => Ok(()),
                false => Err(io::Error::last_os_error()),
            }
        });
    }
    set_last_pid(FIRST_PID)?;
    match command.spawn() {
        Ok(child) => Ok(Helper { child, last_pid }),
        Err(error) => {
            set_last_pid(now)?;
            Err(format!("cannot start the helper for CRIU: {error}"))
        }
    }
}

impl Helper {
    /// Whether `pid` is its.
    pub fn is(&self, pid: nix::unistd::Pid) -> bool {
        i32::try_from(self.child.id()) == Ok(pid.as_raw())
    }

    /// The helper has ended: the server's next process gets the id that it would have had.
    pub fn ended(&self) -> Result<(), String> {
        set_last_pid(self.last_pid)
    }
}

fn last_pid() -> Result<i32, String> {
    let text = std::fs::read_to_string(LAST_PID).map_err(|e| format!("cannot read {LAST_PID}: {e}"))?;
    text.trim().parse().map_err(|_| format!("{LAST_PID} holds {text:?}"))
}

fn set_last_pid(pid: i32) -> Result<(), String> {
    std::fs::write(LAST_PID, pid.to_string()).map_err(|e| format!("cannot write {LAST_PID}: {e}"))
}

/// CRIU calls back by a plain function: what it needs stands here. One helper does one task.
static SPEAKS: OnceLock<(Channel, i32)> = OnceLock::new();

/// Runs the helper; returns the exit code of the process.
pub fn main(arguments: &[OsString]) -> i32 {
    let [task, criu, last_pid] = arguments else { return 2 };
    let last_pid = last_pid.to_str().and_then(|text| text.parse().ok()).unwrap_or(0);
    // SAFETY: init put these two descriptors there for us, and nothing else in this process uses them.
    let (channel, images) = unsafe { (OwnedFd::from_raw_fd(CHANNEL_FD), OwnedFd::from_raw_fd(IMAGES_FD)) };
    // CRIU finds the directory by its number.
    let (channel, _) = SPEAKS.get_or_init(|| (Channel::from_socket(channel), last_pid));
    if let Some(refusal) = orphans::refusal(Path::new("/proc")).filter(|_| task == "dump") {
        return i32::from(channel.send(&Word::Done(Err(refusal))).is_err());
    }
    let close = fcntl(channel, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC));
    let apart = if task == "dump" { leave_ipc_namespace() } else { Ok(()) };
    let done = match close.map(drop).and(apart) {
        Ok(()) => run(task == "dump", criu, File::from(images)),
        Err(error) => Err(CriuError::Io(error.into())),
    };
    // CRIU undoes what it did if it says itself that it failed. If it says nothing any more, it may have left its own code in
    // the server's processes.
    let lost =
        matches!(done, Err(CriuError::Io(_) | CriuError::Protobuf(_) | CriuError::UnexpectedResponse(_)));
    let heard = channel.send(&Word::Done(done.map_err(|error| error.to_string()))).is_ok();
    i32::from(lost || !heard)
}

/// CRIU stores a namespace of IPC objects, and with it System V shared memory, only if it is not in that namespace itself. Then it
/// restores the server in a new one; so that is done only if the server has such memory.
fn leave_ipc_namespace() -> nix::Result<()> {
    // The first line is a heading.
    let used = std::fs::read_to_string("/proc/sysvipc/shm").is_ok_and(|table| table.lines().count() > 1);
    if used { nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWIPC) } else { Ok(()) }
}

fn run(dump: bool, criu: &std::ffi::OsStr, images: File) -> Result<(), CriuError> {
    let mut criu = Criu::new_with_criu_path(criu.to_string_lossy().into_owned())?;
    criu.set_images_dir_fd(images.as_raw_fd());
    criu.set_log_file(CRIU_LOG.to_owned());
    criu.set_log_level(LOG_LEVEL);
    criu.set_file_locks(true);
    criu.set_manage_cgroups(false);
    if !dump {
        return criu.restore();
    }
    criu.set_pid(SERVER_PID);
    criu.set_leave_running(true);
    criu.set_notify_scripts(true);
    criu.set_notify_cb(notified);
    criu.dump()
}

/// CRIU's notifications; anything but 0 makes it give up.
fn notified(script: &str, _: &rust_criu::rust_criu_protobuf::rpc::Criu_notify, _: Option<RawFd>) -> i32 {
    let Some((channel, last_pid)) = SPEAKS.get().filter(|_| script == "post-dump") else { return 0 };
    if channel.send(&Word::Frozen { last_pid: *last_pid }).is_err() {
        return 1;
    }
    match channel.receive::<GoOn>() {
        Ok(Received::Message(GoOn(true), _)) => 0,
        _ => 1,
    }
}

/// The server's end of the eventfd by which it wakes the coordinator. CRIU made a new one of it.
pub(super) fn restored_kick() -> io::Result<OwnedFd> {
    // SAFETY: plain system calls; each returns a descriptor of our own or -1.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, SERVER_PID, 0);
        if process < 0 {
            return Err(io::Error::last_os_error());
        }
        let process = OwnedFd::from_raw_fd(process as RawFd);
        let kick = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), super::KICK_FD, 0);
        if kick < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(kick as RawFd))
    }
}

/// What the coordinator needs to speak with a helper: its own end of the channel, and what goes to init.
pub(super) fn order(init: &Channel, order: &Order, images: BorrowedFd<'_>) -> io::Result<Channel> {
    let (ours, theirs) = Channel::pair()?;
    init.send_with(order, &[std::os::fd::AsFd::as_fd(&theirs), images])?;
    Ok(ours)
}
