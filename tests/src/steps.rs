//! Executes a program of somebody else's one instruction at a time and looks at each.

use std::fs::File;
use std::io::Error;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use dmt::control::PREEMPT_SIGNAL;

use crate::wait::PATIENCE;

/// The longest instruction, bytes.
const LONGEST: usize = 15;

/// A process that goes on step by step. It runs freely again when this is dropped.
#[derive(Debug)]
pub struct Steps {
    pid: i32,
    memory: File,
    /// A signal that the process is about to get.
    signal: i32,
}

impl Steps {
    /// Stops the first thread of a process. The calling thread alone may use what this returns.
    pub fn of(pid: i32) -> Self {
        let path = format!("/proc/{pid}/mem");
        let memory =
            File::open(&path).unwrap_or_else(|e| panic!("cannot open {path}: {e}; this test needs root"));
        trace(libc::PTRACE_SEIZE, pid, 0);
        trace(libc::PTRACE_INTERRUPT, pid, 0);
        let mut steps = Self { pid, memory, signal: 0 };
        steps.await_stop();
        steps
    }

    fn await_stop(&mut self) {
        let mut status = 0;
        // SAFETY: the status lives until the call returns.
        let stopped = unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
        assert_eq!(stopped, self.pid, "cannot wait for process {}: {}", self.pid, Error::last_os_error());
        assert!(libc::WIFSTOPPED(status), "process {} has ended: {status:#x}", self.pid);
        let signal = libc::WSTOPSIG(status);
        // Brolga's watchdog asks a thread that it finds slow where it is, again and again: it would do nothing but answer.
        let dropped = signal == libc::SIGTRAP || signal == PREEMPT_SIGNAL || status >> 16 != 0;
        self.signal = if dropped { 0 } else { signal };
    }

    /// Executes one instruction.
    pub fn step(&mut self) {
        trace(libc::PTRACE_SINGLESTEP, self.pid, self.signal as usize);
        self.await_stop();
    }

    /// Address of the next instruction.
    pub fn at(&self) -> u64 {
        // SAFETY: all-zero registers are valid; the kernel fills them.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        trace(libc::PTRACE_GETREGS, self.pid, &raw mut registers as usize);
        registers.rip
    }

    /// Whether the instruction at an address reads and writes memory at once, as far as other processors can see.
    fn is_atomic_at(&self, address: u64) -> bool {
        let mut code = [0; LONGEST];
        let read = self.memory.read_at(&mut code, address);
        assert!(read.is_ok_and(|bytes| bytes > 0), "cannot read the instruction at {address:#x}");
        is_atomic(&code)
    }

    /// How many atomic instructions each of the next passages from one address to another has.
    pub fn atomic_between(&mut self, first: u64, last: u64, passages: usize) -> Vec<usize> {
        let begun = Instant::now();
        let (mut counts, mut count) = (Vec::new(), None);
        while counts.len() < passages {
            assert!(begun.elapsed() < PATIENCE, "only {} passages in {PATIENCE:?}", counts.len());
            let at = self.at();
            if at == first {
                count = Some(0);
            } else if at == last {
                counts.extend(count.take());
            } else if let Some(count) = &mut count {
                *count += usize::from(self.is_atomic_at(at));
            }
            self.step();
        }
        counts
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        // SAFETY: no pointers. A process that is gone needs nothing more.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.pid, 0, self.signal) };
    }
}

fn trace(request: libc::c_uint, pid: i32, data: usize) {
    // SAFETY: `data` is a number, or the address of registers that live until the call returns.
    let done = unsafe { libc::ptrace(request, pid, 0usize, data) };
    assert!(done >= 0, "cannot trace process {pid} (request {request}): {}", Error::last_os_error());
}

/// Whether an instruction has the prefix `lock`, or is an `xchg` with memory, which needs none.
fn is_atomic(code: &[u8]) -> bool {
    const LOCK: u8 = 0xf0;
    const PREFIXES: [u8; 10] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3];
    const REX: std::ops::RangeInclusive<u8> = 0x40..=0x4f;
    const XCHG: std::ops::RangeInclusive<u8> = 0x86..=0x87;
    /// The two bits of an operand that is a register.
    const REGISTER: u8 = 0b1100_0000;
    let Some(at) = code.iter().position(|byte| !PREFIXES.contains(byte) && !REX.contains(byte)) else {
        return false;
    };
    code[at] == LOCK
        || XCHG.contains(&code[at]) && code.get(at + 1).is_some_and(|operand| operand & REGISTER != REGISTER)
}

#[cfg(test)]
mod tests {
    use super::is_atomic;

    #[test]
    fn atomic_instructions_are_known_by_their_bytes() {
        let atomic: [&[u8]; 6] = [
            &[0xf0, 0x0f, 0xb1, 0x17],             // lock cmpxchg [rdi], edx
            &[0x66, 0xf0, 0x0f, 0xb1, 0x17],       // lock cmpxchg [rdi], dx
            &[0xf0, 0x48, 0x0f, 0xc1, 0x07],       // lock xadd [rdi], rax
            &[0x87, 0x07],                         // xchg [rdi], eax
            &[0x48, 0x87, 0x43, 0x08],             // xchg [rbx + 8], rax
            &[0x86, 0x05, 0x00, 0x00, 0x00, 0x00], // xchg [rip], al
        ];
        let plain: [&[u8]; 6] = [
            &[0x87, 0xc1],                                           // xchg ecx, eax
            &[0x89, 0x07],                                           // mov [rdi], eax
            &[0x64, 0x48, 0x8b, 0x1c, 0x25, 0x00, 0x00, 0x00, 0x00], // mov rbx, fs:[0]
            &[0xb8, 0xf0, 0x00, 0x00, 0x00],                         // mov eax, 0xf0
            &[0x0f, 0xb1, 0x17],                                     // cmpxchg [rdi], edx
            &[0x90],                                                 // nop
        ];
        assert!(atomic.iter().all(|code| is_atomic(code)));
        assert!(!plain.iter().any(|code| is_atomic(code)));
    }
}
