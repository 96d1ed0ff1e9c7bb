//! A directory of a test's own, removed at the end.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const OVERLAYFS_MAGIC: i64 = 0x794c_7630;

/// The directory.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    name: String,
}

impl Scratch {
    /// Makes it. Its name is unique on this machine while it exists.
    pub fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}-{number}-{label}", std::process::id());
        let path = base().join(format!("brolga-{name}"));
        std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("cannot make {}: {e}", path.display()));
        Self { path, name }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A short unique name, fit for a cluster.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Scratch {
    /// For a test that failed and goes on: where it stays, if `BROLGA_KEEP` says that those of failed tests stay.
    pub fn keep(self) -> Option<PathBuf> {
        // Else dropped here, and removed.
        keeps().then(|| std::mem::ManuallyDrop::new(self).path.clone())
    }
}

fn keeps() -> bool {
    std::env::var_os("BROLGA_KEEP").is_some()
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() && keeps() {
            println!("kept: {}", self.path.display());
            return;
        }
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// An overlay's upper layer cannot be on an overlay, which is what `/tmp` is in many containers.
fn base() -> PathBuf {
    let usual = std::env::temp_dir();
    if file_system(&usual) == Some(OVERLAYFS_MAGIC) { PathBuf::from("/dev/shm") } else { usual }
}

fn file_system(path: &Path) -> Option<i64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: a valid path and a structure of our own.
    unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        (libc::statfs(path.as_ptr(), &raw mut found) == 0).then_some(found.f_type)
    }
}
