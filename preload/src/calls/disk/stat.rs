//! `stat` and its like: the kernel's answer, made into what all replicas see.

use core::ffi::c_int;

use dmt::disk::{Real, Shown, Time};
use dmt::file::FileKind;

use super::{is_empty, measured, real, show};
use crate::calls::fifo;
use crate::calls::file::is_virtual;
use crate::gate;
use crate::world::{apart, dmt};

/// Inode numbers of files of dmt's (sockets, pipes) are above all others.
pub const VIRTUAL_INODES: u64 = 1 << 41;

const GONE: isize = -(libc::ENOENT as isize);

/// Type and rights of the random devices.
const RANDOM_MODE: u32 = libc::S_IFCHR | 0o666;

const CURRENT: usize = libc::AT_FDCWD as usize;
const NO_FOLLOW: usize = libc::AT_SYMLINK_NOFOLLOW as usize;

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_stat => stat(number, a, [CURRENT, a[0], 0], a[1]),
        libc::SYS_lstat => stat(number, a, [CURRENT, a[0], NO_FOLLOW], a[1]),
        libc::SYS_fstat => stat(number, a, [a[0], 0, 0], a[1]),
        libc::SYS_newfstatat => stat(number, a, [a[0], a[1], a[3]], a[2]),
        libc::SYS_statx => statx(a),
    }
}

/// One of the calls that fill a `struct stat` at `out`; `file` = directory, path, flags.
///
/// # Safety
/// As the system call.
#[inline]
pub unsafe fn stat(number: i64, a: [usize; 6], file: [usize; 3], out: usize) -> isize {
    // What the kernel says is each replica's own, and must not stay on the program's stack.
    // SAFETY: forwarded promise.
    apart(|| unsafe { fill(number, a, file, out) })
}

unsafe fn fill(number: i64, a: [usize; 6], file: [usize; 3], out: usize) -> isize {
    // SAFETY: forwarded promise; after success the kernel has filled the structure.
    unsafe {
        let done = gate::syscall(number, a);
        if done == 0 {
            let out = &mut *(out as *mut libc::stat);
            let Some(shown) = shown(&real(out), file) else { return GONE };
            out.st_dev = shown.device;
            out.st_ino = shown.inode;
            out.st_nlink = shown.links;
            out.st_size = shown.size as i64;
            out.st_blocks = shown.blocks as i64;
            (out.st_mtime, out.st_mtime_nsec) = (shown.modified.seconds, shown.modified.nanoseconds);
            (out.st_ctime, out.st_ctime_nsec) = (shown.changed.seconds, shown.changed.nanoseconds);
            (out.st_atime, out.st_atime_nsec) = (out.st_mtime, out.st_mtime_nsec);
            if let Some(device) = random_device(file) {
                (out.st_mode, out.st_rdev) = (RANDOM_MODE, device);
            }
        }
        done
    }
}

/// `statx`. Without the time of birth and the number of the mount, as on file systems and kernels that know none.
///
/// # Safety
/// As the system call.
pub unsafe fn statx(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise.
    apart(|| unsafe { fill_x(a) })
}

unsafe fn fill_x(mut a: [usize; 6]) -> isize {
    const STATX_MNT_ID: u32 = 0x1000;
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    a[3] |= libc::STATX_BASIC_STATS as usize;
    // SAFETY: forwarded promise; after success the kernel has filled the structure.
    unsafe {
        let done = gate::syscall(libc::SYS_statx, a);
        if done != 0 {
            return done;
        }
        let out = &mut *(a[4] as *mut libc::statx);
        let time = |t: &libc::statx_timestamp| Time { seconds: t.tv_sec, nanoseconds: i64::from(t.tv_nsec) };
        let real = Real {
            device: libc::makedev(out.stx_dev_major, out.stx_dev_minor),
            inode: out.stx_ino,
            mode: u32::from(out.stx_mode),
            links: u64::from(out.stx_nlink),
            size: out.stx_size,
            blocks: out.stx_blocks,
            accessed: time(&out.stx_atime),
            modified: time(&out.stx_mtime),
            changed: time(&out.stx_ctime),
        };
        let Some(shown) = shown(&real, [a[0], a[1], a[2]]) else { return GONE };
        (out.stx_dev_major, out.stx_dev_minor) = (libc::major(shown.device), libc::minor(shown.device));
        out.stx_nlink = shown.links as u32;
        (out.stx_ino, out.stx_size, out.stx_blocks) = (shown.inode, shown.size, shown.blocks);
        let set = |t: &mut libc::statx_timestamp, to: Time| {
            (t.tv_sec, t.tv_nsec) = (to.seconds, to.nanoseconds as u32);
        };
        set(&mut out.stx_mtime, shown.modified);
        set(&mut out.stx_ctime, shown.changed);
        set(&mut out.stx_atime, shown.modified);
        set(&mut out.stx_btime, Time::default());
        if let Some(device) = random_device([a[0], a[1], a[2]]) {
            out.stx_mode = RANDOM_MODE as u16;
            (out.stx_rdev_major, out.stx_rdev_minor) = (libc::major(device), libc::minor(device));
        }
        out.stx_mnt_id = 0;
        out.stx_mask &= !(libc::STATX_BTIME | STATX_MNT_ID | STATX_MNT_ID_UNIQUE);
        0
    }
}

/// The random device that is open as the descriptor at `file`: programs look whether it really is one.
#[inline]
unsafe fn random_device(file: [usize; 3]) -> Option<u64> {
    // SAFETY: forwarded promise.
    if unsafe { is_empty(file[1]) } { dmt(|call| call.random_device(file[0] as c_int)) } else { None }
}

/// What the program sees of the file at `file`; `None` if it is of a process that does not exist any more.
#[inline]
unsafe fn shown(real: &Real, file: [usize; 3]) -> Option<Shown> {
    let mut shown = show(real);
    // SAFETY: forwarded promise.
    let is_descriptor = unsafe { is_empty(file[1]) };
    // A FIFO's placeholder is the FIFO itself.
    let is_named = || dmt(|call| call.file_kind(file[0] as c_int)) == Some(FileKind::Fifo);
    if is_descriptor && is_virtual(file[0]) && !is_named() {
        let start = dmt(|call| call.with(|k| Time::of_clock(k.sched.genesis_clock)));
        let id = dmt(|call| call.file_of(file[0] as c_int)).unwrap_or(0);
        shown.inode = VIRTUAL_INODES + u64::from(id);
        (shown.modified, shown.changed) = (start, start);
        return Some(shown);
    }
    fifo::note(real.mode);
    if dmt(|call| call.with(|k| k.disk.devices.is_measured(real.device))) {
        // SAFETY: as above.
        return unsafe { measured::show(real, &mut shown, file) }.then_some(shown);
    }
    Some(shown)
}
