//! Takes a checkpoint of a server that is parked. Runs in a thread of its own; the replica's loop feeds the server nothing
//! meanwhile.
#![expect(clippy::disallowed_methods, reason = "how long a checkpoint takes is told")]

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use super::manifest::{FORMAT, Known, MANIFEST, Manifest, Place};
use super::{
    ARENA, CheckpointError, IMAGES, LAYERS, LogEnd, OUTPUT, SHM, Store, Stored, arena, files, memory, room,
};
use crate::channel::{Channel, Received};
use crate::container::criu::{CRIU_LOG, GoOn, Word};
use crate::container::{LAYERS_DIRECTORY, OUTPUT_DIRECTORY};
use crate::private::make_private;
use crate::slices::{briefly, modestly};

/// How long CRIU may take to freeze and dump the processes, seconds.
const PATIENCE_SECONDS: i64 = 120;

/// Where a checkpoint is taken.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where it goes.
    pub store: Store,
    /// The replica's own directory: layers and output.
    pub replica: PathBuf,
    /// The arena's file on the host.
    pub arena: PathBuf,
    /// Process id of the container's init on the host.
    pub init: i32,
}

/// What the checkpoint is of.
#[derive(Debug)]
pub struct Plan {
    /// See [`Site`].
    pub site: Site,
    /// The directory that [`Plan::begin`] has made; CRIU's images go into it.
    pub made: PathBuf,
    /// The preload library.
    pub preload: PathBuf,
    /// Fingerprint of cluster and command.
    pub fingerprint: [u8; 16],
    /// See [`Place`].
    pub place: Place,
    /// See [`Known`].
    pub known: Known,
    /// See [`LogEnd`].
    pub log_end: LogEnd,
}

/// A checkpoint that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The checkpoint.
    pub stored: Stored,
    /// What took how long.
    pub phases: Phases,
}

/// What took how long, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// Until the server had come to rest.
    pub rest: u64,
    /// CRIU's start, and its dump of the processes.
    pub dump: u64,
    /// The copies of arena and files, at the same time.
    pub copies: u64,
    /// From the end of both until the processes ran.
    pub thaw: u64,
    /// The copy of the first process's memory that CRIU still made while the server ran.
    pub memory: u64,
    /// Sums, and the way to the disk, while the server ran.
    pub store: u64,
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
        make_private(&images)
            .and_then(|()| fs::File::open(&images))
            .map(|file| (made, file))
            .map_err(CheckpointError::file("make", images))
    }
}

/// Takes the checkpoint; `helper` is the channel to the helper that has CRIU dump the processes.
pub fn take(plan: &Plan, helper: &Channel) -> Result<Taken, CheckpointError> {
    let taken = dump(plan, helper).and_then(|(last_pid, mut phases)| {
        let begun = Instant::now();
        memory::wait(&plan.made.join(IMAGES))?;
        phases.memory = milliseconds(begun);
        let begun = Instant::now();
        modestly();
        let stored = complete(plan, last_pid)?;
        phases.store = milliseconds(begun);
        Ok(Taken { stored, phases })
    });
    if taken.is_err() {
        plan.site.store.keep_log(&plan.made.join(IMAGES));
        Store::remove(&plan.made);
    }
    taken
}

fn milliseconds(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

/// The copies are made while CRIU works: the server rests anyway.
fn dump(plan: &Plan, helper: &Channel) -> Result<(i32, Phases), CheckpointError> {
    std::thread::scope(|scope| {
        let copying = std::thread::Builder::new().name("copies".to_owned()).spawn_scoped(scope, || {
            let begun = Instant::now();
            // The server waits for this as for CRIU, which does not copy its memory meanwhile.
            briefly();
            copy(plan).map(|()| milliseconds(begun))
        });
        let died = || CheckpointError::Helper("has no thread to copy files beside it".to_owned());
        let copying = copying.map_err(|_| died())?;
        converse(plan, helper, || {
            let copied = copying.join().unwrap_or_else(|_| Err(died()));
            if copied.is_err() || saw_criu(plan) { copy_anew(plan) } else { copied }
        })
    })
}

/// Hears what the helper has to say; `copied` waits for the copies, and tells how long they took.
fn converse(
    plan: &Plan,
    helper: &Channel,
    copied: impl FnOnce() -> Result<u64, CheckpointError>,
) -> Result<(i32, Phases), CheckpointError> {
    let lost = |what: &str| CheckpointError::Helper(what.to_owned());
    let patience = TimeVal::new(PATIENCE_SECONDS, 0);
    setsockopt(&helper.as_fd(), sockopt::ReceiveTimeout, &patience)
        .map_err(|_| lost("has no channel that can be waited for"))?;
    let (begun, mut copied) = (Instant::now(), Some(copied));
    let (mut phases, mut frozen) = (Phases::default(), None);
    loop {
        match helper.receive::<Word>() {
            Ok(Received::Message(Word::Frozen { last_pid }, _)) => {
                phases.dump = milliseconds(begun);
                let copies = copied.take().map_or_else(|| Err(lost("asks twice")), |copied| copied());
                let _ = helper.send(&GoOn(copies.is_ok()));
                phases.copies = copies?;
                frozen = Some((last_pid, Instant::now()));
            }
            Ok(Received::Message(Word::Done(Ok(())), _)) => {
                let (last_pid, since) = frozen.ok_or_else(|| lost("did not wait for the copies"))?;
                phases.thaw = milliseconds(since);
                return Ok((last_pid, phases));
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

/// Copies, while the server rests, what is not in CRIU's images.
fn copy(plan: &Plan) -> Result<(), CheckpointError> {
    let Site { arena, replica, .. } = &plan.site;
    arena::save(arena, &plan.made.join(ARENA))?;
    let top = replica.join(LAYERS_DIRECTORY);
    let layers =
        layers(&top)?.into_iter().map(|layer| (top.join(&layer), plan.made.join(LAYERS).join(layer)));
    let others =
        [(replica.join(OUTPUT_DIRECTORY), plan.made.join(OUTPUT)), (plan.site.shm(), plan.made.join(SHM))];
    files::copy_trees(replica, &layers.chain(others).collect::<Vec<_>>())
}

/// CRIU's first run in a container looks at the kernel with the help of directories in its /tmp, which are gone when the processes
/// are dumped. A copy that met them may have failed on them, or has them.
fn saw_criu(plan: &Plan) -> bool {
    let layers = plan.made.join(LAYERS);
    let mounts = fs::read_dir(layers.join("mounts")).into_iter().flatten().flatten();
    let tops = mounts.map(|entry| entry.path().join("upper")).chain([layers.join("upper")]);
    tops.flat_map(|top| [top.join("tmp"), top]).any(|directory| has_criu(&directory))
}

fn has_criu(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| name.as_encoded_bytes().starts_with(b".criu."))
}

/// Copies once more, and tells how long that took.
fn copy_anew(plan: &Plan) -> Result<u64, CheckpointError> {
    let begun = Instant::now();
    remove_copies(&plan.made)?;
    copy(plan).map(|()| milliseconds(begun))
}

/// Removes what [`copy`] makes, as far as it got.
fn remove_copies(made: &Path) -> Result<(), CheckpointError> {
    for part in [ARENA, LAYERS, OUTPUT, SHM].map(|name| made.join(name)) {
        let removed = if part.is_dir() { fs::remove_dir_all(&part) } else { fs::remove_file(&part) };
        let there = |error: &std::io::Error| error.kind() != std::io::ErrorKind::NotFound;
        match removed {
            Err(error) if there(&error) => return Err(CheckpointError::file("remove", &part)(error)),
            _ => {}
        }
    }
    Ok(())
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
    // The log's reserve may have been used up by others meanwhile.
    room::require(&plan.made, 0)?;
    plan.site.store.keep_log(&plan.made.join(IMAGES));
    plan.log_end.write(&plan.made)?;
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
    plan.site.store.finish(&plan.made, &manifest)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ARENA, IMAGES, LAYERS, OUTPUT, has_criu, remove_copies};

    fn scratch(name: &str) -> std::path::PathBuf {
        let directory = std::env::temp_dir().join(format!("brolga-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn the_directories_of_criu_are_known() {
        let directory = scratch("criu");
        assert!(!has_criu(&directory.join("missing")));
        fs::create_dir(directory.join("criu")).unwrap();
        assert!(!has_criu(&directory));
        fs::create_dir(directory.join(".criu.move_mount_set_group.7K5Int")).unwrap();
        assert!(has_criu(&directory));
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn copies_are_removed_as_far_as_they_got_and_images_stay() {
        let made = scratch("copies");
        fs::write(made.join(ARENA), "pages").unwrap();
        fs::create_dir_all(made.join(LAYERS).join("upper/tmp")).unwrap();
        fs::create_dir(made.join(OUTPUT)).unwrap();
        fs::create_dir(made.join(IMAGES)).unwrap();
        remove_copies(&made).unwrap();
        let left: Vec<_> = fs::read_dir(&made).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [IMAGES]);
        fs::remove_dir_all(&made).unwrap();
    }
}
