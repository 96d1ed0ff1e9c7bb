//! Named pipes (FIFOs). The kernel's is the placeholder: it is opened such that it does not wait, because who waits in the kernel
//! keeps the turn, and the other end would never come.

use core::ffi::c_int;

use dmt::bounds::MAX_FDS;
use dmt::file::FileKind;

use crate::args;
use crate::calls::disk::{MAX_PATH_BYTES, look, look_fd, path_of, show};
use crate::calls::file::{close, duplicated, settle};
use crate::kernel;
use crate::raw;
use crate::world::{apart, dmt};

const ENXIO: isize = -(libc::ENXIO as isize);

fn is_fifo(mode: u32) -> bool {
    mode & libc::S_IFMT == libc::S_IFIFO
}

/// A program sees or makes a file of this mode.
#[inline]
pub fn note(mode: u32) {
    if is_fifo(mode) {
        dmt(|call| call.note_fifo());
    }
}

/// Opens a FIFO for which the kernel would wait; `None` if it is none.
///
/// # Safety
/// `path` points to a C string.
pub unsafe fn open(directory: usize, path: usize, flags: c_int) -> Option<isize> {
    let waits = flags & (libc::O_NONBLOCK | libc::O_PATH | libc::O_DIRECTORY) == 0
        && flags & libc::O_ACCMODE != libc::O_RDWR;
    if !waits || !dmt(|call| call.has_fifos()) {
        return None;
    }
    let follow = if flags & libc::O_NOFOLLOW != 0 { libc::AT_SYMLINK_NOFOLLOW } else { 0 };
    // SAFETY: forwarded promise; the descriptors are ours until they are closed.
    unsafe {
        if !apart(|| look(directory, path, follow).is_some_and(|real| is_fifo(real.mode))) {
            return None;
        }
        if flags & (libc::O_CREAT | libc::O_EXCL) == libc::O_CREAT | libc::O_EXCL {
            return Some(-(libc::EEXIST as isize));
        }
        let asked = (flags & !libc::O_CREAT) as usize;
        let now = |flags: usize| kernel::call(libc::SYS_openat, args!(directory, path, flags));
        if flags & libc::O_ACCMODE == libc::O_RDONLY {
            return Some(opened(now(asked | libc::O_NONBLOCK as usize), flags, true));
        }
        // The kernel lets nobody in who would write to no reader.
        let helper = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC;
        let helper = raw!(libc::SYS_openat, directory, path, helper, 0);
        let mut fd = now(asked | libc::O_NONBLOCK as usize);
        if helper >= 0 {
            raw!(libc::SYS_close, helper);
        }
        if fd == ENXIO {
            // It may be written, and not be read.
            fd = now(libc::O_PATH as usize | asked & (libc::O_CLOEXEC | libc::O_NOFOLLOW) as usize);
        }
        Some(opened(fd, flags, true))
    }
}

/// `fd` was opened just now.
fn opened(fd: isize, flags: c_int, waits: bool) -> isize {
    if fd < 0 { fd } else { replace(fd as usize, flags, waits) }
}

/// A pipe without a name was opened anew: by `/dev/stdin`, `/dev/fd` or `/proc/self/fd`, as shells do. It becomes what the program's own
/// descriptor of that end is; so, unlike natively, both share O_NONBLOCK.
fn reopened(fd: usize, flags: c_int) -> isize {
    let wanted = match flags & libc::O_ACCMODE {
        libc::O_WRONLY => [FileKind::PipeWrite; 2],
        libc::O_RDONLY => [FileKind::PipeRead; 2],
        _ => [FileKind::PipeRead, FileKind::PipeWrite],
    };
    let name = |fd| look_fd(fd).map(|real| (real.device, real.inode));
    let found = apart(|| {
        let is_end =
            |fd: &usize| dmt(|call| call.file_kind(*fd as c_int)).is_some_and(|kind| wanted.contains(&kind));
        (0..MAX_FDS).filter(is_end).find(|&end| name(end) == name(fd))
    });
    match found {
        Some(end) => duplicated(end as c_int, fd as isize, flags & libc::O_CLOEXEC != 0),
        None => {
            // SAFETY: closes what was opened just now.
            unsafe { raw!(libc::SYS_close, fd) };
            ENXIO
        }
    }
}

/// Makes an open FIFO one of dmt's; `waits` for its other end.
pub fn replace(fd: usize, flags: c_int, waits: bool) -> isize {
    if path_of(fd, &mut [0; MAX_PATH_BYTES]).starts_with(b"pipe:[") {
        return reopened(fd, flags);
    }
    // What the kernel says of a file is each replica's own.
    let name = apart(|| look_fd(fd).map(|real| show(&real)).map(|shown| (shown.device, shown.inode)));
    let Some((device, inode)) = name else { return fd as isize };
    let file = dmt(|call| call.fifo(device, inode, flags));
    if file < 0 {
        // SAFETY: closes what was opened just now.
        unsafe { raw!(libc::SYS_close, fd) };
        return file as isize;
    }
    let fd = settle(fd as isize, file as u32, flags & libc::O_CLOEXEC != 0);
    let met = if waits && fd >= 0 { dmt(|call| call.fifo_meet(fd as c_int)) as isize } else { 0 };
    if met < 0 {
        // SAFETY: as above.
        unsafe { close(args!(fd)) };
        return met;
    }
    fd
}
