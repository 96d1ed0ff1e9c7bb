//! Process 1 of the container: sets it up, starts the server, reaps, and tells the coordinator how the server ended.
//!
//! The brolga binary runs this as its hidden subcommand, before it starts any thread and before it parses arguments.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::criu::{self, Helper, Order};
use super::killed::Killed;
use super::spawn::{CHANNEL_FD, CONFIG_FD};
use super::{ExitStatus, HOST_NAME, InitConfig, Report, SERVER_PID, mounts, network, server, watchdog};
use crate::channel::{Channel, Received};
use crate::stderr;

/// Time between two looks for processes that were killed, milliseconds.
const LOOK_MS: u16 = 500;

/// Runs init; returns the exit code of the process.
pub fn main() -> i32 {
    // SAFETY: `spawn_init` put these two descriptors there for us, and nothing else in this process uses them.
    let (channel, config) = unsafe { (OwnedFd::from_raw_fd(CHANNEL_FD), OwnedFd::from_raw_fd(CONFIG_FD)) };
    let channel = Channel::from_socket(channel);
    let prepared = set_up(&channel, config);
    let (prepared, sent) = match prepared {
        Ok((prepared, kick)) => {
            let kick: Vec<_> = kick.iter().map(AsFd::as_fd).collect();
            let sent = channel.send_with(&Report::Started, &kick);
            (Some(prepared), sent)
        }
        Err(message) => (None, channel.send(&Report::Failed(message))),
    };
    match prepared {
        Some((signals, killed)) if sent.is_ok() => serve(&channel, &signals, killed),
        _ => 1,
    }
}

type Prepared = (SignalFd, Option<Killed>);

/// Sets the container up, with the server in it. A restored one has a kick eventfd of its own.
fn set_up(channel: &Channel, config: OwnedFd) -> Result<(Prepared, Option<OwnedFd>), String> {
    let text = |what: &'static str| move |error: Errno| format!("cannot {what}: {error}");
    if std::process::id() != 1 {
        return Err("this subcommand is internal to Brolga; use `brolga run`".to_owned());
    }
    let mut bytes = Vec::new();
    File::from(config)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("cannot read init's configuration: {e}"))?;
    let config: InitConfig =
        postcard::from_bytes(&bytes).map_err(|e| format!("cannot decode init's configuration: {e}"))?;
    close_all_but(&config);
    // Signals wait from here on, and threads inherit that.
    let wanted: SigSet = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    wanted.thread_block().map_err(text("block signals"))?;
    let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(text("make a signalfd"))?;
    // The server sets its own limit. CRIU needs some descriptors above those of the server.
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE).map_err(text("read the limit of open files"))?;
    setrlimit(Resource::RLIMIT_NOFILE, files, files).map_err(text("set the limit of open files"))?;
    nix::unistd::sethostname(HOST_NAME).map_err(text("set the host name"))?;
    let missing = network::set_up(&config.interfaces)
        .map_err(|error| format!("cannot bring the loopback interface up: {error}"))?;
    if let Some(missing) = missing {
        // It comes into the coordinator's log.
        stderr::say(&missing);
    }
    mounts::enter_root(&config)?;
    let mut killed = None;
    if config.shared.is_some() {
        watchdog::start()?;
        killed = Some(Killed::open()?);
    }
    let kick =
        if config.restores { Some(restore(channel)?) } else { server::start(&config).map(|()| None)? };
    channel.set_nonblocking(true).map_err(|e| format!("cannot set up the channel: {e}"))?;
    Ok(((signals, killed), kick))
}

/// Brings the server back as the coordinator orders, once that has put its files in place.
fn restore(channel: &Channel) -> Result<OwnedFd, String> {
    channel.send(&Report::Prepared).map_err(|e| format!("cannot speak with the coordinator: {e}"))?;
    let (order, fds) = match channel.receive::<Order>() {
        Ok(Received::Message(order, fds)) => (order, fds),
        _ => return Err("the coordinator gave no order to restore".to_owned()),
    };
    // Processes keep it over CRIU's restore, and hand it to their children.
    nix::sys::personality::set(nix::sys::personality::Persona::ADDR_NO_RANDOMIZE)
        .map_err(|e| format!("cannot switch address randomisation off: {e}"))?;
    let mut helper = criu::start(&order, &fds)?;
    drop(fds);
    let status = helper.child.wait().map_err(|e| format!("cannot wait for the helper for CRIU: {e}"))?;
    helper.ended()?;
    if !status.success() {
        return Err(format!("the helper for CRIU ended with {status}"));
    }
    criu::restored_kick().map_err(|e| format!("the restored server cannot be reached: {e}"))
}

/// Whatever the coordinator had open without close-on-exec is not ours.
fn close_all_but(config: &InitConfig) {
    let first = super::spawn::KICK_SOURCE_FD as u32 + u32::from(config.has_kick);
    // SAFETY: nothing in this process has opened a descriptor from there on (the config file has been read and closed).
    unsafe { libc::close_range(first, u32::MAX, 0) };
}

/// Reaps until the server is gone. When init returns, the kernel kills what is left in the namespace.
fn serve(channel: &Channel, signals: &SignalFd, mut killed: Option<Killed>) -> i32 {
    let mut ended = None;
    let mut helper: Option<Helper> = None;
    let patience = killed.as_ref().map_or(PollTimeout::NONE, |_| PollTimeout::from(LOOK_MS));
    loop {
        let mut polled = [
            PollFd::new(channel.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if let Err(error) = poll(&mut polled, patience)
            && error != Errno::EINTR
        {
            return 1;
        }
        match channel.receive::<Order>() {
            Ok(Received::Message(order, fds)) => match criu::start(&order, &fds) {
                Ok(started) => helper = Some(started),
                Err(message) => {
                    if channel.send(&Report::HelperEnded(Err(message))).is_err() {
                        return 1;
                    }
                }
            },
            Ok(Received::Empty) => {}
            // The coordinator is dead.
            Ok(Received::Closed) | Err(_) => return 1,
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                return 0;
            }
        }
        let nothing_left = reap(&mut ended, |pid, status| {
            helper = match helper.take() {
                Some(known) if known.is(pid) => {
                    let _ = channel.send(&Report::HelperEnded(known.ended().map(|()| status)));
                    None
                }
                other => other,
            }
        });
        if let Some(status) = ended {
            // A server that ended well may have gone to the background; then its end is the end of all its processes.
            if nothing_left || status != ExitStatus::Code(0) {
                return i32::from(channel.send(&Report::ServerExited(status)).is_err());
            }
        } else if let Some(report) = killed.as_mut().and_then(Killed::look)
            && channel.send(&report).is_err()
        {
            return 1;
        }
    }
}

/// True if no child is left.
fn reap(ended: &mut Option<ExitStatus>, mut other: impl FnMut(Pid, ExitStatus)) -> bool {
    loop {
        let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitStatus::Signal(signal as i32)),
            Err(Errno::ECHILD) => return true,
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(_) => continue,
        };
        if pid == Pid::from_raw(SERVER_PID) {
            *ended = Some(status);
        } else {
            other(pid, status);
        }
    }
}
