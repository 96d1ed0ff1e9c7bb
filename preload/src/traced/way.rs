//! The way from a function that stands in for a call of the program to [`super::begins`] and [`super::ends`], and back: as
//! if nothing had been there.
//!
//! What records a call runs on the thread's stack for slow paths ([`crate::apart`]). The instruction that goes there writes
//! one word below the program's stack pointer, which is put back, as are all registers, the vector registers with what
//! the processor knows of their use. On a signal stack, that of the program too, it stays where it is (see [`crate::apart::run`]).

use core::arch::global_asm;
use core::cell::UnsafeCell;

use dmt::bounds::STACKS_ADDRESS;

use crate::apart;
use crate::tls;

/// Set in what names a call at its end.
const END_BIT: u32 = 63;
/// Bytes of the vector registers as `xsave` lays them out, to the end of AVX-512, and its header among them.
const VECTOR_BYTES: usize = 2688;
const HEADER: usize = 512;
/// Bytes of the registers that lie between those of the frame and the vector registers.
const PUSHED_BYTES: usize = 10 * 8;
const _: () = assert!(VECTOR_BYTES.is_multiple_of(64));

/// What one crossing needs where no register is free: two registers of the program, the word that `call` overwrites, what the call
/// is, and the way back. One is enough, for only the thread with the turn is here.
#[repr(C)]
pub struct Crossing(UnsafeCell<[usize; 5]>);
// SAFETY: only the turn holder touches it; a forked child has its own copy.
unsafe impl Sync for Crossing {}
/// See [`Crossing`].
pub static CROSSING: Crossing = Crossing(UnsafeCell::new([0; 5]));

global_asm!(
    ".pushsection .text.brolga_call_traced,\"ax\",@progbits",
    ".globl brolga_call_begins",
    ".hidden brolga_call_begins",
    ".type brolga_call_begins,@function",
    ".globl brolga_call_ends",
    ".hidden brolga_call_ends",
    ".type brolga_call_ends,@function",
    // In: arguments or the result as for a C function. Changes nothing but flags.
    "brolga_call_ends:",
    ".cfi_startproc",
    "bts qword ptr [rip + {crossing} + 24], {end}",
    "brolga_call_begins:",
    // On a signal stack, or on the one for slow paths?
    "mov r10, qword ptr [rip + brolga_tls@gottpoff]",
    "mov r11, rsp",
    "sub r11, fs:[r10 + {signal_stack}]",
    "cmp r11, fs:[r10 + {signal_stack} + 8]",
    "jb 2f",
    "mov r10d, fs:[r10 + {id}]",
    "inc r10",
    "shl r10, {slot_bits}",
    "mov r11, {stacks}",
    "add r10, r11",
    "mov r11, rsp",
    "sub r11, r10",
    "add r11, {half}",
    "cmp r11, {half}",
    "jae 3f",
    "2:",
    "lea r10, [rsp - {red}]",
    "and r10, -16",
    // r10 = where the stack begins.
    "3:",
    "mov [r10 - 8], rbp",
    "mov [r10 - 16], rbx",
    "mov rbp, rsp",
    "lea rsp, [r10 - 16]",
    "mov rbx, rsp",
    ".cfi_def_cfa rbp, 8",
    // rbp lies at rbx + 8, rbx at rbx: DW_CFA_expression with DW_OP_breg3.
    ".cfi_escape 0x10, 0x06, 0x02, 0x73, 0x08",
    ".cfi_escape 0x10, 0x03, 0x02, 0x73, 0x00",
    "push [rip + {crossing}]",
    "push [rip + {crossing} + 8]",
    "push [rip + {crossing} + 16]",
    "push rax",
    "push r9",
    "push r8",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "mov rdi, rsp",
    "mov rsi, [rip + {crossing} + 24]",
    "sub rsp, {vectors}",
    "and rsp, -64",
    "mov eax, [rip + {state}]",
    "test eax, eax",
    "jz 4f",
    "xor edx, edx",
    "mov [rsp + {header}], rdx",
    "mov [rsp + {header} + 8], rdx",
    "mov [rsp + {header} + 16], rdx",
    "mov [rsp + {header} + 24], rdx",
    "mov [rsp + {header} + 32], rdx",
    "mov [rsp + {header} + 40], rdx",
    "mov [rsp + {header} + 48], rdx",
    "mov [rsp + {header} + 56], rdx",
    "xsave64 [rsp]",
    "4:",
    "mov rdx, rbp",
    "call {crossed}",
    "mov eax, [rip + {state}]",
    "test eax, eax",
    "jz 5f",
    "xor edx, edx",
    "xrstor64 [rsp]",
    "5:",
    "lea rsp, [rbx - {pushed}]",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop r8",
    "pop r9",
    "pop rax",
    // The word below the program's stack pointer, and the way back.
    "pop r10",
    "mov r11, [rbp]",
    "mov [rip + {crossing} + 32], r11",
    "mov [rbp], r10",
    "pop r11",
    "pop r10",
    "pop rbx",
    "mov [rip + {crossing}], rbp",
    "pop rbp",
    "mov rsp, [rip + {crossing}]",
    "lea rsp, [rsp + 8]",
    "jmp [rip + {crossing} + 32]",
    ".cfi_endproc",
    ".size brolga_call_ends, . - brolga_call_ends",
    ".size brolga_call_begins, . - brolga_call_begins",
    ".popsection",
    end = const END_BIT,
    crossing = sym CROSSING,
    pushed = const PUSHED_BYTES,
    signal_stack = const tls::SIGNAL_STACK_OFFSET,
    id = const tls::ID_OFFSET,
    slot_bits = const apart::SLOT_BITS,
    stacks = const STACKS_ADDRESS,
    half = const apart::SLOT_BYTES / 2,
    red = const apart::RED_ZONE_BYTES,
    vectors = const VECTOR_BYTES,
    header = const HEADER,
    state = sym apart::VECTOR_STATE,
    crossed = sym crossed,
);

unsafe extern "C" {
    /// A call begins; for [`call_begins!`](crate::call_begins!).
    pub fn brolga_call_begins();
    /// A call ends; for [`call_ends!`](crate::call_ends!).
    pub fn brolga_call_ends();
}

/// Registers of the program.
#[repr(C)]
struct Registers {
    arguments: [u64; 6],
    result: u64,
}

/// On the other stack. `frame`: the stack pointer on the program's.
unsafe extern "C" fn crossed(registers: *const Registers, what: usize, frame: usize) {
    // SAFETY: what was pushed.
    let registers = unsafe { &*registers };
    match what >> END_BIT {
        0 => super::begins(what, frame, &registers.arguments),
        _ => super::ends(what & !(1 << END_BIT), frame, registers.result),
    }
}

/// Notes that a call of a traced thread begins: `sym ROW; arguments`, or `in NUMBER; arguments` for a system call.
#[macro_export]
macro_rules! call_begins {
    ($kind:tt $what:expr; $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr $(, $more:expr)*) => {
        $crate::call_begins!(@ $kind $what,
            in("rdi") $a, in("rsi") $b, in("rdx") $c, in("rcx") $d, in("r8") $e, in("r9") $f)
    };
    ($kind:tt $what:expr; $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        $crate::call_begins!(@ $kind $what, in("rdi") $a, in("rsi") $b, in("rdx") $c, in("rcx") $d, in("r8") $e)
    };
    ($kind:tt $what:expr; $a:expr, $b:expr, $c:expr, $d:expr) => {
        $crate::call_begins!(@ $kind $what, in("rdi") $a, in("rsi") $b, in("rdx") $c, in("rcx") $d)
    };
    ($kind:tt $what:expr; $a:expr, $b:expr, $c:expr) => {
        $crate::call_begins!(@ $kind $what, in("rdi") $a, in("rsi") $b, in("rdx") $c)
    };
    ($kind:tt $what:expr; $a:expr, $b:expr) => {
        $crate::call_begins!(@ $kind $what, in("rdi") $a, in("rsi") $b)
    };
    ($kind:tt $what:expr; $a:expr) => { $crate::call_begins!(@ $kind $what, in("rdi") $a) };
    ($kind:tt $what:expr;) => { $crate::call_begins!(@ $kind $what,) };
    (@ $kind:tt $what:expr, $($operands:tt)*) => {
        $crate::call_crosses!($kind $what, $crate::traced::way::brolga_call_begins, $($operands)*)
    };
}

/// Notes that a call ends with a result, if it began here as one that is traced: `sym ROW` or `in NUMBER`, and the result.
#[macro_export]
macro_rules! call_ends {
    ($kind:tt $what:expr $(, $result:expr)?) => {
        if $crate::tls::current().in_traced_call() {
            $crate::call_crosses!($kind $what, $crate::traced::way::brolga_call_ends, $(in("rax") $result)?)
        }
    };
}

/// Goes to one of the two. The program's registers stay as they are.
#[macro_export]
macro_rules! call_crosses {
    (sym $what:expr, $to:path, $($operands:tt)*) => {
        $crate::call_crosses!(@ ("lea r10, [rip + {what}]", "mov [rip + {crossing} + 24], r10"), (what = sym $what,),
            $to, $($operands)*)
    };
    (in $what:expr, $to:path, $($operands:tt)*) => {
        $crate::call_crosses!(@ ("mov [rip + {crossing} + 24], {what}"), (what = in(reg) $what,), $to, $($operands)*)
    };
    (@ ($($load:literal),*), ($($named:tt)*), $to:path, $($operands:tt)*) => {
        // SAFETY: notes the call elsewhere, and changes nothing else.
        unsafe {
            core::arch::asm!(
                "mov [rip + {crossing}], r10",
                "mov [rip + {crossing} + 8], r11",
                "mov r10, [rsp - 8]",
                "mov [rip + {crossing} + 16], r10",
                $($load,)*
                "call {to}",
                $($named)*
                to = sym $to,
                crossing = sym $crate::traced::way::CROSSING,
                $($operands)*
            )
        }
    };
}
