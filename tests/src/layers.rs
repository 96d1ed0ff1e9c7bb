//! Compares what the replicas' servers wrote: the upper layers of their file systems, byte by byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::wait::{PATIENCE, poll};

/// Name of the directory that holds a replica's upper layers.
const LAYERS: &str = "layers";
/// Name of the directory in there with the layers of the host's other file systems.
const MOUNTS: &str = "mounts";
/// Directories of overlayfs' own in there.
const OVERLAY_WORK: &str = "work";

/// Path in the layers -> kind, mode, owner and content.
pub type Picture = BTreeMap<PathBuf, (String, Vec<u8>)>;

/// The `layers` directory of each replica under a state directory, in order of id.
pub fn of_state(state: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    search(state, 3, &mut found);
    found.sort();
    found
}

fn search(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        if entry.file_name() == LAYERS {
            found.push(entry.path());
        } else if depth > 0 {
            search(&entry.path(), depth - 1, found);
        }
    }
}

/// A file of the replica with these layers, by its path without the first `/`.
pub fn find(layers: &Path, path: &Path) -> Option<PathBuf> {
    let mut uppers = vec![layers.join("upper")];
    if let Ok(mounts) = fs::read_dir(layers.join(MOUNTS)) {
        uppers.extend(mounts.flatten().map(|mount| mount.path().join("upper")));
    }
    // Below a mount the path is shorter.
    let mut tails = vec![path.to_owned()];
    while let Ok(tail) = tails[tails.len() - 1].strip_prefix(tails[tails.len() - 1].iter().next()?) {
        if tail.as_os_str().is_empty() {
            break;
        }
        tails.push(tail.to_owned());
    }
    uppers.iter().flat_map(|upper| tails.iter().map(move |tail| upper.join(tail))).find(|path| path.is_file())
}

/// Everything below a `layers` directory. Each file system of the host has a layer `mounts/N`, also one that was mounted after
/// another replica was started, which has none; so those in which nothing was written are left out.
pub fn picture(layers: &Path) -> Picture {
    let mut all = Picture::new();
    walk(layers, layers, &mut all);
    let written: BTreeSet<PathBuf> =
        all.keys().filter(|path| path.iter().count() > 3).map(|path| head(path)).collect();
    all.retain(|path, _| !path.starts_with(MOUNTS) || written.contains(&head(path)));
    all
}

/// The first two names of a path.
fn head(path: &Path) -> PathBuf {
    path.iter().take(2).collect()
}

fn walk(top: &Path, directory: &Path, all: &mut Picture) {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|e| panic!("cannot list {}: {e}", directory.display()));
    for entry in entries.flatten() {
        let path = entry.path();
        let relative = path.strip_prefix(top).expect("below the top").to_owned();
        // `work` stands beside `upper`, at the top and in each of `mounts/N`.
        if entry.file_name() == OVERLAY_WORK && directory.join("upper").is_dir() {
            continue;
        }
        let Ok(meta) = path.symlink_metadata() else { continue };
        let kind = meta.file_type();
        let (name, content) = if kind.is_dir() {
            walk(top, &path, all);
            ("directory", Vec::new())
        } else if kind.is_symlink() {
            (
                "link",
                fs::read_link(&path).map(|p| p.into_os_string().into_encoded_bytes()).unwrap_or_default(),
            )
        } else if kind.is_file() {
            ("file", fs::read(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display())))
        } else if kind.is_char_device() {
            ("removed", Vec::new())
        } else {
            ("special", Vec::new())
        };
        all.insert(
            relative,
            (format!("{name} {:o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid()), content),
        );
    }
}

/// Panics unless the upper layers of all replicas become the same; returns how many files and bytes were compared. A
/// follower runs a little behind, and the status that says how far may be a second old, so it is given time.
pub fn assert_identical(state: &Path, replicas: u8) -> (usize, u64) {
    let mut last = String::new();
    let compared = poll(PATIENCE, || compare(state, replicas).map_err(|difference| last = difference).ok());
    compared.unwrap_or_else(|| panic!("after {PATIENCE:?}: {last}"))
}

fn compare(state: &Path, replicas: u8) -> Result<(usize, u64), String> {
    let layers = of_state(state);
    assert_eq!(layers.len(), usize::from(replicas), "upper layers under {}: {layers:?}", state.display());
    let pictures: Vec<_> = layers.iter().map(|path| picture(path)).collect();
    let first = &pictures[0];
    for (other, path) in pictures.iter().zip(&layers).skip(1) {
        if let Some(difference) = differing(first, other) {
            return Err(format!("{} differs from {}: {difference}", path.display(), layers[0].display()));
        }
    }
    let files = first.values().filter(|(kind, _)| kind.starts_with("file"));
    Ok((files.clone().count(), files.map(|(_, content)| content.len() as u64).sum()))
}

/// The first path at which two pictures differ, and how.
pub fn differing(a: &Picture, b: &Picture) -> Option<String> {
    for path in a.keys().chain(b.keys()) {
        let said = match (a.get(path), b.get(path)) {
            (Some(x), Some(y)) if x == y => continue,
            (Some(x), Some(y)) if x.0 != y.0 => format!("{} against {}", x.0, y.0),
            (Some(x), Some(y)) => {
                let at = x.1.iter().zip(&y.1).position(|(p, q)| p != q);
                let at = at.unwrap_or(x.1.len().min(y.1.len()));
                format!("content differs from byte {at} on ({} and {} bytes)", x.1.len(), y.1.len())
            }
            (Some(x), None) => format!("{} is missing in the other", x.0),
            (None, Some(y)) => format!("{} is only in the other", y.0),
            (None, None) => continue,
        };
        return Some(format!("{}: {said}", path.display()));
    }
    None
}

/// The content of all files of this name in one replica's layers.
pub fn files_named(layers: &Path, name: &str) -> Vec<Vec<u8>> {
    let all = picture(layers);
    all.into_iter()
        .filter(|(path, (kind, _))| kind.starts_with("file") && path.file_name().is_some_and(|n| n == name))
        .map(|(_, (_, content))| content)
        .collect()
}
