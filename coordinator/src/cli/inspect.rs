//! `brolga exec` and `brolga logs`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::container::{ExitStatus, OUTPUT_DIRECTORY, SERVER_PID};
use crate::launcher::LauncherError;
use crate::launcher::cluster::Cluster;
use crate::launcher::control::{ProcessState, Reply, Request, ask};
use crate::launcher::state::{coordinator_log, replica_directory};
use crate::paxos::MAX_ID;

/// Time between two looks of `logs --follow`.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// Executes a command inside a replica's container; returns its exit code, or does not return at all.
///
/// It joins all namespaces but that of process ids: a process in there would take an id, the server's next child would
/// get another one than on the other replicas, and the replicas would diverge.
pub(super) fn exec(state: &Path, replica: u8, words: &[OsString]) -> Result<i32, LauncherError> {
    let init = container_of(state, replica)?;
    let other_user = join(init).map_err(LauncherError::system("enter the replica's container"))?;
    if let Some(cluster) = Cluster::load(state).ok().flatten() {
        let _ = std::env::set_current_dir(OsString::from(&cluster.working_directory));
    }
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    // The container's /proc does not know processes outside of it, and most tools want /proc/self: the command gets
    // one of its own, in a mount namespace of its own, so that the replica's stays as it is.
    unshare(CloneFlags::CLONE_NEWNS).map_err(LauncherError::system("make a mount namespace"))?;
    // SAFETY: this process has one thread, and mount is a plain system call.
    unsafe { command.pre_exec(mount_proc) };
    let failed = |error: io::Error| {
        LauncherError::Refused(format!(
            "cannot execute {} in the replica: {error}",
            words[0].to_string_lossy()
        ))
    };
    if !other_user {
        return Err(failed(command.exec()));
    }
    // Without privileges only the process ids of a namespace of one's own can be shown.
    unshare(CloneFlags::CLONE_NEWPID).map_err(LauncherError::system("make a namespace of process ids"))?;
    let status = command.status().map_err(failed)?;
    Ok(ExitStatus::from_wait_status(status.into_raw()).shell_code())
}

fn mount_proc() -> io::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("proc"), "/proc", Some("proc"), flags, none)?)
}

fn container_of(state: &Path, replica: u8) -> Result<i32, LauncherError> {
    let Reply::Status(status) = ask(state, &Request::Status)? else {
        return Err(LauncherError::NotRunning(state.to_owned()));
    };
    let ids: Vec<_> = status.replicas.iter().map(|member| member.id.to_string()).collect();
    let member = status.replicas.iter().find(|member| member.id == replica);
    let Some(member) = member else {
        return Err(LauncherError::Refused(format!(
            "there is no replica {replica}; they are {}",
            ids.join(", ")
        )));
    };
    if matches!(member.process, ProcessState::Elsewhere | ProcessState::Unreachable) {
        return Err(LauncherError::Refused(format!(
            "replica {replica} runs on another machine; do this there"
        )));
    }
    match member.status.as_ref().map_or(0, |status| status.container_pid) {
        0 => Err(LauncherError::Refused(format!("replica {replica} has no container now"))),
        pid => Ok(pid),
    }
}

/// True if the container has a user namespace of its own.
fn join(init: i32) -> nix::Result<bool> {
    let open = |name: &str| {
        File::open(format!("/proc/{init}/ns/{name}"))
            .map_err(|e| nix::Error::from_raw(e.raw_os_error().unwrap_or(0)))
    };
    let same = |name: &str| {
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
        link("self") == link(&init.to_string())
    };
    // The user namespace first: it brings the right to join the others.
    let user = (!same("user")).then(|| open("user")).transpose()?;
    // A restored server has its own, which init is not in.
    let ipc = File::open(format!("/proc/{init}/root/proc/{SERVER_PID}/ns/ipc"));
    let ipc = ipc.or_else(|_| open("ipc"))?;
    let others = [
        (open("net")?, CloneFlags::CLONE_NEWNET),
        (open("uts")?, CloneFlags::CLONE_NEWUTS),
        (ipc, CloneFlags::CLONE_NEWIPC),
        (open("mnt")?, CloneFlags::CLONE_NEWNS),
    ];
    let other_user = user.is_some();
    if let Some(user) = user {
        setns(user, CloneFlags::CLONE_NEWUSER)?;
    }
    others.into_iter().try_for_each(|(file, kind)| setns(file, kind))?;
    Ok(other_user)
}

/// Prints the server's output, or the coordinator's; of the first replica that is here if none is chosen.
pub(super) fn logs(
    state: &Path,
    replica: Option<u8>,
    follow: bool,
    coordinator: bool,
) -> Result<i32, LauncherError> {
    let first = || (1..=MAX_ID).find(|id| replica_directory(state, *id).is_dir()).unwrap_or(1);
    let replica = replica.unwrap_or_else(first);
    let output = replica_directory(state, replica).join(OUTPUT_DIRECTORY);
    let files = if coordinator {
        vec![coordinator_log(state, replica)]
    } else {
        vec![output.join("stdout"), output.join("stderr")]
    };
    if !files.iter().any(|file| file.exists()) {
        let state = state.display();
        return Err(LauncherError::Refused(format!(
            "there is no output of a replica {replica} in {state}; no cluster has run there, or has none of that id"
        )));
    }
    let mut tails: Vec<_> = files.into_iter().map(|path| Tail { path, position: 0 }).collect();
    loop {
        for tail in &mut tails {
            if tail.copy().is_err() {
                return Ok(0);
            }
        }
        if !follow {
            return Ok(0);
        }
        std::thread::sleep(FOLLOW_PAUSE);
    }
}

struct Tail {
    path: PathBuf,
    position: u64,
}

impl Tail {
    /// Copies what is new; an error is that of our own output.
    fn copy(&mut self) -> io::Result<()> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(()) };
        let length = file.metadata().map_or(0, |data| data.len());
        if length < self.position {
            // A restarted replica begins a new file.
            self.position = 0;
        }
        let mut bytes = Vec::new();
        let seek = io::Seek::seek(&mut file, io::SeekFrom::Start(self.position));
        if seek.and_then(|_| file.read_to_end(&mut bytes)).is_err() {
            return Ok(());
        }
        self.position += bytes.len() as u64;
        let mut out = io::stdout().lock();
        out.write_all(&bytes)?;
        out.flush()
    }
}
