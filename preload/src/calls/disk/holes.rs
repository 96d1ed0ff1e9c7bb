//! Where a file lies on the disk and where it has holes: each replica's disk has its own answer, and another one after a checkpoint
//! was restored. Programs hear what a file system says that knows neither.

use core::ffi::c_int;

use super::look_fd;
use crate::kernel;
use crate::raw;
use crate::world::apart;

const ENXIO: isize = -(libc::ENXIO as isize);
const FIBMAP: u64 = 1;
const FIEMAP: u64 = 0xc020_660b;
const FICLONE: u64 = 0x4004_9409;
const FICLONERANGE: u64 = 0x4020_940d;
const FIDEDUPERANGE: u64 = 0xc018_9436;
const FS_IOC_GETVERSION: u64 = 0x8008_7601;

/// `lseek` to data or to a hole; the filter lets the other forms pass.
///
/// # Safety
/// As the system call; the caller is a thread of dmt that holds the turn.
pub unsafe fn lseek(a: [usize; 6]) -> isize {
    let (fd, from, whence) = (a[0], a[1], a[2] as c_int);
    let file = apart(|| look_fd(fd)).filter(dmt::disk::Real::is_regular);
    let to = match (file, whence) {
        (Some(file), libc::SEEK_DATA | libc::SEEK_HOLE) if from as u64 >= file.size => return ENXIO,
        (Some(_), libc::SEEK_DATA) => from,
        (Some(file), libc::SEEK_HOLE) => file.size as usize,
        // SAFETY: forwarded promise.
        _ => return unsafe { kernel::call(libc::SYS_lseek, a) },
    };
    // SAFETY: no memory.
    unsafe { raw!(libc::SYS_lseek, fd, to, libc::SEEK_SET) }
}

/// What an `ioctl` of a file says that no replica may answer by its own disk; `None` for all others.
pub fn io_control(request: u64) -> Option<isize> {
    let errno = match request {
        FIEMAP | FICLONE | FICLONERANGE | FIDEDUPERANGE => libc::EOPNOTSUPP,
        FIBMAP => libc::EINVAL,
        FS_IOC_GETVERSION => libc::ENOTTY,
        _ => return None,
    };
    Some(-(errno as isize))
}
