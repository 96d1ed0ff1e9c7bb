//! One thread of the kernel carries all threads of a process.
//!
//! dmt lets one thread of the server run at a time, so a process needs no more than one thread of the kernel, its carrier. A
//! thread of the program is, while it does not run, a stack pointer, under which lies what a function call must keep, and what
//! the kernel knows of the thread that it runs: the base of its thread-local memory and its signal stack. To change threads
//! takes no wake-up, no sleep and no other processor. Libc makes threads as ever; its `clone` is trapped and carried out here.
//!
//! What else the kernel keeps for each thread is the same for all threads of a server (credentials, working directory), or
//! is set anew if it differs (the mask), or is kept by dmt or here (ids, names).
//!
//! Only the turn holder touches what is in here.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use dmt::bounds::MAX_THREADS;
use dmt::context::{Context, Kept};
use dmt::thread::ThreadId;

use crate::apart;
use crate::calls::process::hear_watchdog;
use crate::maps;
use crate::raw;
use crate::signals::{self, NEVER_BLOCKED, PREEMPT, RAISED_BY_KERNEL, bit};
use crate::tls;
use crate::world::call_as;

/// Bytes of a thread's name, the terminating zero included (`TASK_COMM_LEN`).
pub const NAME_BYTES: usize = 16;

/// What is known of a thread besides where it goes on ([`Context`]).
struct Note {
    /// As the kernel has it while the thread runs.
    signal_stack: libc::stack_t,
    /// It stopped in a handler that runs there.
    on_signal_stack: bool,
    /// The word that the kernel clears when a thread ends, by which libc knows it; 0 = the carrier's own.
    cleared: usize,
    name: [u8; NAME_BYTES],
}

struct Notes(UnsafeCell<[Note; MAX_THREADS + 1]>);
// SAFETY: only the turn holder touches it; a forked child has its own copy.
unsafe impl Sync for Notes {}
const NOBODY: Note = Note {
    signal_stack: libc::stack_t { ss_sp: core::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 },
    on_signal_stack: false,
    cleared: 0,
    name: [0; NAME_BYTES],
};
static NOTES: Notes = Notes(UnsafeCell::new([NOBODY; MAX_THREADS + 1]));

/// The thread that the carrier went on from last; 0 = one that has ended.
static PREVIOUS: AtomicU16 = AtomicU16::new(0);
/// The watchdog's signal is blocked until the signal stack is that of the thread that runs.
static IS_DEAF: AtomicBool = AtomicBool::new(false);
/// Programs may set the base of thread-local memory themselves.
static HAS_WRFSBASE: AtomicBool = AtomicBool::new(false);
/// The processor and the kernel have memory protection keys.
static HAS_PKRU: AtomicBool = AtomicBool::new(false);
/// In `AT_HWCAP2`.
const HWCAP2_FSGSBASE: usize = 1 << 1;

global_asm!(
    ".pushsection .text.brolga_carrier,\"ax\",@progbits",
    // (where to keep the stack pointer, stack pointer of the other)
    ".globl brolga_change",
    ".hidden brolga_change",
    ".type brolga_change,@function",
    "brolga_change:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "sub rsp, 16",
    "stmxcsr [rsp]",
    "fnstcw [rsp + 4]",
    "push 0",
    "cmp byte ptr [rip + {has_pkru}], 0",
    "je 1f",
    "xor ecx, ecx",
    "rdpkru",
    "mov [rsp], rax",
    "1:",
    "mov [rdi], rsp",
    "mov rsp, rsi",
    "pop rax",
    "cmp byte ptr [rip + {has_pkru}], 0",
    "je 2f",
    "xor ecx, ecx",
    "xor edx, edx",
    "wrpkru",
    "2:",
    "ldmxcsr [rsp]",
    // Not if it is the same: whether that counts as a use of the old unit, which signal frames tell, is not the same everywhere.
    "fnstcw [rsp + 8]",
    "mov ax, [rsp + 8]",
    "cmp ax, [rsp + 4]",
    "je 3f",
    "fldcw [rsp + 4]",
    "3:",
    "add rsp, 16",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    ".size brolga_change, . - brolga_change",
    // Where a new thread comes to run first: on its stack for slow paths, with what its clone was called with.
    ".globl brolga_begin",
    ".hidden brolga_begin",
    ".type brolga_begin,@function",
    "brolga_begin:",
    "mov rdi, [rsp]",
    "lea rsi, [rip + {begun}]",
    "lea rdx, [rsp - 64]",
    // It leaves no registers behind that are not the same on all replicas.
    "call brolga_call_on",
    "pop rdi",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "pop rcx",
    "xor eax, eax",
    "mov rsp, [rsp]",
    "jmp rcx",
    ".size brolga_begin, . - brolga_begin",
    ".popsection",
    begun = sym begun,
    has_pkru = sym HAS_PKRU,
);

unsafe extern "C" {
    fn brolga_change(kept: *mut usize, stack: usize);
    fn brolga_begin();
}

/// What [`brolga_change`] and then [`brolga_begin`] take from a new thread's stack.
#[repr(C, align(16))]
struct Beginning {
    kept: Kept,
    id: usize,
    r10: usize,
    r9: usize,
    r8: usize,
    rdx: usize,
    rsi: usize,
    rdi: usize,
    rip: usize,
    rsp: usize,
}
const _: () = assert!(core::mem::offset_of!(Beginning, id).is_multiple_of(16));

fn note(id: ThreadId) -> *mut Note {
    // SAFETY: an address in the table; dmt's numbers are within it.
    unsafe { NOTES.0.get().cast::<Note>().add(usize::from(id).min(MAX_THREADS)) }
}

/// Where thread `id` keeps how it goes on.
fn context(id: ThreadId) -> *mut Context {
    call_as(id).with(|k| &raw mut k.threads.get_mut(id).context)
}

/// Looks what the processor can do; to be called once, and after a restore, perhaps on another machine.
pub fn learn() {
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    const FSGSBASE: u32 = 1;
    const OSPKE: u32 = 1 << 4;
    let hwcap2 = maps::auxiliary(libc::AT_HWCAP2).unwrap_or(0);
    let (ebx, ecx) = match __cpuid(0).eax {
        0..7 => (0, 0),
        _ => (__cpuid_count(7, 0).ebx, __cpuid_count(7, 0).ecx),
    };
    let has_wrfsbase = hwcap2 & HWCAP2_FSGSBASE != 0 && ebx & FSGSBASE != 0;
    HAS_WRFSBASE.store(has_wrfsbase, Ordering::Relaxed);
    HAS_PKRU.store(ecx & OSPKE != 0, Ordering::Relaxed);
}

/// The calling thread's rights by memory protection keys, which a new thread inherits.
fn rights() -> u64 {
    if !HAS_PKRU.load(Ordering::Relaxed) {
        return 0;
    }
    let rights: u32;
    // SAFETY: the processor has it.
    unsafe { asm!("rdpkru", in("ecx") 0, out("eax") rights, out("edx") _, options(nomem, nostack)) };
    rights.into()
}

fn base() -> usize {
    let base: usize;
    // SAFETY: the first word of a thread's descriptor is its own address.
    unsafe { asm!("mov {}, fs:[0]", out(reg) base, options(nomem, nostack, preserves_flags)) };
    base
}

/// # Safety
/// From here on thread-local memory is the other thread's.
#[inline]
unsafe fn set_base(base: usize) {
    const ARCH_SET_FS: usize = 0x1002;
    // SAFETY: forwarded promise.
    unsafe {
        match HAS_WRFSBASE.load(Ordering::Relaxed) {
            true => asm!("wrfsbase {}", in(reg) base, options(nostack, preserves_flags)),
            false => _ = raw!(libc::SYS_arch_prctl, ARCH_SET_FS, base),
        }
    }
}

/// Goes on with thread `next` instead of `me`; returns when somebody goes on with `me`.
pub fn change(me: ThreadId, next: ThreadId) {
    let (mine, place) = (note(me), context(me));
    // SAFETY: this thread holds the turn.
    unsafe {
        (*mine).on_signal_stack = apart::is_on_signal_stack();
        (*place).base = base();
        PREVIOUS.store(me, Ordering::Relaxed);
        leave(&raw mut (*place).stack, (*mine).on_signal_stack, next);
    }
    arrived(me);
}

/// Goes on with thread `next` instead of one that has ended.
pub fn go_on(next: ThreadId) -> ! {
    let mut nowhere = 0;
    PREVIOUS.store(0, Ordering::Relaxed);
    // SAFETY: as above; nobody comes back to this stack.
    unsafe { leave(&raw mut nowhere, false, next) };
    unreachable!("a thread that has ended runs")
}

/// # Safety
/// The caller holds the turn, and `next` stopped in here or is new.
unsafe fn leave(kept: *mut usize, on_signal_stack: bool, next: ThreadId) {
    // SAFETY: forwarded promise.
    unsafe {
        // In between a signal would be put onto the wrong one of the two signal stacks.
        if on_signal_stack || (*note(next)).on_signal_stack {
            hear_watchdog(libc::SIG_BLOCK);
            IS_DEAF.store(true, Ordering::Relaxed);
        }
        let Context { stack, base } = *context(next);
        set_base(base);
        brolga_change(kept, stack);
    }
}

/// The carrier has come to thread `me`.
fn arrived(me: ThreadId) {
    let previous = PREVIOUS.load(Ordering::Relaxed);
    // SAFETY: both are in the table; what is said of number 0 matters to nobody.
    unsafe {
        let (mine, theirs) = (&raw const (*note(me)).signal_stack, &raw mut (*note(previous)).signal_stack);
        raw!(libc::SYS_sigaltstack, mine, theirs);
    }
    // The next change of threads relies on what is in the kernel after this one. A thread that has ended may have had any mask.
    let mask = signals::mask_of(me);
    if previous == 0 || (signals::mask_of(previous) ^ mask) & RAISED_BY_KERNEL != 0 {
        signals::set_kernel_mask(mask & !NEVER_BLOCKED | if is_deaf() { bit(PREEMPT) } else { 0 });
    }
    if IS_DEAF.swap(false, Ordering::Relaxed) && !tls::current().preempted.get() {
        hear_watchdog(libc::SIG_UNBLOCK);
    }
}

fn is_deaf() -> bool {
    IS_DEAF.load(Ordering::Relaxed)
}

unsafe extern "C" fn begun(id: *mut c_void) {
    arrived(id as usize as ThreadId);
}

/// What a call of `clone` is made with.
pub struct Clone {
    /// Registers of the caller, whose places [`libc::ucontext_t`] defines.
    pub registers: libc::mcontext_t,
    /// The new thread's stack.
    pub stack: usize,
    /// The base of its thread-local memory.
    pub base: usize,
    /// The word that is cleared when it ends, or 0.
    pub cleared: usize,
    /// The caller's name.
    pub name: [u8; NAME_BYTES],
}

/// Makes thread `id`, which returns from `clone` when it gets the turn first.
pub fn make(id: ThreadId, clone: &Clone) {
    let register = |name: i32| clone.registers.gregs[name as usize] as usize;
    let mut control_words = 0u64;
    // SAFETY: stores the two words into a variable.
    unsafe { asm!("stmxcsr [{0}]", "fnstcw [{0} + 4]", in(reg) &raw mut control_words, options(nostack)) };
    let beginning = Beginning {
        kept: Kept {
            rights: rights(),
            control_words,
            rest: 0,
            r15: register(libc::REG_R15),
            r14: register(libc::REG_R14),
            r13: register(libc::REG_R13),
            r12: register(libc::REG_R12),
            rbx: register(libc::REG_RBX),
            rbp: register(libc::REG_RBP),
            rip: brolga_begin as *const () as usize,
        },
        id: id.into(),
        r10: register(libc::REG_R10),
        r9: register(libc::REG_R9),
        r8: register(libc::REG_R8),
        rdx: register(libc::REG_RDX),
        rsi: register(libc::REG_RSI),
        rdi: register(libc::REG_RDI),
        rip: register(libc::REG_RIP),
        rsp: clone.stack,
    };
    let stack = apart::open(id) - size_of::<Beginning>();
    // SAFETY: the new thread's own stack for slow paths, and what is noted of it.
    unsafe {
        (stack as *mut Beginning).write(beginning);
        context(id).write(Context { stack, base: clone.base });
        note(id).write(Note {
            signal_stack: apart::signal_stack(id),
            on_signal_stack: false,
            cleared: clone.cleared,
            name: clone.name,
        });
    }
}

/// The word that the kernel would clear at the end of thread `id`; 0 = that of the process's first thread.
pub fn cleared_at_exit(id: ThreadId) -> usize {
    // SAFETY: this thread holds the turn.
    unsafe { (*note(id)).cleared }
}

/// Sets that word.
pub fn clear_at_exit(id: ThreadId, word: usize) {
    // SAFETY: as above.
    unsafe { (*note(id)).cleared = word };
}

/// The name of a thread that is not its process's first.
pub fn name(id: ThreadId) -> [u8; NAME_BYTES] {
    // SAFETY: as above.
    unsafe { (*note(id)).name }
}

/// Names a thread.
pub fn set_name(id: ThreadId, name: [u8; NAME_BYTES]) {
    // SAFETY: as above.
    unsafe { (*note(id)).name = name };
}

/// A thread of number `id` that is its process's first: nothing of an earlier thread of this number holds.
pub fn first(id: ThreadId) {
    // SAFETY: as above.
    unsafe { note(id).write(NOBODY) };
}
