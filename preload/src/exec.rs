//! What a program that is about to be started needs: our variables. Many programs start children with an environment of
//! their own making; without the library the filter, which they inherit, would kill them.

use core::ffi::{CStr, c_char};
use core::fmt::Write;

use crate::calls::refuse;
use crate::fatal::Line;
use crate::maps::Variables;
use crate::raw;

/// Variables that every program of the server needs.
const OURS: [&CStr; 3] = [c"LD_PRELOAD", c"BROLGA_ARENA", c"BROLGA_KICK_FD"];
/// Pointers in the longest environment that is completed; a longer one is passed on as it is.
const MAX_VARIABLES: usize = 2048;
/// Bytes of one of our variables, name and value.
const MAX_BYTES: usize = 256;

type Saved = [[u8; MAX_BYTES]; OURS.len()];

static mut SAVED: Saved = [[0; MAX_BYTES]; OURS.len()];

/// Copies our variables; the constructor does it, before the program can change its environment.
pub fn save(variables: Variables) {
    for (i, name) in OURS.iter().enumerate() {
        let Some(value) = variables.get(name) else { continue };
        let (name, value) = (name.to_bytes(), value.to_bytes());
        if name.len() + value.len() + 2 > MAX_BYTES {
            continue;
        }
        // SAFETY: only the constructor writes, before any other thread exists.
        let all: &mut Saved = unsafe { &mut *core::ptr::addr_of_mut!(SAVED) };
        let saved = &mut all[i];
        saved[..name.len()].copy_from_slice(name);
        saved[name.len()] = b'=';
        saved[name.len() + 1..][..value.len()].copy_from_slice(value);
    }
}

/// Room for a completed environment.
pub struct Environment {
    pointers: [*const c_char; MAX_VARIABLES],
}

impl Environment {
    /// Empty room.
    pub fn new() -> Self {
        Self { pointers: [core::ptr::null(); MAX_VARIABLES] }
    }

    /// The environment at `given` with our variables in it; `given` itself if it does not fit.
    ///
    /// # Safety
    /// `given` is 0 or a null-terminated array of C strings.
    pub unsafe fn with_ours(&mut self, given: usize) -> usize {
        let mut count = 0;
        let mut at = given as *const *const c_char;
        // SAFETY: the caller's promise, for all reads below.
        unsafe {
            while given != 0 && !(*at).is_null() {
                if count + OURS.len() + 1 > MAX_VARIABLES {
                    return given;
                }
                if !is_ours(CStr::from_ptr(*at)) {
                    self.pointers[count] = *at;
                    count += 1;
                }
                at = at.add(1);
            }
        }
        // SAFETY: written once, by `save`.
        let all: &Saved = unsafe { &*core::ptr::addr_of!(SAVED) };
        for saved in all {
            if saved[0] != 0 {
                self.pointers[count] = saved.as_ptr().cast();
                count += 1;
            }
        }
        self.pointers[count] = core::ptr::null();
        self.pointers.as_ptr() as usize
    }
}

fn is_ours(variable: &CStr) -> bool {
    let bytes = variable.to_bytes();
    OURS.iter().any(|name| {
        let name = name.to_bytes();
        bytes.len() > name.len() && bytes.starts_with(name) && bytes[name.len()] == b'='
    })
}

/// Bytes of a program's file that hold its ELF header and program headers.
const HEAD_BYTES: usize = 4096;

/// Refuses a program that could not load the library: the filter, which it inherits, would kill it without a word. A
/// path that cannot be read is left to the kernel to judge.
///
/// # Safety
/// `path` is a C string.
pub unsafe fn check(path: usize) -> Result<(), i32> {
    let mut head = [0u8; HEAD_BYTES];
    // SAFETY: the caller's promise; reads into our buffer.
    let got = unsafe {
        let fd = raw!(libc::SYS_open, path, libc::O_RDONLY | libc::O_CLOEXEC, 0);
        if fd < 0 {
            return Ok(());
        }
        let got = raw!(libc::SYS_read, fd, head.as_mut_ptr(), HEAD_BYTES);
        raw!(libc::SYS_close, fd);
        got
    };
    if got < 64 || !is_elf_without_loader(&head[..got as usize]) {
        return Ok(());
    }
    let mut line = Line::new();
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(path as *const c_char) }.to_str().unwrap_or("?");
    let _ = write!(line, "refused to start {name}: it is statically linked or not for x86-64");
    refuse::log(&line);
    Err(libc::EACCES)
}

/// Whether this is an ELF file that no `ld.so` would load, or one for another machine.
fn is_elf_without_loader(head: &[u8]) -> bool {
    const CLASS_64: u8 = 2;
    const MACHINE_X86_64: [u8; 2] = [62, 0];
    if !head.starts_with(b"\x7fELF") {
        return false;
    }
    if head[4] != CLASS_64 || head[18..20] != MACHINE_X86_64 {
        return true;
    }
    let word = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let (size, count) = (word(54), word(56));
    let Ok(offset) = usize::try_from(u64::from_le_bytes([
        head[32], head[33], head[34], head[35], head[36], head[37], head[38], head[39],
    ])) else {
        return true;
    };
    let interpreter = libc::PT_INTERP.to_le_bytes();
    !(0..count).any(|i| head.get(offset + i * size..offset + i * size + 4) == Some(&interpreter[..]))
}
