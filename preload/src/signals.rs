//! Signals: the kernel runs the program's handlers, dmt decides when.
//!
//! Every handler of the program is installed as [`on_signal`]. A signal that dmt delivers is sent by the thread to
//! itself, marked in TLS, so mask, alternate stack and context are the kernel's own work. A signal that comes unmarked from elsewhere
//! (the kernel's own SIGCHLD, say) is nothing that the log knows, and is dropped; faults of the program go through.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};

use dmt::process::PendingSignal;
use dmt::thread::ThreadId;

use crate::errno::Kept;
use crate::raw;
use crate::tls;
use crate::world;

/// The watchdog's signal: the highest real-time one, which `SIGRTMAX` hides from the program.
pub const PREEMPT: c_int = 64;
/// Signals of the kernel, 1..=64.
pub const COUNT: usize = 64;
/// Bytes of the kernel's signal set.
pub const SET_BYTES: usize = 8;
/// The signals that libc uses inside itself: cancellation and set*id.
pub const LIBC_INTERNAL: [c_int; 2] = [32, 33];
const SA_RESTORER: c_int = 0x0400_0000;
const SA_NODEFER: u64 = libc::SA_NODEFER as u64;
/// Signals that may never be blocked, as a kernel mask: a fault that is blocked ends the process, and some of them are our
/// own doing.
pub const NEVER_BLOCKED: u64 = bit(libc::SIGSYS) | bit(libc::SIGSEGV) | bit(PREEMPT);

/// Signals that the kernel sends for what a thread does. Of these its mask is that of the thread that runs, of all others that of
/// any thread: dmt knows who blocks them, and the kernel is told when one is delivered.
pub const RAISED_BY_KERNEL: u64 = bit(libc::SIGBUS)
    | bit(libc::SIGFPE)
    | bit(libc::SIGILL)
    | bit(libc::SIGTRAP)
    | bit(libc::SIGXFSZ)
    | bit(libc::SIGXCPU)
    | bit(libc::SIGPIPE);

/// Bit of `signal` in a kernel mask.
pub const fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// The kernel's `struct sigaction`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Action {
    /// Address, `SIG_DFL` or `SIG_IGN`.
    pub handler: usize,
    /// `SA_` flags.
    pub flags: u64,
    /// Return stub.
    pub restorer: usize,
    /// Blocked while the handler runs.
    pub mask: u64,
}

const DEFAULT: Action = Action { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };

/// What the program asked for. Written only by the turn holder of this process.
struct Actions(UnsafeCell<[Action; COUNT + 1]>);
// SAFETY: see the field's comment; a forked child has its own copy.
unsafe impl Sync for Actions {}
static ACTIONS: Actions = Actions(UnsafeCell::new([DEFAULT; COUNT + 1]));

/// What the program asked for `signal`.
pub fn action(signal: c_int) -> Action {
    // SAFETY: only the turn holder writes, and it is not inside a write here.
    unsafe { (*ACTIONS.0.get())[signal as usize] }
}

/// Remembers what the program asked for.
pub fn remember(signal: c_int, new: Action) {
    // SAFETY: as above.
    unsafe { (*ACTIONS.0.get())[signal as usize] = new };
}

/// The action that the kernel gets for what the program asked for.
pub fn kernel_action(signal: c_int, wanted: Action) -> Action {
    let plain = wanted.handler == libc::SIG_DFL || wanted.handler == libc::SIG_IGN;
    let mut kernel = Action { mask: wanted.mask & !NEVER_BLOCKED, ..wanted };
    if !plain && !LIBC_INTERNAL.contains(&signal) {
        kernel.handler = on_signal as *const () as usize;
        kernel.flags |= libc::SA_SIGINFO as u64;
    }
    kernel
}

/// Sets the kernel's action for `signal`.
///
/// # Safety
/// The action's handler is a signal handler, and its restorer is right.
pub unsafe fn set_kernel_action(signal: c_int, action: &Action) -> isize {
    // SAFETY: the structure is the kernel's.
    unsafe { raw!(libc::SYS_rt_sigaction, signal, core::ptr::from_ref(action), 0, SET_BYTES) }
}

/// Installs a handler of our own.
pub fn install_own(signal: c_int, handler: usize, flags: c_int) -> Result<(), isize> {
    let flags = (libc::SA_SIGINFO | SA_RESTORER | flags) as u32 as u64;
    let action = Action { handler, flags, restorer: crate::sigsys::restorer(), mask: 0 };
    // SAFETY: callers pass functions of the handler's type.
    match unsafe { set_kernel_action(signal, &action) } {
        0 => Ok(()),
        error => Err(error),
    }
}

/// The kernel's structure for a signal.
pub fn siginfo(signal: &PendingSignal, code: c_int) -> libc::siginfo_t {
    // SAFETY: an all-zero siginfo is valid.
    let mut info: libc::siginfo_t = unsafe { core::mem::zeroed() };
    info.si_signo = signal.signal;
    info.si_code = code;
    // SAFETY: behind the three words and padding follow pid, uid and value, in the layout of signals from processes.
    unsafe {
        let fields = (&raw mut info).cast::<u8>().add(16);
        fields.cast::<i32>().write(signal.pid);
        fields.add(4).cast::<u32>().write(signal.uid);
        fields.add(8).cast::<u64>().write(signal.value);
    }
    info
}

/// What this thread blocks. The kernel has one mask for all threads of a process.
pub fn mask() -> u64 {
    mask_of(tls::current().id() as ThreadId)
}

/// What a thread of this process blocks.
pub fn mask_of(id: ThreadId) -> u64 {
    world::call_as(id).with(|k| k.signal_mask(id))
}

/// Sets the mask in the kernel.
pub fn set_kernel_mask(mask: u64) {
    // SAFETY: the mask lives until the call returns.
    unsafe { raw!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, 0, SET_BYTES) };
}

/// Runs the handler (or the default action) of a signal that dmt hands to this thread, under the mask that dmt knows:
/// in `ppoll` and its kin it is another than the kernel's.
pub fn deliver(signal: &PendingSignal) {
    if signal.fatal {
        die_of(signal.signal);
    }
    let (mask, mut old) = (mask(), 0u64);
    // SAFETY: sets the mask of this thread from and to variables of ours; asked for by the program.
    unsafe { raw!(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut old, SET_BYTES) };
    send_to_self(signal);
    if old != mask {
        set_kernel_mask(old);
    }
}

/// Ends this process by `signal`, in dmt and then in the kernel, so that the real wait status is right, too.
fn die_of(signal: c_int) -> ! {
    crate::calls::process::killed_by(signal);
    end_by(signal)
}

/// Ends this process by `signal` in the kernel.
fn end_by(signal: c_int) -> ! {
    let unblocked = !0u64;
    loop {
        // SAFETY: the default action, no mask, and the signal: this ends the process.
        unsafe {
            set_kernel_action(signal, &DEFAULT);
            raw!(libc::SYS_rt_sigprocmask, libc::SIG_UNBLOCK, &raw const unblocked, 0, SET_BYTES);
            raw!(libc::SYS_kill, raw!(libc::SYS_getpid), signal);
            raw!(libc::SYS_exit_group, 128 + signal);
        }
    }
}

fn send_to_self(signal: &PendingSignal) {
    // The kernel takes only negative codes from user space; the handler gets the right one from TLS.
    let info = siginfo(signal, if signal.code >= 0 { libc::SI_QUEUE } else { signal.code });
    let tls = tls::current();
    tls.set_delivering(signal.signal as u32, signal.code);
    // SAFETY: a signal to the one thread of the kernel that this process has; it is delivered before the call returns unless the program blocks it.
    unsafe {
        let pid = raw!(libc::SYS_getpid);
        raw!(libc::SYS_rt_tgsigqueueinfo, pid, pid, signal.signal, &raw const info);
    }
    tls.take_delivering();
}

/// Entry of all the program's handlers.
unsafe extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Kept::now();
    let tls = tls::current();
    let (marked, code) = tls.take_delivering();
    let expected = marked == signal as u32;
    // SAFETY: the kernel's pointer.
    let from_fault = unsafe { (*info).si_code } > 0 && is_fault(signal);
    if tls.managed() && !expected && !from_fault {
        tls.set_delivering(marked, code);
        return;
    }
    if expected {
        // SAFETY: the kernel's pointer; the code that dmt gave and that the kernel did not take from us.
        unsafe { (*info).si_code = code };
    }
    let wanted = action(signal);
    if wanted.flags as u32 as c_int & libc::SA_RESETHAND != 0 {
        remember(signal, DEFAULT);
    }
    // SAFETY: the context is the kernel's; the handler is the program's own for this signal.
    unsafe { run(signal, wanted, info, context, tls) };
    drop(errno);
}

/// Calls the program's handler as if no section of ours were open: it may use every hook.
unsafe fn run(
    signal: c_int,
    wanted: Action,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
    tls: &tls::Tls,
) {
    let depth = tls.depth();
    tls.reset_depth(0);
    let itself = if wanted.flags & SA_NODEFER == 0 { bit(signal) } else { 0 };
    // SAFETY: the kernel's context; its mask is what holds after the handler.
    let kept = unsafe { (&raw mut (*context.cast::<libc::ucontext_t>()).uc_sigmask).cast::<u64>() };
    if tls.managed() {
        let before = mask();
        // SAFETY: as above.
        unsafe { kept.write(before) };
        crate::calls::signal::publish((before | wanted.mask | itself) & !NEVER_BLOCKED);
    }
    // SAFETY: the program gave a handler of this type, by its flags.
    unsafe {
        if wanted.flags & libc::SA_SIGINFO as u64 != 0 {
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                core::mem::transmute(wanted.handler);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(c_int) = core::mem::transmute(wanted.handler);
            handler(signal);
        }
    }
    // SAFETY: as above.
    crate::calls::signal::publish(unsafe { kept.read() });
    tls.reset_depth(depth);
}

fn is_fault(signal: c_int) -> bool {
    matches!(signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP)
}

/// Passes a fault that is not ours on to the program's handler, or to the default action.
///
/// # Safety
/// Called by a handler with its own arguments.
pub unsafe fn chain(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let tls = tls::current();
    // SAFETY: the kernel's pointer.
    if unsafe { (*info).si_code } <= 0 && tls.managed() && !tls.expects(signal as u32) {
        // Somebody sent it who is no process of the server. That is no event of the log, and perhaps this thread has not got
        // the turn: the process dies without a word, and not as by a fault of its own; init finds it dead.
        end_by(libc::SIGKILL);
    }
    let wanted = action(signal);
    if wanted.handler == libc::SIG_DFL || wanted.handler == libc::SIG_IGN {
        die_of(signal);
    }
    // SAFETY: forwarded promise.
    unsafe { run(signal, wanted, info, context, tls) };
}

/// The watchdog's signal: the thread may be spinning.
unsafe extern "C" fn on_preempt(_signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    let _errno = Kept::now();
    if tls::current().active() && !crate::kernel::is_busy() {
        // SAFETY: the kernel's context.
        let Some(place) = (unsafe { interrupted(context) }) else { return };
        let branch = crate::spin::branch_around(place as u64);
        let tls = tls::current();
        tls.preempted.set(true);
        world::dmt(|call| call.preempt(place as u64, branch));
        tls.preempted.set(false);
    }
}

/// The program's instruction that the watchdog's signal interrupted. A signal that comes together with a fault interrupts
/// the first instruction of the fault's handler. `None` in a system call and its handler: on another replica the thread may be
/// before that call, or behind it.
///
/// # Safety
/// `context` is the kernel's.
unsafe fn interrupted(context: *mut c_void) -> Option<i64> {
    // SAFETY: forwarded promise; the third argument of a handler that is about to begin is its own context.
    unsafe {
        let registers = &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        match registers[libc::REG_RIP as usize] {
            at if at == crate::sigsys::entry() as i64 || crate::gate::holds(at as usize) => None,
            at if at == crate::tsc::entry() as i64 => {
                let outer = registers[libc::REG_RDX as usize] as *const libc::ucontext_t;
                Some((*outer).uc_mcontext.gregs[libc::REG_RIP as usize])
            }
            at => Some(at),
        }
    }
}

/// Installs the handler of the watchdog's signal.
pub fn install_preempt() -> Result<(), isize> {
    // Not SA_NODEFER: of two signals at once the second would interrupt the first instruction of the handler and take that
    // for the place where the thread spins.
    // On another stack, for it comes at any time.
    install_own(PREEMPT, on_preempt as *const () as usize, libc::SA_RESTART | libc::SA_ONSTACK)
}
