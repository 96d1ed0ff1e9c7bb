//! The stack of the program, by the unwinder that every program has with it: it goes through signal frames, and with
//! [`tables`] it takes no lock and allocates nothing.

use core::ffi::{c_int, c_void};

use super::tables;

#[repr(C)]
struct Context([u8; 0]);

type Visit = extern "C" fn(*mut Context, *mut c_void) -> c_int;

/// `_URC_NO_REASON`: go on.
const GO_ON: c_int = 0;
/// `_URC_NORMAL_STOP`.
const ENOUGH: c_int = 4;

unsafe extern "C" {
    fn _Unwind_Backtrace(visit: Visit, argument: *mut c_void) -> c_int;
    fn _Unwind_GetIP(context: *mut Context) -> usize;
}

/// Frames of this library that may stand before the program's.
const OWN_FRAMES: usize = 12;

struct Walk<'a> {
    out: &'a mut [u64],
    found: usize,
    seen: usize,
}

/// Fills `out` with return addresses from the caller of the hook outwards; returns how many.
pub fn walk(out: &mut [u64]) -> usize {
    let mut walk = Walk { out, found: 0, seen: 0 };
    // SAFETY: the callback gets the pointer to `walk`, which outlives the call. The caller is in a pass-through section.
    tables::walking(|| unsafe { _Unwind_Backtrace(visit, (&raw mut walk).cast()) });
    walk.found
}

/// What the unwinder prepares when it is first used, in every process: where a walk of ours did it, the program's first
/// exception would not.
pub fn prepare() {
    walk(&mut [0]);
}

extern "C" fn visit(context: *mut Context, walk: *mut c_void) -> c_int {
    // SAFETY: the unwinder hands on what `walk` gave it.
    let (walk, address) = unsafe { (&mut *walk.cast::<Walk<'_>>(), _Unwind_GetIP(context)) };
    walk.seen += 1;
    if is_own(address) && walk.found == 0 && walk.seen < OWN_FRAMES {
        return GO_ON;
    }
    if walk.found == walk.out.len() || address == 0 {
        return ENOUGH;
    }
    walk.out[walk.found] = address as u64;
    walk.found += 1;
    GO_ON
}

unsafe extern "C" {
    #[link_name = "__ehdr_start"]
    static START: u8;
    #[link_name = "etext"]
    static TEXT_END: u8;
}

/// Whether the address lies in this library.
fn is_own(address: usize) -> bool {
    ((&raw const START) as usize..(&raw const TEXT_END) as usize).contains(&address)
}
