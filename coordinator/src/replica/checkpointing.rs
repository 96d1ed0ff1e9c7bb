//! When a replica takes a checkpoint of its server.
//!
//! Only a follower does, so that no client waits; a replica that is alone has no other choice. If there is room on the disk
//! ([`check_room`]), its server is fed nothing more until it has applied what it has and sleeps; then the helper inside the
//! container has CRIU dump it, and a thread makes the checkpoint ([`crate::checkpoint::take()`]). The server is fed again as soon
//! as it runs again; sums and disk are waited for by the thread alone.
#![expect(
    clippy::disallowed_methods,
    reason = "when the next checkpoint is due; it changes nothing that a replica computes"
)]

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::checkpoint_status::Kept;
use super::driver::{Phase, Rebuild};
use super::run::Replica;
use super::schedule::Schedule;
use super::status::RECOVERING_LAG;
use crate::checkpoint::manifest::{Known, Place};
use crate::checkpoint::{
    CheckpointError, KEEP, LogEnd, Phases, Plan, Site, Store, Taken, check_room, criu, take,
};
use crate::clock::wall_clock;
use crate::container::{ARENA_FILE, ExitStatus};
use crate::processors;
use crate::slices::{briefly, modestly};
use nix::sys::eventfd::EventFd;

/// How long the server may take to apply what it has, nanoseconds.
const PARK_NS: u64 = 10_000_000_000;
/// How soon to look again whether it has, nanoseconds.
const LOOK_NS: u64 = 1_000_000;
/// How long a dump may take in all before the server counts as lost, nanoseconds: more than the thread's own patience.
const DUMP_NS: u64 = 150_000_000_000;

/// How far the one that is being taken is.
#[derive(Debug, Default)]
enum Stage {
    /// None is.
    #[default]
    None,
    /// A thread looks whether there is room, and has CRIU look at the kernel.
    Looking { done: Receiver<Result<(), CheckpointError>> },
    /// The server is not fed since then, and has not applied all.
    Parking {
        since: u64,
        /// When it was last seen at work.
        worked: u64,
    },
    /// The thread works; the server is not fed until the helper has ended.
    Dumping { since: u64, done: Receiver<Result<Taken, CheckpointError>> },
    /// The thread works, the server runs.
    Storing { done: Receiver<Result<Taken, CheckpointError>> },
}

/// What is done for a checkpoint while the server works on.
fn prepare(site: &Site) -> Result<(), CheckpointError> {
    modestly();
    check_room(site)?;
    site.arena.parent().into_iter().for_each(criu::look_ahead);
    Ok(())
}

/// See the module.
#[derive(Debug)]
pub(super) struct Checkpointing {
    store: Store,
    stage: Stage,
    /// How long the server stood still for the one that is being taken (or since when it does), and how long before that it was
    /// fed nothing new, nanoseconds.
    pause: (u64, u64),
    /// The server was restored from a checkpoint at this entry, and its digest was not compared with the leader's since.
    unproven: Option<u64>,
    /// Written to when the thread has ended.
    kick: Arc<EventFd>,
    pub(super) schedule: Schedule,
}

impl Checkpointing {
    /// With the checkpoints that are in `store`.
    pub fn new(store: Store, kick: Arc<EventFd>, schedule: Schedule) -> Self {
        Self { store, stage: Stage::None, pause: (0, 0), unproven: None, kick, schedule }
    }

    /// The checkpoint that is to be restored first, if an operator wants one.
    pub fn take_choice(&self) -> Option<u64> {
        self.store.take_choice()
    }

    /// This server's digests and the leader's are the same up to entry `until`. True if that is news of a restored one.
    pub fn agreed(&mut self, until: u64) -> bool {
        self.unproven.take_if(|next| until >= *next).is_some()
    }

    /// The server was restored from a checkpoint at this entry, or from none.
    pub fn restored(&mut self, from: Option<u64>) {
        self.unproven = from;
    }

    /// True if a restored server has done something that nobody has compared yet. `decided`: entries.
    pub fn is_unproven(&self, decided: u64) -> bool {
        self.unproven.is_some_and(|next| decided > next)
    }

    /// Where they are.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// When [`Replica::go_on_with_checkpoint`] is to be called, if nothing happens.
    pub fn deadline(&self, now: u64) -> u64 {
        match self.stage {
            Stage::Parking { .. } => now + LOOK_NS,
            Stage::Dumping { since, .. } => since + DUMP_NS,
            Stage::None | Stage::Looking { .. } | Stage::Storing { .. } => u64::MAX,
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
        let alone = self.driver.consensus.paxos().is_alone();
        match self.driver.phase() {
            _ if self.server.is_none() => Some("there is no server now"),
            _ if self.driver.is_fenced() => Some("the server is fenced"),
            Phase::Follower if self.driver.other_leader().is_some() => None,
            Phase::Follower => Some("no leader is known"),
            Phase::Leading { .. } if alone && self.driver.is_crane() => {
                Some("under --admission crane a replica that leads cannot come to rest")
            }
            Phase::Leading { .. } if alone => None,
            Phase::TakingOver { .. } if alone => Some("it has not replayed its log yet"),
            _ => Some("it leads: a checkpoint would make clients wait"),
        }
    }

    fn site(&self) -> Option<Site> {
        let server = self.server.as_ref()?;
        Some(Site {
            store: self.checkpointing.store.clone(),
            replica: self.keeper.replica_directory().to_owned(),
            arena: server.shared_path().join(ARENA_FILE),
            init: server.init_pid(),
        })
    }

    /// Somebody wants a checkpoint.
    pub(super) fn begin_checkpoint(&mut self) {
        if !matches!(self.checkpointing.stage, Stage::None) {
            return;
        }
        self.status.checkpoints.running = true;
        self.status_at = 0;
        match (self.refusal(), self.site()) {
            (None, Some(site)) => match self.aside(move || prepare(&site)) {
                Ok(done) => self.checkpointing.stage = Stage::Looking { done },
                Err(error) => self.checkpoint_failed(error.to_string()),
            },
            (reason, _) => self.checkpoint_failed(reason.unwrap_or("there is no server now").to_owned()),
        }
    }

    /// Does something in a thread; what comes of it comes by the channel.
    fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Receiver<T>, CheckpointError> {
        let (tell, done) = channel();
        let kick = self.checkpointing.kick.clone();
        let work = move || {
            processors::roam();
            briefly();
            let _ = tell.send(work());
            let _ = kick.write(1);
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(work);
        thread
            .map_err(|error| CheckpointError::Helper(format!("has no thread to speak with: {error}")))
            .map(|_| done)
    }

    /// Takes the next step.
    pub(super) fn go_on_with_checkpoint(&mut self, now: u64) {
        const DIED: &str = "the thread has died";
        match &self.checkpointing.stage {
            Stage::None => {}
            Stage::Looking { done } => match done.try_recv() {
                Ok(Ok(())) => match self.refusal() {
                    None => {
                        self.driver.hold(true);
                        self.checkpointing.stage = Stage::Parking { since: now, worked: now };
                    }
                    Some(reason) => self.checkpoint_failed(reason.to_owned()),
                },
                Ok(Err(error)) => self.checkpoint_failed(error.to_string()),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.checkpoint_failed(DIED.to_owned()),
            },
            Stage::Parking { since, worked } => {
                let (since, worked) = (*since, *worked);
                if let Err(reason) = self.go_on_parking(since, worked, now) {
                    self.end_checkpoint(reason);
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
                Err(TryRecvError::Disconnected) => self.checkpoint_failed(DIED.to_owned()),
            },
        }
    }

    fn go_on_parking(&mut self, since: u64, worked: u64, now: u64) -> Result<(), String> {
        if self.server.is_none() {
            return Err("the server was ended".to_owned());
        }
        if let Some(reason) = self.refusal() {
            return Err(format!("the replica's role changed: {reason}"));
        }
        let rests = self.server.as_ref().is_some_and(|server| self.driver.rests(&server.link));
        if rests {
            self.checkpointing.pause = (worked, worked - since);
            return self.dump(now).map_err(|error| error.to_string());
        }
        match now >= since + PARK_NS {
            true => Err("the server does not come to rest".to_owned()),
            false => {
                self.checkpointing.stage = Stage::Parking { since, worked: now };
                Ok(())
            }
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
        let begin = self.driver.consensus.begin_at(place.next);
        let undecided =
            || CheckpointError::Helper("cannot be started: its last entry is not decided".to_owned());
        let (made, images) = Plan::begin(&self.checkpointing.store)?;
        let Some(site) = self.site() else { return Ok(()) };
        let plan = Plan {
            site,
            made,
            preload: self.keeper.preload().to_owned(),
            fingerprint: self.cluster_fingerprint,
            place,
            known,
            log_end: begin.as_ref().and_then(LogEnd::new).ok_or_else(undecided)?,
        };
        let Some(server) = &mut self.server else { return Ok(()) };
        let helper = server.container().dump(&path, images.as_fd());
        let helper =
            helper.map_err(|error| CheckpointError::Helper(format!("cannot be reached: {error}")))?;
        let done = self.aside(move || take(&plan, &helper))?;
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
    pub(super) fn last_entry(&self, next: u64) -> Option<u32> {
        let value = self.driver.consensus.read(next.checked_sub(1)?, next, 1).ok()?.into_iter().next()?;
        Some(crc32fast::hash(&value))
    }

    /// The helper of a dump has ended, and the server runs again.
    pub(super) fn dump_ended(&mut self, ended: Result<ExitStatus, String>) {
        self.driver.hold(false);
        let (since, _) = self.checkpointing.pause;
        self.checkpointing.pause.0 = self.now() - since;
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
            Stage::Looking { .. } | Stage::Parking { .. } => {
                self.checkpoint_failed("the server was ended".to_owned());
            }
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
        let (pause, rest) = self.checkpointing.pause;
        let (pause, phases) = (pause / 1_000_000, Phases { rest: rest / 1_000_000, ..taken.phases });
        tracing::info!(
            "took a checkpoint at entry {}, logical time {}, digest {:016x}: {} KB, the server stood still for {pause} ms ({phases:?})",
            place.next,
            place.tick,
            place.digest,
            taken.stored.manifest.bytes() / 1024,
        );
        let status = &mut self.status.checkpoints;
        status.kept.retain(|kept| kept.entry != place.next);
        status.kept.insert(0, Kept::from(&taken.stored));
        status.kept.truncate(KEEP);
        (status.running, status.pause_ms, status.phases) = (false, pause, phases);
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
}
