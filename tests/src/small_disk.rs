//! A small file system of a test's own, to be filled.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mounts;

/// The file system, unmounted at the end.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it; `size` is a size as `mount -t tmpfs` takes it, such as `512m`.
    pub fn mount(path: &Path, size: &str) -> Self {
        mounts::make_private();
        fs::create_dir_all(path).expect("make the mount point");
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "brolga-small"]).arg(path).status();
        assert!(mounted.expect("run mount").success(), "cannot mount a small file system: are you root?");
        Self(path.to_owned())
    }

    /// What another process mounts, or has mounted, there.
    pub fn mounted(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).expect("make a file");
        let block = vec![1; 64 << 10];
        while filler.write_all(&block).is_ok() {}
    }

    /// Takes all but so many bytes.
    pub fn leave(&self, bytes: u64) {
        self.fill();
        let filler = fs::File::options().write(true).open(self.filler()).expect("open the filler");
        let size = filler.metadata().expect("look at the filler").len();
        filler.set_len(size - bytes).expect("cut the filler");
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Gives it back.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("remove the filler");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}
