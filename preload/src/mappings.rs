//! What is mapped where in this process: `/proc/self/maps`, read without memory for it. For signal handlers, too.

use core::ffi::CStr;

use crate::raw;

/// Bytes of a path that are kept.
const MAX_PATH_BYTES: usize = 160;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 1024;

/// A line: `from-to rights offset device inode path`.
#[derive(Clone, Copy)]
pub struct Mapping {
    /// First address.
    pub from: u64,
    /// Behind the last address.
    pub to: u64,
    /// As `r-xp`.
    pub rights: [u8; 4],
    /// Where in the file it begins.
    pub offset: u64,
    /// Whether it is of a file.
    pub is_file: bool,
    path: [u8; MAX_PATH_BYTES],
    len: usize,
}

impl Mapping {
    const EMPTY: Self =
        Self { from: 0, to: 0, rights: [0; 4], offset: 0, is_file: false, path: [0; MAX_PATH_BYTES], len: 0 };

    /// The path of the file, cut if it is long, or another name.
    pub fn path(&self) -> &[u8] {
        &self.path[..self.len]
    }

    /// The path for the kernel; `None` if it may have been cut. That of a removed file means none.
    pub fn c_path(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.path).ok()
    }
}

/// Shows `look` all mappings in order, until it answers.
pub fn find<T>(mut look: impl FnMut(&Mapping) -> Option<T>) -> Option<T> {
    // SAFETY: opens for reading; the path ends with 0.
    let fd =
        unsafe { raw!(libc::SYS_open, c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0) };
    if fd < 0 {
        return None;
    }
    let (mut lines, mut chunk) = (Lines::new(), [0u8; CHUNK_BYTES]);
    let mut found = None;
    while found.is_none() {
        // SAFETY: reads into our buffer.
        let count = unsafe { raw!(libc::SYS_read, fd, chunk.as_mut_ptr(), chunk.len()) };
        if count <= 0 {
            break;
        }
        found = lines.feed(&chunk[..count as usize], &mut look);
    }
    // SAFETY: our own descriptor.
    unsafe { raw!(libc::SYS_close, fd) };
    found
}

/// The lines as they come, piece by piece.
pub struct Lines {
    line: Mapping,
    field: u8,
    blank: bool,
    letters: usize,
}

impl Lines {
    /// Nothing has come yet.
    pub fn new() -> Self {
        Self { line: Mapping::EMPTY, field: 0, blank: false, letters: 0 }
    }

    /// Takes a piece; shows `look` each line that ends in it, until it answers.
    pub fn feed<T>(&mut self, piece: &[u8], look: &mut impl FnMut(&Mapping) -> Option<T>) -> Option<T> {
        piece.iter().find_map(|&byte| {
            if byte != b'\n' {
                self.take(byte);
                return None;
            }
            look(&core::mem::replace(self, Self::new()).line)
        })
    }

    fn take(&mut self, byte: u8) {
        const PATH_FIELD: u8 = 6;
        match byte {
            b'-' if self.field == 0 => self.field = 1,
            b' ' if self.blank || self.field < PATH_FIELD => {
                self.field += u8::from(!self.blank);
                self.blank = true;
                return;
            }
            _ => self.add(byte),
        }
        self.blank = false;
    }

    fn add(&mut self, byte: u8) {
        let line = &mut self.line;
        let digit = || u64::from((byte as char).to_digit(16).unwrap_or(0));
        match self.field {
            0 => line.from = line.from << 4 | digit(),
            1 => line.to = line.to << 4 | digit(),
            2 if self.letters < line.rights.len() => {
                line.rights[self.letters] = byte;
                self.letters += 1;
            }
            3 => line.offset = line.offset << 4 | digit(),
            5 => line.is_file |= byte != b'0',
            6 if line.len < MAX_PATH_BYTES => {
                line.path[line.len] = byte;
                line.len += 1;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, Mapping, find};

    const MAPS: &[u8] = b"5000-6000 r-xp 00001000 fe:00 1234                       /usr/bin/x y\n\
        6000-7000 rwxp 00000000 00:00 0 \n";

    #[test]
    fn lines_come_in_pieces() {
        for bytes in 1..MAPS.len() {
            let (mut lines, mut seen) = (Lines::new(), 0);
            let mut look = |line: &Mapping| {
                let (first, is_text) = (line.from == 0x5000, line.rights == *b"r-xp");
                assert_eq!((line.to - line.from, is_text, line.is_file), (0x1000, first, first));
                assert_eq!(
                    (line.offset, line.path()),
                    if first { (0x1000, &b"/usr/bin/x y"[..]) } else { (0, &b""[..]) }
                );
                seen += 1;
                None::<()>
            };
            assert!(MAPS.chunks(bytes).all(|piece| lines.feed(piece, &mut look).is_none()));
            assert_eq!(seen, 2);
        }
    }

    #[test]
    fn this_process() {
        let here = lines_come_in_pieces as *const () as u64;
        let found = find(|line| (line.from..line.to).contains(&here).then_some(*line)).expect("it is mapped");
        assert!(found.is_file && found.rights == *b"r-xp" && found.path().starts_with(b"/"));
        assert!(find(|_| None::<()>).is_none());
    }
}
