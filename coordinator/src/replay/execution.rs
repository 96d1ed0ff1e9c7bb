//! One replay: starts the server of a recording in a container of its own and feeds it the entries, as a follower.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dmt::tracing::Tracing;
use dmt::upcall::UpcallKind;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ReplayError;
use super::maps::{self, Mapped};
use super::recording::Recording;
use super::trace::Trace;
use crate::container::{ExitStatus, Report};
use crate::launcher::find_preload;
use crate::replica::digests::Digest;
use crate::replica::server::{Recipe, Server, make_kick};

/// How long a server may make no operation before the replay is given up, seconds.
const PATIENCE_SECONDS: u64 = 120;
/// Longest sleep of the loop, milliseconds.
const SLEEP_MS: u16 = 20;

/// What to replay, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Entries to feed; `None` = all.
    pub entries: Option<u64>,
    /// Trace from this tick on, and what.
    pub trace: Option<(u64, Tracing)>,
    /// The server may stand still for as long as it likes: somebody debugs it.
    pub patient: bool,
}

/// How a replay ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The server took all entries.
    Complete,
    /// It ended.
    Exited(ExitStatus),
    /// It could not follow the log.
    Diverged {
        /// Entry that it could not take.
        entry: u64,
        /// Logical time.
        tick: u64,
        /// Why.
        reason: String,
    },
    /// Who debugged it has had enough.
    Abandoned,
}

/// What came of a replay.
#[derive(Debug)]
pub struct Outcome {
    /// The digest at the end of each bubble.
    pub digests: Vec<Digest>,
    /// How it ended.
    pub end: End,
    /// Logical time at its end.
    pub tick: u64,
    /// Records, if it was traced.
    pub trace: Trace,
    /// What the processes that left records had mapped.
    pub maps: BTreeMap<i32, Vec<Mapped>>,
    /// Lines that the server's library wrote for people.
    pub messages: Vec<String>,
}

/// A replay that has begun: the server waits for entry 0, before its first instruction.
pub struct Execution<'a> {
    recording: &'a Recording,
    options: Options,
    kick: nix::sys::eventfd::EventFd,
    server: Server,
    limit: u64,
    next: u64,
    read: VecDeque<Arc<[u8]>>,
    outcome: Outcome,
    end: Option<End>,
}

impl std::fmt::Debug for Execution<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Execution").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<'a> Execution<'a> {
    /// Starts the server.
    pub fn start(recording: &'a Recording, options: Options) -> Result<Self, ReplayError> {
        let recipe = Recipe {
            spec: recording.container(),
            preload: find_preload()?,
            cluster: format!("{}-replay-{}", recording.cluster.tag(), std::process::id()),
            id: recording.id,
            trace: options.trace,
            fingerprint: recording.cluster.id,
        };
        let kick = make_kick().map_err(ReplayError::system("make an eventfd"))?;
        let server = Server::start(&recipe, &kick)?;
        let outcome = Outcome {
            digests: Vec::new(),
            end: End::Complete,
            tick: 0,
            trace: Trace::default(),
            maps: BTreeMap::new(),
            messages: Vec::new(),
        };
        let limit = options.entries.unwrap_or(u64::MAX).min(recording.len());
        Ok(Self {
            recording,
            options,
            kick,
            server,
            limit,
            next: 0,
            read: VecDeque::new(),
            outcome,
            end: None,
        })
    }

    /// Process id of the container's init on the host.
    pub fn init_pid(&self) -> i32 {
        self.server.init_pid()
    }

    /// Feeds all entries and returns when the server has come to their end, or to its own. `stop` is asked now and then
    /// whether to give up.
    pub fn run(mut self, mut stop: impl FnMut() -> bool) -> Result<Outcome, ReplayError> {
        let mut still = Still::new();
        while self.end.is_none() {
            self.feed()?;
            let done = self.is_done();
            // A server that waits for room is idle, too.
            let done = !self.drain()? && done;
            self.hear_container();
            if self.end.is_some() || (done && !self.server.link.has_upcalls()) {
                break;
            }
            let control = self.server.link.control();
            let place = (control.applied.load(Ordering::Relaxed), control.tick.load(Ordering::Relaxed));
            if still.is_over(place) && !self.options.patient {
                return Err(ReplayError::Stuck { seconds: PATIENCE_SECONDS, entry: place.0, tick: place.1 });
            }
            if stop() {
                self.end = Some(End::Abandoned);
                break;
            }
            self.sleep();
        }
        self.finish()
    }

    fn feed(&mut self) -> Result<(), ReplayError> {
        let mut fed = false;
        while self.next < self.limit {
            if self.read.is_empty() {
                self.read = self.recording.read(self.next, self.limit)?.into();
            }
            let Some(value) = self.read.front() else { break };
            if !self.server.link.push_entry(value) {
                break;
            }
            self.read.pop_front();
            self.next += 1;
            fed = true;
        }
        if fed {
            self.server.link.set_committed(self.next);
            self.server.wake();
        }
        Ok(())
    }

    /// True if the server has taken all entries and waits for another one.
    fn is_done(&self) -> bool {
        let control = self.server.link.control();
        self.next == self.limit
            && control.server_idle.load(Ordering::SeqCst) == 1
            && control.applied.load(Ordering::SeqCst) == self.limit
    }

    /// Takes what the server has told; whether there was anything.
    fn drain(&mut self) -> Result<bool, ReplayError> {
        let mut end = None;
        while let Some(upcall) = self.server.link.next_upcall() {
            end = Some(upcall.end);
            let (a, b, c) = (upcall.header.a.get(), upcall.header.b.get(), upcall.header.c.get());
            let text = || String::from_utf8_lossy(upcall.payload).into_owned();
            match upcall.kind {
                UpcallKind::Digest => self.outcome.digests.push(Digest { entry: a, tick: b, value: c }),
                UpcallKind::Diverged => {
                    self.end = Some(End::Diverged { entry: a, tick: b, reason: text() });
                }
                UpcallKind::Exited => self.end = Some(End::Exited(ExitStatus::from_wait_status(a as i32))),
                UpcallKind::Log => self.outcome.messages.push(text()),
                _ => {}
            }
        }
        if let Some(end) = end {
            self.server.link.release_upcall(end);
        }
        let mut records = false;
        let trace = &mut self.outcome.trace;
        let whole = self.server.link.take_trace(|record| {
            trace.take(&record);
            records = true;
        });
        if !whole || self.server.link.is_damaged() {
            return Err(ReplayError::Damaged);
        }
        if records {
            let known = &mut self.outcome.maps;
            let new: Vec<i32> = self.outcome.trace.pids().filter(|pid| !known.contains_key(pid)).collect();
            if !new.is_empty() {
                maps::take(self.server.init_pid(), known);
            }
        }
        let any = records || end.is_some();
        if any {
            self.server.wake();
        }
        Ok(any)
    }

    fn hear_container(&mut self) {
        let end = match self.server.container().report() {
            Ok(Some(Report::ServerExited(status))) => End::Exited(status),
            Ok(Some(Report::ProcessDied { pid, status })) => {
                let control = self.server.link.control();
                let entry = control.applied.load(Ordering::Relaxed);
                let reason = format!("process {pid} was ended by {status}, of which the log knows nothing");
                End::Diverged { entry, tick: control.tick.load(Ordering::Relaxed), reason }
            }
            _ => return,
        };
        self.end.get_or_insert(end);
    }

    fn sleep(&self) {
        if self.server.link.prepare_sleep() {
            let mut fds = [
                PollFd::new(self.kick.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.server.report_fd(), PollFlags::POLLIN),
            ];
            // An interrupted or failed sleep is a short one.
            let _ = poll(&mut fds, PollTimeout::from(SLEEP_MS));
            let _ = self.kick.read();
        }
        self.server.link.woke();
    }

    /// Stops the server where it is, and looks at it a last time.
    fn finish(mut self) -> Result<Outcome, ReplayError> {
        self.outcome.tick = self.server.link.control().tick.load(Ordering::SeqCst);
        if self.options.trace.is_some() {
            maps::take(self.server.init_pid(), &mut self.outcome.maps);
        }
        self.server.halt();
        self.drain()?;
        self.outcome.end = self.end.unwrap_or(End::Complete);
        Ok(self.outcome)
    }
}

/// How long the server has stood at one place.
struct Still {
    place: (u64, u64),
    since: Instant,
}

impl Still {
    fn new() -> Self {
        Self { place: (0, 0), since: Instant::now() }
    }

    fn is_over(&mut self, place: (u64, u64)) -> bool {
        if place != self.place {
            (self.place, self.since) = (place, Instant::now());
        }
        self.since.elapsed() > Duration::from_secs(PATIENCE_SECONDS)
    }
}

/// The first digest in which a replay differs from what was recorded: recorded, replayed.
pub fn first_difference(recorded: &[Digest], replayed: &[Digest]) -> Option<(Digest, Digest)> {
    let pairs = replayed.iter().filter_map(|ours| {
        let at = recorded.binary_search_by_key(&ours.entry, |digest| digest.entry).ok()?;
        Some((recorded[at], *ours))
    });
    pairs.into_iter().find(|(theirs, ours)| theirs != ours)
}
