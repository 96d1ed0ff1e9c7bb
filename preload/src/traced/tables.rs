//! The tables by which the unwinder finds its way, for walks of our own: those of the files that the loader mapped, and no
//! others.
//!
//! The unwinder's own search begins with the tables that compilers at run time have registered: under a lock that the
//! program may hold just now, and it sorts them, in memory of the program's, when it first looks. A walk of ours must do neither, so
//! it ends at such code.

use core::ffi::{c_int, c_void};

use crate::tls::{self, Passthrough};

/// What the unwinder wants to know beside the table's row.
#[repr(C)]
pub struct Bases {
    text: *const c_void,
    data: *const c_void,
    function: *const c_void,
}

/// glibc's `struct dl_find_object`.
#[repr(C)]
struct Found {
    flags: u64,
    start: *const u8,
    end: *const u8,
    map: *const c_void,
    header: *const u8,
    reserved: [u64; 7],
}

unsafe extern "C" {
    fn _dl_find_object(address: *const c_void, found: *mut Found) -> c_int;
}

crate::replaced! { fn _Unwind_Find_FDE(address: *const c_void, bases: *mut Bases) -> *const c_void }

/// Stands in for the unwinder's search.
///
/// # Safety
/// As the function that it replaces.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[allow(non_snake_case)]
pub unsafe extern "C" fn _Unwind_Find_FDE(address: *const c_void, bases: *mut Bases) -> *const c_void {
    if !tls::current().walking.get() {
        // SAFETY: the replaced function with the caller's own arguments.
        return unsafe { _Unwind_Find_FDE::real()(address, bases) };
    }
    // SAFETY: the unwinder's own variable.
    unsafe { find(address as usize, &mut *bases) }.unwrap_or(core::ptr::null()).cast()
}

/// Runs `walk`, whose searches end here.
pub fn walking<T>(walk: impl FnOnce() -> T) -> T {
    let walking = &tls::current().walking;
    let _section = Passthrough::enter();
    walking.set(true);
    let result = walk();
    walking.set(false);
    result
}

// Encodings of the tables, as linkers for x86-64 make them.
const VERSION: u8 = 1;
const COUNT_IS_U32: u8 = 0x03;
const SORTED_PAIRS: u8 = 0x3b;
/// Bits of an encoding that say how a number is stored.
const FORMAT: u8 = 0x0f;

/// The row of the function at `address`.
unsafe fn find(address: usize, bases: &mut Bases) -> Option<*const u8> {
    // SAFETY: zeroes are an empty result; the loader fills it, without a lock. Its tables are well formed, or no exception
    // could pass through the program.
    unsafe {
        let mut found: Found = core::mem::zeroed();
        if _dl_find_object(address as *const c_void, &raw mut found) != 0 || found.header.is_null() {
            return None;
        }
        let header = found.header;
        if (*header, *header.add(2), *header.add(3)) != (VERSION, COUNT_IS_U32, SORTED_PAIRS) {
            return None;
        }
        let frames = match *header.add(1) & FORMAT {
            0x03 | 0x0b => 4,
            0x04 | 0x0c => 8,
            _ => return None,
        };
        let count = header.add(4 + frames).cast::<u32>().read_unaligned() as usize;
        let pairs = header.add(8 + frames).cast::<[i32; 2]>();
        let pair = |at: usize| pairs.add(at).read_unaligned().map(|offset| header.offset(offset as isize));
        let (mut from, mut to) = (0, count);
        while from < to {
            let middle = from.midpoint(to);
            if pair(middle)[0] as usize <= address { from = middle + 1 } else { to = middle }
        }
        let [start, row] = pair(from.checked_sub(1)?);
        (address - (start as usize) < length(row)?).then(|| {
            *bases = Bases { text: core::ptr::null(), data: core::ptr::null(), function: start.cast() };
            row
        })
    }
}

/// Bytes of the function of a row.
unsafe fn length(row: *const u8) -> Option<usize> {
    // SAFETY: as above; a row's second word leads back to its common part.
    unsafe {
        let common = row.add(4).sub(row.add(4).cast::<u32>().read_unaligned() as usize);
        let (start, bytes) = (row.add(8), size(encoding(common.add(8))?)?);
        Some(match bytes {
            2 => start.add(2).cast::<u16>().read_unaligned().into(),
            4 => start.add(4).cast::<u32>().read_unaligned() as usize,
            _ => start.add(8).cast::<u64>().read_unaligned() as usize,
        })
    }
}

/// How addresses are stored in the rows of a common part whose version is at `at`.
unsafe fn encoding(at: *const u8) -> Option<u8> {
    // SAFETY: as above.
    unsafe {
        let letters = at.add(1);
        let count = (0..8).find(|&index| *letters.add(index) == 0)?;
        let mut at = letters.add(count + 1);
        if count == 0 {
            return Some(0);
        }
        // The factors of code and data, the register of the return address, the length of what follows.
        let numbers = 4;
        for _ in 0..numbers {
            while *at & 0x80 != 0 {
                at = at.add(1);
            }
            at = at.add(1);
        }
        for index in 1..count {
            match *letters.add(index) {
                b'R' => return Some(*at),
                b'P' => at = at.add(1 + size(*at)?),
                b'L' => at = at.add(1),
                b'S' | b'B' => {}
                _ => return None,
            }
        }
        Some(0)
    }
}

/// Bytes of a number in this encoding.
fn size(encoding: u8) -> Option<usize> {
    match encoding & FORMAT {
        0x00 | 0x04 | 0x0c => Some(8),
        0x02 | 0x0a => Some(2),
        0x03 | 0x0b => Some(4),
        _ => None,
    }
}
