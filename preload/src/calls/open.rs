//! Opening: the random devices are dmt's, measured files of /proc and /sys are copied, all else is the kernel's. What a
//! file is shows only once it is open, because there are many ways to name it.

use core::ffi::{CStr, c_char, c_int};

use crate::calls::disk::{MAX_PATH_BYTES, changed, path_of};
use crate::calls::fifo;
use crate::calls::file::install;
use crate::calls::procfs;
use crate::calls::stamp;
use crate::calls::sync;
use crate::kernel;
use crate::raw;
use crate::world::{apart, dmt};

const HERE: usize = libc::AT_FDCWD as usize;
/// What `creat` means.
const CREAT_FLAGS: c_int = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
/// `/dev/random` and `/dev/urandom`.
const RANDOM_DEVICES: [u64; 2] = [libc::makedev(1, 8), libc::makedev(1, 9)];

/// What the kernel says to who opens a placeholder by its name.
const NO_DEVICE: isize = -(libc::ENXIO as isize);
/// Before a descriptor's number, a name for what it is.
const NAMES_OF_DESCRIPTORS: [&[u8]; 3] = [b"/proc/self/fd/", b"/dev/fd/", b"/proc/thread-self/fd/"];

/// `open`, `creat`, `openat`, `openat2`.
pub unsafe fn open(number: i64, mut a: [usize; 6]) -> isize {
    sync::spare(number, &mut a);
    let flags = match number {
        libc::SYS_open => a[1],
        libc::SYS_creat => CREAT_FLAGS as usize,
        libc::SYS_openat2 if a[2] == 0 => 0,
        // SAFETY: the program's structure starts with the flags.
        libc::SYS_openat2 => unsafe { *(a[2] as *const u64) as usize },
        _ => a[2],
    };
    let (directory, path) =
        if matches!(number, libc::SYS_open | libc::SYS_creat) { (HERE, a[0]) } else { (a[0], a[1]) };
    // SAFETY: forwarded promise.
    if let Some(fd) = unsafe { fifo::open(directory, path, flags as c_int) } {
        return fd;
    }
    // SAFETY: forwarded promise.
    let fd = unsafe {
        match number {
            libc::SYS_creat => stamp::open(HERE, a[0], flags, a[1]),
            libc::SYS_open if changes(flags) => stamp::open(HERE, a[0], flags, a[2]),
            libc::SYS_openat if changes(flags) => stamp::open(a[0], a[1], flags, a[3]),
            libc::SYS_openat2 if changes(flags) => stamp::openat2(a),
            _ => kernel::call(number, a),
        }
    };
    let flags = flags as c_int;
    if fd == NO_DEVICE {
        // SAFETY: forwarded promise.
        if let Some(device) = unsafe { random_device_of(path) } {
            return install(dmt(|call| call.random_file(flags, device)), flags as usize, false);
        }
    }
    if fd < 0 || flags & (libc::O_PATH | libc::O_DIRECTORY) != 0 { fd } else { special(fd as usize, flags) }
}

/// Whether opening may make or empty a file.
fn changes(flags: usize) -> bool {
    const TEMPORARY: c_int = libc::O_TMPFILE & !libc::O_DIRECTORY;
    flags as c_int & (libc::O_CREAT | libc::O_TRUNC | TEMPORARY) != 0
}

/// Replaces what would give another content on each replica.
fn special(fd: usize, flags: c_int) -> isize {
    // What the kernel says of a file is each replica's own.
    let (device, is_fifo, is_measured) = apart(|| {
        // SAFETY: our own structure, for which all zeroes is valid.
        let mut stat: libc::stat = unsafe { core::mem::zeroed() };
        // SAFETY: as above.
        unsafe { raw!(libc::SYS_fstat, fd, &raw mut stat) };
        let kind = stat.st_mode & libc::S_IFMT;
        let device = (kind == libc::S_IFCHR).then_some(stat.st_rdev);
        if kind == libc::S_IFREG {
            changed::opened(fd, &stat, flags & libc::O_ACCMODE != libc::O_RDONLY);
        }
        let is_measured = dmt(|call| call.with(|k| k.disk.devices.is_measured(stat.st_dev)));
        (device, kind == libc::S_IFIFO, is_measured)
    });
    if is_fifo {
        return fifo::replace(fd, flags, false);
    }
    if let Some(device) = device {
        return if RANDOM_DEVICES.contains(&device) { random(fd, flags, device) } else { fd as isize };
    }
    if flags & libc::O_ACCMODE == libc::O_RDONLY && is_measured {
        let mut room = [0; MAX_PATH_BYTES];
        let path = path_of(fd, &mut room);
        if !dmt(|call| call.with(|k| k.has_task(path))) {
            // SAFETY: closes what was opened just now.
            unsafe { raw!(libc::SYS_close, fd) };
            return -(libc::ENOENT as isize);
        }
        if let Some(content) = procfs::content(path) {
            return procfs::replace(fd, flags, content, path);
        }
    }
    fd as isize
}

/// The random device that a path names by a descriptor of it, whose placeholder the kernel cannot open anew.
///
/// # Safety
/// `path` points to a C string.
#[cold]
unsafe fn random_device_of(path: usize) -> Option<u64> {
    // SAFETY: forwarded promise.
    let path = unsafe { CStr::from_ptr(path as *const c_char) };
    let digits = NAMES_OF_DESCRIPTORS.iter().find_map(|&name| path.to_bytes().strip_prefix(name));
    let fd = match path.to_bytes() {
        b"/dev/stdin" => 0,
        _ => core::str::from_utf8(digits?).ok()?.parse().ok()?,
    };
    dmt(|call| call.random_device(fd))
}

fn random(fd: usize, flags: c_int, device: u64) -> isize {
    // SAFETY: closes what was opened just now; the placeholder gets the same number.
    unsafe { raw!(libc::SYS_close, fd) };
    install(dmt(|call| call.random_file(flags, device)), flags as usize, false)
}
