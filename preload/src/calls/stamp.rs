//! Calls that make, empty, cut or stamp files: their times come from the virtual clock, see [`crate::calls::disk`].

use core::ffi::c_int;

use crate::args;
use crate::calls::disk::times::{self, Change, made_fd, parent_changed, utimensat};
use crate::calls::disk::writing;
use crate::kernel;
use crate::shared_memory::{self, Object};
use crate::world::apart;

pub use crate::calls::disk::writing::{modified, written};

const EEXIST: isize = -(libc::EEXIST as isize);
const HERE: usize = libc::AT_FDCWD as usize;

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_ftruncate | libc::SYS_fallocate => {
            let done = kernel::call(number, a);
            if done == 0 {
                modified(a[0]);
            }
            done
        },
        libc::SYS_truncate => {
            let done = kernel::call(libc::SYS_truncate, a);
            if done == 0 {
                times::changed(HERE, a[0], 0, Change::Content);
            }
            done
        },
        libc::SYS_mmap => mmap(a),
        libc::SYS_utimensat => utimensat(a[0], a[1], a[2] as *const libc::timespec, a[3]),
        libc::SYS_utime => match a[1] as *const libc::utimbuf {
            at if at.is_null() => utimensat(HERE, a[0], core::ptr::null(), 0),
            at => seconds(HERE, a[0], [((*at).actime, 0), ((*at).modtime, 0)]),
        },
        libc::SYS_utimes => micros(HERE, a[0], a[1] as *const libc::timeval),
        libc::SYS_futimesat => micros(a[0], a[1], a[2] as *const libc::timeval),
    }
}

unsafe fn micros(directory: usize, path: usize, at: *const libc::timeval) -> isize {
    // SAFETY: forwarded promise.
    unsafe {
        if at.is_null() {
            return utimensat(directory, path, core::ptr::null(), 0);
        }
        let pair = [*at, *at.add(1)];
        if pair.iter().any(|time| !(0..1_000_000).contains(&time.tv_usec)) {
            return -(libc::EINVAL as isize);
        }
        seconds(directory, path, pair.map(|time| (time.tv_sec, time.tv_usec * 1000)))
    }
}

unsafe fn seconds(directory: usize, path: usize, pair: [(i64, i64); 2]) -> isize {
    let pair = pair.map(|(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec });
    // SAFETY: forwarded promise; our own two times.
    unsafe { utimensat(directory, path, pair.as_ptr(), 0) }
}

/// `mmap` of memory that processes share. The filter lets all other forms pass, and files that are only read.
unsafe fn mmap(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise.
    let at = unsafe { kernel::call(libc::SYS_mmap, a) };
    let [_, len, rights, flags, fd, offset] = a;
    if at < 0 || flags as c_int & libc::MAP_SHARED == 0 {
        return at;
    }
    let has_file = flags as c_int & libc::MAP_ANONYMOUS == 0;
    // What the kernel says of files is each replica's own.
    let object = apart(|| if has_file { Object::file(fd) } else { Some(Object::anonymous()) });
    if let Some(object) = object {
        shared_memory::mapped(at as usize, len, object, if has_file { offset } else { 0 });
    }
    if has_file && rights as c_int & libc::PROT_WRITE != 0 {
        writing::mapped(fd);
    }
    at
}

/// `openat` that may create or empty a file.
pub unsafe fn open(directory: usize, path: usize, flags: usize, mode: usize) -> isize {
    let open = |flags: c_int| {
        let call = args!(directory, path, flags, mode);
        // SAFETY: forwarded promise.
        unsafe { kernel::call(libc::SYS_openat, call) }
    };
    let wanted = flags as c_int;
    // SAFETY: forwarded promise.
    unsafe { opened(directory, path, wanted, open) }
}

/// `openat2` that may create or empty a file.
pub unsafe fn openat2(a: [usize; 6]) -> isize {
    // SAFETY: the program's structure, of which the first three words are known.
    unsafe {
        if a[3] < size_of::<[u64; 3]>() {
            return kernel::call(libc::SYS_openat2, a);
        }
        let how = *(a[2] as *const [u64; 3]);
        let open = |flags: c_int| {
            let how = [flags as u32 as u64, how[1], how[2]];
            kernel::call(libc::SYS_openat2, args!(a[0], a[1], how.as_ptr(), size_of_val(&how)))
        };
        opened(a[0], a[1], how[0] as c_int, open)
    }
}

unsafe fn opened(directory: usize, path: usize, wanted: c_int, open: impl Fn(c_int) -> isize) -> isize {
    let temporary = wanted & libc::O_TMPFILE == libc::O_TMPFILE;
    // Nobody else makes files here while we have the turn, so asking twice is the same as asking once.
    let (fd, created) = match wanted & libc::O_CREAT != 0 {
        true => match open(wanted | libc::O_EXCL) {
            EEXIST if wanted & libc::O_EXCL == 0 => (open(wanted), false),
            fd => (fd, true),
        },
        false => (open(wanted), temporary),
    };
    if fd >= 0 && created {
        made_fd(fd as usize);
        if !temporary {
            // SAFETY: forwarded promise.
            unsafe { parent_changed(directory, path) };
        }
    } else if fd >= 0 && wanted & libc::O_TRUNC != 0 {
        modified(fd as usize);
    }
    fd
}
