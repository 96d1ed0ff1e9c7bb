//! Where things lie in this process, from the auxiliary vector: `ld.so`, the vDSO, the 16 random bytes.

use core::ffi::CStr;

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
        core::slice::from_raw_parts((base + head.e_phoff as usize) as *const libc::Elf64_Phdr, head.e_phnum.into())
    }
}

fn executable_segment(base: usize) -> Option<(usize, usize)> {
    program_headers(base).iter().find(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_X != 0).map(|h| {
        let start = base + h.p_vaddr as usize;
        (start, start + h.p_memsz as usize)
    })
}

/// A variable of the environment as it was at program start.
pub fn environment(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: getenv walks the environment; the constructor calls this before the program can change it.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: a C string that stays, because nobody changes the environment before the constructor is done.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })
}

/// A decimal number.
pub fn decimal(text: &CStr) -> Option<i32> {
    text.to_str().ok()?.parse().ok()
}
