//! The vDSO: its clock functions read hardware without a system call, so each is overwritten with a jump to ours.
//!
//! Runs once in the constructor, and again after a checkpoint was restored.

use core::ffi::{CStr, c_char, c_int};

use crate::calls::time;
use crate::maps::{auxiliary, program_headers};
use crate::raw;

const PAGE: usize = 4096;
/// `movabs rax, imm64; jmp rax`.
const JUMP_BYTES: usize = 12;
const DT_HASH: i64 = 4;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const SHT_DYNSYM: u32 = 11;

#[repr(C)]
struct Dynamic {
    tag: i64,
    value: u64,
}

unsafe extern "C" fn clock_gettime(clock: c_int, out: *mut libc::timespec) -> c_int {
    // SAFETY: the program's own arguments, here and below.
    unsafe { time::clock_gettime([clock as usize, out as usize, 0, 0, 0, 0]) as c_int }
}

unsafe extern "C" fn clock_getres(clock: c_int, out: *mut libc::timespec) -> c_int {
    // SAFETY: as above.
    unsafe { time::clock_getres([clock as usize, out as usize, 0, 0, 0, 0]) as c_int }
}

unsafe extern "C" fn gettimeofday(out: *mut libc::timeval, zone: *mut u8) -> c_int {
    // SAFETY: as above.
    unsafe { time::gettimeofday([out as usize, zone as usize, 0, 0, 0, 0]) as c_int }
}

unsafe extern "C" fn time_of_day(out: *mut i64) -> isize {
    // SAFETY: as above.
    unsafe { time::time([out as usize, 0, 0, 0, 0, 0]) }
}

unsafe extern "C" fn getcpu(cpu: *mut u32, node: *mut u32) -> c_int {
    // SAFETY: as above.
    unsafe { time::getcpu([cpu as usize, node as usize, 0, 0, 0, 0]) as c_int }
}

unsafe extern "C" fn getrandom() -> isize {
    // The caller falls back to the system call.
    -(libc::ENOSYS as isize)
}

fn replacement(name: &CStr) -> Option<usize> {
    Some(match name.to_bytes() {
        b"__vdso_clock_gettime" => clock_gettime as *const () as usize,
        b"__vdso_clock_getres" => clock_getres as *const () as usize,
        b"__vdso_gettimeofday" => gettimeofday as *const () as usize,
        b"__vdso_time" => time_of_day as *const () as usize,
        b"__vdso_getcpu" => getcpu as *const () as usize,
        b"__vdso_getrandom" => getrandom as *const () as usize,
        _ => return None,
    })
}

/// Patches all functions; an error is the kernel's refusal to make the page writable.
pub fn patch() -> Result<(), isize> {
    let Some(base) = auxiliary(libc::AT_SYSINFO_EHDR) else { return Ok(()) };
    let headers = program_headers(base);
    let Some(text) = headers.iter().find(|h| h.p_type == libc::PT_LOAD) else { return Ok(()) };
    let bytes = (text.p_memsz as usize).next_multiple_of(PAGE);
    let delta = base.wrapping_sub(text.p_vaddr as usize);
    protect(base, bytes, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)?;
    for_each_symbol(base, delta, |name, address| {
        if let Some(target) = replacement(name) {
            // SAFETY: a function of the vDSO, longer than a jump, in pages that are writable now; no other thread runs.
            unsafe { write_jump(address as *mut u8, target) };
        }
    });
    protect(base, bytes, libc::PROT_READ | libc::PROT_EXEC)
}

fn protect(base: usize, bytes: usize, rights: c_int) -> Result<(), isize> {
    // SAFETY: changes rights of the vDSO's own pages.
    match unsafe { raw!(libc::SYS_mprotect, base, bytes, rights) } {
        0 => Ok(()),
        error => Err(error),
    }
}

unsafe fn write_jump(at: *mut u8, target: usize) {
    let mut code = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0];
    code[2..10].copy_from_slice(&target.to_le_bytes());
    // SAFETY: the caller's promise: JUMP_BYTES writable bytes.
    unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), at, JUMP_BYTES) };
}

fn for_each_symbol(base: usize, delta: usize, mut each: impl FnMut(&CStr, usize)) {
    let (mut names, mut symbols, mut hash) = (0usize, 0usize, 0usize);
    for header in program_headers(base).iter().filter(|h| h.p_type == libc::PT_DYNAMIC) {
        let mut entry = delta.wrapping_add(header.p_vaddr as usize) as *const Dynamic;
        loop {
            // SAFETY: the dynamic section ends with a zero tag, where this loop ends, too.
            let Dynamic { tag, value } = unsafe { &*entry };
            let address = delta.wrapping_add(*value as usize);
            match *tag {
                0 => break,
                DT_STRTAB => names = address,
                DT_SYMTAB => symbols = address,
                DT_HASH => hash = address,
                _ => {}
            }
            // SAFETY: not yet at the end.
            entry = unsafe { entry.add(1) };
        }
    }
    if names == 0 || symbols == 0 {
        return;
    }
    // SAFETY: the second word of the hash table is the number of symbols.
    let count = if hash != 0 { unsafe { *(hash as *const u32).add(1) as usize } } else { dynsym_count(base) };
    for i in 0..count {
        // SAFETY: `count` symbols stand there, and their names are C strings in the name table.
        unsafe {
            let symbol = &*(symbols as *const libc::Elf64_Sym).add(i);
            let name = CStr::from_ptr((names + symbol.st_name as usize) as *const c_char);
            if symbol.st_value != 0 {
                each(name, delta.wrapping_add(symbol.st_value as usize));
            }
        }
    }
}

/// Symbols by the section header, for a vDSO without the old hash table.
fn dynsym_count(base: usize) -> usize {
    // SAFETY: the kernel maps the whole image, section headers included.
    unsafe {
        let head = &*(base as *const libc::Elf64_Ehdr);
        let sections = (base + head.e_shoff as usize) as *const libc::Elf64_Shdr;
        let sections = core::slice::from_raw_parts(sections, head.e_shnum.into());
        sections
            .iter()
            .find(|s| s.sh_type == SHT_DYNSYM)
            .map_or(0, |s| s.sh_size as usize / size_of::<libc::Elf64_Sym>())
    }
}
