//! What can go wrong with a log, and what to do about it.

use std::io;
use std::path::Path;

/// An error of the log. Messages name the file and say what helps.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No space for the next segment. Nothing was written; the same append can be tried again.
    #[error("no space left for log file {file}; replies are held back until there is space again")]
    Full {
        /// The file that could not be made.
        file: String,
    },
    /// Valid records follow a bad one, so the bad one was whole once.
    #[error(
        "log file {file} is corrupt at byte {offset}: {why}; if all other replicas have their logs, this one learns everything anew from them (three or more in all), else put a whole copy of the file there, or start over with --fresh"
    )]
    Corrupt {
        /// The file.
        file: String,
        /// Where the bad record or header starts.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The file is from another format version.
    #[error(
        "log file {file} has format version {found}, this binary reads version {expected}; use the binary that wrote it, or start over with --fresh"
    )]
    Version {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The version of this binary.
        expected: u32,
    },
    /// A configuration of the cluster's members is from another format version.
    #[error(
        "log file {file} has at byte {offset} members of the cluster in format {version}, which this binary does not know; \
         use the binary that wrote it"
    )]
    Members {
        /// The file.
        file: String,
        /// Where its record starts.
        offset: u64,
        /// Of the format.
        version: u64,
    },
    /// As [`LogError::Members`], sent by a peer.
    #[error(
        "entry {index} has members of the cluster in format {version}, which this binary does not know; install the same \
         Brolga on all machines"
    )]
    UnknownMembers {
        /// The entry.
        index: u64,
        /// Of the format.
        version: u64,
    },
    /// The file is from another cluster.
    #[error(
        "log file {file} belongs to another cluster; give this cluster a state directory of its own, or start over with --fresh"
    )]
    Cluster {
        /// The file.
        file: String,
    },
    /// The machine was started anew since the log was used with `--durability memory`.
    #[error(
        "the log in {directory} was last used with --durability memory before this machine was restarted, so promises and \
         entries may be lost; remove this replica's log and give it a new id, or start over with --fresh"
    )]
    OtherBoot {
        /// The log's directory.
        directory: String,
    },
    /// Another process has the log open.
    #[error("the log in {directory} is in use by another process; stop it first")]
    InUse {
        /// The log's directory.
        directory: String,
    },
    /// An index that the log does not have.
    #[error("entry {index} was asked for, but the log has the entries from {first} on, below {len}")]
    NoEntry {
        /// The index.
        index: u64,
        /// The log's first entry.
        first: u64,
        /// The log's length.
        len: u64,
    },
    /// A write that contradicts the log: a bug, not a disk fault.
    #[error("a write at entry {index} does not fit a log of {len} entries")]
    WrongWrite {
        /// The index.
        index: u64,
        /// The log's length.
        len: u64,
    },
    /// The operating system refused. After a failed sync nobody knows what is on disk: the replica must stop.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: String,
        /// Why not.
        source: io::Error,
    },
}

impl LogError {
    /// The same about the log in `original`, of which the one in `copy` is a copy.
    pub fn about(mut self, copy: &Path, original: &Path) -> Self {
        let name = match &mut self {
            Self::Full { file }
            | Self::Corrupt { file, .. }
            | Self::Version { file, .. }
            | Self::Members { file, .. }
            | Self::Cluster { file }
            | Self::Io { file, .. } => file,
            Self::OtherBoot { directory } | Self::InUse { directory } => directory,
            Self::UnknownMembers { .. } | Self::NoEntry { .. } | Self::WrongWrite { .. } => return self,
        };
        if let Ok(behind) = Path::new(name.as_str()).strip_prefix(copy) {
            *name = original.join(behind).display().to_string();
        }
        self
    }

    /// Whether the same call may succeed later.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}
