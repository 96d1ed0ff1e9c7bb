//! The real time, which tests may shift.
//!
//! A clock that jumps is a fault like any other, but the clock of a machine belongs to all that runs on it. So the variable
//! [`SHIFT_VARIABLE`] may name a file with eight bytes, a number of nanoseconds that is added to what the clock says; whoever tests
//! changes it while the coordinator runs. For tests only.
#![expect(clippy::disallowed_methods, reason = "the clock itself")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// See the module.
pub const SHIFT_VARIABLE: &str = "BROLGA_TEST_CLOCK_SHIFT";
const SHIFT_BYTES: usize = size_of::<u64>();

static SHIFT: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();

/// What is added to the clock, nanoseconds (it wraps around); `None` outside of tests.
pub fn shift() -> Option<u64> {
    SHIFT.get_or_init(open).map(|shift| shift.load(Ordering::Relaxed))
}

fn open() -> Option<&'static AtomicU64> {
    let path = std::env::var_os(SHIFT_VARIABLE)?;
    let file = File::open(path).ok()?;
    if file.metadata().ok()?.len() < SHIFT_BYTES as u64 {
        return None;
    }
    // SAFETY: a new shared mapping of a file that is long enough.
    let map = unsafe {
        libc::mmap(std::ptr::null_mut(), SHIFT_BYTES, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    // SAFETY: the mapping is never undone, begins at a page, and is only read; the number in it is atomic.
    (map != libc::MAP_FAILED).then(|| unsafe { AtomicU64::from_ptr(map.cast()) })
}

/// The real time, nanoseconds since the Unix epoch.
pub fn wall_clock() -> u64 {
    let real = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    real.wrapping_add(shift().unwrap_or(0))
}

/// The same for certificates.
#[derive(Debug)]
pub struct WallClock;

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(wall_clock())))
    }
}
