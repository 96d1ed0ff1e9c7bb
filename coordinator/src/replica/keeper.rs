//! The thread that ends servers and starts them.
//!
//! Both can take seconds: a server with much memory dies slowly, and its upper layer with all that it wrote is removed
//! before the next one starts (so the disk never holds two copies). The loop must not wait for that, or it misses
//! heartbeats and loses its leadership, or the vote for a new one. One thread does all of it in order, and lives as long
//! as the replica, because a container dies with the thread that started it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::eventfd::EventFd;

use super::error::ReplicaError;
use super::server::{Recipe, Server};
use crate::checkpoint::{CheckpointError, Manifest, Stored};
use crate::container::ContainerError;

/// How often a checkpoint is tried that is not damaged: what CRIU finds in its way (process ids, memory) may go.
const TRIES: u32 = 3;
/// Pause before the second try; the next is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

enum Job {
    /// End this server, and write its last operations to a file if one is named.
    End(Box<Server>, Option<PathBuf>),
    /// Start a new one, from the first of these checkpoints that can be restored, or, if that is allowed, from nothing.
    Start(Vec<Stored>, bool),
}

/// A server that was started.
#[derive(Debug)]
pub struct Started {
    /// The server; `None` if no checkpoint could be restored, and starting from nothing is not allowed.
    pub server: Option<Box<Server>>,
    /// What it was restored from, if it was.
    pub restored: Option<Manifest>,
    /// Why a newer checkpoint was not.
    pub failure: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    jobs: Option<Sender<Job>>,
    started: Receiver<Result<Started, ContainerError>>,
    thread: Option<JoinHandle<()>>,
    starting: bool,
    replica_directory: PathBuf,
    preload: PathBuf,
}

impl Keeper {
    /// Starts the thread. It writes to `kick` when a server was started.
    pub fn new(recipe: Recipe, kick: Arc<EventFd>) -> Result<Self, ReplicaError> {
        let (replica_directory, preload) = (recipe.spec.directory.clone(), recipe.preload.clone());
        let (jobs, taken) = channel();
        let (tell, started) = channel();
        let thread = std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || work(&recipe, &kick, &taken, &tell))
            .map_err(ReplicaError::system("start the thread that starts servers"))?;
        let thread = Some(thread);
        Ok(Self { jobs: Some(jobs), started, thread, starting: false, replica_directory, preload })
    }

    /// The replica's own directory.
    pub fn replica_directory(&self) -> &Path {
        &self.replica_directory
    }

    /// The preload library.
    pub fn preload(&self) -> &Path {
        &self.preload
    }

    /// Ends `server` and writes its last operations to `trace`.
    pub fn end(&self, server: Server, trace: Option<PathBuf>) {
        self.give(Job::End(Box::new(server), trace));
    }

    /// Starts a server from the first of `checkpoints` that can be restored, else, if the log is whole (`from_nothing`), with a fresh arena and empty upper layers, once
    /// the one before has ended. Does nothing if one is being started already.
    pub fn start(&mut self, checkpoints: Vec<Stored>, from_nothing: bool) {
        if !std::mem::replace(&mut self.starting, true) {
            self.give(Job::Start(checkpoints, from_nothing));
        }
    }

    /// Whether a server is being started.
    pub fn is_starting(&self) -> bool {
        self.starting
    }

    /// The server that was started, or why it could not be; `None` while nothing is there.
    pub fn started(&mut self) -> Option<Result<Started, ContainerError>> {
        if !self.starting {
            return None;
        }
        let started = self.started.try_recv().ok()?;
        self.starting = false;
        Some(started)
    }

    fn give(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only with this value.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Keeper {
    /// Waits for the thread, so that nothing of a server is left when the replica has ended.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(
    recipe: &Recipe,
    kick: &EventFd,
    jobs: &Receiver<Job>,
    tell: &Sender<Result<Started, ContainerError>>,
) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::End(server, None) => drop(server),
            Job::End(server, Some(trace)) => match server.end_with_trace(&trace) {
                Ok(()) => tracing::error!("the server's last operations are in {}", trace.display()),
                Err(error) => tracing::error!("cannot write the trace {}: {error}", trace.display()),
            },
            Job::Start(checkpoints, from_nothing) => {
                // If nobody wants it any more, it ends right here.
                let _ = tell.send(start(recipe, kick, checkpoints, from_nothing));
                let _ = kick.write(1);
            }
        }
    }
}

fn start(
    recipe: &Recipe,
    kick: &EventFd,
    checkpoints: Vec<Stored>,
    from_nothing: bool,
) -> Result<Started, ContainerError> {
    let mut failure = None;
    for stored in checkpoints {
        match restore(recipe, kick, &stored) {
            Ok(server) => {
                return Ok(Started {
                    server: Some(Box::new(server)),
                    restored: Some(stored.manifest),
                    failure,
                });
            }
            Err(error) => {
                tracing::warn!(
                    "the checkpoint at entry {} is not restored: {error}",
                    stored.manifest.place.next
                );
                failure.get_or_insert(error.to_string());
            }
        }
    }
    if !from_nothing {
        return Ok(Started { server: None, restored: None, failure });
    }
    if failure.is_some() {
        tracing::warn!("the server starts from nothing, and the log is replayed from entry 0");
    }
    let server = Some(Box::new(Server::start(recipe, kick)?));
    Ok(Started { server, restored: None, failure })
}

/// Tries a checkpoint several times if that may help.
fn restore(recipe: &Recipe, kick: &EventFd, stored: &Stored) -> Result<Server, CheckpointError> {
    let mut tries = 1;
    loop {
        match Server::restore(recipe, kick, stored) {
            Err(error) if tries < TRIES && error.may_pass() => {
                let pause = FIRST_PAUSE * 2_u32.pow(tries - 1);
                tracing::warn!(
                    "the checkpoint at entry {}, try {tries} of {TRIES}: {error}; tries again in {} ms",
                    stored.manifest.place.next,
                    pause.as_millis()
                );
                std::thread::sleep(pause);
                tries += 1;
            }
            result => return result,
        }
    }
}
