//! Mounts of a test's own. Whoever starts a container meanwhile (another test, another run of the campaign) would copy
//! mounts that all can see, and hold on to disks that are to go. These go with the threads and processes that see them,
//! however those end.

use std::cell::Cell;
use std::fs;
use std::io;
use std::ptr;

thread_local! {
    static PRIVATE: Cell<bool> = const { Cell::new(false) };
}

/// From now on mounts of the calling thread are its own, and of threads and processes that it starts.
///
/// # Panics
///
/// If the kernel refuses, as it does for all but root.
pub fn make_private() {
    if PRIVATE.replace(true) {
        return;
    }
    // What others unmount is to go here, too, so it is not wholly private.
    let flags = libc::MS_REC | libc::MS_SLAVE;
    // SAFETY: strings that end with a zero, and no other pointers.
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(c"".as_ptr(), c"/".as_ptr(), c"".as_ptr(), flags, ptr::null()) == 0
    };
    assert!(done, "no mounts of my own: {}; are you root?", io::Error::last_os_error());
}

/// The mounts that the calling thread sees, as the kernel lists them.
///
/// # Panics
///
/// If there is no `/proc`.
pub fn seen() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").expect("read mountinfo")
}
