//! Brings a server back from a checkpoint.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::eventfd::EventFd;

use super::manifest::MANIFEST;
use super::take::{first_error, hexadecimal};
use super::{
    ARENA, CheckpointError, IMAGES, LAYERS, OUTPUT, SHM, SHM_INSIDE, Store, Stored, arena, criu, files,
};
use crate::container::criu::CRIU_LOG;
use crate::container::{
    ARENA_FILE, Container, ContainerError, ContainerSpec, LAYERS_DIRECTORY, OUTPUT_DIRECTORY, Restore,
    SharedDirectory, prepare,
};

/// A server that was brought back.
#[derive(Debug)]
pub struct Brought {
    /// Its container.
    pub container: Container,
    /// The eventfd that it kicks.
    pub kick: OwnedFd,
}

/// Loads the arena of the checkpoint, which the caller then marks as restored in `marked`, and restores files and processes.
/// `mounted` gets the container's `mountinfo` before any process of the server is there.
/// `fingerprint`, `preload`: what the checkpoint must be of.
pub fn bring(
    stored: &Stored,
    (spec, preload, fingerprint): (&ContainerSpec, &Path, &[u8; 16]),
    kick: &EventFd,
    shared: &SharedDirectory,
    marked: impl FnOnce(),
    mounted: impl FnOnce(&[u8]),
) -> Result<Brought, CheckpointError> {
    let criu = criu::find().map_err(CheckpointError::NoCriu)?;
    verify(stored, preload, fingerprint)?;
    criu::look_ahead(shared.path());
    arena::load(&stored.path.join(ARENA), &shared.path().join(ARENA_FILE))?;
    marked();
    prepare(&spec.directory).map_err(|error| CheckpointError::Helper(error.to_string()))?;
    for name in [(LAYERS, LAYERS_DIRECTORY), (OUTPUT, OUTPUT_DIRECTORY)] {
        files::copy_tree(&stored.path.join(name.0), &spec.directory.join(name.1))?;
    }
    let images = stored.path.join(IMAGES);
    let opened = fs::File::open(&images).map_err(CheckpointError::file("open", &images))?;
    let restore = Restore { criu: &criu, images: opened.as_fd(), last_pid: stored.manifest.last_pid };
    let ready = |init: i32| {
        let init = Path::new("/proc").join(init.to_string());
        let mounts = fs::read(init.join("mountinfo"));
        mounted(
            &mounts.map_err(|error| ContainerError::Setup(format!("its mounts cannot be read: {error}")))?,
        );
        let shm = init.join("root").join(SHM_INSIDE);
        files::copy_tree(&stored.path.join(SHM), &shm)
            .map_err(|error| ContainerError::Setup(error.to_string()))
    };
    let restored = Container::restore(spec, kick.as_fd(), &restore, ready);
    let reason = first_error(&images);
    Store::of(stored).keep_log(&images);
    clean(&images);
    match restored {
        Ok((container, kick)) => {
            // CRIU makes files anew, for a moment, that the server has open and has removed.
            files::restore_times(&stored.path.join(LAYERS), &spec.directory.join(LAYERS_DIRECTORY))?;
            Ok(Brought { container, kick })
        }
        Err(error) => Err(CheckpointError::Criu(reason.unwrap_or_else(|| error.to_string()))),
    }
}

/// Compares all of a checkpoint with what it should be.
fn verify(stored: &Stored, preload: &Path, fingerprint: &[u8; 16]) -> Result<(), CheckpointError> {
    let foreign =
        |reason: &str| CheckpointError::Foreign { path: stored.path.clone(), reason: reason.to_owned() };
    if stored.manifest.cluster != hexadecimal(fingerprint) {
        return Err(foreign("it is of another cluster or command"));
    }
    if stored.manifest.preload != files::crc_of(preload)? {
        return Err(foreign("it was taken with another version of the preload library"));
    }
    clean(&stored.path.join(IMAGES));
    verify_files(stored)
}

/// Compares all files of a checkpoint with its manifest.
pub fn verify_files(stored: &Stored) -> Result<(), CheckpointError> {
    files::compare(&stored.path, &stored.manifest.files, &files::sums(&stored.path, MANIFEST)?)
}

/// Removes what CRIU's restore writes beside the images.
fn clean(images: &Path) {
    for name in [CRIU_LOG, "stats-restore"] {
        let _ = fs::remove_file(images.join(name));
    }
}
