//! The handler of SIGSYS: where every system call lands that the filter caught.
//!
//! It runs in the middle of any code of the program or of libc, so it changes nothing but the registers that the call
//! would have changed. It runs on the alternate stack that the program gave the thread, if it did: the stacks of goroutines
//! and their like have no room for it. Otherwise its frame lies where it would without one ([`crate::moved_handler!`]). In a
//! thread that dmt does not manage, and inside pass-through sections, the call goes on to the kernel by the gate.

use core::ffi::{c_int, c_void};

use crate::calls::{self, process};
use crate::cancel;
use crate::errno::Kept;
use crate::raw;
use crate::signals::SET_BYTES;
use crate::threads;
use crate::tls;
use crate::traced::ONLY_OBSERVED;
use crate::{call_begins, call_ends};

/// libc's signal to its other threads when one changes its user.
const LIBC_SETXID: i32 = 33;
/// `si_code` of a SIGSYS that a filter sent.
const SYS_SECCOMP: c_int = 1;

/// The registers of an interrupted call.
pub struct Frame<'a>(&'a mut libc::ucontext_t);

impl Frame<'_> {
    fn get(&self, register: c_int) -> usize {
        self.0.uc_mcontext.gregs[register as usize] as usize
    }

    /// Number of the call.
    pub fn number(&self) -> usize {
        self.get(libc::REG_RAX)
    }

    /// Arguments of the call.
    pub fn arguments(&self) -> [usize; 6] {
        use libc::{REG_R8, REG_R9, REG_R10, REG_RDI, REG_RDX, REG_RSI};
        [REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9].map(|r| self.get(r))
    }

    /// Address behind the instruction that made the call.
    pub fn caller(&self) -> usize {
        self.get(libc::REG_RIP)
    }

    /// Sets what the call returns.
    pub fn set_result(&mut self, result: isize) {
        self.0.uc_mcontext.gregs[libc::REG_RAX as usize] = result as i64;
    }

    /// Makes the interrupted code go on as if it had called `function` instead; the call must not return.
    pub fn call(&mut self, function: usize) {
        let (top, back) = (self.get(libc::REG_RSP) - size_of::<usize>(), self.get(libc::REG_RIP));
        // SAFETY: the next word of the thread's own stack. What lies there belongs to code that never runs again.
        unsafe { *(top as *mut usize) = back };
        self.set_stack(top);
        self.0.uc_mcontext.gregs[libc::REG_RIP as usize] = function as i64;
    }

    /// Keeps the signal stack as it is now: the end of a handler restores the one of its beginning.
    pub fn keep_signal_stack(&mut self) {
        self.0.uc_stack = crate::altstack::in_kernel();
    }

    /// Keeps the mask as it is now, for the same reason.
    pub fn keep_mask(&mut self) {
        let mask = (&raw mut self.0.uc_sigmask).cast::<u64>();
        // SAFETY: asks the kernel for the mask, into the word of the frame from which the kernel will take it.
        unsafe { raw!(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, 0, mask, SET_BYTES) };
    }

    /// Makes the interrupted code go on on another stack (a forked child that asked for one).
    pub fn set_stack(&mut self, top: usize) {
        self.0.uc_mcontext.gregs[libc::REG_RSP as usize] = top as i64;
    }
}

/// The handler.
///
/// # Safety
/// Called by the kernel only.
unsafe extern "C" fn on_sigsys(_signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let _errno = Kept::now();
    // SAFETY: the kernel's pointers, valid until the handler returns.
    let (info, mut frame) = unsafe { (&*info, Frame(&mut *context.cast::<libc::ucontext_t>())) };
    if info.si_code != SYS_SECCOMP {
        return;
    }
    let (number, arguments) = (frame.number(), frame.arguments());
    let tls = tls::current();
    if process::is_fork(number, arguments) && tls.managed() {
        process::fork(number, arguments, &mut frame);
        return;
    }
    if threads::is_of_creation(number, arguments) {
        // SAFETY: looked at just now.
        frame.set_result(unsafe { threads::call_of_creation(arguments) });
        return;
    }
    if threads::is_clone(number, arguments) {
        let mut registers = frame.0.uc_mcontext;
        registers.gregs[libc::REG_RIP as usize] = frame.caller() as i64;
        // SAFETY: libc's own call with its own arguments.
        frame.set_result(unsafe { threads::clone(arguments, registers) });
        return;
    }
    if tls.traced() {
        let [a, b, c, d, e, f] = arguments;
        call_begins!(in number; a, b, c, d, e, f);
    }
    // SAFETY: the program's own call with the program's own arguments.
    let result = unsafe {
        match tls.active() {
            true => carry_out(number, arguments, frame.caller()),
            false => forward(number, arguments),
        }
    };
    call_ends!(in number, result);
    frame.set_result(result);
    match number as i64 {
        libc::SYS_sigaltstack => frame.keep_signal_stack(),
        libc::SYS_rt_sigprocmask => frame.keep_mask(),
        _ => {}
    }
    if tls.take_cancelled() {
        frame.call(cancel::exit as *const () as usize);
    }
}

/// Carries out a call of a thread that dmt schedules; some are cancellation points.
unsafe fn carry_out(number: usize, arguments: [usize; 6], caller: usize) -> isize {
    // SAFETY: forwarded promise.
    let go = || unsafe { calls::call(number, arguments, caller) };
    if cancel::is_point(number) { cancel::is_negative(go) } else { go() }
}

/// Sends a call to the kernel, except that it can never block our two signals.
///
/// # Safety
/// As the system call.
pub unsafe fn forward(number: usize, a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise.
    unsafe {
        match number as i64 {
            libc::SYS_rt_sigprocmask => calls::signal::real_sigprocmask(a),
            libc::SYS_rt_sigaction => calls::signal::rt_sigaction(a),
            libc::SYS_sigaltstack => crate::altstack::change(a[0] as *const _, a[1] as *mut _),
            // libc wants its other threads to change their user, too; all have the one of their carrier.
            libc::SYS_tgkill if a[2] as i32 == LIBC_SETXID => -(libc::ESRCH as isize),
            // libc's, in a thread that begins: the carrier has its own.
            libc::SYS_set_robust_list | libc::SYS_rseq => 0,
            _ => crate::gate::syscall(number as i64, a),
        }
    }
}

// Calls that only a traced process makes through the handler stay on the signal stack: the program's stays as it is.
crate::moved_handler!(entered_sigsys, on_sigsys, except ONLY_OBSERVED);

/// Address of the handler.
pub fn entry() -> usize {
    entered_sigsys as *const () as usize
}

/// Installs the handler.
pub fn install() -> Result<(), isize> {
    crate::signals::install_own(
        libc::SIGSYS,
        entered_sigsys as *const () as usize,
        libc::SA_NODEFER | libc::SA_ONSTACK,
    )
}

/// The stub that returns from signal handlers that we install without libc's help.
pub fn restorer() -> usize {
    brolga_restore as *const () as usize
}

core::arch::global_asm!(
    ".pushsection .text.brolga_restore,\"ax\",@progbits",
    ".globl brolga_restore",
    ".hidden brolga_restore",
    ".type brolga_restore,@function",
    // Unwinders know a signal frame by the bytes of these two instructions, if no table covers the byte before them: that
    // is where they look for the function of a return address.
    "nop",
    "brolga_restore:",
    "mov rax, 15",
    "syscall",
    ".size brolga_restore, . - brolga_restore",
    ".popsection",
);

unsafe extern "C" {
    fn brolga_restore();
}

/// Thread id of the caller, from the kernel.
pub fn gettid() -> i32 {
    // SAFETY: no arguments.
    unsafe { raw!(libc::SYS_gettid) as i32 }
}
