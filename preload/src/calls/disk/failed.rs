//! A disk that fails under a replica's files (EIO), or that became read-only, as ext4 makes it on errors (EROFS), is of this
//! replica alone: the others' servers hear of no error, so this one's must not either. The replica stops with a message that
//! names the call and the file, and is rebuilt.

use core::ffi::{CStr, c_char};
use core::fmt::Write;

use super::{MAX_PATH_BYTES, path_of};
use crate::fatal;
use crate::raw;
use crate::syscalls;
use crate::world::{apart, dmt};

/// What the kernel says of a disk that fails.
pub const EIO: isize = -(libc::EIO as isize);

/// What it says of one that is read-only.
pub const EROFS: isize = -(libc::EROFS as isize);
/// `f_type` of an overlay.
const OVERLAY_MAGIC: u64 = 0x794c_7630;
/// The kernel's `struct statfs`, in words: all of it, `f_type`, and `f_flags`, which libc hides.
const STATFS_WORDS: usize = 15;
const TYPE: usize = 0;
const FLAGS: usize = 10;
const HERE: usize = libc::AT_FDCWD as usize;

/// Where a call has the path of its file: the argument with the directory from which it starts, if there is one, and the path's.
fn path_argument(number: i64) -> Option<(Option<usize>, usize)> {
    Some(match number {
        libc::SYS_open
        | libc::SYS_creat
        | libc::SYS_truncate
        | libc::SYS_mkdir
        | libc::SYS_rmdir
        | libc::SYS_unlink
        | libc::SYS_rename
        | libc::SYS_link
        | libc::SYS_setxattr
        | libc::SYS_lsetxattr
        | libc::SYS_removexattr
        | libc::SYS_lremovexattr
        | libc::SYS_chmod
        | libc::SYS_chown
        | libc::SYS_lchown
        | libc::SYS_mknod => (None, 0),
        libc::SYS_symlink => (None, 1),
        libc::SYS_symlinkat => (Some(1), 2),
        libc::SYS_openat
        | libc::SYS_openat2
        | libc::SYS_mkdirat
        | libc::SYS_mknodat
        | libc::SYS_unlinkat
        | libc::SYS_linkat
        | libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_fchmodat
        | libc::SYS_fchownat
        | libc::SYS_utimensat => (Some(0), 1),
        _ => return None,
    })
}

/// Whether the descriptor is a file on a disk: other things say EIO for reasons of their own, a terminal for example.
fn is_on_disk(fd: usize) -> bool {
    super::look_fd(fd).is_none_or(|real| real.is_regular() || real.is_directory())
}

/// Whether `fd` is in an overlay that may be written to: not this is read-only then, but what its layer lies on.
fn is_in_writable_overlay(fd: usize) -> bool {
    let mut found = [0u64; STATFS_WORDS];
    // SAFETY: room of our own for the kernel's structure.
    let done = unsafe { raw!(libc::SYS_fstatfs, fd, found.as_mut_ptr()) };
    done == 0 && found[TYPE] == OVERLAY_MAGIC && found[FLAGS] & libc::ST_RDONLY == 0
}

/// Whether it is the disk beneath that is read-only. `path`, from `directory` on, may be one that does not exist yet.
fn is_read_only_beneath(directory: usize, path: &[u8]) -> bool {
    let name = path
        .iter()
        .rposition(|&byte| byte != b'/')
        .map_or(0, |last| path[..last].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1));
    let mut parent = [0; MAX_PATH_BYTES];
    let Some(room) = parent[..MAX_PATH_BYTES - 1].get_mut(..name.max(1)) else { return false };
    match name {
        0 => room[0] = if path.first() == Some(&b'/') { b'/' } else { b'.' },
        _ => room.copy_from_slice(&path[..name]),
    }
    // SAFETY: a C string of ours; the descriptor is closed again.
    unsafe {
        let fd = raw!(libc::SYS_openat, directory, parent.as_ptr(), libc::O_PATH | libc::O_CLOEXEC, 0);
        let found = fd >= 0 && is_in_writable_overlay(fd as usize);
        if fd >= 0 {
            raw!(libc::SYS_close, fd);
        }
        found
    }
}

/// Call `number` with arguments `a` failed with EIO or EROFS. Returns if that is nothing of a disk's.
///
/// # Safety
/// The arguments are those of the call: a path points to a C string.
#[cold]
pub unsafe fn failed(number: i64, a: [usize; 6], errno: isize) {
    let argument = path_argument(number).filter(|&(_, path)| a[path] != 0);
    // Nothing of what the kernel says here stays on the program's stack, for it may go on.
    let of_disk = apart(|| match argument {
        None if errno == EROFS => is_in_writable_overlay(a[0]),
        None => is_on_disk(a[0]),
        Some((directory, path)) if errno == EROFS => {
            // SAFETY: forwarded promise.
            let path = unsafe { CStr::from_ptr(a[path] as *const c_char) }.to_bytes();
            is_read_only_beneath(directory.map_or(HERE, |argument| a[argument]), path)
        }
        Some(_) => true,
    });
    if !of_disk {
        return;
    }
    apart(|| {
        let mut room = [0; MAX_PATH_BYTES];
        let path = match argument {
            None => path_of(a[0], &mut room),
            // SAFETY: forwarded promise.
            Some((_, path)) => unsafe { CStr::from_ptr(a[path] as *const c_char) }.to_bytes(),
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
