//! Where things lie in this process, from the auxiliary vector: `ld.so`, the vDSO, the 16 random bytes.

use core::ffi::{CStr, c_char};

/// `ld.so`'s executable segment.
pub fn loader_text() -> Option<(usize, usize)> {
    executable_segment(auxiliary(libc::AT_BASE)?)
}

/// One value of the auxiliary vector; `None` if it is absent or 0.
pub fn auxiliary(kind: u64) -> Option<usize> {
    // SAFETY: reads libc's copy of the auxiliary vector.
    match unsafe { libc::getauxval(kind) } {
        0 => None,
        value => Some(value as usize),
    }
}

/// The headers of an ELF image that is mapped at `base`.
pub fn program_headers(base: usize) -> &'static [libc::Elf64_Phdr] {
    // SAFETY: the caller got `base` from the kernel: an ELF header is mapped there, its program headers behind it.
    unsafe {
        let head = &*(base as *const libc::Elf64_Ehdr);
        core::slice::from_raw_parts(
            (base + head.e_phoff as usize) as *const libc::Elf64_Phdr,
            head.e_phnum.into(),
        )
    }
}

/// Whether the program itself (not its libraries) has a note by this owner, whose name fills four bytes.
pub fn program_has_note(owner: &[u8; 4]) -> bool {
    let (Some(at), Some(count)) = (auxiliary(libc::AT_PHDR), auxiliary(libc::AT_PHNUM)) else { return false };
    // SAFETY: the kernel says where the program's headers are, and the loader has mapped what they speak of.
    unsafe {
        let headers = core::slice::from_raw_parts(at as *const libc::Elf64_Phdr, count);
        let own = headers.iter().find(|h| h.p_type == libc::PT_PHDR);
        let Some(base) = own.map(|own| at - own.p_vaddr as usize) else { return false };
        headers.iter().filter(|h| h.p_type == libc::PT_NOTE && h.p_memsz >= 16).any(|h| {
            let note = (base + h.p_vaddr as usize) as *const u8;
            note.cast::<u32>().read() == 4 && note.add(12).cast::<[u8; 4]>().read() == *owner
        })
    }
}

fn executable_segment(base: usize) -> Option<(usize, usize)> {
    program_headers(base).iter().find(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_X != 0).map(|h| {
        let start = base + h.p_vaddr as usize;
        (start, start + h.p_memsz as usize)
    })
}

/// The environment as the constructor gets it. libc's own is not set up yet when the first constructor runs.
#[derive(Clone, Copy)]
pub struct Variables(*const *const c_char);

impl Variables {
    /// The null-terminated array at `at`.
    ///
    /// # Safety
    /// It and its strings stay as they are while this value is used.
    pub unsafe fn new(at: *const *const c_char) -> Self {
        Self(at)
    }

    /// The value of a variable.
    pub fn get(&self, name: &CStr) -> Option<&CStr> {
        let name = name.to_bytes();
        let mut at = self.0;
        // SAFETY: promise of `new`, for all reads here.
        unsafe {
            while !at.is_null() && !(*at).is_null() {
                let text = CStr::from_ptr(*at);
                let bytes = text.to_bytes();
                if bytes.len() > name.len() && bytes.starts_with(name) && bytes[name.len()] == b'=' {
                    return CStr::from_bytes_with_nul(&text.to_bytes_with_nul()[name.len() + 1..]).ok();
                }
                at = at.add(1);
            }
        }
        None
    }
}

/// A decimal number.
pub fn decimal(text: &CStr) -> Option<i32> {
    text.to_str().ok()?.parse().ok()
}
