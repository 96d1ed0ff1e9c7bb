//! Where threads are stopped: the branches whose first byte is a `hlt`, which faults.
//!
//! A patched branch that dmt does not count as a spin point yet behaves as before, only slower. A forked child has the
//! patches and this table like all else; a new image has neither.

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use crate::raw;
use crate::tls;
use crate::world;

use super::decode::{Flow, decode};
use super::loops;
use super::window::Window;

/// Branches of one process. dmt makes no more of them in all.
const POINTS: usize = 32;
/// The instruction that faults, one byte.
const HLT: u8 = 0xf4;
const PAGE: u64 = 4096;

struct Point {
    branch: AtomicU64,
    original: AtomicU8,
    /// Registers that the loop counts with.
    counters: AtomicU16,
    /// What they change by in a turn, as far as two turns in a row have shown, and what the last turn showed.
    step: [AtomicU64; 2],
}

static POINT: [Point; POINTS] = [const {
    Point {
        branch: AtomicU64::new(0),
        original: AtomicU8::new(0),
        counters: AtomicU16::new(0),
        step: [AtomicU64::new(0), AtomicU64::new(0)],
    }
}; POINTS];

impl Point {
    /// True if the calling thread, which stops here, has done something else since it last did: what the loop counts
    /// with did not change as in any turn. Such a thread has worked, although it may have made no operation.
    fn comes_anew(&self, branch: u64, registers: &[i64]) -> bool {
        let counters = self.counters.load(Ordering::Relaxed);
        let sum = (0..16)
            .filter(|number| counters >> number & 1 != 0)
            .fold(0u64, |sum, number| sum.wrapping_add(registers[REGISTERS[number] as usize] as u64));
        let (before, old) = tls::current().stopped_at(branch, sum);
        if before != branch {
            return true;
        }
        let [known, last] = &self.step;
        let step = sum.wrapping_sub(old);
        if last.swap(step, Ordering::Relaxed) == step {
            known.store(step, Ordering::Relaxed);
        }
        known.load(Ordering::Relaxed) != step
    }
}

/// Where a signal frame has the registers that instructions number 0 to 15.
const REGISTERS: [libc::c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

fn find(branch: u64) -> Option<&'static Point> {
    POINT.iter().find(|point| point.branch.load(Ordering::Relaxed) == branch)
}

/// True if threads stop at `branch`.
pub fn is_armed(branch: u64) -> bool {
    branch != 0 && find(branch).is_some()
}

/// Undoes the patches in a copy of the code at `base`.
pub fn restore(base: u64, code: &mut [u8]) {
    for point in &POINT {
        let branch = point.branch.load(Ordering::Relaxed);
        if branch >= base
            && let Some(byte) = code.get_mut((branch - base) as usize)
        {
            *byte = point.original.load(Ordering::Relaxed);
        }
    }
}

/// Stops threads at `branch` from now on. Only the holder of the turn calls it, so nobody else runs in this process.
pub fn arm(branch: u64) {
    if is_armed(branch) {
        return;
    }
    let Some(free) = find(0) else { return };
    let counters = counters_of(branch);
    let page = branch & !(PAGE - 1);
    let text = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: the branch is in the program's text, which is made writable for one byte. The table is told first: the
    // byte is valid only together with its entry.
    unsafe {
        if raw!(libc::SYS_mprotect, page, PAGE, text | libc::PROT_WRITE) != 0 {
            return;
        }
        let at = branch as *mut u8;
        free.original.store(at.read(), Ordering::Relaxed);
        free.counters.store(counters, Ordering::Relaxed);
        free.branch.store(branch, Ordering::Relaxed);
        at.write_volatile(HLT);
        raw!(libc::SYS_mprotect, page, PAGE, text);
    }
}

/// The registers that the loop counts with which `branch` closes. The code is the same on all replicas, so they are.
fn counters_of(branch: u64) -> u16 {
    let Some(window) = Window::around(branch) else { return 0 };
    let code = window.bytes();
    let closing = code.get((branch - window.base()) as usize..).and_then(|code| decode(code, branch));
    match closing.map(|instruction| instruction.flow) {
        Some(Flow::Conditional(_, head) | Flow::Jump(head)) => {
            loops::counters(code, window.base(), (head, branch))
        }
        _ => 0,
    }
}

/// Executes the branch at which the thread faulted, if it is one of ours; dmt is asked before it is taken.
///
/// # Safety
/// `context` is that of a handler whose signal was a general protection fault.
pub unsafe fn emulate(context: &mut libc::ucontext_t) -> bool {
    let registers = &mut context.uc_mcontext.gregs;
    let branch = registers[libc::REG_RIP as usize] as u64;
    let Some(point) = find(branch) else { return false };
    let mut code = [point.original.load(Ordering::Relaxed), 0, 0, 0, 0, 0];
    let length = match code[0] {
        0x0f => 6,
        0xe9 => 5,
        _ => 2,
    };
    for (offset, byte) in code.iter_mut().enumerate().take(length).skip(1) {
        // SAFETY: the bytes of the branch that was there.
        *byte = unsafe { (branch as *const u8).add(offset).read() };
    }
    let Some(instruction) = decode(&code, branch) else { return false };
    let taken = match instruction.flow {
        Flow::Conditional(condition, target) => {
            holds(condition, registers[libc::REG_EFL as usize] as u64).then_some(target)
        }
        Flow::Jump(target) => Some(target),
        Flow::Next => return false,
    };
    registers[libc::REG_RIP as usize] = taken.unwrap_or(branch + instruction.length) as i64;
    if tls::current().active() {
        world::dmt(|call| match taken {
            Some(_) => call.spin_point(branch, || point.comes_anew(branch, registers)),
            None => call.spin_left(branch),
        });
    }
    true
}

/// Whether a condition holds, as `jcc` numbers them.
fn holds(condition: u8, flags: u64) -> bool {
    let flag = |bit: u32| flags >> bit & 1 != 0;
    let (carry, parity, zero, sign, overflow) = (flag(0), flag(2), flag(6), flag(7), flag(11));
    let plain = match condition >> 1 {
        0 => overflow,
        1 => carry,
        2 => zero,
        3 => carry || zero,
        4 => sign,
        5 => parity,
        6 => sign != overflow,
        _ => zero || sign != overflow,
    };
    plain != (condition & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::holds;

    const CARRY: u64 = 1;
    const ZERO: u64 = 1 << 6;
    const SIGN: u64 = 1 << 7;
    const OVERFLOW: u64 = 1 << 11;

    #[test]
    fn conditions() {
        // je, jne
        assert!(holds(4, ZERO) && !holds(4, 0) && holds(5, 0) && !holds(5, ZERO));
        // jb, ja
        assert!(holds(2, CARRY) && holds(7, 0) && !holds(7, CARRY) && !holds(7, ZERO));
        // jl, jg
        assert!(holds(12, SIGN) && !holds(12, SIGN | OVERFLOW) && holds(15, 0) && !holds(15, ZERO));
    }
}
