//! Deleted files and directories that go with their last descriptor or name. The kernel frees their blocks in that very call, which takes long for large
//! ones and waits for the disk on some file systems, and all threads of the server wait for the one that has the turn. So init is
//! given a descriptor before, and the kernel frees the file when init closes that, beside the server.
//!
//! What the program sees is the same: the file has no name and no descriptor of its any more, and how much space is left it does
//! not hear ([`super::space`]). The watched files of a server that uses inotify are freed as ever, for that is an event.
//!
//! When init takes what it is given is a matter of chance, so nothing of all this is done on the program's stack.

use core::ffi::c_int;
use core::sync::atomic::{AtomicI32, Ordering};

use dmt::control::freeing;
use dmt::file::mailed::Letter;

use super::{look, look_fd};
use crate::mailbox;
use crate::own::FREED_IN;
use crate::raw;
use crate::world::{self, apart, dmt};

/// A file of so many bytes on the disk is worth a look by name before it is deleted.
const LARGE_BYTES: u64 = 1 << 20;
/// Bytes of a block as `stat` counts them.
const BLOCK_BYTES: u64 = 512;

/// A descriptor of the file whose name is being deleted, -1 = none.
static HELD: AtomicI32 = AtomicI32::new(-1);

/// Makes the way to init, in the server's first process.
pub fn open() -> Result<(), isize> {
    mailbox::make([FREED_IN, dmt::bounds::FREED_FD])
}

/// Whether init frees files now.
fn is_ready() -> bool {
    let state = world::arena().shared.control.freeing.load(Ordering::Relaxed);
    state == freeing::READY && !dmt(|call| call.is_watching())
}

/// The server is about to delete something: the first time, init is asked to free such files from now on.
pub fn ask() {
    apart(|| {
        let word = &world::arena().shared.control.freeing;
        if word.load(Ordering::Relaxed) == freeing::UNASKED {
            word.store(freeing::ASKED, Ordering::SeqCst);
            // SAFETY: the word is in the arena.
            unsafe { raw!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
        }
    });
}

/// Gives `fd` to init. If it does not take it, the file is freed where it is closed.
fn give(fd: c_int) {
    let _ = mailbox::put_into(FREED_IN, Letter::default(), fd);
}

/// The program is about to close `fd`, a file of the kernel's.
pub fn closing(fd: c_int) {
    apart(|| {
        if is_ready() && look_fd(fd as usize).is_some_and(|real| real.links == 0 && real.blocks > 0) {
            give(fd);
        }
    });
}

/// Carries out a call that deletes the name `path` of a file.
///
/// # Safety
/// `path` is a C string.
pub unsafe fn deleting(directory: usize, path: usize, delete: impl FnOnce() -> isize) -> isize {
    ask();
    // SAFETY: forwarded promise.
    apart(|| unsafe { hold(directory, path) });
    let deleted = delete();
    apart(|| let_go(deleted == 0));
    deleted
}

/// Keeps a descriptor of the file `path`, if that is large and goes with this name.
///
/// # Safety
/// As [`deleting`].
unsafe fn hold(directory: usize, path: usize) {
    const FLAGS: c_int = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    if !is_ready() {
        return;
    }
    // SAFETY: forwarded promise.
    unsafe {
        let real = look(directory, path, libc::AT_SYMLINK_NOFOLLOW);
        if real.is_some_and(|it| it.is_regular() && it.links == 1 && it.blocks * BLOCK_BYTES >= LARGE_BYTES) {
            HELD.store(raw!(libc::SYS_openat, directory, path, FLAGS) as i32, Ordering::Relaxed);
        }
    }
}

fn let_go(is_deleted: bool) {
    let fd = HELD.swap(-1, Ordering::Relaxed);
    if fd < 0 {
        return;
    }
    if is_deleted {
        give(fd);
    }
    // SAFETY: the descriptor that `hold` opened, which the program does not know.
    unsafe { raw!(libc::SYS_close, fd) };
}
