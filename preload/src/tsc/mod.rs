//! The time-stamp counter: `rdtsc` traps, and its reader gets the virtual clock. Where it is found a second time it does not
//! trap any more ([`sites`]).
//!
//! The trap is an attribute of each thread, inherited by its children, kept over `exec` (where `ld.so` would die of it,
//! so it is lifted first) and lost when a checkpoint is restored.

mod sites;

use core::ffi::{c_int, c_void};

use crate::errno::Kept;
use crate::raw;
use crate::signals;
use crate::spin;
use crate::tls;
use crate::world;

const PR_SET_TSC: c_int = 26;
const PR_TSC_ENABLE: c_int = 1;
const PR_TSC_SIGSEGV: c_int = 2;
/// `si_code` of a general protection fault, which is what a trapped `rdtsc` is.
const SI_KERNEL: c_int = 0x80;
/// What `rdtscp` answers for the processor, as `getcpu` does.
const PROCESSOR: i64 = 0;

fn set(mode: c_int) -> isize {
    // SAFETY: an attribute of the calling thread.
    unsafe { raw!(libc::SYS_prctl, PR_SET_TSC, mode, 0, 0, 0) }
}

/// Makes `rdtsc` trap in this thread and those that it will start.
pub fn trap() -> isize {
    set(PR_TSC_SIGSEGV)
}

/// Lets `rdtsc` through again, for `exec`.
pub fn release() -> isize {
    set(PR_TSC_ENABLE)
}

/// Installs the handler of the trap. The program's own SIGSEGV handler is called from it.
pub fn install() -> Result<(), isize> {
    signals::install_own(
        libc::SIGSEGV,
        entered_fault as *const () as usize,
        libc::SA_NODEFER | libc::SA_ONSTACK,
    )
}

/// Address of the handler.
pub fn entry() -> usize {
    entered_fault as *const () as usize
}

crate::moved_handler!(entered_fault, on_fault);

unsafe extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Kept::now();
    // SAFETY: the kernel's pointers.
    let emulated = unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        (*info).si_code == SI_KERNEL && (emulate(context) || spin::points::emulate(context))
    };
    if !emulated {
        // SAFETY: our own arguments.
        unsafe { signals::chain(signal, info, context) };
    }
    drop(errno);
}

/// Executes `rdtsc` or `rdtscp`, if that is what faulted.
unsafe fn emulate(context: &mut libc::ucontext_t) -> bool {
    let registers = &mut context.uc_mcontext.gregs;
    let at = registers[libc::REG_RIP as usize] as *const u8;
    // SAFETY: the instruction at rip was fetched, so its first two bytes are readable; the third only matters, and is
    // there, if the first two are those of a three-byte instruction.
    let length = unsafe {
        match (*at, *at.add(1)) {
            (0x0f, 0x31) => 2,
            (0x0f, 0x01) if *at.add(2) == 0xf9 => 3,
            _ => return false,
        }
    };
    let next = if length == 2 && tls::current().active() {
        let _section = tls::Passthrough::enter();
        sites::behind(at as u64) as i64
    } else {
        at as i64 + length
    };
    let now = now();
    registers[libc::REG_RAX as usize] = (now & 0xffff_ffff) as i64;
    registers[libc::REG_RDX as usize] = (now >> 32) as i64;
    if length == 3 {
        registers[libc::REG_RCX as usize] = PROCESSOR;
    }
    registers[libc::REG_RIP as usize] = next;
    true
}

/// What the counter shows.
fn now() -> u64 {
    let tls = tls::current();
    match (tls.managed(), tls.active()) {
        // An operation, as the clock is: a loop that waits for time to pass makes it pass.
        (_, true) => world::dmt(|call| call.monotonic()),
        (true, false) => world::call_as(tls.id() as u16).with(|k| k.monotonic()),
        _ => 0,
    }
}
