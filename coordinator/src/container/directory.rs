//! The replica's directory on the host: upper layers of the overlays and the server's output files.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::ContainerError;

/// Under it stand `upper` and `work` of the root overlay, and `mounts/<n>/` for each other file system of the host.
pub const LAYERS_DIRECTORY: &str = "layers";
/// Under it stand `stdout` and `stderr` of the server, and those of the start before as `*.previous`.
pub const OUTPUT_DIRECTORY: &str = "output";
/// Where the new root is put together.
pub(super) const ROOT_DIRECTORY: &str = "root";
/// Where the layer of system files is.
pub(super) const SYSTEM_DIRECTORY: &str = "system";

/// Wipes what an earlier start left and makes the directories anew.
pub fn prepare(directory: &Path) -> Result<(), ContainerError> {
    if directory.as_os_str().as_bytes().iter().any(|byte| b",:\\".contains(byte)) {
        return Err(ContainerError::OverlayPath(directory.to_owned()));
    }
    let layers = directory.join(LAYERS_DIRECTORY);
    at(&layers, remove_tree(&layers))?;
    let mount_points = [ROOT_DIRECTORY, SYSTEM_DIRECTORY].map(|name| directory.join(name));
    let private =
        [&[directory.to_owned(), layers.clone(), layers.join("mounts")][..], &mount_points].concat();
    for path in private.iter().chain(&[layers.join("upper"), layers.join("work")]) {
        at(path, make_directory(path, 0o700))?;
    }
    // The upper layer's own mode is the mode of `/` in the container.
    let upper = layers.join("upper");
    at(&upper, fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)))?;
    let output = directory.join(OUTPUT_DIRECTORY);
    at(&output, make_directory(&output, 0o755))?;
    for name in ["stdout", "stderr"] {
        rotate(&output.join(name))?;
    }
    Ok(())
}

/// A server sees the size of its output files, so every start begins with empty ones.
fn rotate(file: &Path) -> Result<(), ContainerError> {
    let mut previous = file.as_os_str().to_owned();
    previous.push(".previous");
    match fs::rename(file, PathBuf::from(previous)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => at(file, Err(error)),
        _ => Ok(()),
    }
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, ContainerError> {
    result.map_err(|source| ContainerError::Directory { path: path.to_owned(), source })
}

/// Removes a directory tree, also one with the unreadable directories that overlayfs and servers make; a tree that does
/// not exist is no error.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_up(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
