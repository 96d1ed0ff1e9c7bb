//! Threads: the real ones are libc's, dmt decides when each runs.
//!
//! A new thread runs a few instructions of libc's own beside its creator and then waits for its first turn. A thread that ends gives the turn
//! away in its very last system call, after all destructors ran; the short life of its kernel thread after that is waited for where a
//! result could depend on it: libc gives the stack of a dead thread to the next one.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};

use dmt::thread::ThreadId;

use crate::altstack;
use crate::calls::refuse::{self, Other};
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

/// Kernel threads of this process that ended in dmt's eyes and may still exist.
const MAX_LEAVING: usize = dmt::bounds::MAX_THREADS;
struct Leaving(UnsafeCell<([i32; MAX_LEAVING], usize)>);
// SAFETY: only the turn holder touches it; a forked child forgets it.
unsafe impl Sync for Leaving {}
static LEAVING: Leaving = Leaving(UnsafeCell::new(([0; MAX_LEAVING], 0)));

/// Kernel id of the thread behind a handle.
pub fn tid_of(handle: libc::pthread_t) -> i32 {
    // SAFETY: the handle is the address of libc's descriptor of a thread that exists.
    unsafe { *((handle as usize + TID_OFFSET) as *const i32) }
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
    await_leaving();
    // SAFETY: the caller's own arguments; the trampoline finds the program's routine by the number.
    let result = unsafe { real(out, attributes, trampoline, id as usize as *mut c_void) };
    world::dmt(|call| match result {
        // SAFETY: libc stored the handle.
        0 => unsafe { call.thread_created(id, *out, tid_of(*out)) },
        _ => call.thread_abandon(id),
    });
    result
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
    let call = world::call_as(id);
    crate::apart::open(id);
    call.start();
    tls::current().adopt(id.into(), crate::sigsys::gettid());
    let [start, argument] = call.with(|k| k.threads.get(id).start);
    // SAFETY: the routine that the program gave to pthread_create.
    let start: Start = unsafe { core::mem::transmute(start as usize) };
    start(argument as *mut c_void)
}

/// The last act of a thread: the trapped `exit` system call.
pub fn exit(status: usize) -> ! {
    let tls = tls::current();
    let id = tls.id() as ThreadId;
    // SAFETY: this thread holds the turn.
    unsafe {
        let (leaving, count) = &mut *LEAVING.0.get();
        if *count < MAX_LEAVING {
            leaving[*count] = tls.tid();
            *count += 1;
        }
    }
    altstack::give_back(tls);
    tls.abandon();
    world::call_as(id).thread_exit();
    loop {
        // SAFETY: ends this thread.
        unsafe { raw!(libc::SYS_exit, status) };
    }
}

/// Waits until the kernel has none of the ended threads any more. Bounded: they are inside their last system call.
pub fn await_leaving() {
    // SAFETY: this thread holds the turn.
    let (leaving, count) = unsafe { &mut *LEAVING.0.get() };
    // SAFETY: signal 0 only asks; yielding has no arguments.
    unsafe {
        let pid = raw!(libc::SYS_getpid);
        for &tid in &leaving[..*count] {
            while raw!(libc::SYS_tgkill, pid, tid, 0) == 0 {
                raw!(libc::SYS_sched_yield);
            }
        }
    }
    *count = 0;
}

/// Waits until the kernel thread behind `handle` is gone, so that libc's join finds it so and does not wait.
pub fn await_end(handle: libc::pthread_t) {
    let word = (handle as usize + TID_OFFSET) as *const i32;
    loop {
        // SAFETY: the descriptor lives until it is joined; the kernel clears the word and wakes its futex.
        unsafe {
            let tid = word.read_volatile();
            if tid <= 0 {
                return;
            }
            raw!(libc::SYS_futex, word, libc::FUTEX_WAIT, tid, 0);
        }
    }
}

/// A forked child has no other threads.
pub fn forget_others() {
    // SAFETY: the child's only thread.
    unsafe { (*LEAVING.0.get()).1 = 0 };
    crate::timers::forget();
}

/// A C11 thread's start routine.
pub type Start11 = extern "C" fn(*mut c_void) -> c_int;
