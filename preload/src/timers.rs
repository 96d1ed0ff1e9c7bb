//! Timers that tell by a new thread (`SIGEV_THREAD`), as libc does it: one helper thread for each process, to which all
//! such timers send libc's inner timer signal, and which starts a thread for each that it takes.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};

use dmt::bounds::MAX_PROCESS_TIMERS;

use crate::args;
use crate::calls::signal::rt_sigprocmask;
use crate::calls::timer::{self, Event};
use crate::hooks::thread::pthread_create;
use crate::signals::{LIBC_INTERNAL, SET_BYTES, bit};
use crate::threads;
use crate::world::dmt;

/// libc's own signal for timers.
const TIMER_SIGNAL: c_int = 32;
/// Threads that may have been started for timers and not yet have run.
const MAX_STARTS: usize = 64;
/// Stack of the helper, bytes: its deepest moment is `pthread_create` with a signal handler of ours on top.
const HELPER_STACK_BYTES: usize = 256 * 1024;

/// What a timer's thread runs.
#[derive(Clone, Copy)]
struct Job {
    function: usize,
    value: u64,
}

struct State {
    /// Kernel id of the helper, 0 if there is none.
    helper: c_int,
    jobs: [Job; MAX_PROCESS_TIMERS],
    attributes: [Option<Attributes>; MAX_PROCESS_TIMERS],
    starts: [Option<Job>; MAX_STARTS],
}

/// What of a thread's attributes matters here; the program may destroy its own as soon as the timer is made.
#[derive(Clone, Copy)]
struct Attributes {
    stack: usize,
    guard: usize,
}

struct Holder(UnsafeCell<State>);
// SAFETY: only the turn holder of this process touches it; a forked child has its own copy.
unsafe impl Sync for Holder {}
static STATE: Holder = Holder(UnsafeCell::new(State {
    helper: 0,
    jobs: [Job { function: 0, value: 0 }; MAX_PROCESS_TIMERS],
    attributes: [None; MAX_PROCESS_TIMERS],
    starts: [None; MAX_STARTS],
}));

fn state() -> *mut State {
    STATE.0.get()
}

unsafe extern "C" {
    fn pthread_attr_getstacksize(attributes: *const libc::pthread_attr_t, bytes: *mut usize) -> c_int;
    fn pthread_attr_getguardsize(attributes: *const libc::pthread_attr_t, bytes: *mut usize) -> c_int;
}

/// `timer_create` with `SIGEV_THREAD`: the timer's number or a negative errno.
///
/// # Safety
/// The event's function and attributes are the program's.
pub unsafe fn create(clock: c_int, event: Event) -> isize {
    // SAFETY: this thread holds the turn; the program's attributes.
    unsafe {
        if (*state()).helper == 0 {
            let error = start_helper();
            if error != 0 {
                return -(error as isize);
            }
        }
        let wanted = (!event.attributes.is_null()).then(|| {
            let mut read = Attributes { stack: 0, guard: 0 };
            pthread_attr_getstacksize(event.attributes, &mut read.stack);
            pthread_attr_getguardsize(event.attributes, &mut read.guard);
            read
        });
        let told = Event {
            signal: TIMER_SIGNAL,
            notify: libc::SIGEV_THREAD_ID,
            function: (*state()).helper as usize,
            ..event
        };
        let made = timer::make(clock, Some(told));
        if let Ok(number) = usize::try_from(made) {
            (*state()).jobs[number] = Job { function: event.function, value: event.value };
            (*state()).attributes[number] = wanted;
        }
        made
    }
}

/// A forked child has neither helper nor timers.
pub fn forget() {
    // SAFETY: the child's only thread.
    unsafe { (*state()).helper = 0 };
}

/// Sets the mask of the calling thread; returns the one before.
fn set_mask(mask: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: our own variables.
    unsafe { rt_sigprocmask(args!(libc::SIG_SETMASK, &raw const mask, &raw mut old, SET_BYTES)) };
    old
}

/// Starts the helper; 0 or an errno. It must block all signals from its first instruction on.
fn start_helper() -> c_int {
    let old = set_mask(!0);
    let wanted = Attributes { stack: HELPER_STACK_BYTES, guard: 4096 };
    let (error, handle) = start(Some(wanted), helper, core::ptr::null_mut());
    set_mask(old);
    if error == 0 {
        // SAFETY: this thread holds the turn; the thread was made a moment ago and has not run.
        unsafe { (*state()).helper = threads::tid_of(handle) };
    }
    error
}

/// Starts a detached thread.
fn start(
    wanted: Option<Attributes>,
    routine: threads::Start,
    argument: *mut c_void,
) -> (c_int, libc::pthread_t) {
    let mut handle = 0;
    // SAFETY: our own structures; the routine is one of ours.
    unsafe {
        let mut attributes: libc::pthread_attr_t = core::mem::zeroed();
        libc::pthread_attr_init(&mut attributes);
        libc::pthread_attr_setdetachstate(&mut attributes, libc::PTHREAD_CREATE_DETACHED);
        if let Some(Attributes { stack, guard }) = wanted {
            libc::pthread_attr_setstacksize(&mut attributes, stack);
            libc::pthread_attr_setguardsize(&mut attributes, guard);
        }
        let error = threads::create(pthread_create::real(), &mut handle, &attributes, routine, argument);
        libc::pthread_attr_destroy(&mut attributes);
        (error, handle)
    }
}

extern "C" fn helper(_argument: *mut c_void) -> *mut c_void {
    loop {
        let mut found = dmt::process::PendingSignal::NONE;
        let taken = dmt(|call| call.signal_wait(bit(TIMER_SIGNAL), None, &mut found));
        let number = found.pid as usize;
        if taken == i64::from(TIMER_SIGNAL) && found.code == libc::SI_TIMER && number < MAX_PROCESS_TIMERS {
            tell(number);
        }
    }
}

/// Starts the thread of timer `number`; one that cannot be made is left out, as libc leaves it out.
fn tell(number: usize) {
    // SAFETY: this thread holds the turn, except in the operations of other functions, over which no reference lives.
    unsafe {
        let (job, wanted) = ((*state()).jobs[number], (*state()).attributes[number]);
        let free = loop {
            let starts = &(*state()).starts;
            match starts.iter().position(Option::is_none) {
                Some(free) => break free,
                None => dmt(|call| call.yield_turn()),
            }
        };
        (*state()).starts[free] = Some(job);
        let (error, _) = start(wanted, run, free as *mut c_void);
        if error != 0 {
            (*state()).starts[free] = None;
        }
    }
}

extern "C" fn run(argument: *mut c_void) -> *mut c_void {
    // SAFETY: this thread holds the turn; the slot was filled for it.
    let job = unsafe { (*state()).starts[argument as usize].take() };
    // As libc leaves it: the program's signals are for its own threads.
    set_mask(!LIBC_INTERNAL.map(bit).iter().sum::<u64>());
    if let Some(Job { function, value }) = job {
        // SAFETY: the function that the program gave to timer_create; `union sigval` travels as one word.
        let function: extern "C" fn(u64) = unsafe { core::mem::transmute(function) };
        function(value);
    }
    core::ptr::null_mut()
}
