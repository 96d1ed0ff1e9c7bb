//! What the library knows about the calling thread.
//!
//! The block is initial-exec TLS made in assembly: the compiler's own thread-locals call `__tls_get_addr` in a shared
//! library, and that may allocate. All zero bytes = a thread that dmt does not manage. Only the thread itself and the
//! signal handlers that interrupt it touch its block. Callable from any context.

use core::arch::{asm, global_asm};
use core::cell::Cell;

global_asm!(
    ".pushsection .tbss.brolga_tls,\"awT\",@nobits",
    ".balign 64",
    ".globl brolga_tls",
    ".hidden brolga_tls",
    ".type brolga_tls,@object",
    ".size brolga_tls, 256",
    "brolga_tls:",
    ".zero 256",
    ".popsection",
);

/// The block.
#[repr(C)]
pub struct Tls {
    /// As `managed` if hooks are to act: neither inside dmt nor in a pass-through section, else 0. The one word that the
    /// guard of every hook reads.
    active: Cell<u32>,
    /// [`PLAIN`] if dmt schedules this thread, [`TRACED`] if its calls are traced, too.
    managed: Cell<u32>,
    /// dmt's number of this thread.
    id: Cell<u32>,
    /// Depth of nested sections: inside dmt, and [`Passthrough`].
    depth: Cell<u32>,
    /// The signal that dmt decided to deliver here and that the kernel is about to run, 0 = none.
    delivering: Cell<u32>,
    /// `si_code` of that signal.
    code: Cell<i32>,
    /// Thread id.
    tid: Cell<i32>,
    /// 1 while a fatal message is being written.
    dying: Cell<u32>,
    /// Where the program called `syscall()`; its stub writes it.
    caller: Cell<usize>,
    /// 1 if the stub that is to be left ends the thread, see [`crate::cancel`].
    cancelled: Cell<u32>,
    /// The spin point where it last stopped, and the sum of what the loop counts with there.
    spun: Cell<[u64; 2]>,
    /// See [`crate::altstack`].
    pub alternate: Alternate,
    /// Start and length of its signal stack, the program's or ours.
    signal_stack: Cell<[usize; 2]>,
    /// Where libc stores the handle of the thread that this one is creating, 0 = none, see [`crate::threads`].
    pub creating: Cell<usize>,
    /// dmt's number of that thread.
    pub created: Cell<u32>,
    /// Whether it is in the handler of the watchdog's signal, which the kernel blocks until that ends.
    pub preempted: Cell<bool>,
    /// Whether it looks at its stack for us, see [`crate::traced`].
    pub walking: Cell<bool>,
    /// See [`crate::traced`].
    pub traced_call: TracedCall,
}

/// The call of the program that is being traced: what is known of it at its end.
pub struct TracedCall {
    /// Where the function's frame ends, 0 = no call is open.
    pub frame: Cell<usize>,
    /// Which function.
    pub what: Cell<usize>,
    /// Logical time at its beginning.
    pub begin: Cell<u64>,
    /// Its arguments.
    pub arguments: Cell<[u64; 6]>,
}

/// The alternate signal stack that the program asked for, where the kernel has a larger one of ours.
pub struct Alternate {
    /// Lowest address of our stack, 0 = there is none yet.
    pub own: Cell<usize>,
    /// Lowest address of the program's.
    pub base: Cell<usize>,
    /// Bytes of the program's.
    pub bytes: Cell<usize>,
}
/// Hooks act.
const PLAIN: u32 = 1;
/// Hooks act, and each call is traced.
const TRACED: u32 = 2;
/// Offset of the word in a thread's block that [`Tls::caller`] reads, for the stub.
pub const CALLER_OFFSET: usize = core::mem::offset_of!(Tls, caller);
/// Offset of the word that [`Tls::cancel`] sets.
pub const CANCELLED_OFFSET: usize = core::mem::offset_of!(Tls, cancelled);
/// Offsets of words in a thread's block, for the way to another stack.
pub const ID_OFFSET: usize = core::mem::offset_of!(Tls, id);
/// See [`ID_OFFSET`].
pub const SIGNAL_STACK_OFFSET: usize = core::mem::offset_of!(Tls, signal_stack);
const _: () = assert!(size_of::<Tls>() <= 256);

/// The calling thread's block.
#[inline]
pub fn current() -> &'static Tls {
    let block: *const Tls;
    // SAFETY: computes the address of this thread's copy of `brolga_tls`, which lives as long as the thread.
    unsafe {
        asm!(
            "mov {0}, qword ptr fs:[0]",
            "add {0}, qword ptr [rip + brolga_tls@gottpoff]",
            out(reg) block,
            options(pure, nomem, nostack),
        );
        &*block
    }
}

impl Tls {
    /// Whether hooks act and nobody wants to know what they do: the one question of the guard of every hook.
    #[inline]
    pub fn plain(&self) -> bool {
        self.active.get() == PLAIN
    }

    /// Whether calls are to be traced, and this one is not inside another.
    pub fn traced(&self) -> bool {
        self.active.get() == TRACED
    }

    /// Whether a call of the program is being traced.
    #[inline]
    pub fn in_traced_call(&self) -> bool {
        self.traced_call.frame.get() != 0
    }

    /// Calls of this thread are traced, or not; not while a section is open.
    pub fn set_traced(&self, traced: bool) {
        self.managed.set(if traced { TRACED } else { PLAIN });
        self.active.set(self.managed.get());
    }

    /// Whether hooks act.
    #[inline]
    pub fn active(&self) -> bool {
        self.active.get() != 0
    }

    /// Whether dmt schedules this thread.
    pub fn managed(&self) -> bool {
        self.managed.get() != 0
    }

    /// dmt's number of this thread.
    #[inline]
    pub fn id(&self) -> u32 {
        self.id.get()
    }

    /// Thread id, as the program knows it.
    pub fn tid(&self) -> i32 {
        self.tid.get()
    }

    /// From here on dmt schedules this thread as number `id`.
    pub fn adopt(&self, id: u32, tid: i32) {
        self.id.set(id);
        self.tid.set(tid);
        self.managed.set(if crate::traced::is_on() { TRACED } else { PLAIN });
        self.reset_depth(self.depth.get());
    }

    /// From here on dmt does not know this thread any more.
    pub fn abandon(&self) {
        self.managed.set(0);
        self.active.set(0);
    }

    /// The signal about to be delivered by dmt's decision and its code; reset by reading.
    pub fn take_delivering(&self) -> (u32, i32) {
        (self.delivering.replace(0), self.code.get())
    }

    /// Whether dmt decided to deliver this signal here.
    pub fn expects(&self, signal: u32) -> bool {
        self.delivering.get() == signal
    }

    /// See [`Tls::take_delivering`].
    pub fn set_delivering(&self, signal: u32, code: i32) {
        self.delivering.set(signal);
        self.code.set(code);
    }

    /// The spin point where the thread last stopped, with the sum of what its loop counts with; replaced by what is new.
    pub fn stopped_at(&self, branch: u64, sum: u64) -> (u64, u64) {
        self.spun.replace([branch, sum]).into()
    }

    /// Start and length of its signal stack.
    #[inline]
    pub fn signal_stack(&self) -> (usize, usize) {
        self.signal_stack.get().into()
    }

    /// See [`Tls::signal_stack`].
    pub fn set_signal_stack(&self, start: usize, len: usize) {
        self.signal_stack.set([start, len]);
    }

    /// True only the first time: guards the fatal path against itself.
    pub fn first_death(&self) -> bool {
        self.dying.replace(1) == 0
    }

    /// Address behind the program's last call of `syscall()`.
    pub fn caller(&self) -> usize {
        self.caller.get()
    }

    /// Makes the thread end when the stub of the current cancellation point is left.
    pub fn cancel(&self) {
        self.cancelled.set(1);
    }

    /// Whether it ends; reading resets it.
    pub fn take_cancelled(&self) -> bool {
        self.cancelled.replace(0) != 0
    }

    fn enter(&self) {
        self.depth.set(self.depth.get() + 1);
        self.active.set(0);
    }

    fn leave(&self) {
        let depth = self.depth.get() - 1;
        self.depth.set(depth);
        self.active.set(if depth == 0 { self.managed.get() } else { 0 });
    }

    /// Forgets all open sections: for a thread that starts anew in a forked child's signal frame.
    pub fn reset_depth(&self, depth: u32) {
        self.depth.set(depth);
        self.active.set(if depth == 0 { self.managed.get() } else { 0 });
    }

    /// Depth of open sections.
    pub fn depth(&self) -> u32 {
        self.depth.get()
    }
}

/// A section in which every hook and every trapped system call goes straight to libc and the kernel: inside dmt, and
/// around real calls that we make on the program's behalf.
#[must_use]
pub struct Passthrough(&'static Tls);

impl Passthrough {
    /// Opens the section; dropping it ends it.
    #[inline]
    pub fn enter() -> Self {
        let tls = current();
        tls.enter();
        Self(tls)
    }
}

impl Drop for Passthrough {
    #[inline]
    fn drop(&mut self) {
        self.0.leave();
    }
}
