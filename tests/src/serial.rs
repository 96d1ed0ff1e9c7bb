//! Tests with real servers run one at a time on a machine, also when several test programs run side by side.

use std::fs::File;
use std::os::fd::AsRawFd;

/// Held while a test runs.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

/// Waits until no other test with real servers runs.
pub fn turn() -> Turn {
    let path = std::env::temp_dir().join("brolga-tests.lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    // SAFETY: a descriptor that we own; the lock goes with it.
    let locked = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) };
    assert_eq!(locked, 0, "cannot lock {}: {}", path.display(), std::io::Error::last_os_error());
    Turn { _lock: lock }
}
