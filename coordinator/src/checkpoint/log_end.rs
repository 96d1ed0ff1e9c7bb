//! Where a checkpoint joins the log: the last entry that its server has applied, as it stood there. With it a replica whose log ends
//! earlier can go on behind the checkpoint.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::Place;
use super::{CheckpointError, Stored};
use crate::paxos::{Ballot, Entry, Input, Members};

/// Name of its file in a checkpoint.
const LOG_END: &str = "log-end";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    index: u64,
    ballot: u64,
    previous: u64,
    promised: u64,
    value: Vec<u8>,
    members: Members,
}

impl LogEnd {
    /// Of what [`Consensus::begin_at`](crate::replica::consensus::Consensus::begin_at) told.
    pub fn new(begin: &Input) -> Option<Self> {
        let Input::Begin { index, entry, previous, promised, members } = begin else { return None };
        Some(Self {
            index: *index,
            ballot: entry.ballot.0,
            previous: previous.0,
            promised: promised.0,
            value: entry.value.to_vec(),
            members: members.clone(),
        })
    }

    pub(super) fn write(&self, directory: &Path) -> Result<(), CheckpointError> {
        let path = directory.join(LOG_END);
        let bytes = postcard::to_stdvec(self).map_err(std::io::Error::other);
        bytes.and_then(|bytes| fs::write(&path, bytes)).map_err(CheckpointError::file("write", &path))
    }
}

impl Stored {
    /// What consensus needs to go on behind this checkpoint.
    pub fn log_end(&self) -> Result<Input, CheckpointError> {
        let path = self.path.join(LOG_END);
        let bytes = fs::read(&path).map_err(CheckpointError::file("read", &path))?;
        LogEnd::parse(&bytes, &self.manifest.place, path)
    }
}

impl LogEnd {
    /// What the file at `path` says, which must be of this place.
    pub(crate) fn parse(bytes: &[u8], place: &Place, path: PathBuf) -> Result<Input, CheckpointError> {
        let damaged = |expected: String, found: String| CheckpointError::Damaged { path, expected, found };
        let end: LogEnd = match postcard::from_bytes(bytes) {
            Ok(end) => end,
            Err(error) => return Err(damaged("the last entry before it".to_owned(), error.to_string())),
        };
        let next = end.index.saturating_add(1);
        let (expected, found) = ((place.next, place.last_entry), (next, crc32fast::hash(&end.value)));
        if expected != found {
            let text = |(next, crc): (u64, u32)| format!("the entry before {next}, CRC {crc:08x}");
            return Err(damaged(text(expected), text(found)));
        }
        let entry = Entry { ballot: Ballot(end.ballot), value: end.value.into() };
        let (previous, promised) = (Ballot(end.previous), Ballot(end.promised));
        Ok(Input::Begin { index: end.index, entry, previous, promised, members: end.members })
    }
}
