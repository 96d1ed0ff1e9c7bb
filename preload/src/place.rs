//! Names the place in the program of an address: the file that is mapped there and the offset in it, as `addr2line` and `gdb` take
//! it. For the log; reads `/proc/self/maps` and holds nothing.

use core::fmt;

use crate::raw;

/// Bytes of a path that are shown.
const MAX_PATH_BYTES: usize = 160;

/// The place of an address.
pub struct Place {
    address: usize,
    offset: u64,
    path: [u8; MAX_PATH_BYTES],
    len: usize,
}

impl Place {
    /// Where `address` lies in this process.
    pub fn of(address: usize) -> Self {
        let mut lines = Lines::new(address as u64);
        let mut buffer = [0u8; 1024];
        // SAFETY: opens for reading; the path ends with 0.
        let fd =
            unsafe { raw!(libc::SYS_open, c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0) };
        loop {
            // SAFETY: reads into our buffer; a descriptor that is an error gives one.
            let count = unsafe { raw!(libc::SYS_read, fd, buffer.as_mut_ptr(), buffer.len()) };
            if count <= 0 || buffer[..count as usize].iter().any(|&byte| lines.take(byte)) {
                break;
            }
        }
        // SAFETY: our own descriptor, or none.
        unsafe { raw!(libc::SYS_close, fd) };
        lines.place()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match core::str::from_utf8(&self.path[..self.len]) {
            Ok(path) if !path.is_empty() => write!(f, "{path}+{:#x}", self.offset),
            _ => write!(f, "{:#x}", self.address),
        }
    }
}

/// The lines of `/proc/self/maps`, as they come: `from-to rights offset device inode path`.
struct Lines {
    address: u64,
    field: u8,
    blank: bool,
    numbers: [u64; 3],
    path: [u8; MAX_PATH_BYTES],
    len: usize,
    found: bool,
}

/// Places in [`Lines::numbers`].
const FROM: usize = 0;
const TO: usize = 1;
const OFFSET: usize = 2;

impl Lines {
    fn new(address: u64) -> Self {
        Self {
            address,
            field: 0,
            blank: false,
            numbers: [0; 3],
            path: [0; MAX_PATH_BYTES],
            len: 0,
            found: false,
        }
    }

    /// True once the line of the address has ended.
    fn take(&mut self, byte: u8) -> bool {
        const PATH_FIELD: u8 = 6;
        match byte {
            b'\n' => {
                self.found = (self.numbers[FROM]..self.numbers[TO]).contains(&self.address);
                if !self.found {
                    *self = Self::new(self.address);
                }
                return self.found;
            }
            b'-' if self.field == 0 => self.field = 1,
            b' ' if self.blank || self.field < PATH_FIELD => {
                self.field += u8::from(!self.blank);
                self.blank = true;
                return false;
            }
            _ => self.add(byte),
        }
        self.blank = false;
        false
    }

    fn add(&mut self, byte: u8) {
        let at = match self.field {
            0 => FROM,
            1 => TO,
            3 => OFFSET,
            6 => {
                if self.len < MAX_PATH_BYTES {
                    self.path[self.len] = byte;
                    self.len += 1;
                }
                return;
            }
            _ => return,
        };
        self.numbers[at] = self.numbers[at] << 4 | u64::from((byte as char).to_digit(16).unwrap_or(0));
    }

    fn place(self) -> Place {
        let inside = self.address.wrapping_sub(self.numbers[FROM]).wrapping_add(self.numbers[OFFSET]);
        let len = if self.found { self.len } else { 0 };
        Place { address: self.address as usize, offset: inside, path: self.path, len }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, Place};
    use std::string::ToString;

    const MAPS: &str = "5000-6000 r-xp 00001000 fe:00 1234                       /usr/bin/x y\n\
        6000-7000 rwxp 00000000 00:00 0 \n";

    fn place(address: u64) -> std::string::String {
        let mut lines = Lines::new(address);
        let _ = MAPS.bytes().any(|byte| lines.take(byte));
        lines.place().to_string()
    }

    #[test]
    fn names_file_and_offset() {
        assert_eq!(place(0x5010), "/usr/bin/x y+0x1010");
        assert_eq!(place(0x6010), "0x6010");
        assert_eq!(place(0x9010), "0x9010");
    }

    #[test]
    fn this_process() {
        let here = Place::of(names_file_and_offset as *const () as usize).to_string();
        assert!(here.starts_with('/') && here.contains("+0x"), "{here}");
    }
}
