//! Threads: the real ones are libc's, dmt decides when each runs.
//!
//! A new thread runs a few instructions of libc's own beside its creator and then waits for its first turn. If its attributes ask for a
//! processor or a scheduling policy, it waits for its creator there, by a lock in its descriptor: that is between the two, and the
//! kernel's ([`is_of_creation`]). A thread that ends gives the turn
//! away in its very last system call, after all destructors ran. The kernel then clears the word by which libc knows that the stack is
//! free, and libc looks at it whenever a thread begins, ends or is joined: so no other thread of the process runs before.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicUsize, Ordering};

use dmt::thread::ThreadId;

use crate::altstack;
use crate::calls::refuse::{self, Other};
use crate::calls::shortage;
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

/// The word that the kernel clears when it is done with the thread that ended last, or 0. Only the turn holder touches it.
static LEAVING: AtomicUsize = AtomicUsize::new(0);

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
    let tls = tls::current();
    let outer = tls.creating.replace(out as usize);
    // SAFETY: the caller's own arguments; the trampoline finds the program's routine by the number.
    let result = unsafe { real(out, attributes, trampoline, id as usize as *mut c_void) };
    tls.creating.set(outer);
    // SAFETY: the caller's own arguments.
    unsafe { shortage::of_threads(result, attributes) };
    world::dmt(|call| match result {
        // SAFETY: libc stored the handle.
        0 => unsafe { call.thread_created(id, *out, tid_of(*out)) },
        _ => call.thread_abandon(id),
    });
    result
}

/// Whether a system call of this thread is a futex of the thread that it is creating. That one does not have the turn yet and waits in the
/// kernel, and whether it has come so far is not the same everywhere: such a call is no operation, and goes to the kernel.
pub fn is_of_creation(number: usize, arguments: [usize; 6]) -> bool {
    let handle = tls::current().creating.get() as *const libc::pthread_t;
    if number as i64 != libc::SYS_futex || handle.is_null() {
        return false;
    }
    // SAFETY: the variable that the program gave to `pthread_create`, which has not returned. libc stores the handle before the thread
    // begins.
    arguments[0].wrapping_sub(unsafe { *handle } as usize) < DESCRIPTOR_BYTES
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
    LEAVING.store(cleared_at_exit(), Ordering::Relaxed);
    altstack::give_back(tls);
    tls.abandon();
    world::call_as(id).thread_exit();
    loop {
        // SAFETY: ends this thread.
        unsafe { raw!(libc::SYS_exit, status) };
    }
}

/// The word of the calling thread that the kernel clears when the thread has ended, 0 if there is none.
fn cleared_at_exit() -> usize {
    let mut word = 0usize;
    // SAFETY: the kernel stores an address into our variable.
    match unsafe { raw!(libc::SYS_prctl, libc::PR_GET_TID_ADDRESS, &raw mut word) } {
        0 => word,
        // A kernel without it: libc gives all its threads this one.
        // SAFETY: reads the thread's own handle.
        _ => unsafe { libc::pthread_self() as usize + TID_OFFSET },
    }
}

/// Waits until the kernel is done with the thread of this process that ended last. To be called by each thread that
/// takes the turn. Bounded: the other thread is inside its last system call.
#[inline]
pub fn await_leaving() {
    if LEAVING.load(Ordering::Relaxed) != 0 {
        await_cleared(LEAVING.swap(0, Ordering::Relaxed));
    }
}

#[cold]
fn await_cleared(word: usize) {
    let word = word as *const i32;
    loop {
        // SAFETY: a word in libc's descriptor of the thread, which nobody frees before it is cleared; the kernel wakes its
        // futex then.
        unsafe {
            let tid = word.read_volatile();
            if tid == 0 {
                return;
            }
            raw!(libc::SYS_futex, word, libc::FUTEX_WAIT, tid, 0);
        }
    }
}

/// A forked child has no other threads.
pub fn forget_others() {
    crate::timers::forget();
}

/// A C11 thread's start routine.
pub type Start11 = extern "C" fn(*mut c_void) -> c_int;
