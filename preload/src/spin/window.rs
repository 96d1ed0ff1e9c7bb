//! The code around an instruction, as the program has it, and whether it is the program's text.

use crate::mappings::{self, Mapping};
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
    let mut run = Run { address, stretch: (0, 0) };
    mappings::find(|line| run.take(line)).unwrap_or_else(|| run.text())
}

/// Looks for the text around an address in the mappings, which come in order.
struct Run {
    address: u64,
    /// The stretch of text that ends with the mapping before, empty if that is none.
    stretch: (u64, u64),
}

impl Run {
    /// The stretch of text, if the address is in it.
    fn text(&self) -> Option<(u64, u64)> {
        (self.stretch.0..self.stretch.1).contains(&self.address).then_some(self.stretch)
    }

    /// The answer, once a mapping lies behind the stretch of the address.
    fn take(&mut self, line: &Mapping) -> Option<Option<(u64, u64)>> {
        let is_text = line.rights == *b"r-xp" && line.is_file;
        if is_text && line.from == self.stretch.1 {
            self.stretch.1 = line.to;
            return None;
        }
        let answer = self.text();
        let passed = answer.is_some() || line.from > self.address;
        self.stretch = if is_text { (line.from, line.to) } else { (0, 0) };
        passed.then_some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::{Run, Window, is_program_text};
    use crate::mappings::Lines;

    const MAPS: &[u8] = b"5550-5555 r--p 00000000 fe:00 1234                       /usr/bin/x\n\
        5555-5557 r-xp 00001000 fe:00 1234                       /usr/bin/x\n\
        5557-5558 r-xp 00003000 fe:00 1234                       /usr/bin/x\n\
        6000-7000 rwxp 00000000 00:00 0 \n\
        7000-8000 r-xp 00000000 00:00 0                          [vdso]\n";

    fn ask(address: u64) -> Option<(u64, u64)> {
        let mut run = Run { address, stretch: (0, 0) };
        Lines::new().feed(MAPS, &mut |line| run.take(line)).unwrap_or_else(|| run.text())
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
