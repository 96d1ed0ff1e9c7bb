//! Stacks beside the program's: what happens at a time of its own must leave nothing on the program's stack.
//!
//! Programs write bytes that they never set. PostgreSQL logs the padding between the rows of a page that it built on
//! its stack, which is whatever earlier calls left there. Waits that come and go with the real time, what only a leader
//! does, and the watchdog's signal would leave something else on each replica. So they run here: each thread has a
//! stack for dmt's slow paths, and below it one for signals, which the kernel uses where the program gave none.
//!
//! Whether an operation needs a slow path is seen there, too: the way to it is the same for every operation, and leaves the
//! same things behind.
//!
//! The memory is private to the process and lies at an address that depends on dmt's number of the thread alone.

use core::arch::{asm, global_asm};
use core::ffi::c_void;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use dmt::bounds::{MAX_THREADS, STACKS_ADDRESS};
use dmt::thread::ThreadId;

use crate::fatal;
use crate::raw;
use crate::tls;

/// Bytes for each thread: a guard page, the signal stack, the stack of slow paths.
pub const SLOT_BYTES: usize = 1 << SLOT_BITS;
/// The logarithm of [`SLOT_BYTES`].
pub const SLOT_BITS: u32 = 16;
const GUARD_BYTES: usize = 4096;
const SIGNAL_BYTES: usize = SLOT_BYTES / 2 - GUARD_BYTES;
/// Bytes of all slots; thread numbers begin at 1.
pub const ALL_BYTES: usize = (MAX_THREADS + 1) * SLOT_BYTES;

/// Below its stack pointer, a function may use so many bytes without saying so (x86-64 ABI).
pub const RED_ZONE_BYTES: usize = 128;
/// Bytes of stack that the loader may have used.
const LOADER_BYTES: usize = 64 * 1024;

/// 1 if the processor has the registers that came with AVX-512, which libc's copying uses where it can.
static HAS_WIDE_REGISTERS: AtomicU8 = AtomicU8::new(0);
/// The vector registers that the kernel lets programs use, as `xsave` names them; 0 = no `xsave`.
pub static VECTOR_STATE: AtomicU32 = AtomicU32::new(0);
/// SSE, AVX, and the three parts of AVX-512.
const ALL_VECTOR_STATE: u32 = 0xe6;

global_asm!(
    ".pushsection .text.brolga_call_on,\"ax\",@progbits",
    ".globl brolga_call_on",
    ".hidden brolga_call_on",
    ".type brolga_call_on,@function",
    "brolga_call_on:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "mov rsp, rdx",
    "call rsi",
    "mov rsp, rbp",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    // What they hold would come to lie on the program's stack: in the next signal's frame, where the loader binds a function
    // at its first call, and as the part of an enum's value that nobody set.
    "xor eax, eax",
    "xor ecx, ecx",
    "xor edx, edx",
    "xor esi, esi",
    "xor edi, edi",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "xor r10d, r10d",
    "xor r11d, r11d",
    "pxor xmm0, xmm0",
    "pxor xmm1, xmm1",
    "pxor xmm2, xmm2",
    "pxor xmm3, xmm3",
    "pxor xmm4, xmm4",
    "pxor xmm5, xmm5",
    "pxor xmm6, xmm6",
    "pxor xmm7, xmm7",
    "pxor xmm8, xmm8",
    "pxor xmm9, xmm9",
    "pxor xmm10, xmm10",
    "pxor xmm11, xmm11",
    "pxor xmm12, xmm12",
    "pxor xmm13, xmm13",
    // Not all zeros: whether the processor counts such registers as used depends on when it was interrupted last, and where
    // the loader saves them, it says so. Not the last register: Go takes it for zero after calls of the vDSO.
    "pcmpeqd xmm14, xmm14",
    "pxor xmm15, xmm15",
    "cmp byte ptr [rip + {wide}], 0",
    "jne 2f",
    "ret",
    "2:",
    "vpxord zmm16, zmm16, zmm16",
    "vpxord zmm17, zmm17, zmm17",
    "vpxord zmm18, zmm18, zmm18",
    "vpxord zmm19, zmm19, zmm19",
    "vpxord zmm20, zmm20, zmm20",
    "vpxord zmm21, zmm21, zmm21",
    "vpxord zmm22, zmm22, zmm22",
    "vpxord zmm23, zmm23, zmm23",
    "vpxord zmm24, zmm24, zmm24",
    "vpxord zmm25, zmm25, zmm25",
    "vpxord zmm26, zmm26, zmm26",
    "vpxord zmm27, zmm27, zmm27",
    "vpxord zmm28, zmm28, zmm28",
    "vpxord zmm29, zmm29, zmm29",
    "vpxord zmm30, zmm30, zmm30",
    // Not all zeros here either.
    "vpternlogd zmm31, zmm31, zmm31, 255",
    // Nor here, where libc's string functions leave how much of a vector they looked at.
    "kxorw k0, k0, k0",
    "kxorw k1, k1, k1",
    "kxorw k2, k2, k2",
    "kxorw k3, k3, k3",
    "kxorw k4, k4, k4",
    "kxorw k5, k5, k5",
    "kxorw k6, k6, k6",
    "kxnorw k7, k7, k7",
    "ret",
    ".cfi_endproc",
    ".size brolga_call_on, . - brolga_call_on",
    ".popsection",
    wide = sym HAS_WIDE_REGISTERS,
);

unsafe extern "C" {
    /// Calls `function(argument)` on the stack that ends at `top`, a multiple of 16.
    fn brolga_call_on(argument: *mut c_void, function: unsafe extern "C" fn(*mut c_void), top: usize);
}

fn slot(id: ThreadId) -> usize {
    STACKS_ADDRESS + usize::from(id) * SLOT_BYTES
}

fn here() -> usize {
    let at: usize;
    // SAFETY: reads the stack pointer.
    unsafe { asm!("mov {}, rsp", out(reg) at, options(nomem, nostack, preserves_flags)) };
    at
}

/// Keeps the addresses free; the constructor does it once.
pub fn reserve() -> Result<(), isize> {
    let vectors = vector_state();
    VECTOR_STATE.store(vectors, Ordering::Relaxed);
    HAS_WIDE_REGISTERS.store(u8::from(has_wide_registers(vectors)), Ordering::Relaxed);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: maps at an address that is kept free for it; NOREPLACE refuses if anything is there.
    match unsafe { raw!(libc::SYS_mmap, STACKS_ADDRESS, ALL_BYTES, libc::PROT_NONE, flags, usize::MAX, 0) } {
        at if at == STACKS_ADDRESS as isize => Ok(()),
        error => Err(error),
    }
}

/// See [`VECTOR_STATE`].
fn vector_state() -> u32 {
    use core::arch::x86_64::__cpuid;
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return 0;
    }
    let enabled: u32;
    // SAFETY: XCR0 may be read where OSXSAVE is set.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _, options(nomem, nostack)) };
    enabled & ALL_VECTOR_STATE
}

/// Whether processor and kernel let programs use AVX-512.
fn has_wide_registers(vectors: u32) -> bool {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    const AVX512F: u32 = 1 << 16;
    vectors == ALL_VECTOR_STATE && __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & AVX512F != 0
}

/// Opens a thread's stacks; where the one for slow paths ends.
pub fn open(id: ThreadId) -> usize {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: memory that `reserve` set aside for this thread.
    let opened =
        unsafe { raw!(libc::SYS_mprotect, slot(id) + GUARD_BYTES, SLOT_BYTES - GUARD_BYTES, rights) };
    if opened != 0 {
        fatal::die("cannot give a thread its stacks", b"no memory");
    }
    slot(id) + SLOT_BYTES
}

/// Opens the stacks of the calling thread, its process's first.
pub fn open_first(id: ThreadId) {
    open(id);
    if crate::altstack::begin(id) != 0 {
        fatal::die("cannot give a process its signal stack", b"no memory");
    }
}

/// Whether the calling thread runs on its signal stack.
pub fn is_on_signal_stack() -> bool {
    let (base, len) = tls::current().signal_stack();
    here().wrapping_sub(base) < len
}

/// Calls `function(data)` on the calling thread's stack for slow paths. Not from there, and not from a signal stack: what
/// lies on that would be overwritten by a signal that finds it left.
///
/// # Safety
/// As that call; nothing unwinds out of it.
#[inline]
pub unsafe fn run(id: ThreadId, function: unsafe extern "C" fn(*mut c_void), data: *mut c_void) {
    let (at, top) = (here(), slot(id) + SLOT_BYTES);
    let (base, len) = tls::current().signal_stack();
    // SAFETY: the stack is this thread's and empty, for it is left before anything else of this thread runs; the rest is the
    // caller's promise.
    unsafe {
        if at.wrapping_sub(top - SLOT_BYTES / 2) < SLOT_BYTES / 2 || at.wrapping_sub(base) < len {
            function(data);
        } else {
            brolga_call_on(data, function, top);
        }
    }
}

/// Clears the stack below the caller, where the loader's work has left what is not the same everywhere.
#[inline(never)]
pub fn clear_below() {
    // SAFETY: below the red zone nothing is in use; the kernel lets the first thread's stack grow.
    unsafe {
        asm!(
            "lea rdi, [rsp - {all}]",
            "mov ecx, {words}",
            "xor eax, eax",
            "rep stosq",
            all = const LOADER_BYTES + RED_ZONE_BYTES,
            words = const LOADER_BYTES / 8,
            out("rdi") _, out("rcx") _, out("rax") _,
        );
    }
}

/// Whether an address is in the stacks of this module.
pub fn is_ours(address: usize) -> bool {
    address.wrapping_sub(STACKS_ADDRESS) < ALL_BYTES
}

/// The signal stack of a thread whose program gave it none.
pub fn signal_stack(id: ThreadId) -> libc::stack_t {
    let base = slot(id) + GUARD_BYTES;
    libc::stack_t { ss_sp: base as *mut c_void, ss_flags: 0, ss_size: SIGNAL_BYTES }
}

/// Defines the entry of a handler that may call the program: if the kernel has put its frame on a signal stack that the
/// program does not know of, the frame moves to where it would lie without one, below what was interrupted.
#[macro_export]
macro_rules! moved_handler {
    ($name:ident, $body:ident $(, except $calls:path)?) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(_signal: core::ffi::c_int, _info: *mut libc::siginfo_t, _context: *mut c_void) {
            core::arch::naked_asm!(
                // Is the system call one of these?
                $(concat!(
                    "/* ",
                    stringify!($calls),
                    " */ mov eax, [rdx + {rax}]\n cmp eax, {limit}\n jae 8f\n",
                    "lea r10, [rip + {calls}]\n bt dword ptr [r10], eax\n jc 9f\n 8:",
                ),)?
                // Is this one of our signal stacks, the lower halves of the slots?
                "mov r11, {stacks}",
                "mov r10, rsp",
                "sub r10, r11",
                "cmp r10, {all}",
                "jae 9f",
                "test r10, {half}",
                "jnz 9f",
                // Did it interrupt something there?
                "mov rax, rsp",
                "and rax, -{slot}",
                "mov rcx, [rdx + {rsp}]",
                "mov r8, rcx",
                "sub r8, rax",
                "cmp r8, {half}",
                "jb 9f",
                // From here to the stack's end: the frame.
                "lea r9, [rax + {half}]",
                "sub r9, rsp",
                "lea r8, [rcx - {red} - 64]",
                "sub r8, r9",
                "and r8, -64",
                "mov eax, esp",
                "and eax, 63",
                "or r8, rax",
                "mov r10, rdi",
                "mov r11, rsi",
                "mov rdi, r8",
                "mov rsi, rsp",
                "mov rcx, r9",
                "rep movsb",
                // All that points into it moves with it.
                "mov rcx, r8",
                "sub rcx, rsp",
                "mov rdi, r10",
                "lea rsi, [r11 + rcx]",
                "add rdx, rcx",
                "mov rsp, r8",
                "cmp qword ptr [rdx + {fp}], 0",
                "je 9f",
                "add [rdx + {fp}], rcx",
                "9:",
                "jmp {body}",
                stacks = const dmt::bounds::STACKS_ADDRESS,
                all = const $crate::apart::ALL_BYTES,
                half = const $crate::apart::SLOT_BYTES / 2,
                slot = const $crate::apart::SLOT_BYTES,
                red = const $crate::apart::RED_ZONE_BYTES,
                rsp = const $crate::apart::CONTEXT_RSP,
                fp = const $crate::apart::CONTEXT_FP,
                body = sym $body,
                $(
                    calls = sym $calls,
                    limit = const $crate::syscalls::LIMIT,
                    rax = const $crate::apart::CONTEXT_RAX,
                )?
            )
        }
    };
}

/// Where a context has the interrupted stack pointer.
pub const CONTEXT_RSP: usize =
    core::mem::offset_of!(libc::ucontext_t, uc_mcontext) + libc::REG_RSP as usize * 8;
/// Where a context has the number of a system call.
pub const CONTEXT_RAX: usize =
    core::mem::offset_of!(libc::ucontext_t, uc_mcontext) + libc::REG_RAX as usize * 8;
/// Where a context has the address of the floating-point state.
pub const CONTEXT_FP: usize =
    core::mem::offset_of!(libc::ucontext_t, uc_mcontext) + core::mem::offset_of!(libc::mcontext_t, fpregs);
const _: () = assert!(STACKS_ADDRESS.is_multiple_of(SLOT_BYTES));
const _: () = assert!(SIGNAL_BYTES > 4 * libc::MINSIGSTKSZ);
