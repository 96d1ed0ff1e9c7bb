//! One replica's coordinator as the supervisor sees it: a child process, a channel, its last status, its restarts.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::control::ProcessState;
use super::seats::Seats;
use super::state::{coordinator_log, replica_directory};
use super::telling::say;
use crate::channel::Channel;
use crate::private::make_private;
use crate::replica::config::CHANNEL_VERSION;
use crate::replica::status::{ReplicaStatus, Role};

/// Pause before the first restart; a replica that dies again waits twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a replica that was removed may take to end.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);
/// Deaths in a row, without ever having served, after which a replica is given up.
const MAX_DEATHS: u32 = 6;

/// What a replica process is told on its command line.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub state: &'a Path,
    pub preload: &'a Path,
    pub seats: &'a Seats,
}

#[derive(Debug)]
pub(super) struct ReplicaProcess {
    pub id: u8,
    child: Option<Child>,
    pub channel: Option<Channel>,
    pub status: Option<ReplicaStatus>,
    /// Stopped by `brolga kill`.
    pub held: bool,
    pub restarts: u32,
    pub restart_at: Option<Instant>,
    /// It has been follower or leader since it was started.
    served: bool,
    deaths: u32,
    /// Its own words when it failed.
    pub failure: Option<String>,
    /// It is no member any more: it ends by then, or is ended.
    pub leaves: Option<Instant>,
    /// Another `brolga` than the supervisor's, and its preload library.
    pub binary: Option<(PathBuf, PathBuf)>,
    /// Its disk failed, and it has not served since.
    awaits_disk: bool,
    /// How it ended last.
    pub last_end: String,
    rate: Rate,
}

impl ReplicaProcess {
    pub fn new(id: u8) -> Self {
        Self {
            id,
            child: None,
            channel: None,
            status: None,
            held: false,
            restarts: 0,
            restart_at: None,
            served: false,
            deaths: 0,
            failure: None,
            leaves: None,
            binary: None,
            awaits_disk: false,
            last_end: String::new(),
            rate: Rate::default(),
        }
    }

    pub fn state(&self) -> ProcessState {
        match (&self.child, self.held, self.restart_at) {
            (Some(_), ..) => ProcessState::Running,
            (None, true, _) => ProcessState::Stopped,
            (None, false, Some(_)) => ProcessState::Restarting,
            (None, false, None) => ProcessState::GivenUp,
        }
    }

    pub fn entries_per_second(&self) -> u64 {
        self.rate.per_second
    }

    /// Starts the coordinator. The channel is its standard input, its standard error goes to its log.
    pub fn start(&mut self, launch: &Launch<'_>) -> io::Result<()> {
        make_private(&replica_directory(launch.state, self.id))?;
        let log = coordinator_log(launch.state, self.id);
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let (ours, theirs) = Channel::pair()?;
        ours.set_nonblocking(true)?;
        let own = (PathBuf::from("/proc/self/exe"), launch.preload.to_owned());
        let (program, preload) = self.binary.as_ref().unwrap_or(&own);
        let mut command = Command::new(program);
        command
            .arg0("brolga")
            .arg("coordinator")
            .arg("--state")
            .arg(launch.state)
            .arg("--id")
            .arg(self.id.to_string());
        command.arg("--preload").arg(preload).arg("--keys").arg(&launch.seats.keys);
        command.arg("--channel").arg(CHANNEL_VERSION.to_string());
        for (id, address) in &launch.seats.peers {
            command.arg("--peer").arg(format!("{id}={address}"));
        }
        // A group of its own: Ctrl-C reaches the supervisor alone, which stops the replicas in order.
        command
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(log.try_clone()?)
            .stderr(log);
        self.child = Some(command.spawn()?);
        self.channel = Some(ours);
        (self.restart_at, self.held, self.served, self.status) = (None, false, false, None);
        (self.failure, self.rate) = (None, Rate::default());
        Ok(())
    }

    /// Takes in a status; returns the one before.
    pub fn note(&mut self, status: ReplicaStatus) -> Option<ReplicaStatus> {
        if matches!(status.role, Role::Follower | Role::Leader) && status.container_pid != 0 {
            (self.served, self.deaths, self.awaits_disk) = (true, 0, false);
        }
        self.rate.note(status.entries, Instant::now());
        self.status.replace(status)
    }

    /// It has ever got as far as serving since its start.
    pub fn has_served(&self) -> bool {
        self.served
    }

    /// The process is gone, or is to be: reaps it. Its container dies with it.
    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            self.last_end = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        }
        self.channel = None;
    }

    /// Plans a restart after an unexpected death; false if it has died too often.
    pub fn plan_restart(&mut self, now: Instant) -> bool {
        self.deaths += 1;
        self.restarts += 1;
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.deaths - 1);
        self.restart_at = (self.deaths < MAX_DEATHS).then(|| now + pause.min(LONGEST_PAUSE));
        self.restart_at.is_some()
    }

    /// Plans another try after its disk failed, as often as that takes; true if the disk was well before.
    pub fn await_disk(&mut self, now: Instant) -> bool {
        self.restarts += 1;
        self.restart_at = Some(now + LONGEST_PAUSE);
        !std::mem::replace(&mut self.awaits_disk, true)
    }

    /// It is no member any more, and has a moment to end by itself.
    pub fn leave(&mut self, epoch: u64) {
        if self.leaves.is_none() {
            say(&format!("replica {} is no member any more (epoch {epoch}); it ends", self.id));
            (self.leaves, self.restart_at) = (Some(Instant::now() + LEAVE_PATIENCE), None);
        }
    }

    /// A person wants it to run again.
    pub fn forgive(&mut self) {
        self.deaths = 0;
    }
}

impl Drop for ReplicaProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Entries a second, from one status to the next.
#[derive(Debug, Default)]
pub(super) struct Rate {
    last: Option<(u64, Instant)>,
    pub per_second: u64,
}

impl Rate {
    /// Shorter stretches say nothing.
    const LEAST: Duration = Duration::from_millis(500);

    pub fn note(&mut self, entries: u64, now: Instant) {
        let Some((before, at)) = self.last else {
            self.last = Some((entries, now));
            return;
        };
        let passed = now - at;
        if passed >= Self::LEAST {
            let milliseconds = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
            self.per_second = entries.saturating_sub(before) * 1000 / milliseconds;
            self.last = Some((entries, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_DEATHS, ReplicaProcess};
    use crate::launcher::control::ProcessState;
    use crate::replica::status::{ReplicaStatus, Role};
    use std::time::Instant;

    #[test]
    fn gives_up_after_many_deaths_but_not_if_it_served_in_between() {
        let mut replica = ReplicaProcess::new(1);
        let now = Instant::now();
        for _ in 1..MAX_DEATHS {
            assert!(replica.plan_restart(now));
        }
        replica.note(ReplicaStatus { role: Role::Leader, container_pid: 5, ..ReplicaStatus::default() });
        assert!(replica.plan_restart(now));
        assert_eq!(replica.state(), ProcessState::Restarting);
        for _ in 2..MAX_DEATHS {
            assert!(replica.plan_restart(now));
        }
        assert!(!replica.plan_restart(now));
        assert_eq!(replica.state(), ProcessState::GivenUp);
    }
}
