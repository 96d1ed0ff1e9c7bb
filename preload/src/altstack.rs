//! Alternate signal stacks.
//!
//! Our handlers run on the alternate stack of a thread that has one. Programs whose threads run on small stacks of their own
//! making (goroutines) have one for every thread, and nowhere else is room for a signal frame. Many programs have one that
//! is just large enough for a handler that reports a stack overflow; there the kernel gets a larger one of ours, and the
//! program is told that it has its own.
//!
//! A thread whose program gave it none has one of ours all the same, for the watchdog's signal ([`crate::apart`]); the
//! program does not see it.

use core::cell::UnsafeCell;

use dmt::thread::ThreadId;

use crate::apart;
use crate::raw;
use crate::tls::{self, Tls};

/// A program's stack of this size is used as it is: that of a goroutine's thread, which its runtime must find itself on.
const ENOUGH_BYTES: usize = 32 << 10;
/// Bytes of a stack of ours.
const OWN_BYTES: usize = 256 << 10;
/// Bytes below it that nobody may touch.
const GUARD_BYTES: usize = 4096;
/// Stacks of ended threads, each with the address of the next in its lowest word.
struct Free(UnsafeCell<usize>);
// SAFETY: only the turn holder touches it; a forked child has its own copy.
unsafe impl Sync for Free {}
static FREE: Free = Free(UnsafeCell::new(0));

/// `sigaltstack`.
///
/// # Safety
/// The arguments are the program's pointers, which may be null.
pub unsafe fn change(new: *const libc::stack_t, old: *mut libc::stack_t) -> isize {
    let tls = tls::current();
    let mut seen = in_kernel();
    let is_own = seen.ss_flags & libc::SS_DISABLE == 0 && seen.ss_sp as usize == tls.alternate.own.get();
    if apart::is_ours(seen.ss_sp as usize) {
        seen = DISABLED;
    }
    // A handler that looks where it runs finds itself where it is told that it is.
    if is_own && seen.ss_flags & libc::SS_ONSTACK == 0 {
        (seen.ss_sp, seen.ss_size) = (tls.alternate.base.get() as *mut _, tls.alternate.bytes.get());
    }
    // SAFETY: the caller's promise, here and below; both may be the same structure.
    let wanted = if new.is_null() { None } else { Some(unsafe { *new }) };
    if let Some(wanted) = wanted {
        // The kernel judges what the program asks for.
        let result = set(&wanted);
        if result != 0 {
            return result;
        }
        let enlarge = wanted.ss_flags & libc::SS_DISABLE == 0 && wanted.ss_size < ENOUGH_BYTES;
        if let Some(own) = enlarge.then(|| own(tls)).flatten() {
            tls.alternate.base.set(wanted.ss_sp as usize);
            tls.alternate.bytes.set(wanted.ss_size);
            set(&libc::stack_t { ss_sp: own as *mut _, ss_size: OWN_BYTES, ..wanted });
        }
        if wanted.ss_flags & libc::SS_DISABLE != 0 {
            set(&apart::signal_stack(tls.id() as ThreadId));
        }
    }
    if !old.is_null() {
        // SAFETY: see above.
        unsafe { *old = seen };
    }
    0
}

const DISABLED: libc::stack_t =
    libc::stack_t { ss_sp: core::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };

/// Gives a thread that begins the stack that those without one have; a forked child may have its parent's already.
pub fn begin(id: ThreadId) -> isize {
    let now = in_kernel();
    let has_one = now.ss_flags & libc::SS_DISABLE == 0 && !apart::is_ours(now.ss_sp as usize);
    if has_one { 0 } else { set(&apart::signal_stack(id)) }
}

/// What the kernel has.
pub fn in_kernel() -> libc::stack_t {
    let mut now = DISABLED;
    // SAFETY: reads into our variable.
    unsafe { raw!(libc::SYS_sigaltstack, 0, &raw mut now) };
    now
}

fn set(stack: &libc::stack_t) -> isize {
    // SAFETY: the program's stack, or ours, which lives as long as the thread.
    let result = unsafe { raw!(libc::SYS_sigaltstack, core::ptr::from_ref(stack), 0) };
    if result == 0 {
        let enabled = stack.ss_flags & libc::SS_DISABLE == 0;
        tls::current().set_signal_stack(stack.ss_sp as usize, if enabled { stack.ss_size } else { 0 });
    }
    result
}

/// The lowest address of this thread's stack of ours, made now if there is none.
fn own(tls: &Tls) -> Option<usize> {
    let mut own = tls.alternate.own.get();
    if own == 0 {
        own = take().or_else(map)?;
        tls.alternate.own.set(own);
    }
    Some(own)
}

fn take() -> Option<usize> {
    // SAFETY: this thread holds the turn.
    let first = unsafe { &mut *FREE.0.get() };
    if *first == 0 {
        return None;
    }
    let own = *first;
    // SAFETY: a stack of ours that nobody uses.
    *first = unsafe { *(own as *const usize) };
    Some(own)
}

fn map() -> Option<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping where the kernel likes, whose lowest page is then closed.
    unsafe {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let at = raw!(libc::SYS_mmap, 0, GUARD_BYTES + OWN_BYTES, rights, flags, usize::MAX, 0);
        if at < 0 {
            return None;
        }
        raw!(libc::SYS_mprotect, at, GUARD_BYTES, libc::PROT_NONE);
        Some(at as usize + GUARD_BYTES)
    }
}

/// The thread ends: the next one that needs a stack of ours gets this one.
pub fn give_back(tls: &Tls) {
    let own = tls.alternate.own.replace(0);
    if own != 0 {
        // SAFETY: this thread holds the turn; it may still run on the stack, but not so far down.
        unsafe {
            let first = &mut *FREE.0.get();
            *(own as *mut usize) = *first;
            *first = own;
        }
    }
}
