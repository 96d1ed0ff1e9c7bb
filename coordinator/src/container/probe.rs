//! Has CRIU look at the kernel ahead of a checkpoint.
//!
//! CRIU tries out what the kernel can do when it finds no notes of that in its run directory, and would do so while the server stands
//! still for its first checkpoint. So it is called before, in namespaces of its own, with the directory that the container sees
//! as [`super::SHARED_MOUNT`] as its run directory: not in the container, where it would use up process ids and could be seen.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::starter::end_with_parent;
use super::{SHARED_MOUNT, network};

/// CRIU's notes in its run directory.
pub const NOTES: &str = "criu.kdat";
/// The shortest of CRIU's commands that look at the kernel first; it needs no directory of images to get that far.
const COMMAND: [&str; 3] = ["criu", "cpuinfo", "check"];
const MEGABYTE: &str = "mode=755,size=1m";

/// Runs in a process of its own, which has one thread and ends after it: has the executable `criu` leave its notes in `shared`. A
/// CRIU with another run directory leaves none there.
pub(super) fn run(criu: &Path, shared: &Path) -> io::Result<()> {
    let program = File::open(criu)?;
    let own = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(own)?;
    // SAFETY: this process has one thread, so the child is a whole process.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let failed = inside(&program, shared);
            // SAFETY: nothing of this process is to be ended in order.
            unsafe { libc::_exit(failed.map_or(1, |()| 0)) }
        }
        // SAFETY: our own child; no status is wanted.
        child => match unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        },
    }
}

/// The first process of the new namespaces.
fn inside(program: &File, shared: &Path) -> io::Result<()> {
    if !end_with_parent() {
        return Err(io::Error::last_os_error());
    }
    // When a session loses its last parent, the kernel lets all its stopped processes go on: CRIU's, for whose stop it waits, would
    // never be seen stopped.
    nix::unistd::setsid()?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)?;
    // What it tries out with files does not show on the host either.
    for directory in ["/run", "/tmp"] {
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(MEGABYTE))?;
    }
    std::fs::create_dir(SHARED_MOUNT)?;
    mount(Some(shared), SHARED_MOUNT, none, MsFlags::MS_BIND, none)?;
    network::set_up(&[])?;
    let arguments = COMMAND.map(|argument| CString::new(argument).expect("no zero byte"));
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for standard in 0..3 {
        // SAFETY: descriptors of this process alone.
        if unsafe { libc::dup2(null.as_raw_fd(), standard) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    let environment: [CString; 0] = [];
    nix::unistd::fexecve(program, &arguments, &environment)?;
    Ok(())
}
