//! The coordinator's seccomp filter: the process that parses bytes from the network starts no program, makes no namespace and
//! touches nothing of the kernel that it does not need.
//!
//! What it may call is in [`mod@calls`]; all else ends it with a line in its log. Containers are started, and files copied, by another process,
//! which was forked before ([`crate::container::starter`]). The filter is that of a process and its threads, for good.

mod calls;
mod program;

use std::io;

pub use calls::{Call, When, calls};

/// Gives the calling process the filter. Call it before there are other threads: they inherit it.
pub fn install() -> io::Result<()> {
    // SAFETY: the handler makes only calls that are safe in a signal handler, and its structure outlives the call.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = refused as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        if libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let code = program::build(std::process::id());
    let header = libc::sock_fprog {
        len: u16::try_from(code.len()).map_err(io::Error::other)?,
        filter: code.as_ptr().cast_mut(),
    };
    // SAFETY: no pointers, and then a program that outlives the call; the kernel copies it.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const header) == 0
    };
    if set { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Tells which call was refused, and ends the process by the same signal.
extern "C" fn refused(signal: i32, _: *const libc::siginfo_t, context: *const libc::ucontext_t) {
    // SAFETY: the kernel gives a handler its context; at a refused call the register still has the call's number.
    let number = unsafe { (*context).uc_mcontext.gregs[libc::REG_RAX as usize] };
    let mut line = Line::default();
    line.add(b"brolga: the coordinator made system call ");
    line.add_number(number.unsigned_abs());
    line.add(b", which its filter refuses (docs/security.md), and is ended\n");
    // SAFETY: plain system calls that the filter allows, on our own stack.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.bytes.as_ptr().cast(), line.len);
        libc::signal(signal, libc::SIG_DFL);
        libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signal);
    }
}

/// A line that is put together without allocation.
struct Line {
    bytes: [u8; 160],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; 160], len: 0 }
    }
}

impl Line {
    fn add(&mut self, text: &[u8]) {
        for &byte in text {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
                self.len += 1;
            }
        }
    }

    fn add_number(&mut self, number: u64) {
        let mut power = 1;
        while number / power >= 10 {
            power *= 10;
        }
        while power > 0 {
            self.add(&[b'0' + (number / power % 10) as u8]);
            power /= 10;
        }
    }
}

#[cfg(test)]
mod tests;
