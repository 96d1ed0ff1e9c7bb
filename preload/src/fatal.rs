//! The end of a process that cannot go on: one line to standard error, then SIGKILL-like death without handlers.
//!
//! Callable from any context.

use core::fmt::Write;

use crate::raw;

/// A line on the stack; longer text is cut.
pub struct Line {
    bytes: [u8; 400],
    len: usize,
}

impl Line {
    /// An empty line.
    pub const fn new() -> Self {
        Self { bytes: [0; 400], len: 0 }
    }

    /// The text so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.len() - self.len;
        let take = text.len().min(room);
        self.bytes[self.len..self.len + take].copy_from_slice(&text.as_bytes()[..take]);
        self.len += take;
        Ok(())
    }
}

/// Writes one line to standard error, past every hook.
pub fn print(line: &Line) {
    let bytes = line.bytes();
    // SAFETY: the bytes are ours.
    unsafe { raw!(libc::SYS_write, 2, bytes.as_ptr(), bytes.len()) };
}

/// Ends the process: `what`, then `detail`, on standard error.
pub fn die(what: &str, detail: &[u8]) -> ! {
    let mut line = Line::new();
    let detail = core::str::from_utf8(detail).unwrap_or("?");
    let _ = writeln!(line, "brolga: {what}: {detail}");
    die_with(&line)
}

/// Ends the process with this line on standard error.
pub fn die_with(line: &Line) -> ! {
    if crate::tls::current().first_death() {
        print(line);
    }
    // SAFETY: ends this process; nothing of it is used afterwards.
    unsafe {
        let pid = raw!(libc::SYS_getpid);
        raw!(libc::SYS_kill, pid, libc::SIGKILL);
        raw!(libc::SYS_exit_group, 127);
    }
    loop {
        core::hint::spin_loop();
    }
}
