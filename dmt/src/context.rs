//! What a carried thread leaves behind when its carrier goes on with another one: for the carrier, and for debuggers.

use crate::arena::Arena;
use crate::bounds::{ARENA_ADDRESS, MAX_THREADS};
use crate::thread::{Thread, Threads};

/// Where a thread goes on; a note of the platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Context {
    /// Address of its [`Kept`], 0 = it has never run.
    pub stack: usize,
    /// Base of its thread-local memory.
    pub base: usize,
}

/// What a function call must find again, on the stack of the thread.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Kept {
    /// The rights of memory protection keys, if the processor has them.
    pub rights: u64,
    /// Control words of the floating-point units: `mxcsr`, and behind it that of the old one.
    pub control_words: u64,
    /// Keeps what follows aligned.
    pub rest: u64,
    /// Registers.
    pub r15: usize,
    /// See above.
    pub r14: usize,
    /// See above.
    pub r13: usize,
    /// See above.
    pub r12: usize,
    /// See above.
    pub rbx: usize,
    /// See above.
    pub rbp: usize,
    /// Where it goes on, with its stack pointer behind this.
    pub rip: usize,
}

/// Where a debugger finds the threads of the server, in the arena at [`ARENA_ADDRESS`].
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Address of the first thread's slot.
    pub first: usize,
    /// Bytes of a slot.
    pub stride: usize,
    /// Slots.
    pub count: usize,
    /// Offset in a slot of the state, a byte; 0 = free.
    pub state: usize,
    /// Offset of the process's number, 16 bits.
    pub process: usize,
    /// Offset of the thread id, 32 bits.
    pub tid: usize,
    /// Offset of the [`Context`].
    pub context: usize,
}

/// See there.
pub const TABLE: Table = Table {
    first: ARENA_ADDRESS + Arena::THREADS + Threads::SLOTS,
    stride: size_of::<Thread>(),
    count: MAX_THREADS,
    state: core::mem::offset_of!(Thread, state),
    process: core::mem::offset_of!(Thread, process),
    tid: core::mem::offset_of!(Thread, tid),
    context: core::mem::offset_of!(Thread, context),
};
