//! What a program that is about to be started needs: our variables. Many programs start children with an environment of
//! their own making; without the library the filter, which they inherit, would kill them.

use core::ffi::{CStr, c_char};

use crate::maps::Variables;

/// Variables that every program of the server needs.
const OURS: [&CStr; 3] = [c"LD_PRELOAD", c"BROLGA_ARENA", c"BROLGA_KICK_FD"];
/// Pointers in the longest environment that is completed; a longer one is passed on as it is.
const MAX_VARIABLES: usize = 2048;
/// Bytes of one of our variables, name and value.
const MAX_BYTES: usize = 256;

static mut SAVED: [[u8; MAX_BYTES]; OURS.len()] = [[0; MAX_BYTES]; OURS.len()];

/// Copies our variables; the constructor does it, before the program can change its environment.
pub fn save(variables: Variables) {
    for (i, name) in OURS.iter().enumerate() {
        let Some(value) = variables.get(name) else { continue };
        let (name, value) = (name.to_bytes(), value.to_bytes());
        if name.len() + value.len() + 2 > MAX_BYTES {
            continue;
        }
        // SAFETY: only the constructor writes, before any other thread exists.
        let saved = unsafe { &mut (*(&raw mut SAVED))[i] };
        saved[..name.len()].copy_from_slice(name);
        saved[name.len()] = b'=';
        saved[name.len() + 1..][..value.len()].copy_from_slice(value);
    }
}

/// Room for a completed environment.
pub struct Environment {
    pointers: [*const c_char; MAX_VARIABLES],
}

impl Environment {
    /// Empty room.
    pub fn new() -> Self {
        Self { pointers: [core::ptr::null(); MAX_VARIABLES] }
    }

    /// The environment at `given` with our variables in it; `given` itself if it does not fit.
    ///
    /// # Safety
    /// `given` is 0 or a null-terminated array of C strings.
    pub unsafe fn with_ours(&mut self, given: usize) -> usize {
        let mut count = 0;
        let mut at = given as *const *const c_char;
        // SAFETY: the caller's promise, for all reads below.
        unsafe {
            while given != 0 && !(*at).is_null() {
                if count + OURS.len() + 1 > MAX_VARIABLES {
                    return given;
                }
                if !is_ours(CStr::from_ptr(*at)) {
                    self.pointers[count] = *at;
                    count += 1;
                }
                at = at.add(1);
            }
        }
        for i in 0..OURS.len() {
            // SAFETY: written once, by `save`.
            let saved = unsafe { &(*(&raw const SAVED))[i] };
            if saved[0] != 0 {
                self.pointers[count] = saved.as_ptr().cast();
                count += 1;
            }
        }
        self.pointers[count] = core::ptr::null();
        self.pointers.as_ptr() as usize
    }
}

fn is_ours(variable: &CStr) -> bool {
    let bytes = variable.to_bytes();
    OURS.iter().any(|name| {
        let name = name.to_bytes();
        bytes.len() > name.len() && bytes.starts_with(name) && bytes[name.len()] == b'='
    })
}
