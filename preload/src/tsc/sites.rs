//! Places of `rdtsc` in the program's text that jump to a stub of ours instead of trapping, which would cost 4 us each time:
//! MariaDB reads the counter some five times a query.
//!
//! The instruction has two bytes and a jump five, so the next instruction moves into the stub. That is safe because
//!
//! * nobody jumps to the moved instruction: all direct jumps in the text are looked through, and a jump by a register to the
//!   second half of "read the counter and use it" is not something that compilers make;
//! * no thread stands there: who gets behind a `rdtsc` has executed it, and its first execution is what brings it here.
//!
//! A place that is not understood goes on trapping; the answer and the logical time are the same. Goroutines have no room
//! on their stacks for what a stub does, so nothing is changed in programs that bring them.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use dmt::bounds::GATE_ADDRESS;

use crate::maps;
use crate::raw;
use crate::spin::decode::{Flow, decode};
use crate::spin::window::text_around;

/// Places of one process. What comes beyond traps.
const SITES: usize = 256;
/// Bytes of one stub.
const STUB_BYTES: u64 = 64;
/// Areas with stubs: a jump reaches 2 GB far, and libraries do not lie near the program.
const AREAS: usize = 4;
const AREA_BYTES: u64 = STUB_BYTES * SITES as u64;
/// How far from its place a stub may lie.
const REACH: u64 = 1 << 30;
/// Distance between the addresses that are tried for an area, and how many are.
const STEP: u64 = 16 << 20;
const STEPS: u64 = 40;
const RDTSC: u64 = 2;
const JUMP: u64 = 5;
/// Bytes that may be moved, `rdtsc` included.
const MAX_MOVED: u64 = 20;
/// How far a short jump reaches, and its own bytes.
const NEAR: usize = 130;
/// Bytes of text that are looked through at a time.
const BLOCK_BYTES: usize = 4096;
const PAGE: u64 = 4096;

struct Site {
    place: AtomicU64,
    /// Where a thread goes on that has read the counter; 0 = the place goes on trapping.
    behind: AtomicU64,
}

static SITE: [Site; SITES] = [const { Site { place: AtomicU64::new(0), behind: AtomicU64::new(0) } }; SITES];
static AREA: [AtomicU64; AREAS] = [const { AtomicU64::new(0) }; AREAS];
/// Stubs made.
static STUBS: AtomicU32 = AtomicU32::new(0);

/// Where the thread goes on that executed the `rdtsc` at `place` by a trap. Only the holder of the turn calls it, so nobody
/// else runs in this process.
pub fn behind(place: u64) -> u64 {
    let known = |wanted| SITE.iter().find(|site| site.place.load(Ordering::Relaxed) == wanted);
    let found = match known(place) {
        Some(site) => site.behind.load(Ordering::Relaxed),
        None => known(0).map_or(0, |free| {
            let behind = redirect(place).unwrap_or(0);
            free.behind.store(behind, Ordering::Relaxed);
            free.place.store(place, Ordering::Relaxed);
            behind
        }),
    };
    if found == 0 { place + RDTSC } else { found }
}

/// Makes the place jump to a new stub; returns where the moved instructions are.
fn redirect(place: u64) -> Option<u64> {
    let may = has_xsave() && !is_go();
    let text = text_around(place).filter(|_| may)?;
    // SAFETY: the program's text, which is readable.
    let code = unsafe { core::slice::from_raw_parts(place as *const u8, (text.1 - place) as usize) };
    let length = moved_length(code, place, text)?;
    let stub = allocate(place)?;
    let mut bytes = Stub { bytes: [0xcc; STUB_BYTES as usize], length: 0, at: stub };
    bytes.call(brolga_read_tsc as *const () as u64);
    let behind = stub + bytes.length as u64;
    bytes.relocate(&code[RDTSC as usize..length as usize], place + RDTSC)?;
    bytes.jump(place + length)?;
    // SAFETY: a page of our own, and the place in the program's text.
    unsafe {
        write(stub, &bytes.bytes)?;
        let mut jump = Stub { bytes: [0x90; STUB_BYTES as usize], length: 0, at: place };
        jump.jump(stub)?;
        write(place, &jump.bytes[..length as usize])?;
    }
    STUBS.fetch_add(1, Ordering::Relaxed);
    Some(behind)
}

/// Bytes of `rdtsc` and the instructions that must move with it, if they may.
fn moved_length(code: &[u8], place: u64, text: (u64, u64)) -> Option<u64> {
    let mut length = RDTSC;
    while length < JUMP {
        let at = place + length;
        let instruction = decode(code.get(length as usize..)?, at)?;
        if instruction.flow != Flow::Next || is_target(at, text) {
            return None;
        }
        length += instruction.length;
    }
    (length <= MAX_MOVED).then_some(length)
}

/// True if anything in the text that looks like a direct jump leads to `address`.
fn is_target(address: u64, (from, to): (u64, u64)) -> bool {
    // SAFETY: the program's text, which is readable.
    let text = unsafe { core::slice::from_raw_parts(from as *const u8, (to - from) as usize) };
    let at = (address - from) as usize;
    is_near_target(text, at) || (0..4).any(|phase| is_far_target(text, at, phase))
}

/// Jumps with a distance of one byte.
fn is_near_target(text: &[u8], at: usize) -> bool {
    let from = at.saturating_sub(NEAR);
    text[from..(at + NEAR).min(text.len())].windows(2).enumerate().any(|(offset, pair)| {
        matches!(pair[0], 0x70..=0x7f | 0xe0..=0xe3 | 0xeb)
            && (from + offset + 2).wrapping_add_signed(pair[1] as i8 as isize) == at
    })
}

/// Jumps with a distance of four bytes, `phase` bytes behind a multiple of four. Text has megabytes, so blocks are looked
/// through without a branch first.
fn is_far_target(text: &[u8], at: usize, phase: usize) -> bool {
    let wanted = (at as u32).wrapping_sub(4);
    let leads =
        |place: usize, distance: [u8; 4]| u32::from_le_bytes(distance).wrapping_add(place as u32) == wanted;
    let shifted = &text[phase.min(text.len())..];
    shifted.chunks(BLOCK_BYTES).enumerate().any(|(number, block)| {
        let start = phase + number * BLOCK_BYTES;
        let words = block.as_chunks::<4>().0;
        let hit = words.iter().enumerate().fold(false, |hit, (word, &d)| hit | leads(start + 4 * word, d));
        hit && words.iter().enumerate().any(|(word, &distance)| {
            let place = start + 4 * word;
            let code = |back: usize| place.checked_sub(back).map_or(0, |at| text[at]);
            leads(place, distance) && (code(1) == 0xe9 || code(1) & 0xf0 == 0x80 && code(2) == 0x0f)
        })
    })
}

/// Room for one more stub near `place`.
fn allocate(place: u64) -> Option<u64> {
    let used = u64::from(STUBS.load(Ordering::Relaxed));
    for area in &AREA {
        let base = match area.load(Ordering::Relaxed) {
            0 => {
                let base = map_near(place)?;
                area.store(base, Ordering::Relaxed);
                base
            }
            base => base,
        };
        if base.abs_diff(place) < REACH {
            return Some(base + used * STUB_BYTES);
        }
    }
    None
}

/// A new area below `place`; addresses are tried one after the other, the same ones on every replica.
fn map_near(place: u64) -> Option<u64> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let text = libc::PROT_READ | libc::PROT_EXEC;
    (1..=STEPS).map(|step| (place & !(STEP - 1)).wrapping_sub(step * STEP)).find(|&base| {
        let free = base > PAGE && base < GATE_ADDRESS as u64 + (1 << 47);
        // SAFETY: a new mapping; NOREPLACE refuses if anything is there.
        free && unsafe { raw!(libc::SYS_mmap, base, AREA_BYTES, text, flags, usize::MAX, 0) } == base as isize
    })
}

/// Writes into text.
///
/// # Safety
/// Nobody executes there.
unsafe fn write(at: u64, bytes: &[u8]) -> Option<()> {
    let page = at & !(PAGE - 1);
    let length = at + bytes.len() as u64 - page;
    let text = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: promise of the caller.
    unsafe {
        if raw!(libc::SYS_mprotect, page, length, text | libc::PROT_WRITE) != 0 {
            return None;
        }
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len());
        raw!(libc::SYS_mprotect, page, length, text);
    }
    Some(())
}

/// Code that is being written for address `at`.
struct Stub {
    bytes: [u8; STUB_BYTES as usize],
    length: usize,
    at: u64,
}

impl Stub {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Calls a function. What lies below the stack pointer is the program's; rax is free, the counter comes into it.
    fn call(&mut self, function: u64) {
        self.add(&[0x48, 0x8d, 0x64, 0x24, 0x80]); // lea -128(%rsp),%rsp
        self.add(&[0x48, 0xb8]); // movabs $function,%rax
        self.add(&function.to_le_bytes());
        self.add(&[0xff, 0xd0]); // call *%rax
        self.add(&[0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0]); // lea 128(%rsp),%rsp
    }

    fn jump(&mut self, to: u64) -> Option<()> {
        let next = self.at + self.length as u64 + JUMP;
        let distance = i32::try_from(to.wrapping_sub(next) as i64).ok()?;
        self.add(&[0xe9]);
        self.add(&distance.to_le_bytes());
        Some(())
    }

    /// Appends instructions from address `from`; what they address relative to themselves stays what it is.
    fn relocate(&mut self, mut code: &[u8], mut from: u64) -> Option<()> {
        while !code.is_empty() {
            let instruction = decode(code, from)?;
            let (one, rest) = code.split_at_checked(instruction.length as usize)?;
            let start = self.length;
            self.add(one);
            if instruction.relative != 0 {
                let field = start + instruction.relative as usize;
                let old = i32::from_le_bytes(self.bytes[field..field + 4].try_into().ok()?);
                let moved = from.wrapping_sub(self.at + start as u64) as i64;
                let new = i32::try_from(i64::from(old) + moved).ok()?;
                self.bytes[field..field + 4].copy_from_slice(&new.to_le_bytes());
            }
            (code, from) = (rest, from + instruction.length);
        }
        Some(())
    }
}

/// Whether the processor and the kernel know `xsave`.
fn has_xsave() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    core::arch::x86_64::__cpuid(1).ecx & OSXSAVE != 0
}

/// Whether the program was made by Go's compiler, which leaves a note.
fn is_go() -> bool {
    maps::program_has_note(b"Go\0\0")
}

extern "C" fn now() -> u64 {
    super::now()
}

unsafe extern "C" {
    fn brolga_read_tsc();
}

global_asm!(
    ".pushsection .text.brolga_read_tsc,\"ax\",@progbits",
    ".globl brolga_read_tsc",
    ".hidden brolga_read_tsc",
    ".type brolga_read_tsc,@function",
    // The counter into edx:eax, as `rdtsc` does it: all other registers, the flags too, stay as they are.
    "brolga_read_tsc:",
    "push rbp",
    "mov rbp, rsp",
    "pushfq",
    "push rcx",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    // Room for the vector registers, up to those of AVX-512; `xrstor` wants zeroes in the header behind the first 512 bytes.
    "sub rsp, 2752",
    "and rsp, -64",
    "xor eax, eax",
    "lea rdi, [rsp + 512]",
    "mov ecx, 8",
    "cld",
    "rep stosq",
    "mov eax, 0xe7",
    "xor edx, edx",
    "xsave64 [rsp]",
    "call {now}",
    "mov rcx, rax",
    "mov eax, 0xe7",
    "xor edx, edx",
    "xrstor64 [rsp]",
    "mov rdx, rcx",
    "shr rdx, 32",
    "mov eax, ecx",
    "lea rsp, [rbp - 64]",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdi",
    "pop rsi",
    "pop rcx",
    "popfq",
    "pop rbp",
    "ret",
    ".size brolga_read_tsc, . - brolga_read_tsc",
    ".popsection",
    now = sym now,
);

#[cfg(test)]
mod tests {
    use super::{STUB_BYTES, Stub, is_target, moved_length};

    fn stub(at: u64) -> Stub {
        Stub { bytes: [0; STUB_BYTES as usize], length: 0, at }
    }

    #[test]
    fn relative_addresses_are_kept() {
        // lea 0x1000(%rip),%rdx at 0x5000 means 0x6007.
        let mut moved = stub(0x2000);
        moved.relocate(&[0x48, 0x8d, 0x15, 0, 0x10, 0, 0], 0x5000).expect("understood");
        assert_eq!(i32::from_le_bytes(moved.bytes[3..7].try_into().unwrap()), 0x6007 - 0x2007);
        // A jump at 0x2007 to 0x5007.
        moved.jump(0x5007).expect("near");
        assert_eq!(moved.bytes[7], 0xe9);
        assert_eq!(i32::from_le_bytes(moved.bytes[8..12].try_into().unwrap()), 0x5007 - 0x200c);
        assert!(stub(0).jump(1 << 40).is_none(), "too far");
    }

    /// Code of a test as if it were a program's text; returns what must move.
    fn length(code: &[u8], place: usize) -> Option<u64> {
        let from = code.as_ptr() as u64;
        moved_length(&code[place..], from + place as u64, (from, from + code.len() as u64))
    }

    #[test]
    fn what_follows_moves_unless_somebody_jumps_there() {
        let shift = [0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x09, 0xd0, 0xc3];
        assert_eq!(length(&shift, 0), Some(6));
        // A short jump to the shift, then a long one, then one to the instruction behind it.
        let with = |jump: &[u8]| length(&[jump, &shift].concat(), jump.len());
        assert_eq!(with(&[0xeb, 0x02]), None);
        assert_eq!(with(&[0x90, 0x0f, 0x84, 2, 0, 0, 0]), None);
        assert_eq!(with(&[0x90, 0xe9, 6, 0, 0, 0]), Some(6));
        // A return, and a call, do not move.
        assert_eq!(length(&[0x0f, 0x31, 0xc3, 0x90, 0x90, 0x90], 0), None);
        assert_eq!(length(&[0x0f, 0x31, 0xe8, 0, 0, 0, 0], 0), None);
        let from = shift.as_ptr() as u64;
        assert!(!is_target(from + 2, (from, from + 10)));
    }
}
