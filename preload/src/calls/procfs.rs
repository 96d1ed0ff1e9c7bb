//! Copies of files of /proc and /sys in which what the kernel measures or numbers is fixed; which files, and how:
//! [`dmt::process::procfs`].

use core::ffi::c_int;

pub use dmt::process::procfs::content;
use dmt::process::procfs::{Content, Lines, counters, is_measured_status, stat_line};
use dmt::process::rows::{self, Mappings, Mounts, Processor};

use crate::calls::random;
use crate::raw;
use crate::world::{apart, dmt};

/// Longest line of such a file, bytes; a longer one comes in pieces.
const MAX_LINE_BYTES: usize = 4096;
/// Bytes read and written at a time.
const CHUNK_BYTES: usize = 2048;

/// Puts a copy in the place of the open file `source`.
pub fn replace(source: usize, flags: c_int, content: Content, path: &[u8]) -> isize {
    let name = c"proc";
    // SAFETY: makes and closes files of our own; paths and buffers live until the calls return.
    unsafe {
        let copy = raw!(libc::SYS_memfd_create, name.as_ptr(), libc::MFD_CLOEXEC);
        if copy < 0 {
            raw!(libc::SYS_close, source);
            return copy;
        }
        let write = || write_copy(source as c_int, copy as c_int, content, path);
        match content {
            // An operation, and nothing of the kernel's.
            Content::Uuid => write(),
            // What the kernel says of itself must not be left on the program's stack.
            _ => apart(write),
        }
        raw!(libc::SYS_lseek, copy, 0, libc::SEEK_SET);
        raw!(libc::SYS_dup3, copy, source, flags & libc::O_CLOEXEC);
        raw!(libc::SYS_close, copy);
    }
    crate::calls::disk::times::made_fd(source);
    source as isize
}

fn write_copy(source: c_int, copy: c_int, content: Content, path: &[u8]) {
    let shown = || dmt(|call| call.with(|k| k.shown_process(path)));
    let mut out = Out { fd: copy, bytes: [0; CHUNK_BYTES], used: 0 };
    match content {
        Content::Fixed(text) => text.iter().for_each(|&byte| out.push(byte)),
        Content::Stat => lines(source, |line| stat_line(line, shown(), &mut |byte| out.push(byte))),
        Content::Counters => lines(source, |line| counters(line, &mut |byte| out.push(byte))),
        Content::Status => {
            let (shown, mut filter) = (shown(), Lines::new(is_measured_status));
            lines(source, |line| {
                let emit = &mut |byte| out.push(byte);
                if shown.status_line(line, emit).is_none() {
                    line.iter().chain(b"\n").for_each(|&byte| filter.feed(byte, emit));
                }
            });
        }
        Content::Lines(is_measured) => {
            let mut filter = Lines::new(is_measured);
            lines(source, |line| {
                let emit = &mut |byte| out.push(byte);
                line.iter().chain(b"\n").for_each(|&byte| filter.feed(byte, emit));
            });
        }
        Content::Mounts => {
            let mut mounts = Mounts::new();
            lines(source, |line| {
                let emit = &mut |byte| out.push(byte);
                dmt(|call| call.with(|k| mounts.row(line, &mut k.disk.devices, emit)));
            });
        }
        Content::Mappings => {
            let mut mappings = Mappings::new();
            lines(source, |line| {
                let emit = &mut |byte| out.push(byte);
                dmt(|call| call.with(|k| mappings.row(line, &mut k.disk.devices, emit)));
            });
            dmt(|call| call.with(|k| mappings.end(&mut k.disk.devices, &mut |byte| out.push(byte))));
        }
        Content::Processor => {
            let mut processor = Processor::new();
            lines(source, |line| processor.row(line, &mut |byte| out.push(byte)));
        }
        Content::Uuid => {
            let mut bytes = [0; 16];
            random::fill(&mut bytes);
            rows::uuid(bytes, &mut |byte| out.push(byte));
        }
    }
    out.flush();
}

/// Calls `each` with all lines of a file, without their ends.
fn lines(source: c_int, mut each: impl FnMut(&[u8])) {
    let (mut line, mut len) = ([0; MAX_LINE_BYTES], 0);
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let got = read(source, &mut chunk);
        for &byte in &chunk[..got] {
            if byte == b'\n' || len == MAX_LINE_BYTES {
                each(&line[..len]);
                len = 0;
            }
            if byte != b'\n' {
                line[len] = byte;
                len += 1;
            }
        }
        if got == 0 {
            break;
        }
    }
    if len > 0 {
        each(&line[..len]);
    }
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

    fn flush(&mut self) {
        // SAFETY: our own buffer; a memfd takes a short write whole.
        unsafe { raw!(libc::SYS_write, self.fd, self.bytes.as_ptr(), self.used) };
        self.used = 0;
    }
}
