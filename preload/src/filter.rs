//! The seccomp filter: sends every system call that is not made from the gate page to the SIGSYS handler, unless the
//! table says that the kernel may answer it.
//!
//! The filter outlives `exec`, while the handler does not exist until the new program's constructor ran. What must run
//! before it is let through: calls made by `ld.so` (address randomisation is off, so it lies where it lies here), and
//! the one `getrandom` by which malloc makes a key that no result depends on.

use dmt::bounds::GATE_ADDRESS;
use libc::sock_filter;

use crate::gate::GATE_BYTES;
use crate::raw;
use crate::syscalls::{LIMIT, PASSED_BITS};
use crate::traced::OBSERVED_BITS;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const X32_BIT: u32 = 0x4000_0000;
const RET_ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const RET_TRAP: u32 = libc::SECCOMP_RET_TRAP;
const RET_ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

// Offsets in the kernel's struct seccomp_data.
const NR: u32 = 0;
const ARCH: u32 = 4;
const IP_LOW: u32 = 8;
const IP_HIGH: u32 = 12;
const ARG1_LOW: u32 = 24;
const ARG2_LOW: u32 = 32;
const ARG3_LOW: u32 = 40;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JEQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JGE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JSET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const SHIFT: u16 = (libc::BPF_ALU | libc::BPF_LSH | libc::BPF_X) as u16;
const TO_X: u16 = (libc::BPF_MISC | libc::BPF_TAX) as u16;
const SET: u16 = (libc::BPF_LD | libc::BPF_IMM) as u16;
const RET: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Instructions of the longest program.
const MAX_PROGRAM: usize = 256;
/// `GRND_NONBLOCK` with 8 bytes is how malloc asks for its key.
const MALLOC_KEY_BYTES: u32 = 8;

struct Program {
    code: [sock_filter; MAX_PROGRAM],
    len: usize,
}

impl Program {
    fn add(&mut self, code: u16, k: u32, yes: u8, no: u8) {
        self.code[self.len] = sock_filter { code, jt: yes, jf: no, k };
        self.len += 1;
    }

    fn load(&mut self, offset: u32) {
        self.add(LOAD, offset, 0, 0);
    }

    fn ret(&mut self, value: u32) {
        self.add(RET, value, 0, 0);
    }

    /// Lets through all calls whose instruction pointer lies in `start..end`, which share their upper 32 bits.
    fn allow_from(&mut self, start: usize, end: usize) {
        self.load(IP_HIGH);
        self.add(JEQ, (start >> 32) as u32, 0, 4);
        self.load(IP_LOW);
        self.add(JGE, start as u32, 0, 2);
        self.add(JGE, end as u32, 1, 0);
        self.ret(RET_ALLOW);
    }
}

fn build(loader: Option<(usize, usize)>, traced: bool) -> Program {
    let mut p = Program { code: [sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; MAX_PROGRAM], len: 0 };
    p.load(ARCH);
    p.add(JEQ, AUDIT_ARCH_X86_64, 1, 0);
    p.ret(RET_ENOSYS);
    p.allow_from(GATE_ADDRESS, GATE_ADDRESS + GATE_BYTES);
    if let Some((start, end)) = loader {
        p.allow_from(start, end);
    }
    // malloc's key.
    p.load(NR);
    p.add(JEQ, libc::SYS_getrandom as u32, 0, 5);
    p.load(ARG1_LOW);
    p.add(JEQ, MALLOC_KEY_BYTES, 0, 3);
    p.load(ARG2_LOW);
    p.add(JEQ, libc::GRND_NONBLOCK, 0, 1);
    p.ret(RET_ALLOW);
    // A mapping that is the process's own, or of a file that is only read (web servers do that for each request).
    p.load(NR);
    p.add(JEQ, libc::SYS_mmap as u32, 0, 8);
    p.load(ARG3_LOW);
    p.add(JSET, libc::MAP_SHARED as u32, 1, 0);
    p.ret(RET_ALLOW);
    p.add(JSET, libc::MAP_ANONYMOUS as u32, 3, 0);
    p.load(ARG2_LOW);
    p.add(JSET, libc::PROT_WRITE as u32, 1, 0);
    p.ret(RET_ALLOW);
    p.ret(RET_TRAP);
    // Not to data or to a hole.
    p.load(NR);
    p.add(JEQ, libc::SYS_lseek as u32, 0, 3);
    p.load(ARG2_LOW);
    p.add(JGE, libc::SEEK_DATA as u32, 1, 0);
    p.ret(RET_ALLOW);
    // A limit of anything but the address space: libc asks for that of the stack before the constructor has run.
    p.load(NR);
    p.add(JEQ, libc::SYS_prlimit64 as u32, 0, 3);
    p.load(ARG1_LOW);
    p.add(JEQ, libc::RLIMIT_AS, 1, 0);
    p.ret(RET_ALLOW);
    // It hides its flags in memory; libc takes clone then.
    p.load(NR);
    p.add(JEQ, libc::SYS_clone3 as u32, 0, 1);
    p.ret(RET_ENOSYS);
    p.add(JGE, X32_BIT, 0, 1);
    p.ret(RET_ENOSYS);
    p.add(JGE, LIMIT as u32, 0, 1);
    p.ret(RET_TRAP);
    for (word, &passed) in PASSED_BITS.iter().enumerate() {
        let bits = if traced { passed & !OBSERVED_BITS[word] } else { passed };
        p.add(JGE, 32 * (word as u32 + 1), 7, 0);
        p.add(AND, 31, 0, 0);
        p.add(TO_X, 0, 0, 0);
        p.add(SET, 1, 0, 0);
        p.add(SHIFT, 0, 0, 0);
        p.add(JSET, bits, 1, 0);
        p.ret(RET_TRAP);
        p.ret(RET_ALLOW);
    }
    p.ret(RET_TRAP);
    p
}

/// Installs the filter for this process and all that it will start. `loader` = text range of `ld.so`. In a
/// `traced` process, calls by which it looks at files and at the machine come to the handler, too.
pub fn install(loader: Option<(usize, usize)>, traced: bool) -> Result<(), isize> {
    let program = build(loader.filter(|(start, end)| start >> 32 == end >> 32), traced);
    let header = libc::sock_fprog { len: program.len as u16, filter: program.code.as_ptr().cast_mut() };
    let set = || {
        // SAFETY: the program lives until the call returns; the kernel copies it.
        unsafe { raw!(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const header) }
    };
    match set() {
        0 => Ok(()),
        // Without CAP_SYS_ADMIN the kernel asks for no_new_privs; with it, a server may still drop its privileges.
        e if e == -(libc::EACCES as isize) => {
            // SAFETY: sets a flag of this process.
            unsafe { raw!(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            match set() {
                0 => Ok(()),
                e => Err(e),
            }
        }
        e => Err(e),
    }
}
