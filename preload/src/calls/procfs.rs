//! Copies of files of /proc in which what the kernel measures is fixed; which files, and how: [`dmt::process::procfs`].

use core::ffi::{CStr, c_int};

pub use dmt::process::procfs::content;
use dmt::process::procfs::{Content, Lines, stat_line};

use crate::raw;

/// Longest `/proc/PID/stat`.
const MAX_STAT_BYTES: usize = 1024;
/// Bytes read and written at a time.
const CHUNK_BYTES: usize = 2048;
/// A descriptor of the copy, in the place that the file itself would have got.
///
/// # Safety
/// `path` is a C string.
pub unsafe fn open(path: &CStr, flags: c_int, content: Content) -> isize {
    let name = c"proc";
    // SAFETY: opens, reads and closes files of our own; paths and buffers live until the calls return.
    unsafe {
        let source = raw!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0);
        if source < 0 {
            return source;
        }
        let copy = raw!(libc::SYS_memfd_create, name.as_ptr(), 0);
        if copy < 0 {
            raw!(libc::SYS_close, source);
            return copy;
        }
        write_copy(source as c_int, copy as c_int, content);
        raw!(libc::SYS_lseek, copy, 0, libc::SEEK_SET);
        raw!(libc::SYS_dup3, copy, source, flags & libc::O_CLOEXEC);
        raw!(libc::SYS_close, copy);
        source
    }
}

fn write_copy(source: c_int, copy: c_int, content: Content) {
    let mut out = Out { fd: copy, bytes: [0; CHUNK_BYTES], used: 0 };
    match content {
        Content::Fixed(text) => out.extend(text),
        Content::Stat => {
            let mut line = [0; MAX_STAT_BYTES];
            let len = read(source, &mut line);
            stat_line(&line[..len], &mut |byte| out.push(byte));
        }
        Content::Lines(is_measured) => {
            let mut lines = Lines::new(is_measured);
            let mut chunk = [0; CHUNK_BYTES];
            loop {
                let len = read(source, &mut chunk);
                if len == 0 {
                    break;
                }
                chunk[..len].iter().for_each(|&byte| lines.feed(byte, &mut |byte| out.push(byte)));
            }
        }
    }
    out.flush();
}

fn read(fd: c_int, buffer: &mut [u8]) -> usize {
    // SAFETY: our own buffer. A file of /proc gives a record as a whole; an error ends the copy.
    unsafe { raw!(libc::SYS_read, fd, buffer.as_mut_ptr(), buffer.len()) }.max(0) as usize
}

/// What has been written, in pieces of a chunk.
struct Out {
    fd: c_int,
    bytes: [u8; CHUNK_BYTES],
    used: usize,
}

impl Out {
    fn push(&mut self, byte: u8) {
        if self.used == CHUNK_BYTES {
            self.flush();
        }
        self.bytes[self.used] = byte;
        self.used += 1;
    }

    fn extend(&mut self, text: &[u8]) {
        text.iter().for_each(|&byte| self.push(byte));
    }

    fn flush(&mut self) {
        // SAFETY: our own buffer; a memfd takes a short write whole.
        unsafe { raw!(libc::SYS_write, self.fd, self.bytes.as_ptr(), self.used) };
        self.used = 0;
    }
}
