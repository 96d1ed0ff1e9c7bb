//! Memory that is copied when the server runs again.
//!
//! CRIU as `scripts/setup-criu` builds it has the server's first process fork while it stands still, and copies that process's memory
//! out of the child afterwards, in a process that outlives the dump (`scripts/criu/0003-*`). Until it has, a file lies among the
//! images, which that process keeps locked.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::{CheckpointError, take};

/// Name of that file.
const COPYING: &str = "copying";

/// Waits for the copy, if there is one. It ends with the container at the latest.
pub(super) fn wait(images: &Path) -> Result<(), CheckpointError> {
    let path = images.join(COPYING);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CheckpointError::file("open", path)(error)),
    };
    let locked = loop {
        match Flock::lock(
            file.try_clone().map_err(CheckpointError::file("open", &path))?,
            FlockArg::LockShared,
        ) {
            Err((_, nix::errno::Errno::EINTR)) => {}
            locked => {
                break locked.map_err(|(_, error)| CheckpointError::file("wait for", &path)(error.into()))?;
            }
        }
    };
    drop(locked);
    if path.exists() {
        let midway = "the copy of the server's memory ended midway";
        return Err(CheckpointError::Criu(take::first_error(images).unwrap_or(midway.to_owned())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::PathBuf;

    use nix::fcntl::{Flock, FlockArg};

    use super::{COPYING, wait};

    fn images(name: &str) -> PathBuf {
        let images = std::env::temp_dir().join(format!("brolga-memory-{name}-{}", std::process::id()));
        fs::create_dir_all(&images).unwrap();
        images
    }

    fn lock(images: &std::path::Path) -> Flock<File> {
        Flock::lock(File::create(images.join(COPYING)).unwrap(), FlockArg::LockExclusive).unwrap()
    }

    #[test]
    fn a_copy_that_goes_on_is_waited_for() {
        let images = images("wait");
        assert!(wait(&images).is_ok(), "none goes on");
        let lock = lock(&images);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| wait(&images));
            fs::remove_file(images.join(COPYING)).unwrap();
            drop(lock);
            assert!(waits.join().unwrap().is_ok());
        });
        fs::remove_dir_all(&images).unwrap();
    }

    #[test]
    fn a_copy_that_was_cut_short_is_an_error() {
        let images = images("short");
        let lock = lock(&images);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| wait(&images));
            drop(lock);
            let error = waits.join().unwrap().unwrap_err().to_string();
            assert!(error.contains("midway"), "{error}");
            fs::write(images.join("criu.log"), "Error (criu/page-xfer.c:1): Can't read memory at 1000\n")
                .unwrap();
            assert!(wait(&images).unwrap_err().to_string().contains("Can't read memory at 1000"));
        });
        fs::remove_dir_all(&images).unwrap();
    }
}
