//! The last divergence of a replica's server, in a file beside its log: `brolga status` tells it also when the coordinator was started
//! anew. Only a help for people: what cannot be written or read is told in the log, and the replica goes on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::status::Divergence;

/// Name of the file in the replica's directory: JSON, and its CRC-32 in a second line.
const FILE: &str = "last-divergence";

fn path(log_directory: &Path) -> PathBuf {
    log_directory.with_file_name(FILE)
}

/// Writes it beside the log directory of a replica.
pub(super) fn save(log_directory: &Path, divergence: &Divergence) {
    let path = path(log_directory);
    let new = path.with_extension("new");
    let text = serde_json::to_string(divergence).map_err(io::Error::other);
    let text = text.map(|text| format!("{text}\n{:08x}\n", crc32fast::hash(text.as_bytes())));
    if let Err(error) = text.and_then(|text| fs::write(&new, text)).and_then(|()| fs::rename(&new, &path)) {
        tracing::warn!("the divergence is not kept in {}: {error}", path.display());
    }
}

/// What was written there last.
pub(super) fn load(log_directory: &Path) -> Option<Divergence> {
    let path = path(log_directory);
    match fs::read_to_string(&path).and_then(|text| parse(&text).map_err(io::Error::other)) {
        Ok(divergence) => Some(divergence),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!("{} is damaged, and not used: {error}", path.display());
            None
        }
    }
}

fn parse(text: &str) -> Result<Divergence, String> {
    let (body, sum) = text.split_once('\n').unwrap_or((text, ""));
    let found = format!("{:08x}\n", crc32fast::hash(body.as_bytes()));
    if sum != found {
        return Err(format!("expected CRC {sum:?} of bytes 0 to {}, found {found:?}", body.len()));
    }
    serde_json::from_str(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{FILE, load, save};
    use crate::replica::status::Divergence;
    use std::fs;

    #[test]
    fn it_comes_back_and_a_damaged_one_is_not_believed() {
        let directory = std::env::temp_dir().join(format!("brolga-divergence-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let log = directory.join("log");
        assert_eq!(load(&log), None);
        let mut divergence =
            Divergence { entry: 7, tick: u64::MAX, reason: "a \"digest\"\n".into(), count: 1 };
        save(&log, &divergence);
        divergence.count = 2;
        save(&log, &divergence);
        assert_eq!(load(&log), Some(divergence));
        let file = directory.join(FILE);
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&file, &bad).unwrap();
            assert_eq!(load(&log), None, "byte {at}");
            fs::write(&file, &good[..at]).unwrap();
            assert_eq!(load(&log), None, "{at} bytes");
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
