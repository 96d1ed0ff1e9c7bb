//! The next segment file, made ahead of its use by a thread.
//!
//! To allocate a file, and to touch each page of its mapping for the first time, can take a tenth of a second on a busy
//! disk: the kernel makes writers wait while it writes back. The replica's loop must not wait for that. The thread also
//! closes files that are full, because unmapping takes milliseconds, and removes those that were cut off.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, yield_now};

use super::disk::{DiskFile, MappedFile};
use crate::slices::modestly;

/// Bytes of a new file that are touched at a time, and of a full one that are unmapped. In between, others may change the process's
/// mappings, and other processes get the processor: the kernel keeps it for all of an unmapping.
const TOUCH_BYTES: u64 = 256 << 10;

#[derive(Debug)]
enum Job {
    Make { path: PathBuf, len: u64, durable: bool },
    Close(MappedFile),
    Remove(PathBuf),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Spare {
    jobs: Option<Sender<Job>>,
    made: Receiver<io::Result<MappedFile>>,
    thread: Option<JoinHandle<()>>,
    wanted: Option<(PathBuf, u64)>,
}

impl Spare {
    /// Starts the thread. Without one (the machine is out of threads) files are made when they are needed.
    pub(super) fn start() -> Self {
        let (jobs, taken) = channel();
        let (tell, made) = channel();
        let thread =
            std::thread::Builder::new().name("log-spare".to_owned()).spawn(move || work(&taken, &tell));
        Self { jobs: Some(jobs), made, thread: thread.ok(), wanted: None }
    }

    /// Begins to make the file; with `durable` its zeros are on the disk when it is done.
    pub(super) fn make(&mut self, path: PathBuf, len: u64, durable: bool) {
        self.discard();
        if self.give(Job::Make { path: path.clone(), len, durable }) {
            self.wanted = Some((path, len));
        }
    }

    /// The file, if it was begun: waits until it is there.
    pub(super) fn take(&mut self, path: &Path, len: u64) -> Option<io::Result<MappedFile>> {
        if self.wanted.as_ref().is_some_and(|(name, bytes)| name == path && *bytes == len) {
            self.wanted = None;
            return self.made.recv().ok();
        }
        self.discard();
        None
    }

    /// Closes a file.
    pub(super) fn close(&self, file: MappedFile) {
        self.give(Job::Close(file));
    }

    /// Removes a file.
    pub(super) fn remove(&self, path: PathBuf) {
        self.give(Job::Remove(path));
    }

    fn discard(&mut self) {
        if self.wanted.take().is_some() {
            let _ = self.made.recv();
        }
    }

    fn give(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }
}

impl Drop for Spare {
    /// Waits for the thread: the directory is another's then.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Receiver<Job>, tell: &Sender<io::Result<MappedFile>>) {
    // All replicas are about as far as each other, and their clients should not wait for three new files at once.
    modestly();
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Close(file) => file.close_in_pieces(TOUCH_BYTES),
            Job::Remove(path) => super::disk::remove(&path),
            Job::Make { path, len, durable } => {
                let made = MappedFile::create(&path, len).and_then(|mut file| {
                    touch(&mut file)?;
                    if durable {
                        file.sync()?;
                    }
                    Ok(file)
                });
                let _ = tell.send(made);
            }
        }
    }
}

/// Makes every page of it.
fn touch(file: &mut MappedFile) -> io::Result<()> {
    let zeros = vec![0; TOUCH_BYTES as usize];
    let mut at = 0;
    while at < file.len() {
        let bytes = TOUCH_BYTES.min(file.len() - at);
        file.touch(at, &zeros[..bytes as usize])?;
        at += bytes;
        yield_now();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Spare;
    use crate::log::disk::DiskFile;

    #[test]
    fn a_file_that_was_made_ahead_is_taken_once_and_only_if_it_is_the_right_one() {
        let directory = std::env::temp_dir().join(format!("brolga-spare-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("new.tmp");
        let mut spare = Spare::start();
        assert!(spare.take(&path, 4096).is_none(), "nothing was begun");
        for durable in [false, true] {
            spare.make(path.clone(), 1 << 20, durable);
            let file = spare.take(&path, 1 << 20).unwrap().unwrap();
            let mut bytes = [1; 16];
            file.read_at((1 << 20) - 16, &mut bytes).unwrap();
            assert_eq!((file.len(), bytes), (1 << 20, [0; 16]));
            spare.close(file);
        }
        spare.make(path.clone(), 1 << 20, false);
        assert!(spare.take(&path, 4096).is_none(), "another length was asked for");
        assert!(spare.take(&path, 1 << 20).is_none(), "and then it is gone");
        spare.make(directory.join("no/such/directory"), 4096, false);
        assert!(spare.take(&directory.join("no/such/directory"), 4096).unwrap().is_err());
        drop(spare);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
