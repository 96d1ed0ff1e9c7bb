//! Mounts of a test's own. Whoever starts a container meanwhile (another test, another run of the campaign) would copy
//! mounts that all can see, and hold on to disks that are to go. These go with the threads and processes that see them,
//! however those end.

use std::cell::Cell;
use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;
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

/// As [`make_private`], and what is changed in `directory` from now on is the calling thread's own, and goes to `layers`.
///
/// # Panics
///
/// If the kernel refuses.
pub fn make_own(directory: &Path, layers: &Path) {
    make_private();
    let [upper, work] = ["upper", "work"].map(|name| layers.join(name));
    [&upper, &work].into_iter().for_each(|path| fs::create_dir_all(path).expect("make a layer"));
    let options =
        format!("lowerdir={},upperdir={},workdir={}", directory.display(), upper.display(), work.display());
    let text = |text: &str| CString::new(text).expect("no zero in it");
    let (directory, options) = (text(directory.to_str().expect("a plain path")), text(&options));
    let kind = c"overlay".as_ptr();
    // SAFETY: strings that end with a zero.
    let done = unsafe { libc::mount(kind, directory.as_ptr(), kind, 0, options.as_ptr().cast()) };
    assert_eq!(done, 0, "mount {options:?}: {}", io::Error::last_os_error());
}

/// The mounts that the calling thread sees, as the kernel lists them.
///
/// # Panics
///
/// If there is no `/proc`.
pub fn seen() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").expect("read mountinfo")
}
