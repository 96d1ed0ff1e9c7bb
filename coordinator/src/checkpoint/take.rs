//! Takes a checkpoint of a server that is parked. Runs in a thread of its own; the replica's loop feeds the server nothing
//! meanwhile.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::manifest::{FORMAT, Known, MANIFEST, Manifest, Place};
use super::{ARENA, CheckpointError, IMAGES, LAYERS, OUTPUT, SHM, SHM_INSIDE, Store, Stored, arena, files};
use crate::channel::{Channel, Received};
use crate::container::criu::{CRIU_LOG, GoOn, Word};
use crate::container::{LAYERS_DIRECTORY, OUTPUT_DIRECTORY};

/// How long CRIU may take to freeze and dump the processes, seconds.
const PATIENCE_SECONDS: i64 = 120;

/// What the checkpoint is of.
#[derive(Debug)]
pub struct Plan {
    /// Where it goes.
    pub store: Store,
    /// The directory that [`Plan::begin`] has made; CRIU's images go into it.
    pub made: PathBuf,
    /// The replica's own directory: layers and output.
    pub replica: PathBuf,
    /// The arena's file on the host.
    pub arena: PathBuf,
    /// The preload library.
    pub preload: PathBuf,
    /// Process id of the container's init on the host.
    pub init: i32,
    /// Fingerprint of cluster and command.
    pub fingerprint: [u8; 16],
    /// See [`Place`].
    pub place: Place,
    /// See [`Known`].
    pub known: Known,
}

/// A checkpoint that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The checkpoint.
    pub stored: Stored,
    /// How long the processes stood still, from CRIU's start to its end.
    pub pause: Duration,
}

/// Fingerprint as text.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Plan {
    /// Makes the directories; returns that of CRIU's images.
    pub fn begin(store: &Store) -> Result<(PathBuf, fs::File), CheckpointError> {
        let made = store.begin()?;
        let images = made.join(IMAGES);
        crate::launcher::state::make_private(&images)
            .and_then(|()| fs::File::open(&images))
            .map(|file| (made, file))
            .map_err(CheckpointError::file("make", images))
    }
}

/// Takes the checkpoint; `helper` is the channel to the helper that has CRIU dump the processes.
pub fn take(plan: &Plan, helper: &Channel) -> Result<Taken, CheckpointError> {
    let taken = dump(plan, helper).and_then(|(last_pid, pause)| {
        let stored = complete(plan, last_pid)?;
        Ok(Taken { stored, pause })
    });
    if taken.is_err() {
        plan.store.keep_log(&plan.made.join(IMAGES));
        Store::remove(&plan.made);
    }
    taken
}

fn dump(plan: &Plan, helper: &Channel) -> Result<(i32, Duration), CheckpointError> {
    let lost = |what: &str| CheckpointError::Helper(what.to_owned());
    let patience = TimeVal::new(PATIENCE_SECONDS, 0);
    setsockopt(&helper.as_fd(), sockopt::ReceiveTimeout, &patience)
        .map_err(|_| lost("has no channel that can be waited for"))?;
    let begun = Instant::now();
    let mut frozen = None;
    loop {
        match helper.receive::<Word>() {
            Ok(Received::Message(Word::Frozen { last_pid }, _)) => {
                let copied = copy(plan);
                let _ = helper.send(&GoOn(copied.is_ok()));
                copied?;
                frozen = Some(last_pid);
            }
            Ok(Received::Message(Word::Done(Ok(())), _)) => {
                let last_pid = frozen.ok_or_else(|| lost("did not wait for the copies"))?;
                return Ok((last_pid, begun.elapsed()));
            }
            Ok(Received::Message(Word::Done(Err(message)), _)) => {
                let images = plan.made.join(IMAGES);
                return Err(CheckpointError::Criu(first_error(&images).unwrap_or(message)));
            }
            Ok(Received::Empty) => return Err(lost("says nothing")),
            Ok(Received::Closed) | Err(_) => return Err(lost("ended without a word")),
        }
    }
}

/// What CRIU's log tells first of what went wrong. It has complaints in it that matter to nobody.
pub(super) fn first_error(images: &Path) -> Option<String> {
    const HARMLESS: [&str; 2] = ["rlimit: Can't setup", "tun: Unable to create"];
    let text = fs::read(images.join(CRIU_LOG)).ok()?;
    let text = String::from_utf8_lossy(&text);
    let harmful = |line: &&str| line.contains("Error") && !HARMLESS.iter().any(|text| line.contains(text));
    Some(text.lines().find(harmful)?.trim().to_owned())
}

/// Copies, while the processes stand still, what is not in CRIU's images.
fn copy(plan: &Plan) -> Result<(), CheckpointError> {
    arena::save(&plan.arena, &plan.made.join(ARENA))?;
    for layer in layers(&plan.replica.join(LAYERS_DIRECTORY))? {
        let from = plan.replica.join(LAYERS_DIRECTORY).join(&layer);
        files::copy_tree(&from, &plan.made.join(LAYERS).join(&layer))?;
    }
    files::copy_tree(&plan.replica.join(OUTPUT_DIRECTORY), &plan.made.join(OUTPUT))?;
    let shm = PathBuf::from(format!("/proc/{}/root", plan.init)).join(SHM_INSIDE);
    files::copy_tree(&shm, &plan.made.join(SHM))
}

/// The upper layers of a replica, relative to the directory of all of them.
fn layers(directory: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mounts = directory.join("mounts");
    let mut found = vec![PathBuf::from("upper")];
    for entry in fs::read_dir(&mounts).map_err(CheckpointError::file("list", &mounts))?.flatten() {
        let upper = Path::new("mounts").join(entry.file_name()).join("upper");
        if directory.join(&upper).is_dir() {
            found.push(upper);
        }
    }
    Ok(found)
}

/// The server runs again: sums, manifest, name.
fn complete(plan: &Plan, last_pid: i32) -> Result<Stored, CheckpointError> {
    plan.store.keep_log(&plan.made.join(IMAGES));
    let manifest = Manifest {
        format: FORMAT,
        cluster: hexadecimal(&plan.fingerprint),
        preload: files::crc_of(&plan.preload)?,
        place: plan.place.clone(),
        last_pid,
        known: plan.known.clone(),
        files: files::sums(&plan.made, MANIFEST)?,
    };
    manifest.write(&plan.made)?;
    plan.store.finish(&plan.made, &manifest)
}
