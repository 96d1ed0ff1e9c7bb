//! The code around an instruction, as the program has it, and whether it is the program's text.

use crate::raw;

use super::loops::LOOP_BYTES;
use super::points;

/// Bytes before and behind the instruction: a loop, and as much again to the branch of a loop around it.
const REACH: u64 = LOOP_BYTES + 32;

/// A copy of the code around an instruction, without our own patches.
pub struct Window {
    bytes: [u8; 2 * REACH as usize],
    base: u64,
    length: usize,
}

impl Window {
    /// What is readable around `place`.
    pub fn around(place: u64) -> Option<Self> {
        let mut this = Self { bytes: [0; 2 * REACH as usize], base: place.checked_sub(REACH)?, length: 0 };
        // SAFETY: an all-zero iovec is valid, and is filled right after.
        let mut to: libc::iovec = unsafe { core::mem::zeroed() };
        (to.iov_base, to.iov_len) = (this.bytes.as_mut_ptr().cast(), this.bytes.len());
        // Two pieces: what lies before the instruction may be unreadable.
        for base in [this.base, place] {
            let length = (place + REACH - base) as usize;
            let from = libc::iovec { iov_base: base as *mut _, iov_len: length };
            // SAFETY: the kernel copies what is mapped, at most as many bytes as there is room for.
            let copied = unsafe {
                let pid = raw!(libc::SYS_getpid);
                raw!(libc::SYS_process_vm_readv, pid, &raw const to, 1, &raw const from, 1, 0)
            };
            if copied > (place - base) as isize {
                (this.base, this.length) = (base, copied as usize);
                points::restore(base, &mut this.bytes[..copied as usize]);
                return Some(this);
            }
        }
        None
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The address of the first.
    pub fn base(&self) -> u64 {
        self.base
    }
}

/// True if `address` is in the program's text.
pub fn is_program_text(address: u64) -> bool {
    text_around(address).is_some()
}

/// The program's text around `address`, from and to: private mappings of files, without a gap between them, that are
/// executable and not writable. Code that a compiler at run time may change is left alone.
pub fn text_around(address: u64) -> Option<(u64, u64)> {
    // SAFETY: opens for reading; the path ends with 0.
    let fd =
        unsafe { raw!(libc::SYS_open, c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0) };
    if fd < 0 {
        return None;
    }
    let mut lines = Lines::new(address);
    let mut buffer = [0u8; 2048];
    let found = loop {
        // SAFETY: reads into our buffer.
        let count = unsafe { raw!(libc::SYS_read, fd, buffer.as_mut_ptr(), buffer.len()) };
        if count <= 0 {
            break lines.text();
        }
        if let Some(found) = buffer[..count as usize].iter().find_map(|&byte| lines.take(byte)) {
            break found;
        }
    };
    // SAFETY: our own descriptor.
    unsafe { raw!(libc::SYS_close, fd) };
    found
}

/// The lines of `/proc/self/maps`, as they come: `from-to rights offset device inode path`.
struct Lines {
    address: u64,
    /// The stretch of text that ends with the line before, if it did not end earlier.
    run: (u64, u64),
    line: Line,
}

#[derive(Default)]
struct Line {
    field: u8,
    from: u64,
    to: u64,
    rights: [u8; 4],
    letters: usize,
    inode: bool,
    blank: bool,
}

impl Lines {
    fn new(address: u64) -> Self {
        Self { address, run: (0, 0), line: Line::default() }
    }

    /// The stretch of text, if the address is in it.
    fn text(&self) -> Option<(u64, u64)> {
        (self.run.0..self.run.1).contains(&self.address).then_some(self.run)
    }

    /// The answer, once the line behind the stretch of the address has ended.
    fn take(&mut self, byte: u8) -> Option<Option<(u64, u64)>> {
        if byte != b'\n' {
            self.line.take(byte);
            return None;
        }
        let line = core::mem::take(&mut self.line);
        let is_text = line.rights == *b"r-xp" && line.inode;
        if is_text && line.from == self.run.1 {
            self.run.1 = line.to;
            return None;
        }
        let passed = self.text().is_some() || line.from > self.address;
        let answer = self.text();
        self.run = if is_text { (line.from, line.to) } else { (0, 0) };
        passed.then_some(answer)
    }
}

impl Line {
    fn take(&mut self, byte: u8) {
        match byte {
            b'-' if self.field == 0 => self.field = 1,
            b' ' if !self.blank => {
                self.field = self.field.saturating_add(1);
                self.blank = true;
                return;
            }
            _ => self.add(byte),
        }
        self.blank = false;
    }

    fn add(&mut self, byte: u8) {
        let digit = || u64::from((byte as char).to_digit(16).unwrap_or(0));
        match self.field {
            0 => self.from = self.from << 4 | digit(),
            1 => self.to = self.to << 4 | digit(),
            2 if self.letters < 4 => {
                self.rights[self.letters] = byte;
                self.letters += 1;
            }
            5 => self.inode |= byte != b'0',
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, Window, is_program_text};

    const MAPS: &str = "5550-5555 r--p 00000000 fe:00 1234                       /usr/bin/x\n\
        5555-5557 r-xp 00001000 fe:00 1234                       /usr/bin/x\n\
        5557-5558 r-xp 00003000 fe:00 1234                       /usr/bin/x\n\
        6000-7000 rwxp 00000000 00:00 0 \n\
        7000-8000 r-xp 00000000 00:00 0                          [vdso]\n";

    fn ask(address: u64) -> Option<(u64, u64)> {
        let mut lines = Lines::new(address);
        MAPS.bytes().find_map(|byte| lines.take(byte)).unwrap_or_else(|| lines.text())
    }

    #[test]
    fn only_code_of_files_counts() {
        for text in [0x5555, 0x5556, 0x5557] {
            assert_eq!(ask(text), Some((0x5555, 0x5558)));
        }
        for other in [0x5554, 0x5558, 0x6800, 0x7800, 0x9000] {
            assert_eq!(ask(other), None, "{other:x}");
        }
    }

    #[test]
    fn this_process() {
        let place = only_code_of_files_counts as *const () as u64;
        assert!(is_program_text(place));
        assert!(!is_program_text(MAPS.as_ptr() as u64));
        let window = Window::around(place).expect("its code is readable");
        assert!(window.base() <= place && window.base() + window.bytes().len() as u64 > place);
        assert!(Window::around(0).is_none());
    }
}
