//! What a program that is about to be started needs: our variables. Many programs start children with an environment of
//! their own making; without the library the filter, which they inherit, would kill them.

use core::ffi::{CStr, c_char, c_int};
use core::fmt::Write;

use crate::calls::refuse;
use crate::fatal::Line;
use crate::maps::Variables;
use crate::raw;

/// Variables that every program of the server needs.
const OURS: [&CStr; 4] = [c"LD_PRELOAD", c"BROLGA_ARENA", c"BROLGA_KICK_FD", c"BROLGA_SYNC"];
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
/// Scripts whose interpreters are scripts, as deep as the kernel goes.
const MAX_INTERPRETERS: usize = 5;

/// The file of a program, as `execveat` names it.
pub struct Program {
    /// Descriptor of the directory in which the path begins.
    pub directory: c_int,
    /// Address of the path.
    pub path: usize,
    /// `AT_EMPTY_PATH`: without a path, the descriptor is the file; `AT_SYMLINK_NOFOLLOW`.
    pub flags: c_int,
}

/// Refuses a program that could not load the library: the filter, which it inherits, would kill it without a word. A
/// path that cannot be read is left to the kernel to judge.
///
/// # Safety
/// The path is a C string.
pub unsafe fn check(program: &Program) -> Result<(), i32> {
    // SAFETY: the caller's promise.
    let mut path = unsafe { CStr::from_ptr(program.path as *const c_char) };
    let mut link = Line::new();
    if path.is_empty() && program.flags & libc::AT_EMPTY_PATH != 0 {
        let _ = write!(link, "/proc/self/fd/{}\0", program.directory);
        path = CStr::from_bytes_until_nul(link.bytes()).unwrap_or(path);
    }
    let follow = if program.flags & libc::AT_SYMLINK_NOFOLLOW != 0 { libc::O_NOFOLLOW } else { 0 };
    let mut head = Head { bytes: [0; HEAD_BYTES], length: 0 };
    head.read(program.directory, path, follow)?;
    let mut interpreter = [0u8; libc::PATH_MAX as usize];
    for _ in 0..MAX_INTERPRETERS {
        let Some(next) = head.interpreter(&mut interpreter) else { break };
        head.read(libc::AT_FDCWD, next, 0)?;
    }
    Ok(())
}

/// The beginning of a program's file.
struct Head {
    bytes: [u8; HEAD_BYTES],
    length: usize,
}

impl Head {
    /// Reads it, and refuses a file that could not load the library. One that cannot be read counts as empty.
    fn read(&mut self, directory: c_int, path: &CStr, follow: c_int) -> Result<(), i32> {
        self.length = 0;
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | follow;
        // SAFETY: reads into buffers of ours; all zeroes is a valid stat.
        let status = unsafe {
            let fd = raw!(libc::SYS_openat, directory, path.as_ptr(), flags, 0);
            if fd < 0 {
                return Ok(());
            }
            let mut status: libc::stat = core::mem::zeroed();
            raw!(libc::SYS_fstat, fd, &raw mut status);
            if status.st_mode & libc::S_IFMT == libc::S_IFREG {
                self.length = raw!(libc::SYS_read, fd, self.bytes.as_mut_ptr(), HEAD_BYTES).max(0) as usize;
            }
            raw!(libc::SYS_close, fd);
            status
        };
        if self.length >= 64 && is_elf_without_loader(&self.bytes[..self.length]) {
            return refused(path, "it is statically linked or not for x86-64", libc::EACCES);
        }
        if self.bytes[..self.length].starts_with(b"\x7fELF") && changes_user(&status) {
            return refused(
                path,
                "it changes its user (setuid), and would not load the library",
                libc::EPERM,
            );
        }
        Ok(())
    }

    /// The interpreter of a script, in `room`.
    fn interpreter<'a>(&self, room: &'a mut [u8; libc::PATH_MAX as usize]) -> Option<&'a CStr> {
        let line = self.bytes[..self.length].strip_prefix(b"#!")?;
        let line = line.split(|&byte| byte == b'\n').next()?;
        let path = line.split(|byte| b" \t".contains(byte)).find(|word| !word.is_empty())?;
        room.get_mut(..path.len())?.copy_from_slice(path);
        *room.get_mut(path.len())? = 0;
        CStr::from_bytes_until_nul(room).ok()
    }
}

/// Whether the kernel would give the new program another user or group than this process has.
fn changes_user(status: &libc::stat) -> bool {
    // SAFETY: no pointers.
    let (no_new, user, group) = unsafe {
        let no_new = raw!(libc::SYS_prctl, libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
        (no_new, raw!(libc::SYS_geteuid), raw!(libc::SYS_getegid))
    };
    let by_group = libc::S_ISGID | libc::S_IXGRP;
    no_new == 0
        && (status.st_mode & libc::S_ISUID != 0 && status.st_uid as isize != user
            || status.st_mode & by_group == by_group && status.st_gid as isize != group)
}

fn refused(path: &CStr, why: &str, errno: i32) -> Result<(), i32> {
    let mut line = Line::new();
    let _ = write!(line, "refused to start {}: {why}", path.to_str().unwrap_or("?"));
    refuse::log_once(&line);
    Err(errno)
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
