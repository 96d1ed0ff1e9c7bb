//! Files of the host that changed after the cluster's first moment. One replica may have read such a file as it was, and another one, or
//! itself when it replays, reads it as it is: the most likely reason why replicas diverge. Each gives one line in the replica's log.

use core::ffi::{CStr, c_int, c_void};
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use dmt::disk::Time;

use super::{MAX_PATH_BYTES, path_of, real};
use crate::calls::refuse::log_once;
use crate::fatal::Line;
use crate::raw;
use crate::world::{apart, dmt};

/// Where Brolga's own files are, which each replica has anew.
const OWN: &[u8] = b"/run/brolga/";
/// Files that a process looks at: with the last of them it says no more.
const MOST_TOLD: usize = 128;
/// Those that it has told of, or has copied from the host, by device and inode.
static TOLD: [AtomicU64; MOST_TOLD] = [const { AtomicU64::new(0) }; MOST_TOLD];

/// The program opened a regular file, to write to it or not. Leaves marks on the stack: to be called apart.
pub fn opened(fd: usize, stat: &libc::stat, to_write: bool) {
    if is_news(stat, to_write) {
        let mut room = [0; MAX_PATH_BYTES];
        tell(path_of(fd, &mut room));
    }
}

/// The loader has mapped the program and its libraries.
pub fn started() {
    apart(|| {
        look(c"/proc/self/exe");
        // SAFETY: the callback's promises are the function's.
        unsafe { libc::dl_iterate_phdr(Some(mapped), core::ptr::null_mut()) };
    });
}

unsafe extern "C" fn mapped(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: the loader's structure, whose name is a C string or null.
    let name = unsafe { (*info).dlpi_name };
    if !name.is_null() {
        // SAFETY: as above.
        look(unsafe { CStr::from_ptr(name) });
    }
    0
}

fn look(path: &CStr) {
    // SAFETY: a C string.
    let fd = unsafe { raw!(libc::SYS_open, path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC, 0) };
    let Ok(fd) = usize::try_from(fd) else { return };
    // SAFETY: our own structure, for which all zeroes is valid.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: as above; the descriptor is ours.
    unsafe { raw!(libc::SYS_fstat, fd, &raw mut stat) };
    opened(fd, &stat, false);
    // SAFETY: closes what was opened here.
    unsafe { raw!(libc::SYS_close, fd) };
}

fn is_news(stat: &libc::stat, to_write: bool) -> bool {
    let real = real(stat);
    let (changed, content_changed) = dmt(|call| {
        call.with(|k| {
            let start = Time::of_clock(k.sched.genesis_clock);
            (k.disk.has_changed(&real, start), real.modified > start)
        })
    });
    // Opening a file of the host to write has copied it, and its attributes changed with that, here. From now on they say nothing.
    changed && is_first(stat.st_dev.rotate_left(32) ^ stat.st_ino) && (content_changed || !to_write)
}

/// Whether this process has not looked at it yet, and still looks.
fn is_first(file: u64) -> bool {
    for told in &TOLD {
        match told.compare_exchange(0, file, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(known) if known == file => return false,
            Err(_) => {}
        }
    }
    false
}

fn tell(path: &[u8]) {
    if path.starts_with(OWN) {
        return;
    }
    let mut line = Line::new();
    let path = core::str::from_utf8(path).unwrap_or("a file");
    let _ = write!(
        line,
        "{path} was changed on the host after the cluster was made: a replica that reads it at another time \
                          may diverge; change it by `brolga signal HUP --replace`, or begin anew with --fresh"
    );
    log_once(&line);
}
