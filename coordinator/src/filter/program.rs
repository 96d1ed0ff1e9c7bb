//! The filter as a program for the kernel. It looks at numbers one after the other; the kernel remembers for which numbers the answer
//! depends on nothing else, and does not run the program for them again.

use libc::sock_filter;

use super::calls::{NEWEST, When, calls};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const RET_ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

// Offsets in the kernel's struct seccomp_data.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JEQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JGT: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RET: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

#[derive(Default)]
struct Program {
    code: Vec<sock_filter>,
}

impl Program {
    fn add(&mut self, code: u16, k: u32, yes: u8, no: u8) {
        self.code.push(sock_filter { code, jt: yes, jf: no, k });
    }

    fn ret(&mut self, value: u32) {
        self.add(RET, value, 0, 0);
    }

    /// The register holds the call's number. Allows it if argument `argument`, masked, is one of `values`.
    fn allow_if(&mut self, number: u32, argument: usize, mask: u32, values: &[u32]) {
        let skipped = u8::try_from(3 + 2 * values.len()).expect("a jump is as long as a byte says");
        self.add(JEQ, number, 0, skipped);
        // Of an argument's lower half: the kernel takes all of these as 32 bits, or looks at lower ones only.
        self.add(LOAD, ARGUMENTS + 8 * argument as u32, 0, 0);
        self.add(AND, mask, 0, 0);
        for &value in values {
            self.add(JEQ, value, 0, 1);
            self.ret(libc::SECCOMP_RET_ALLOW);
        }
        self.ret(libc::SECCOMP_RET_TRAP);
    }
}

/// The filter of process `own`.
pub(super) fn build(own: u32) -> Vec<sock_filter> {
    let mut p = Program::default();
    p.add(LOAD, ARCH, 0, 0);
    p.add(JEQ, AUDIT_ARCH_X86_64, 1, 0);
    p.ret(libc::SECCOMP_RET_KILL_PROCESS);
    p.add(LOAD, NR, 0, 0);
    for call in calls() {
        let number = u32::try_from(call.number).expect("numbers of calls are small");
        match call.when {
            When::Always => {
                p.add(JEQ, number, 0, 1);
                p.ret(libc::SECCOMP_RET_ALLOW);
            }
            When::Masked(argument, mask, value) => p.allow_if(number, argument, mask, &[value]),
            When::OneOf(argument, values) => p.allow_if(number, argument, u32::MAX, values),
            When::Own(argument) => p.allow_if(number, argument, u32::MAX, &[own]),
        }
    }
    // Its flags are in memory, where a filter cannot look; libc takes `clone` then.
    p.add(JEQ, libc::SYS_clone3 as u32, 1, 0);
    // Also the numbers of the x32 interface, which are higher still.
    p.add(JGT, NEWEST, 0, 1);
    p.ret(RET_ENOSYS);
    p.ret(libc::SECCOMP_RET_TRAP);
    p.code
}
