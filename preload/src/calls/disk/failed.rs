//! A disk that fails under a replica's files (EIO), or that became read-only, as ext4 makes it on errors (EROFS), is of this
//! replica alone: the others' servers hear of no error, so this one's must not either. The replica stops with a message that
//! names the call and the file, and is rebuilt.

use core::fmt::Write;

use super::place::{FileSystem, Place};
use super::{MAX_PATH_BYTES, path_of};
use crate::fatal;
use crate::syscalls;
use crate::world::{apart, dmt};

/// What the kernel says of a disk that fails.
pub const EIO: isize = -(libc::EIO as isize);

/// What it says of one that is read-only.
pub const EROFS: isize = -(libc::EROFS as isize);

/// Whether the descriptor is a file on a disk: other things say EIO for reasons of their own, a terminal for example, or a file of
/// /sys about a device that has nothing to tell.
fn is_on_disk(fd: usize) -> bool {
    super::look_fd(fd).is_none_or(|real| real.is_regular() || real.is_directory())
        && FileSystem::of(fd).is_none_or(|found| !found.is_kernels())
}

/// Whether a file system is an overlay that may be written to: not this is read-only then, but what its layer lies on.
fn is_writable_overlay(found: &FileSystem) -> bool {
    found.is_overlay() && !found.is_read_only()
}

/// Call `number` with arguments `a` failed with EIO or EROFS. Returns if that is nothing of a disk's.
///
/// # Safety
/// The arguments are those of the call: a path points to a C string.
#[cold]
pub unsafe fn failed(number: i64, a: [usize; 6], errno: isize) {
    // SAFETY: forwarded promise.
    let place = unsafe { Place::of(number, a) };
    // Nothing of what the kernel says here stays on the program's stack, for it may go on.
    let of_disk = apart(|| match place {
        _ if errno == EROFS => place.file_system().as_ref().is_some_and(is_writable_overlay),
        // Of two files it may be the other.
        Place::Open(fd) => is_on_disk(fd) || is_on_disk(a[0]),
        Place::Named(..) => place.file_system().is_none_or(|found| !found.is_kernels()),
    });
    if !of_disk {
        return;
    }
    apart(|| {
        let mut room = [0; MAX_PATH_BYTES];
        let path = match place {
            Place::Open(fd) => path_of(fd, &mut room),
            Place::Named(_, path) => path,
        };
        let what = match errno {
            EROFS => "EROFS: it is read-only",
            _ => "EIO, an input/output error",
        };
        let name = syscalls::class(number as usize).map_or("a call", |(name, _)| name);
        let mut line = fatal::Line::new();
        let path = core::str::from_utf8(path).unwrap_or("a file with an odd name");
        let _ = write!(line, "the disk failed here: {name} of {path} gave {what}");
        let text = core::str::from_utf8(line.bytes()).unwrap_or("the disk failed here");
        dmt(|call| call.fail_for_good(text));
    });
}
