//! When a replica takes a checkpoint of its server, and what it tells of its checkpoints.
//!
//! Only a follower does, so that no client waits. Its server is fed nothing more until it has applied what it has and sleeps; then
//! the helper inside the container has CRIU dump it, and a thread makes the checkpoint ([`crate::checkpoint::take()`]). The
//! server is fed again as soon as it runs again; sums and disk are waited for by the thread alone.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use nix::sys::eventfd::EventFd;
use serde::{Deserialize, Serialize};

use super::driver::{Phase, Rebuild};
use super::run::{Replica, wall_clock};
use super::schedule::Schedule;
use super::status::{DigestState, RECOVERING_LAG};
use crate::checkpoint::manifest::{Known, Place};
use crate::checkpoint::{CheckpointError, KEEP, Manifest, Plan, Store, Stored, Taken, criu, take};
use crate::container::{ARENA_FILE, ExitStatus};

/// How long the server may take to apply what it has, nanoseconds.
const PARK_NS: u64 = 10_000_000_000;
/// How soon to look again whether it has, nanoseconds.
const LOOK_NS: u64 = 1_000_000;
/// How long a dump may take in all before the server counts as lost, nanoseconds: more than the thread's own patience.
const DUMP_NS: u64 = 150_000_000_000;

/// What is known of a replica's checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointStatus {
    /// Those that are kept, the newest first.
    pub kept: Vec<Kept>,
    /// Taken since the coordinator started.
    pub taken: u64,
    /// That failed since then.
    pub failed: u64,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// One is being taken.
    pub running: bool,
    /// How long the server stood still for the last one, milliseconds.
    pub pause_ms: u64,
    /// Entry at which a checkpoint was restored when the server was last started; `None` if it replayed from entry 0.
    pub restored_from: Option<u64>,
    /// Why a checkpoint could not be restored then.
    pub restore_error: Option<String>,
}

/// A checkpoint that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Entry from which on the log is replayed.
    pub entry: u64,
    /// Logical time.
    pub tick: u64,
    /// Rolling digest, sixteen hexadecimal digits.
    pub digest: String,
    /// Bytes.
    pub bytes: u64,
}

impl From<&Stored> for Kept {
    fn from(stored: &Stored) -> Self {
        let place = &stored.manifest.place;
        Self {
            entry: place.next,
            tick: place.tick,
            digest: format!("{:016x}", place.digest),
            bytes: stored.manifest.bytes(),
        }
    }
}

/// How far the one that is being taken is.
#[derive(Debug, Default)]
enum Stage {
    /// None is.
    #[default]
    None,
    /// The server is not fed since then, and has not applied all.
    Parking { since: u64 },
    /// The thread works; the server is not fed until the helper has ended.
    Dumping { since: u64, done: Receiver<Result<Taken, CheckpointError>> },
    /// The thread works, the server runs.
    Storing { done: Receiver<Result<Taken, CheckpointError>> },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Checkpointing {
    store: Store,
    stage: Stage,
    /// Written to when the thread has ended.
    kick: Arc<EventFd>,
    schedule: Schedule,
}

impl Checkpointing {
    /// With the checkpoints that are in `store`.
    pub fn new(store: Store, kick: Arc<EventFd>, schedule: Schedule) -> Self {
        Self { store, stage: Stage::None, kick, schedule }
    }

    /// When [`Replica::go_on_with_checkpoint`] is to be called, if nothing happens.
    pub fn deadline(&self, now: u64) -> u64 {
        match self.stage {
            Stage::Parking { .. } => now + LOOK_NS,
            Stage::Dumping { since, .. } => since + DUMP_NS,
            Stage::None | Stage::Storing { .. } => u64::MAX,
        }
    }
}

impl Replica {
    /// Takes one of its own accord if it is its turn. A leader, and a replica that has not caught up, let it pass.
    pub(super) fn begin_checkpoint_if_due(&mut self) {
        let commit = self.driver.consensus.paxos().commit();
        if !self.checkpointing.schedule.is_due(wall_clock() / 1_000_000_000, commit) {
            return;
        }
        let lag = self.driver.lag(self.server.as_ref().map(|server| &server.link));
        if self.refusal().is_none() && lag < RECOVERING_LAG {
            self.begin_checkpoint();
        }
    }

    /// Why no checkpoint can be taken now, if none can.
    fn refusal(&self) -> Option<&'static str> {
        match self.driver.phase() {
            _ if self.server.is_none() => Some("there is no server now"),
            _ if self.driver.is_fenced() => Some("the server is fenced"),
            Phase::Follower if self.driver.other_leader().is_some() => None,
            Phase::Follower => Some("no leader is known"),
            _ => Some("it leads: a checkpoint would make clients wait"),
        }
    }

    /// Somebody wants a checkpoint.
    pub(super) fn begin_checkpoint(&mut self) {
        if !matches!(self.checkpointing.stage, Stage::None) {
            return;
        }
        self.status.checkpoints.running = true;
        self.status_at = 0;
        match self.refusal() {
            Some(reason) => self.checkpoint_failed(reason.to_owned()),
            None => {
                self.driver.hold(true);
                self.checkpointing.stage = Stage::Parking { since: self.now() };
            }
        }
    }

    /// Takes the next step.
    pub(super) fn go_on_with_checkpoint(&mut self, now: u64) {
        match &self.checkpointing.stage {
            Stage::None => {}
            Stage::Parking { since } => {
                let since = *since;
                let parked = self.server.as_ref().map(|s| s.link.is_parked(self.driver.given()));
                match parked {
                    None => self.end_checkpoint("the server was ended".to_owned()),
                    _ if self.driver.phase() != Phase::Follower => {
                        self.end_checkpoint("the replica was elected".to_owned());
                    }
                    Some(true) if self.driver.given() > 0 => {
                        if let Err(error) = self.dump(now) {
                            self.end_checkpoint(error.to_string());
                        }
                    }
                    _ if now >= since + PARK_NS => {
                        self.end_checkpoint("the server does not come to rest".to_owned());
                    }
                    Some(_) => {}
                }
            }
            Stage::Dumping { since, .. } if now >= since + DUMP_NS => {
                self.driver.must_rebuild(Rebuild::Checkpoint("CRIU does not end".to_owned()));
            }
            // The helper ends after it told the thread, so its end is waited for even if the thread has ended.
            Stage::Dumping { .. } => {}
            Stage::Storing { done } => match done.try_recv() {
                Ok(Ok(taken)) => self.checkpoint_taken(&taken),
                Ok(Err(error)) => self.checkpoint_failed(error.to_string()),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.checkpoint_failed("the thread has died".to_owned()),
            },
        }
    }

    /// The server sleeps: has it dumped.
    fn dump(&mut self, now: u64) -> Result<(), CheckpointError> {
        let path = criu::find().map_err(CheckpointError::NoCriu)?;
        let place = self.place()?;
        let known = Known {
            connections: self.driver.connections(),
            listeners: self.status.listeners.clone(),
            memberships: self.datagrams.memberships().to_vec(),
        };
        let (made, images) = Plan::begin(&self.checkpointing.store)?;
        let Some(server) = &mut self.server else { return Ok(()) };
        let plan = Plan {
            store: self.checkpointing.store.clone(),
            made,
            replica: self.keeper.replica_directory().to_owned(),
            arena: server.shared_path().join(ARENA_FILE),
            preload: self.keeper.preload().to_owned(),
            init: server.init_pid(),
            fingerprint: self.cluster_fingerprint,
            place,
            known,
        };
        let helper = server.container().dump(&path, images.as_fd());
        let helper =
            helper.map_err(|error| CheckpointError::Helper(format!("cannot be reached: {error}")))?;
        let (tell, done) = channel();
        let kick = self.checkpointing.kick.clone();
        let work = move || {
            let _ = tell.send(take(&plan, &helper));
            let _ = kick.write(1);
        };
        std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(work)
            .map_err(|error| CheckpointError::Helper(format!("has no thread to speak with: {error}")))?;
        self.checkpointing.stage = Stage::Dumping { since: now, done };
        Ok(())
    }

    fn place(&self) -> Result<Place, CheckpointError> {
        use std::sync::atomic::Ordering;
        let Some(server) = &self.server else {
            return Err(CheckpointError::Helper("has no server".to_owned()));
        };
        let control = server.link.control();
        let next = self.driver.given();
        let last_entry = self.last_entry(next).ok_or_else(|| {
            CheckpointError::Helper(format!("cannot be started: entry {} is not in the log", next - 1))
        })?;
        let (tick, digest) = (control.tick.load(Ordering::SeqCst), control.digest.load(Ordering::SeqCst));
        Ok(Place { next, last_entry, tick, digest })
    }

    /// CRC-32 of the entry before `next`.
    fn last_entry(&self, next: u64) -> Option<u32> {
        let value = self.driver.consensus.read(next.checked_sub(1)?, next, 1).ok()?.into_iter().next()?;
        Some(crc32fast::hash(&value))
    }

    /// The helper of a dump has ended, and the server runs again.
    pub(super) fn dump_ended(&mut self, ended: Result<ExitStatus, String>) {
        self.driver.hold(false);
        match std::mem::take(&mut self.checkpointing.stage) {
            Stage::Dumping { done, .. } => self.checkpointing.stage = Stage::Storing { done },
            other => self.checkpointing.stage = other,
        }
        // A helper that did not get to its end may have left its code in the server.
        let broken = match ended {
            Ok(ExitStatus::Code(0)) => return,
            Ok(status) => format!("the helper for CRIU ended by {status}"),
            Err(message) => message,
        };
        self.driver.must_rebuild(Rebuild::Checkpoint(broken));
    }

    /// The server is gone, or is about to be.
    pub(super) fn checkpoint_lost_server(&mut self) {
        self.driver.hold(false);
        match std::mem::take(&mut self.checkpointing.stage) {
            Stage::None => {}
            Stage::Parking { .. } => self.checkpoint_failed("the server was ended".to_owned()),
            Stage::Dumping { done, .. } | Stage::Storing { done } => {
                self.checkpointing.stage = Stage::Storing { done };
            }
        }
    }

    fn end_checkpoint(&mut self, reason: String) {
        self.driver.hold(false);
        self.checkpoint_failed(reason);
    }

    fn checkpoint_taken(&mut self, taken: &Taken) {
        self.checkpointing.stage = Stage::None;
        let place = &taken.stored.manifest.place;
        tracing::info!(
            "took a checkpoint at entry {}, logical time {}, digest {:016x}: {} KB, the server stood still for {} ms",
            place.next,
            place.tick,
            place.digest,
            taken.stored.manifest.bytes() / 1024,
            taken.pause.as_millis()
        );
        let status = &mut self.status.checkpoints;
        status.kept.retain(|kept| kept.entry != place.next);
        status.kept.insert(0, Kept::from(&taken.stored));
        status.kept.truncate(KEEP);
        (status.running, status.pause_ms) = (false, taken.pause.as_millis() as u64);
        status.taken += 1;
        self.status_at = 0;
    }

    fn checkpoint_failed(&mut self, reason: String) {
        tracing::warn!("no checkpoint was taken: {reason}");
        self.checkpointing.stage = Stage::None;
        let status = &mut self.status.checkpoints;
        status.running = false;
        status.failed += 1;
        status.last_error = Some(reason);
        self.status_at = 0;
    }

    /// The checkpoints that a new server may be restored from, the newest first: of this log, and not of a state that
    /// turned out to be wrong.
    pub(super) fn usable_checkpoints(&mut self) -> Vec<Stored> {
        let mut found = self.checkpointing.store.list();
        if let DigestState::Diverged { entry, .. } = self.status.digests {
            let from = self.status.checkpoints.restored_from;
            found.retain(|stored| {
                let next = stored.manifest.place.next;
                let right = next <= entry && Some(next) != from;
                if !right {
                    tracing::warn!("the checkpoint at entry {next} is removed: the server that came of it, or that it is of, diverged");
                    Store::remove(&stored.path);
                }
                right
            });
        }
        found.retain(|stored| {
            let place = &stored.manifest.place;
            let same = self.last_entry(place.next) == Some(place.last_entry);
            if !same {
                tracing::warn!(
                    "the checkpoint {} is not used: entry {} of the log is not the one that it is of",
                    stored.path.display(),
                    place.next - 1
                );
            }
            same
        });
        self.status.checkpoints.kept = found.iter().map(Kept::from).collect();
        found
    }

    /// The server was brought back from a checkpoint, or `error` says why not.
    pub(super) fn note_restore(&mut self, from: Option<&Manifest>, error: Option<String>) {
        self.status.checkpoints.restored_from = from.map(|manifest| manifest.place.next);
        self.status.checkpoints.restore_error = error;
        let Some(manifest) = from else { return };
        let place = &manifest.place;
        tracing::info!("restored the checkpoint at entry {}, logical time {}", place.next, place.tick);
        self.driver.server_restored(place.next, &manifest.known.connections);
        for listener in &manifest.known.listeners {
            self.listens(listener.clone());
        }
        for membership in &manifest.known.memberships {
            self.datagrams.member(&self.poll, *membership, true);
        }
    }
}
