//! Calls that make, move or remove names, or change a file's attributes: afterwards the file and its directory get their
//! times from the virtual clock, and a new file its number.

use core::ffi::c_int;

use dmt::file::abi::Place;

use super::times::{Change, changed, made, parent_changed};
use super::{freed, look, real, show};
use crate::calls::disk::times;
use crate::calls::fifo;
use crate::kernel;
use crate::raw;
use crate::world::apart;

const HERE: usize = libc::AT_FDCWD as usize;
const NO_FOLLOW: c_int = libc::AT_SYMLINK_NOFOLLOW;
const FCHMODAT2: i64 = 452;

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_mkdir | libc::SYS_mknod => making(number, a, HERE, a[0]),
        libc::SYS_mkdirat | libc::SYS_mknodat => making(number, a, a[0], a[1]),
        libc::SYS_symlink => making(number, a, HERE, a[1]),
        libc::SYS_symlinkat => making(number, a, a[1], a[2]),
        libc::SYS_link => linking(number, a, HERE, a[1]),
        libc::SYS_linkat => linking(number, a, a[2], a[3]),
        libc::SYS_unlink => deleting(number, a, HERE, a[0]),
        libc::SYS_rmdir => removing_directory(number, a, HERE, a[0]),
        libc::SYS_unlinkat if a[2] as c_int & libc::AT_REMOVEDIR != 0 => {
            removing_directory(number, a, a[0], a[1])
        },
        libc::SYS_unlinkat => deleting(number, a, a[0], a[1]),
        libc::SYS_rename => renaming(number, a, [HERE, a[0]], [HERE, a[1]]),
        libc::SYS_renameat | libc::SYS_renameat2 => renaming(number, a, [a[0], a[1]], [a[2], a[3]]),
        libc::SYS_memfd_create => {
            let fd = kernel::call(number, a);
            if fd >= 0 {
                times::made_fd(fd as usize);
            }
            fd
        },
        libc::SYS_chmod | libc::SYS_chown | libc::SYS_setxattr | libc::SYS_removexattr => {
            attributes(number, a, HERE, a[0], 0)
        },
        libc::SYS_lchown | libc::SYS_lsetxattr | libc::SYS_lremovexattr => {
            attributes(number, a, HERE, a[0], NO_FOLLOW)
        },
        libc::SYS_fchmod | libc::SYS_fchown | libc::SYS_fsetxattr | libc::SYS_fremovexattr => {
            attributes(number, a, a[0], 0, 0)
        },
        libc::SYS_fchmodat => attributes(number, a, a[0], a[1], 0),
        FCHMODAT2 => attributes(number, a, a[0], a[1], a[3] as c_int),
        libc::SYS_fchownat => attributes(number, a, a[0], a[1], a[4] as c_int),
    }
}

/// A call that changes attributes of a file.
unsafe fn attributes(number: i64, a: [usize; 6], directory: usize, path: usize, flags: c_int) -> isize {
    // SAFETY: forwarded promise.
    unsafe {
        let done = kernel::call(number, a);
        if done == 0 {
            changed(directory, path, flags, Change::Attributes);
        }
        done
    }
}

unsafe fn making(number: i64, a: [usize; 6], directory: usize, path: usize) -> isize {
    // SAFETY: forwarded promise.
    unsafe {
        let done = kernel::call(number, a);
        match number {
            libc::SYS_mknod => fifo::note(a[1] as u32),
            libc::SYS_mknodat => fifo::note(a[2] as u32),
            _ => {}
        }
        if done == 0 {
            made(directory, path);
        }
        done
    }
}

/// The path in the address of a unix socket, as a C string; `None` if the address is none.
fn path_in(address: &[u8]) -> Option<[u8; size_of::<libc::sockaddr_un>()]> {
    let (family, name) = address.split_first_chunk()?;
    if *family != (libc::AF_UNIX as u16).to_ne_bytes() || name.first().is_none_or(|&byte| byte == 0) {
        return None;
    }
    let name = &name[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())];
    let mut path = [0; size_of::<libc::sockaddr_un>()];
    path.get_mut(..name.len())?.copy_from_slice(name);
    // So that it ends with a zero byte.
    (name.len() < path.len()).then_some(path)
}

/// A unix socket has been bound to a path of the file system.
///
/// # Safety
/// The kernel has just made the file.
pub unsafe fn bound(address: &[u8]) {
    if let Some(path) = path_in(address) {
        // SAFETY: the path ends with a zero byte.
        unsafe { made(HERE, path.as_ptr() as usize) };
    }
}

/// The file that the path in the address of a unix socket leads to; none if it is no path. Errors are those of `connect`.
pub fn led_to(address: &[u8]) -> Result<Place, isize> {
    let Some(path) = path_in(address) else { return Ok(Place::NONE) };
    // SAFETY: the path ends with a zero byte; all zeroes is a valid structure. What the kernel says of files is each replica's own.
    apart(|| unsafe {
        let allowed = raw!(libc::SYS_faccessat2, HERE, path.as_ptr(), libc::W_OK, libc::AT_EACCESS);
        if allowed != 0 {
            return Err(allowed);
        }
        let mut stat: libc::stat = core::mem::zeroed();
        let found = raw!(libc::SYS_newfstatat, HERE, path.as_ptr(), &raw mut stat, 0);
        if found != 0 {
            return Err(found);
        }
        if stat.st_mode & libc::S_IFMT != libc::S_IFSOCK {
            return Err(-(libc::ECONNREFUSED as isize));
        }
        let shown = show(&real(&stat));
        Ok(Place { device: shown.device, inode: shown.inode })
    })
}

unsafe fn linking(number: i64, a: [usize; 6], directory: usize, path: usize) -> isize {
    // SAFETY: forwarded promise.
    unsafe {
        let done = kernel::call(number, a);
        if done == 0 {
            changed(directory, path, libc::AT_SYMLINK_NOFOLLOW, Change::Attributes);
            parent_changed(directory, path);
        }
        done
    }
}

unsafe fn removing(number: i64, a: [usize; 6], directory: usize, path: usize) -> isize {
    // SAFETY: forwarded promise.
    unsafe {
        let done = kernel::call(number, a);
        if done == 0 {
            parent_changed(directory, path);
        }
        done
    }
}

unsafe fn deleting(number: i64, a: [usize; 6], directory: usize, path: usize) -> isize {
    // SAFETY: forwarded promise.
    unsafe { freed::deleting(directory, path, || removing(number, a, directory, path)) }
}

unsafe fn removing_directory(number: i64, a: [usize; 6], directory: usize, path: usize) -> isize {
    // SAFETY: forwarded promise.
    unsafe {
        freed::ask();
        let real = look(directory, path, libc::AT_SYMLINK_NOFOLLOW);
        let done = removing(number, a, directory, path);
        if let (0, Some(real)) = (done, real) {
            times::removed(&real);
        }
        done
    }
}

unsafe fn renaming(number: i64, a: [usize; 6], from: [usize; 2], to: [usize; 2]) -> isize {
    // SAFETY: forwarded promise.
    unsafe {
        let done = kernel::call(number, a);
        if done == 0 {
            changed(to[0], to[1], libc::AT_SYMLINK_NOFOLLOW, Change::Attributes);
            parent_changed(from[0], from[1]);
            parent_changed(to[0], to[1]);
        }
        done
    }
}
