//! A disk that forgets what was not flushed when its power is cut: a real block device with a real file system on it.
//!
//! A loop device stands on a file that this process serves by FUSE. Every write of the device arrives here and stays in a
//! volatile cache; only a flush of the device makes what came before it durable. When the power is cut, nothing is taken
//! any more (every request fails), each sector of the cache is lost or kept as a seed decides, and what is left can be
//! started again. The kernel's file system, its journal and its `fdatasync` are real; the disk under them is simulated,
//! and so is the cut: processes live on until their test kills them, but nothing that they do reaches the disk.

mod file;
mod fuse;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::mounts;
use crate::wait::{PATIENCE, poll, until};
pub use file::{SECTOR_BYTES, VolatileFile};
use fuse::Server;

/// Size of the device. Only what is written takes memory.
const DEVICE_BYTES: usize = 768 << 20;

/// The disk, mounted.
#[derive(Debug)]
pub struct Disk {
    /// The mounted file system.
    directory: PathBuf,
    power: Option<Power>,
}

/// What a running disk needs.
#[derive(Debug)]
struct Power {
    file: Arc<Mutex<VolatileFile>>,
    pause: Arc<AtomicU64>,
    device: PathBuf,
    served: PathBuf,
    _server: Server,
}

impl Disk {
    /// Makes a new one with an empty file system, mounted at `directory`. `spare` is a file name of its own.
    pub fn make(directory: &Path, spare: &Path) -> Self {
        mounts::make_private();
        fs::create_dir_all(directory).expect("make the mount point");
        let mut disk = Self { directory: directory.to_owned(), power: None };
        disk.start(VolatileFile::new(DEVICE_BYTES), spare, true);
        disk
    }

    /// Cuts the power: from now on nothing reaches the disk. Returns what it will start with, where `keep` decides for each
    /// sector that was written and not flushed, and how many of those there were.
    pub fn cut(&self, keep: impl FnMut() -> bool) -> (VolatileFile, usize) {
        let mut file = lock(self.file());
        let unflushed = file.unflushed();
        (file.cut(keep), unflushed)
    }

    /// How often the file system, or somebody through it, waited for all to be on the disk.
    pub fn flushes(&self) -> u64 {
        lock(self.file()).flushes()
    }

    /// Waits for a write in the midst of which the power fails, the `writes`-th from now.
    pub fn fail_at(&self, writes: u32) {
        lock(self.file()).fail_at(writes);
        until("the power fails", PATIENCE, || lock(self.file()).is_dead().then_some(()));
    }

    /// From now on each write and each flush takes so much longer.
    pub fn slow_down(&self, by: Duration) {
        let nanoseconds = u64::try_from(by.as_nanos()).expect("a short pause");
        self.power().pause.store(nanoseconds, Ordering::Relaxed);
    }

    fn file(&self) -> &Mutex<VolatileFile> {
        &self.power().file
    }

    fn power(&self) -> &Power {
        self.power.as_ref().expect("the disk has power")
    }

    /// Takes the dead file system away and mounts what the cut left. Nobody may use the old one any more.
    pub fn restart(&mut self, left: VolatileFile, spare: &Path) {
        self.end();
        self.start(left, spare, false);
    }

    fn start(&mut self, file: VolatileFile, spare: &Path, format: bool) {
        fs::write(spare, "").unwrap_or_else(|error| panic!("cannot make {}: {error}", spare.display()));
        let file = Arc::new(Mutex::new(file));
        let pause = Arc::new(AtomicU64::new(0));
        let server = Server::mount(spare, Arc::clone(&file), Arc::clone(&pause))
            .expect("serve a file by FUSE: are you root?");
        let shown = run(Command::new("losetup").args(["--find", "--show"]).arg(spare));
        let device = PathBuf::from(shown.trim());
        let served = spare.to_owned();
        self.power = Some(Power { file, pause, device: device.clone(), served, _server: server });
        if format {
            let options = ["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"];
            run(Command::new("mkfs.ext4").args(options).arg(&device));
        }
        run(Command::new("mount").args(["-t", "ext4"]).arg(&device).arg(&self.directory));
        // It is in use, so this means: as soon as it is not. Then it goes even if this process has no time to see to it.
        run(Command::new("losetup").arg("--detach").arg(&device));
    }

    fn end(&mut self) {
        let Some(power) = self.power.take() else { return };
        // Without power a file system can end only lazily: what it still wants to write is refused.
        let quiet = |command: &mut Command| drop(command.output());
        quiet(Command::new("umount").arg("-l").arg(&self.directory));
        let device = Path::new("/sys/block").join(power.device.file_name().unwrap_or_default());
        let backing = device.join("loop/backing_file");
        // Once it is free, the device may be anybody's.
        let own =
            || fs::read_to_string(&backing).is_ok_and(|path| Path::new(path.trim_end()) == power.served);
        let gone = poll(PATIENCE, || (!own()).then_some(()));
        assert!(gone.is_some() || std::thread::panicking(), "{}: somebody holds on to it", backing.display());
        quiet(Command::new("umount").arg("-l").arg(&power.served));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock(file: &Mutex<VolatileFile>) -> MutexGuard<'_, VolatileFile> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Throws that a seed repeats; one in `odds` is true.
pub fn coin(seed: u64, odds: u64) -> impl FnMut() -> bool {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).is_multiple_of(odds)
    }
}
