//! What a checkpoint is of: JSON with its CRC in a last line.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CheckpointError;
pub use super::files::Sum;
use crate::sockets::{Listener, Membership};

/// Name of the file.
pub const MANIFEST: &str = "manifest";
/// Version of the format; another one is refused.
pub const FORMAT: u32 = 2;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Fingerprint of cluster and command, as in entry 0 of the log.
    pub cluster: String,
    /// CRC-32 of the preload library, which must be the same: it lies in the images.
    pub preload: u32,
    /// Where the server stands.
    pub place: Place,
    /// The last process id that the container had given out to the server.
    pub last_pid: i32,
    /// What the coordinator knows of the server beside the log.
    pub known: Known,
    /// All files but the manifest.
    pub files: Vec<Sum>,
}

/// The place in the log at which a server stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Entries that it has applied: the index of the next.
    pub next: u64,
    /// CRC-32 of the last of these, by which a log is known to be the same.
    pub last_entry: u32,
    /// Logical time.
    pub tick: u64,
    /// Rolling digest.
    pub digest: u64,
}

/// What the coordinator knows of a server, which its upcalls have told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Connections that are open, with the sequence number of the next event of each.
    pub connections: Vec<(u64, u64)>,
    /// Sockets on which it listens.
    pub listeners: Vec<Listener>,
    /// Multicast groups.
    pub memberships: Vec<Membership>,
}

impl Manifest {
    /// Bytes of the checkpoint.
    pub fn bytes(&self) -> u64 {
        self.files.iter().filter(|sum| sum.mode.starts_with("10")).map(|sum| sum.size).sum()
    }

    /// Tells this checkpoint from any other one.
    pub fn id(&self) -> u32 {
        serde_json::to_string(self).map_or(0, |text| crc32fast::hash(text.as_bytes()))
    }

    /// Writes it into the directory of a checkpoint.
    pub(super) fn write(&self, directory: &Path) -> Result<(), CheckpointError> {
        let path = directory.join(MANIFEST);
        let text = serde_json::to_string(self).map_err(std::io::Error::other);
        let text = text.map(|text| format!("{text}\n{:08x}\n", crc32fast::hash(text.as_bytes())));
        text.and_then(|text| fs::write(&path, text)).map_err(CheckpointError::file("write", &path))
    }

    /// Reads it from the directory of a checkpoint.
    pub(super) fn read(directory: &Path) -> Result<Self, CheckpointError> {
        let path = directory.join(MANIFEST);
        Self::parse(&fs::read(&path).map_err(CheckpointError::file("read", &path))?, path)
    }

    /// Reads the text of the file at `path`.
    pub(crate) fn parse(text: &[u8], path: PathBuf) -> Result<Self, CheckpointError> {
        let mut lines = text.split(|&byte| byte == b'\n');
        let (body, crc) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let found = format!("{:08x}", crc32fast::hash(body));
        let damaged = |expected: String, found: String| CheckpointError::Damaged {
            path: path.clone(),
            expected,
            found,
        };
        if crc != found.as_bytes() {
            let crc = crc.escape_ascii().to_string();
            return Err(damaged(format!("CRC {crc:?} of its first line, bytes 0 to {}", body.len()), found));
        }
        let whole = body.len() + 1 + crc.len();
        if text[whole..] != *b"\n" {
            let rest = text[whole..].escape_ascii();
            return Err(damaged(
                format!("the end of a line at byte {whole}, and no more"),
                format!("\"{rest}\""),
            ));
        }
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let parsed = |error: serde_json::Error| damaged("a manifest".to_owned(), error.to_string());
        let head: Head = serde_json::from_slice(body).map_err(parsed)?;
        if head.format != FORMAT {
            let reason =
                format!("its format is {}, this version of Brolga reads format {FORMAT}", head.format);
            return Err(CheckpointError::Foreign { path, reason });
        }
        serde_json::from_slice(body).map_err(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::{FORMAT, Known, MANIFEST, Manifest, Place};

    #[test]
    fn any_flipped_byte_is_found_and_no_other_format_is_read() {
        let directory = std::env::temp_dir().join(format!("brolga-manifest-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut manifest = Manifest {
            format: FORMAT,
            cluster: "00ff".into(),
            preload: 7,
            place: Place { next: 9, last_entry: 8, tick: u64::MAX, digest: u64::MAX - 1 },
            last_pid: 1005,
            known: Known { connections: vec![(1 << 40, 3)], ..Known::default() },
            files: vec![],
        };
        manifest.write(&directory).unwrap();
        assert_eq!(Manifest::read(&directory).unwrap(), manifest);
        let good = std::fs::read(directory.join(MANIFEST)).unwrap();
        let refused = |bad: &[u8]| {
            std::fs::write(directory.join(MANIFEST), bad).unwrap();
            let error = Manifest::read(&directory).unwrap_err().to_string();
            assert!(
                error.contains("expected") && error.contains("byte") && error.contains(MANIFEST),
                "{error}"
            );
        };
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            refused(&bad);
            refused(&good[..at]);
        }
        refused(&[&good[..], b"\n"].concat());
        manifest.format = FORMAT + 1;
        manifest.write(&directory).unwrap();
        assert!(Manifest::read(&directory).unwrap_err().to_string().contains("its format is 3"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
