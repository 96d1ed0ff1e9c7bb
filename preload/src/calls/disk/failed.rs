//! A disk that fails under a replica's files (EIO) is of this replica alone: the others' servers hear of no error, so this one's
//! must not either. The replica stops with a message that names the call and the file, and is rebuilt.

use core::ffi::{CStr, c_char};
use core::fmt::Write;

use super::{MAX_PATH_BYTES, path_of};
use crate::fatal;
use crate::syscalls;
use crate::world::{apart, dmt};

/// What the kernel says of a disk that fails.
pub const EIO: isize = -(libc::EIO as isize);

/// Where a call has the path of its file.
fn path_argument(number: i64) -> Option<usize> {
    match number {
        libc::SYS_open
        | libc::SYS_creat
        | libc::SYS_truncate
        | libc::SYS_mkdir
        | libc::SYS_rmdir
        | libc::SYS_unlink
        | libc::SYS_rename
        | libc::SYS_link
        | libc::SYS_symlink
        | libc::SYS_chmod
        | libc::SYS_chown
        | libc::SYS_lchown
        | libc::SYS_mknod => Some(0),
        libc::SYS_openat
        | libc::SYS_openat2
        | libc::SYS_mkdirat
        | libc::SYS_mknodat
        | libc::SYS_unlinkat
        | libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_fchmodat
        | libc::SYS_fchownat => Some(1),
        libc::SYS_utimensat => Some(1),
        _ => None,
    }
}

/// Whether the descriptor is a file on a disk: other things say EIO for reasons of their own, a terminal for example.
fn is_on_disk(fd: usize) -> bool {
    super::look_fd(fd).is_none_or(|real| real.is_regular() || real.is_directory())
}

/// Call `number` with arguments `a` failed with EIO. Returns if that is nothing of a disk's.
///
/// # Safety
/// The arguments are those of the call: a path points to a C string.
#[cold]
pub unsafe fn failed(number: i64, a: [usize; 6]) {
    let at = path_argument(number).map_or(0, |argument| a[argument]);
    if at == 0 && !is_on_disk(a[0]) {
        return;
    }
    apart(|| {
        let mut room = [0; MAX_PATH_BYTES];
        let path = match at {
            0 => path_of(a[0], &mut room),
            // SAFETY: forwarded promise.
            at => unsafe { CStr::from_ptr(at as *const c_char) }.to_bytes(),
        };
        let name = syscalls::class(number as usize).map_or("a call", |(name, _)| name);
        let mut line = fatal::Line::new();
        let path = core::str::from_utf8(path).unwrap_or("a file with an odd name");
        let _ = write!(line, "the disk failed here: {name} of {path} gave EIO, an input/output error");
        let text = core::str::from_utf8(line.bytes()).unwrap_or("the disk failed here with EIO");
        dmt(|call| call.fail_for_good(text));
    });
}
