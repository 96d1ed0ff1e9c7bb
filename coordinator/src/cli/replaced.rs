//! Files that `brolga signal --replace` gives another content.

use std::path::{Path, PathBuf};

use dmt::replaced::MAX_REPLACED_BYTES;

use crate::channel::MAX_MESSAGE_BYTES;
use crate::launcher::LauncherError;
use crate::replica::config::NewFile;

/// Bytes of all files of one command, which travel in one message.
const MAX_BYTES: usize = MAX_MESSAGE_BYTES - 16 * 1024;

/// `PATH=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    path: String,
    file: PathBuf,
}

/// Takes the argument apart.
pub(super) fn pair(text: &str) -> Result<Pair, String> {
    let (path, file) =
        text.split_once('=').ok_or("write PATH=FILE: the replicas' file, and where its content is")?;
    if !path.starts_with('/') {
        return Err(format!("{path} is no absolute path"));
    }
    Ok(Pair { path: path.to_owned(), file: PathBuf::from(file) })
}

/// Reads the new contents.
pub(super) fn read(pairs: &[Pair]) -> Result<Vec<NewFile>, LauncherError> {
    let files = pairs.iter().map(read_one).collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = files.iter().map(|file| file.path.len() + file.content.len()).sum();
    if bytes > MAX_BYTES {
        return Err(LauncherError::Replacement(format!(
            "the files have {bytes} bytes together, and one command takes {MAX_BYTES}; use several, the last one with the \
             signal that counts"
        )));
    }
    Ok(files)
}

fn read_one(pair: &Pair) -> Result<NewFile, LauncherError> {
    let Pair { path, file } = pair;
    let real = |path: &Path| path.canonicalize().ok();
    if real(Path::new(path)).is_some_and(|target| real(file) == Some(target)) {
        return Err(LauncherError::Replacement(format!(
            "{path} is the host's own file, which must stay as it was when the cluster was started: a replica that is rebuilt \
             begins with it. Put the new content into another file, and {path} back as it was"
        )));
    }
    let content = std::fs::read(file)
        .map_err(|error| LauncherError::Replacement(format!("cannot read {}: {error}", file.display())))?;
    let bytes = path.len() + content.len();
    if bytes > MAX_REPLACED_BYTES {
        return Err(LauncherError::Replacement(format!(
            "{} has {} bytes; a file of at most {} fits into an entry",
            file.display(),
            content.len(),
            MAX_REPLACED_BYTES - path.len()
        )));
    }
    Ok(NewFile { path: path.clone(), content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_taken_apart_and_read() {
        let file = std::env::temp_dir().join(format!("brolga-new-file-{}", std::process::id()));
        std::fs::write(&file, "text").unwrap();
        let argument = |path: &str| format!("{path}={}", file.display());
        let read_from = |path: &str| read(&[pair(&argument(path)).unwrap()]);
        assert_eq!(
            read_from("/etc/a").unwrap(),
            [NewFile { path: "/etc/a".into(), content: b"text".into() }]
        );
        assert!(pair("/etc/a").is_err() && pair(&argument("etc/a")).is_err());
        assert!(read_from(file.to_str().unwrap()).is_err(), "the host's own");
        std::fs::write(&file, vec![0; MAX_REPLACED_BYTES]).unwrap();
        assert!(read_from("/etc/a").is_err(), "too long");
        std::fs::remove_file(&file).unwrap();
        assert!(read_from("/etc/a").is_err(), "not there");
    }
}
