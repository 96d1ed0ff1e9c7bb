//! The gate: the one place from which the library makes system calls.
//!
//! The seccomp filter tells our own calls from the program's by the instruction pointer alone, so this holds across
//! threads, signal handlers, `fork` and checkpoints. Before [`open`] ran (only in the first instants of a process) the
//! calls are made by a copy of the stub inside the library. Callable from any context; touches no errno.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicUsize, Ordering};

use dmt::bounds::GATE_ADDRESS;

/// Bytes of the gate page.
pub const GATE_BYTES: usize = 4096;

global_asm!(
    ".pushsection .text.brolga_early_gate,\"ax\",@progbits",
    ".globl brolga_early_gate",
    ".hidden brolga_early_gate",
    ".type brolga_early_gate,@function",
    "brolga_early_gate:",
    "syscall",
    "ret",
    ".size brolga_early_gate, . - brolga_early_gate",
    ".popsection",
);

unsafe extern "C" {
    fn brolga_early_gate();
}

/// Address of the stub in use; 0 = the early one.
static STUB: AtomicUsize = AtomicUsize::new(0);

fn stub() -> usize {
    match STUB.load(Ordering::Relaxed) {
        0 => brolga_early_gate as *const () as usize,
        address => address,
    }
}

/// Makes system call `number` and returns what the kernel returned (negative errno on failure).
///
/// # Safety
/// As the system call itself.
#[inline]
pub unsafe fn syscall(number: i64, a: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the stub is `syscall; ret`; the kernel clobbers rcx and r11 only. The rest is the caller's promise.
    unsafe {
        asm!(
            "call {stub}",
            stub = in(reg) stub(),
            inlateout("rax") number as isize => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// [`syscall`] with the arguments spelled out; missing ones are 0.
#[macro_export]
macro_rules! raw {
    ($number:expr $(, $arg:expr)* $(,)?) => {{
        let given = [$($arg as usize),*];
        let mut all = [0usize; 6];
        all[..given.len()].copy_from_slice(&given);
        $crate::gate::syscall($number, all)
    }};
}

/// Whether the instruction at `address` is one of the gate's.
pub fn holds(address: usize) -> bool {
    (GATE_ADDRESS..GATE_ADDRESS + GATE_BYTES).contains(&address)
}

/// Maps the gate page and sends all further calls through it.
pub fn open() -> Result<(), isize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: a new private mapping at an address of our own; NOREPLACE refuses if anything is there.
    let at = unsafe {
        raw!(
            libc::SYS_mmap,
            GATE_ADDRESS,
            GATE_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            usize::MAX,
            0
        )
    };
    if at != GATE_ADDRESS as isize {
        return Err(at);
    }
    // SAFETY: the page was mapped just now and nobody else knows of it: syscall; ret.
    unsafe { (GATE_ADDRESS as *mut [u8; 3]).write([0x0f, 0x05, 0xc3]) };
    // SAFETY: our own page.
    let done =
        unsafe { raw!(libc::SYS_mprotect, GATE_ADDRESS, GATE_BYTES, libc::PROT_READ | libc::PROT_EXEC) };
    if done != 0 {
        return Err(done);
    }
    STUB.store(GATE_ADDRESS, Ordering::Release);
    Ok(())
}
