//! Calls that make, move or remove names, or change a file's attributes: afterwards the file and its directory get their
//! times from the virtual clock, and a new file its number.

use core::ffi::c_int;

use super::times::{Change, changed, made, parent_changed};
use super::{look, space};
use crate::calls::disk::times;
use crate::kernel;

const HERE: usize = libc::AT_FDCWD as usize;

/// The calls of this family.
///
/// # Safety
/// As the system calls.
pub unsafe fn call(number: i64, a: [usize; 6]) -> Option<isize> {
    // SAFETY: forwarded promise.
    Some(unsafe {
        match number {
            libc::SYS_mkdir | libc::SYS_mknod => making(number, a, HERE, a[0]),
            libc::SYS_mkdirat | libc::SYS_mknodat => making(number, a, a[0], a[1]),
            libc::SYS_symlink => making(number, a, HERE, a[1]),
            libc::SYS_symlinkat => making(number, a, a[1], a[2]),
            libc::SYS_link => linking(number, a, HERE, a[1]),
            libc::SYS_linkat => linking(number, a, a[2], a[3]),
            libc::SYS_unlink => removing(number, a, HERE, a[0]),
            libc::SYS_rmdir => removing_directory(number, a, HERE, a[0]),
            libc::SYS_unlinkat if a[2] as c_int & libc::AT_REMOVEDIR != 0 => {
                removing_directory(number, a, a[0], a[1])
            }
            libc::SYS_unlinkat => removing(number, a, a[0], a[1]),
            libc::SYS_rename => renaming(number, a, [HERE, a[0]], [HERE, a[1]]),
            libc::SYS_renameat | libc::SYS_renameat2 => renaming(number, a, [a[0], a[1]], [a[2], a[3]]),
            libc::SYS_memfd_create => {
                let fd = kernel::call(number, a);
                if fd >= 0 {
                    times::made_fd(fd as usize);
                }
                fd
            }
            _ => return attributes(number, a),
        }
    })
}

/// Changes of attributes.
unsafe fn attributes(number: i64, a: [usize; 6]) -> Option<isize> {
    const FCHMODAT2: i64 = 452;
    const NO_FOLLOW: c_int = libc::AT_SYMLINK_NOFOLLOW;
    let (directory, path, flags) = match number {
        libc::SYS_chmod | libc::SYS_chown | libc::SYS_setxattr | libc::SYS_removexattr => (HERE, a[0], 0),
        libc::SYS_lchown | libc::SYS_lsetxattr | libc::SYS_lremovexattr => (HERE, a[0], NO_FOLLOW),
        libc::SYS_fchmod | libc::SYS_fchown | libc::SYS_fsetxattr | libc::SYS_fremovexattr => (a[0], 0, 0),
        libc::SYS_fchmodat => (a[0], a[1], 0),
        FCHMODAT2 => (a[0], a[1], a[3] as c_int),
        libc::SYS_fchownat => (a[0], a[1], a[4] as c_int),
        _ => return None,
    };
    // SAFETY: forwarded promise.
    unsafe {
        let done = kernel::call(number, a);
        if done == 0 {
            changed(directory, path, flags, Change::Attributes);
        }
        Some(done)
    }
}

unsafe fn making(number: i64, a: [usize; 6], directory: usize, path: usize) -> isize {
    // SAFETY: forwarded promise.
    unsafe {
        let done = space::patient_here(|| kernel::call(number, a));
        if done == 0 {
            made(directory, path);
        }
        done
    }
}

/// A unix socket has been bound to a path of the file system.
///
/// # Safety
/// `address` is one of family AF_UNIX with a path.
pub unsafe fn bound(address: &[u8]) {
    let mut path = [0u8; size_of::<libc::sockaddr_un>()];
    let name = &address[size_of::<libc::sa_family_t>()..];
    let name = &name[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())];
    if name.len() < path.len() {
        path[..name.len()].copy_from_slice(name);
        // SAFETY: the copy ends with a zero byte.
        unsafe { made(HERE, path.as_ptr() as usize) };
    }
}

unsafe fn linking(number: i64, a: [usize; 6], directory: usize, path: usize) -> isize {
    // SAFETY: forwarded promise.
    unsafe {
        let done = space::patient_here(|| kernel::call(number, a));
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
        let done = space::patient_here(|| kernel::call(number, a));
        if done == 0 {
            parent_changed(directory, path);
        }
        done
    }
}

unsafe fn removing_directory(number: i64, a: [usize; 6], directory: usize, path: usize) -> isize {
    // SAFETY: forwarded promise.
    unsafe {
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
        let done = space::patient_here(|| kernel::call(number, a));
        if done == 0 {
            changed(to[0], to[1], libc::AT_SYMLINK_NOFOLLOW, Change::Attributes);
            parent_changed(from[0], from[1]);
            parent_changed(to[0], to[1]);
        }
        done
    }
}
