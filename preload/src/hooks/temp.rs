//! Temporary names: libc makes them of its own randomness and time.

use core::ffi::{CStr, c_char, c_int};

use crate::args;
use crate::calls::open::open as opened;
use crate::calls::random;
use crate::errno::libc_int;
use crate::gate;
use crate::hook;
use crate::raw;

const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const PATTERN: &[u8] = b"XXXXXX";
/// Names that are tried, as libc has it.
const MAX_TRIES: u32 = 62 * 62 * 62;
/// Bytes of a name that `tmpnam` makes, with its end.
const TMPNAM_BYTES: usize = 20;
const EEXIST: isize = -(libc::EEXIST as isize);
const EINVAL: isize = -(libc::EINVAL as isize);

/// Fills the pattern of `template`, which stands before `suffix` bytes, until `make` does not find that the name exists.
///
/// # Safety
/// `template` points to a C string that may be changed.
unsafe fn fill(template: *mut c_char, suffix: c_int, make: impl Fn(*const c_char) -> isize) -> isize {
    // SAFETY: forwarded promise.
    let text = unsafe {
        let len = CStr::from_ptr(template).to_bytes().len();
        core::slice::from_raw_parts_mut(template.cast::<u8>(), len)
    };
    let Some(end) = text.len().checked_sub(suffix.max(0) as usize) else { return EINVAL };
    let Some(start) = end.checked_sub(PATTERN.len()) else { return EINVAL };
    if text[start..end] != *PATTERN {
        return EINVAL;
    }
    for _ in 0..MAX_TRIES {
        let mut word = [0; 8];
        random::fill(&mut word);
        let mut word = u64::from_le_bytes(word);
        for letter in &mut text[start..end] {
            *letter = LETTERS[(word % 62) as usize];
            word /= 62;
        }
        let result = make(template);
        if result != EEXIST {
            return result;
        }
    }
    EEXIST
}

unsafe fn open(template: *mut c_char, suffix: c_int, flags: c_int) -> c_int {
    let flags = flags & !libc::O_ACCMODE | libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    // SAFETY: forwarded promise.
    libc_int(unsafe { fill(template, suffix, |path| opened(libc::SYS_open, args!(path, flags, 0o600))) })
}

/// A name that no file has: 0 or `EEXIST`.
unsafe fn is_free(path: *const c_char) -> isize {
    // SAFETY: forwarded promise.
    match unsafe { raw!(libc::SYS_faccessat2, libc::AT_FDCWD, path, libc::F_OK, libc::AT_SYMLINK_NOFOLLOW) } {
        0 => EEXIST,
        _ => 0,
    }
}

unsafe fn name(buffer: *mut c_char) -> *mut c_char {
    // SAFETY: the program's buffer, or ours, of so many bytes.
    unsafe {
        core::ptr::copy_nonoverlapping(
            c"/tmp/fileXXXXXX".as_ptr(),
            buffer,
            c"/tmp/fileXXXXXX".to_bytes_with_nul().len(),
        );
        match fill(buffer, 0, |path| is_free(path)) {
            0 => buffer,
            _ => core::ptr::null_mut(),
        }
    }
}

struct Static(core::cell::UnsafeCell<[c_char; TMPNAM_BYTES]>);
// SAFETY: as unsafe as `tmpnam` is: the program sees to it that only one thread uses it.
unsafe impl Sync for Static {}
static TMPNAM: Static = Static(core::cell::UnsafeCell::new([0; TMPNAM_BYTES]));

hook! {
    fn mkstemp(template: *mut c_char) -> c_int {
        // SAFETY: the program's own arguments, here and below.
        unsafe { open(template, 0, 0) }
    }

    fn mkstemp64(template: *mut c_char) -> c_int {
        // SAFETY: as above.
        unsafe { open(template, 0, 0) }
    }

    fn mkostemp(template: *mut c_char, flags: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { open(template, 0, flags) }
    }

    fn mkostemp64(template: *mut c_char, flags: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { open(template, 0, flags) }
    }

    fn mkstemps(template: *mut c_char, suffix: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { open(template, suffix, 0) }
    }

    fn mkstemps64(template: *mut c_char, suffix: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { open(template, suffix, 0) }
    }

    fn mkostemps(template: *mut c_char, suffix: c_int, flags: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { open(template, suffix, flags) }
    }

    fn mkostemps64(template: *mut c_char, suffix: c_int, flags: c_int) -> c_int {
        // SAFETY: as above.
        unsafe { open(template, suffix, flags) }
    }

    fn mkdtemp(template: *mut c_char) -> *mut c_char {
        // SAFETY: as above.
        let make = |path| unsafe { crate::calls::call(libc::SYS_mkdir as usize, args!(path, 0o700), 0) };
        // SAFETY: as above.
        match libc_int(unsafe { fill(template, 0, make) }) {
            0 => template,
            _ => core::ptr::null_mut(),
        }
    }

    fn mktemp(template: *mut c_char) -> *mut c_char {
        // SAFETY: as above.
        unsafe {
            if libc_int(fill(template, 0, |path| is_free(path))) != 0 {
                *template = 0;
            }
        }
        template
    }

    fn tmpnam(buffer: *mut c_char) -> *mut c_char {
        // SAFETY: as above.
        unsafe { name(if buffer.is_null() { TMPNAM.0.get().cast() } else { buffer }) }
    }

    fn tmpnam_r(buffer: *mut c_char) -> *mut c_char {
        // SAFETY: as above.
        if buffer.is_null() { buffer } else { unsafe { name(buffer) } }
    }

    fn tempnam(directory: *const c_char, prefix: *const c_char) -> *mut c_char {
        // SAFETY: as above.
        unsafe { in_directory(directory, prefix) }
    }
}

/// Bytes of the name that `tempnam` makes.
const MAX_TEMPNAM_BYTES: usize = 4096;

unsafe fn in_directory(directory: *const c_char, prefix: *const c_char) -> *mut c_char {
    // SAFETY: forwarded promise; libc's variable; the text ends with a zero byte.
    unsafe {
        let usable = |path: *const c_char| {
            !path.is_null()
                && gate::syscall(libc::SYS_faccessat, args!(libc::AT_FDCWD, path, libc::W_OK)) == 0
        };
        let variable = libc::getenv(c"TMPDIR".as_ptr());
        let chosen = [variable.cast_const(), directory].into_iter().find(|&path| usable(path));
        let directory = CStr::from_ptr(chosen.unwrap_or(c"/tmp".as_ptr())).to_bytes();
        let prefix = if prefix.is_null() { b"file" } else { CStr::from_ptr(prefix).to_bytes() };
        let prefix = &prefix[..prefix.len().min(5)];
        let mut text = [0u8; MAX_TEMPNAM_BYTES];
        let mut len = 0;
        for part in [directory, b"/", prefix, PATTERN] {
            if len + part.len() >= text.len() {
                libc_int(EINVAL);
                return core::ptr::null_mut();
            }
            text[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        match libc_int(fill(text.as_mut_ptr().cast(), 0, |path| is_free(path))) {
            0 => libc::strdup(text.as_ptr().cast()),
            _ => core::ptr::null_mut(),
        }
    }
}
