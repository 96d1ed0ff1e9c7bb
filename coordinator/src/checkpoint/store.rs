//! The checkpoints that a replica keeps, in a directory beside its log.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::manifest::Manifest;
use super::{CheckpointError, KEEP, disk};
use crate::container::criu::CRIU_LOG;
use crate::container::remove_tree;
use crate::private::make_private;

/// Name of the directory.
const DIRECTORY: &str = "checkpoints";
/// Name of the file with the entry of the checkpoint that an operator wants to be restored at the next start.
const CHOICE: &str = "choice";
/// Name of a checkpoint that is being made.
const UNFINISHED: &str = "unfinished";
/// How the names of directories begin in which checkpoints of other replicas are put together.
const INCOMING: &str = "incoming-";

/// A checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its directory.
    pub path: PathBuf,
    /// What it says of itself; its files are not looked at yet.
    pub manifest: Manifest,
    /// [`Manifest::id`].
    pub id: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    /// Entry of the checkpoint that another replica is fetching; 0 = none.
    lent: Arc<AtomicU64>,
}

impl Store {
    /// The store beside the log directory of a replica.
    pub fn beside(log_directory: &Path) -> Self {
        Self { directory: log_directory.with_file_name(DIRECTORY), lent: Arc::default() }
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// All that can be used as far as their manifests tell, the newest first; those that cannot are told in the log.
    pub fn list(&self) -> Vec<Stored> {
        let told = |error: &CheckpointError| tracing::warn!("a checkpoint cannot be used: {error}");
        self.survey().into_iter().filter_map(|found| found.inspect_err(told).ok()).collect()
    }

    /// As [`Store::list`], and what cannot be used.
    pub fn survey(&self) -> Vec<Result<Stored, CheckpointError>> {
        let mut paths: Vec<_> = self.numbered().collect();
        let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u64>().ok();
        paths.sort_by_key(|path| std::cmp::Reverse(number(path)));
        let read = |path: PathBuf| {
            Manifest::read(&path).map(|manifest| Stored { path, id: manifest.id(), manifest })
        };
        paths.into_iter().map(read).collect()
    }

    /// The next start of the replica is to restore the checkpoint at `entry`.
    pub fn choose(&self, entry: u64) -> Result<(), CheckpointError> {
        let path = self.directory.join(CHOICE);
        fs::write(&path, entry.to_string()).map_err(CheckpointError::file("write", path))
    }

    /// What was chosen, once.
    pub fn take_choice(&self) -> Option<u64> {
        let path = self.directory.join(CHOICE);
        let chosen = fs::read_to_string(&path).ok()?.trim().parse().ok();
        let _ = fs::remove_file(path);
        chosen
    }

    fn numbered(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let is_number = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u64>().is_ok())
        };
        entries.map(|entry| entry.path()).filter(is_number)
    }

    /// An empty directory for a checkpoint to be made in.
    pub(super) fn begin(&self) -> Result<PathBuf, CheckpointError> {
        let path = self.directory.join(UNFINISHED);
        remove_tree(&path).map_err(CheckpointError::file("remove", &path))?;
        make_private(&self.directory)
            .and_then(|()| make_private(&path))
            .map_err(CheckpointError::file("make", &path))?;
        Ok(path)
    }

    /// Gives a whole checkpoint its name once it is on the disk, and removes those that are too many.
    pub(super) fn finish(&self, made: &Path, manifest: &Manifest) -> Result<Stored, CheckpointError> {
        let path = self.directory.join(manifest.place.next.to_string());
        remove_tree(&path).map_err(CheckpointError::file("remove", &path))?;
        disk::store(made).map_err(CheckpointError::file("store", made))?;
        fs::rename(made, &path).map_err(CheckpointError::file("rename", made))?;
        let directory = fs::File::open(&self.directory).and_then(|directory| directory.sync_all());
        directory.map_err(CheckpointError::file("store", &self.directory))?;
        let lent = self.lent.load(Ordering::Relaxed);
        for old in self.list().into_iter().skip(KEEP).filter(|old| old.manifest.place.next != lent) {
            Self::remove(&old.path);
        }
        Ok(Stored { path, id: manifest.id(), manifest: manifest.clone() })
    }

    /// The checkpoint at `entry` is kept while another replica fetches it; 0: none is fetched.
    pub fn lend(&self, entry: u64) {
        self.lent.store(entry, Ordering::Relaxed);
    }

    /// The checkpoint of another replica (entry and id) of which there is a part.
    pub fn begun(&self) -> Option<(u64, u32)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.into_iter().find_map(|name| {
            let (entry, id) = name.strip_prefix(INCOMING)?.split_once('-')?;
            Some((entry.parse().ok()?, id.parse().ok()?))
        })
    }

    /// The directory for a checkpoint of another replica; those for others are removed.
    pub(super) fn incoming(&self, (entry, id): (u64, u32)) -> Result<PathBuf, CheckpointError> {
        let path = self.directory.join(format!("{INCOMING}{entry}-{id}"));
        let others = fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let of_transfer = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(INCOMING))
        };
        others.filter(|other| of_transfer(other) && *other != path).for_each(|other| Self::remove(&other));
        make_private(&self.directory)
            .and_then(|()| make_private(&path))
            .map_err(CheckpointError::file("make", &path))?;
        Ok(path)
    }

    /// The store that a checkpoint is in.
    pub(super) fn of(stored: &Stored) -> Self {
        Self { directory: stored.path.parent().unwrap_or(&stored.path).to_owned(), lent: Arc::default() }
    }

    /// Moves CRIU's log out of the directory of its images, for people to read.
    pub(super) fn keep_log(&self, images: &Path) {
        let _ = fs::rename(images.join(CRIU_LOG), self.directory.join(CRIU_LOG));
    }

    /// Removes a checkpoint that must not be used.
    pub fn remove(path: &Path) {
        if let Err(error) = remove_tree(path) {
            tracing::warn!("cannot remove the checkpoint {}: {error}", path.display());
        }
    }
}
