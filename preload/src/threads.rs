//! Threads: libc makes them, dmt decides when each runs, and one thread of the kernel carries all of a process ([`crate::carrier`]).
//!
//! A thread's first instructions are libc's own, and run when it gets the turn first. A thread that ends gives the turn away in its very
//! last system call, after all destructors ran, and clears the word by which libc knows that the stack is free.

use core::ffi::{CStr, c_int, c_void};
use core::fmt::Write;

use dmt::thread::ThreadId;

use crate::altstack;
use crate::apart;
use crate::calls::refuse::{self, Other};
use crate::calls::shortage;
use crate::calls::thread::name;
use crate::carrier::{self, Clone};
use crate::fatal::Line;
use crate::raw;
use crate::tls;
use crate::world;

/// A thread's start routine.
pub type Start = extern "C" fn(*mut c_void) -> *mut c_void;
/// libc's `pthread_create`.
pub type Create =
    unsafe extern "C" fn(*mut libc::pthread_t, *const libc::pthread_attr_t, Start, *mut c_void) -> c_int;

/// Offset of the kernel thread id in libc's thread descriptor, the same since glibc 2.4 on x86-64.
const TID_OFFSET: usize = 720;
/// Bytes of libc's thread descriptor in which the lock lies by which creator and new thread wait for each other (glibc 2.36: at
/// 1560), and the thread id.
const DESCRIPTOR_BYTES: usize = 2048;

/// Kernel id of the thread behind a handle.
pub fn tid_of(handle: libc::pthread_t) -> i32 {
    // SAFETY: the handle is the address of libc's descriptor of a thread that exists.
    unsafe { *((handle as usize + TID_OFFSET) as *const i32) }
}

/// What is to be told if the libc of this process, of which this is a thread with the kernel's id `own`, keeps the id elsewhere
/// than [`TID_OFFSET`] says. `handle` is the thread's, `version` what libc says of itself.
pub fn misplaced_tid(handle: libc::pthread_t, own: i32, version: &CStr) -> Option<Line> {
    let found = tid_of(handle);
    if found == own {
        return None;
    }
    let mut line = Line::new();
    let version = version.to_str().unwrap_or("?");
    let _ = writeln!(
        line,
        "brolga: glibc {version} is not known: a thread's id is not at byte {TID_OFFSET} of its descriptor ({found} there, {own} \
         wanted); run the server with the glibc of Debian 12 or 13 (2.36 or 2.41), and tell of this version"
    );
    Some(line)
}

/// Creates a thread, in dmt and in libc.
pub unsafe fn create(
    real: Create,
    out: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let detached = is_detached(attributes);
    let reserved = world::dmt(|call| call.thread_reserve(start as usize as u64, argument as u64, detached));
    if reserved < 0 {
        refuse::bound("threads", dmt::bounds::MAX_THREADS, Other::Threads);
        return -reserved as c_int;
    }
    let id = reserved as ThreadId;
    let tls = tls::current();
    let outer = (tls.creating.replace(out as usize), tls.created.replace(id.into()));
    // SAFETY: the caller's own arguments; the trampoline finds the program's routine by the number.
    let result = unsafe { real(out, attributes, trampoline, id as usize as *mut c_void) };
    tls.creating.set(outer.0);
    tls.created.set(outer.1);
    // SAFETY: the caller's own arguments.
    unsafe { shortage::of_threads(result, attributes) };
    world::dmt(|call| match result {
        // SAFETY: libc stored the handle.
        0 => unsafe { call.thread_created(id, *out) },
        _ => call.thread_abandon(id),
    });
    result
}

/// Whether a system call of this thread is a futex of the thread that it is creating. That one has not run, so nobody else knows of the
/// lock in its descriptor; and if libc gives it up again, it waits for an end that never comes.
pub fn is_of_creation(number: usize, arguments: [usize; 6]) -> bool {
    let handle = tls::current().creating.get() as *const libc::pthread_t;
    if number as i64 != libc::SYS_futex || handle.is_null() {
        return false;
    }
    // SAFETY: the variable that the program gave to `pthread_create`, which has not returned. libc stores the handle before the thread
    // is made.
    arguments[0].wrapping_sub(unsafe { *handle } as usize) < DESCRIPTOR_BYTES
}

/// Such a call.
///
/// # Safety
/// [`is_of_creation`] is true.
pub unsafe fn call_of_creation(arguments: [usize; 6]) -> isize {
    let word = arguments[0] as *mut i32;
    // SAFETY: a word in libc's descriptor.
    unsafe {
        if word as usize == *(tls::current().creating.get() as *const usize) + TID_OFFSET {
            // libc waits for the end of a thread that it could not make as it was asked to, and that has nobody to run it.
            *word = 0;
        }
    }
    0
}

/// Whether a call makes a thread.
pub fn is_clone(number: usize, a: [usize; 6]) -> bool {
    number as i64 == libc::SYS_clone && a[0] as c_int & libc::CLONE_THREAD != 0
}

/// libc's `clone` of the thread that [`create`] makes: its id. `registers` are the caller's.
///
/// # Safety
/// As the system call.
pub unsafe fn clone(a: [usize; 6], registers: libc::mcontext_t) -> isize {
    let [flags, stack, parent_tid, child_tid, base, _] = a;
    let tls = tls::current();
    let id = tls.created.get() as ThreadId;
    let has = |flag: c_int| flags as c_int & flag != 0;
    if id == 0 || !has(libc::CLONE_SETTLS) {
        return -(libc::ENOSYS as isize);
    }
    let tid = world::call_as(id).with(|k| k.threads.get(id).tid);
    // SAFETY: the caller's own words, which it asked to be set.
    unsafe {
        if has(libc::CLONE_PARENT_SETTID) {
            *(parent_tid as *mut i32) = tid;
        }
        if has(libc::CLONE_CHILD_SETTID) {
            *(child_tid as *mut i32) = tid;
        }
    }
    let cleared = if has(libc::CLONE_CHILD_CLEARTID) { child_tid } else { 0 };
    let name = name(tls.id() as ThreadId);
    carrier::make(id, &Clone { registers, stack, base, cleared, name });
    tid as isize
}

unsafe extern "C" {
    fn pthread_attr_getdetachstate(attributes: *const libc::pthread_attr_t, state: *mut c_int) -> c_int;
}

fn is_detached(attributes: *const libc::pthread_attr_t) -> bool {
    let mut state = 0;
    // SAFETY: reads the program's attribute object.
    !attributes.is_null()
        && unsafe { pthread_attr_getdetachstate(attributes, &mut state) } == 0
        && state == libc::PTHREAD_CREATE_DETACHED
}

extern "C" fn trampoline(argument: *mut c_void) -> *mut c_void {
    let id = argument as usize as ThreadId;
    let (call, tls) = (world::call_as(id), tls::current());
    let signal_stack = apart::signal_stack(id);
    tls.set_signal_stack(signal_stack.ss_sp as usize, signal_stack.ss_size);
    call.start_carried();
    let ([start, argument], tid) = call.with(|k| (k.threads.get(id).start, k.threads.get(id).tid));
    tls.adopt(id.into(), tid);
    // SAFETY: the routine that the program gave to pthread_create.
    let start: Start = unsafe { core::mem::transmute(start as usize) };
    start(argument as *mut c_void)
}

/// The last act of a thread: the trapped `exit` system call.
pub fn exit(status: usize) -> ! {
    let tls = tls::current();
    let id = tls.id() as ThreadId;
    altstack::give_back(tls);
    tls.abandon();
    // SAFETY: the word that the kernel would clear. Whoever finds the stack free by it runs after this thread.
    unsafe { *(cleared_at_exit(id) as *mut i32) = 0 };
    world::call_as(id).thread_exit();
    loop {
        // The process's last one.
        // SAFETY: ends the process.
        unsafe { raw!(libc::SYS_exit, status) };
    }
}

/// The word of thread `id` that the kernel would clear when the thread has ended.
fn cleared_at_exit(id: ThreadId) -> usize {
    match carrier::cleared_at_exit(id) {
        0 => {
            let mut word = 0usize;
            // SAFETY: the kernel stores an address into our variable.
            match unsafe { raw!(libc::SYS_prctl, libc::PR_GET_TID_ADDRESS, &raw mut word) } {
                0 => word,
                // A kernel without it: libc gives all its threads this one.
                // SAFETY: reads the thread's own handle.
                _ => unsafe { libc::pthread_self() as usize + TID_OFFSET },
            }
        }
        word => word,
    }
}

/// A forked child has no other threads than `id`.
pub fn forget_others(id: ThreadId) {
    carrier::first(id);
    crate::timers::forget();
}

/// A C11 thread's start routine.
pub type Start11 = extern "C" fn(*mut c_void) -> c_int;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_thread_lies_where_it_is_looked_for_and_an_unknown_libc_is_named() {
        // SAFETY: no arguments.
        let (handle, own) = unsafe { (libc::pthread_self(), libc::gettid()) };
        assert!(misplaced_tid(handle, own, c"2.36").is_none(), "this machine's glibc is not known");
        let line = misplaced_tid(handle, own + 1, c"2.99").expect("another id is found");
        let text = core::str::from_utf8(line.bytes()).expect("plain text");
        assert!(text.starts_with("brolga: glibc 2.99 is not known") && text.ends_with("version\n"), "{text}");
    }
}
