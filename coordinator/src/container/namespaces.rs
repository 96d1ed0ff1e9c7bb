//! Whether this process may make the namespaces of a container: tried once, before anything else is made.

use std::io;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getegid, geteuid};

use super::ContainerError;
use super::spawn::{NAMESPACES, needs_user_namespace, user_maps, write_raw};

/// Makes the namespaces for a moment, and what a container's init does first in them.
///
/// # Errors
/// What the kernel refuses, as [`ContainerError::Namespaces`].
pub fn check() -> Result<(), ContainerError> {
    let own = needs_user_namespace();
    let maps = own.then(|| user_maps(0, geteuid().as_raw(), 0, getegid().as_raw()));
    let flags = NAMESPACES | libc::SIGCHLD | if own { libc::CLONE_NEWUSER } else { 0 };
    // SAFETY: a clone without CLONE_VM and without a new stack is a fork; the child does only system calls on values made before, and
    // never returns.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0);
        if pid == 0 {
            // Where new user namespaces have no capabilities (AppArmor can see to that) they can be made, but nothing in them.
            let none = std::ptr::null();
            let done = maps.as_ref().is_none_or(|maps| maps.iter().all(|(path, map)| write_raw(path, map)))
                && libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) == 0;
            libc::_exit(if done { 0 } else { *libc::__errno_location() });
        }
        pid
    };
    if pid == -1 {
        return Err(ContainerError::Namespaces(io::Error::last_os_error()));
    }
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid fits i32"));
    loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, code)) => {
                return Err(ContainerError::Namespaces(io::Error::from_raw_os_error(code)));
            }
            other => return Err(ContainerError::InitDied(format!("{other:?}"))),
        }
    }
}

/// What to do where the kernel refuses namespaces with this error.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EINVAL) => {
            "the root directory is no mount point, as in a chroot: run outside of it, or make it one \
             (unshare -m, mount --rbind DIR DIR, pivot_root)"
        }
        Some(libc::ENOSPC) if geteuid().is_root() => {
            "there are too many: raise those of the limits user.max_*_namespaces that are low (sysctl)"
        }
        _ if geteuid().is_root() => {
            "root has no CAP_SYS_ADMIN here: give it to this container (docker run --cap-add SYS_ADMIN --security-opt apparmor=unconfined)"
        }
        _ => {
            "run as root, or: sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 \
             kernel.apparmor_restrict_unprivileged_userns=0"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_depends_on_why() {
        let remedy = |code| remedy(&io::Error::from_raw_os_error(code));
        assert!(remedy(libc::EINVAL).contains("chroot"));
        assert!(remedy(libc::ENOSPC).contains("user.max_"));
        let rights = if geteuid().is_root() { "CAP_SYS_ADMIN" } else { "run as root" };
        assert!(remedy(libc::EPERM).contains(rights));
    }
}
