//! What a replica left behind: the command, the decided inputs, and the digests that its server had.
//!
//! The log is copied first, so that nothing of the replica is touched, and a log can be replayed while its replica runs.
//! Its last entries may then be such that were not decided yet.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ReplayError;
use crate::container::{ContainerSpec, remove_tree};
use crate::launcher::cluster::Cluster;
use crate::launcher::state::replica_directory;
use crate::log::{self, Directory, Log, Options, SEGMENT_BYTES};
use crate::replica::digest_file;
use crate::replica::digests::Digest;
use crate::replica::membership::members_of;

/// Entries that are read at a time.
const READ_ENTRIES: u64 = 1024;
/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// See the module. Removes its copy when dropped.
#[derive(Debug)]
pub struct Recording {
    /// What ran.
    pub cluster: Cluster,
    /// The replica.
    pub id: u8,
    /// The digests that its server had, as far as they are known, in order.
    pub digests: Vec<Digest>,
    state: PathBuf,
    scratch: PathBuf,
    log: Option<Log<Directory>>,
}

impl Recording {
    /// Copies the log of replica `id`.
    pub fn open(state: &Path, id: u8) -> Result<Self, ReplayError> {
        let cluster = Cluster::load(state)?.ok_or_else(|| ReplayError::NoCluster(state.to_owned()))?;
        if (cluster.version.as_str(), cluster.layout)
            != (env!("CARGO_PKG_VERSION"), dmt::bounds::LAYOUT_VERSION)
        {
            let ours = env!("CARGO_PKG_VERSION");
            return Err(ReplayError::Version { state: state.to_owned(), found: cluster.version, ours });
        }
        let directory = replica_directory(state, id);
        let log = directory.join("log");
        if !log.is_dir() {
            return Err(ReplayError::NoLog { id, state: state.to_owned() });
        }
        let scratch = scratch_directory(state)?;
        let digests =
            digest_file::read(&directory).map_err(ReplayError::system("read the digests of the replica"))?;
        let mut recording = Self { cluster, id, digests, state: state.to_owned(), scratch, log: None };
        let copy = recording.scratch.join("log");
        copy_log(&log, &copy).map_err(ReplayError::system("copy the log"))?;
        let options = Options {
            cluster: recording.cluster.id,
            durability: log::Durability::Memory,
            boot_id: log::current_boot_id().map_err(ReplayError::system("read this boot's id"))?,
            segment_bytes: SEGMENT_BYTES,
            members_of,
        };
        let log = Log::open(Directory::open(&copy)?, options).map_err(|error| error.about(&copy, &log))?;
        if log.is_empty() {
            return Err(ReplayError::NoLog { id, state: state.to_owned() });
        }
        recording.log = Some(log);
        Ok(recording)
    }

    /// The same once more.
    pub fn again(&self) -> Result<Self, ReplayError> {
        Self::open(&self.state, self.id)
    }

    /// Entries in the log.
    pub fn len(&self) -> u64 {
        self.log.as_ref().map_or(0, Log::len)
    }

    /// Whether there is none; never, for an open one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some entries from `from` on, below `to`.
    pub fn read(&self, from: u64, to: u64) -> Result<Vec<Arc<[u8]>>, ReplayError> {
        let mut entries = Vec::new();
        if let Some(log) = &self.log {
            log.read(from, to.min(from + READ_ENTRIES), READ_BYTES, &mut entries)?;
        }
        Ok(entries.into_iter().map(|entry| entry.value).collect())
    }

    /// The replica's own directory.
    pub fn replica_directory(&self) -> PathBuf {
        replica_directory(&self.state, self.id)
    }

    /// The digest at the end of the bubble of `entry`, if it is known.
    pub fn digest(&self, entry: u64) -> Option<&Digest> {
        self.digests.binary_search_by_key(&entry, |digest| digest.entry).ok().map(|at| &self.digests[at])
    }

    /// The directory in which a server runs on it.
    pub fn container_directory(&self) -> PathBuf {
        self.scratch.join("replica")
    }

    /// The server, as the replica started it, in a directory of its own.
    pub fn container(&self) -> ContainerSpec {
        let mut hidden = self.cluster.hidden(&self.state);
        hidden.push(self.scratch.clone());
        self.cluster.server(&self.state, self.container_directory(), hidden)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.log = None;
        let _ = remove_tree(&self.scratch);
    }
}

/// A fresh directory beside the replicas', on a file system that can hold their layers.
fn scratch_directory(state: &Path) -> Result<PathBuf, ReplayError> {
    let mut number = 0;
    loop {
        let path = state.join(format!("replay-{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(ReplayError::system("make a directory for the replay")(error)),
        }
    }
}

/// The segments alone: locks and marks are the replica's.
fn copy_log(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    let mut names: Vec<_> = fs::read_dir(from)?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names.iter().filter(|name| Path::new(name).extension().is_some_and(|e| e == "log")) {
        fs::copy(from.join(name), to.join(name))?;
    }
    Ok(())
}
