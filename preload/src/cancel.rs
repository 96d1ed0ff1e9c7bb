//! Cancellation points: functions of libc at which `pthread_cancel` takes effect.
//!
//! A thread that is to end there calls libc's `pthread_exit` in the place of the function that it called: the exported
//! function is a stub that goes there once no Rust frame of ours is left, so that the unwinder, which looks for cleanup
//! handlers, meets only the program's. A system call that the filter caught is made to look as if it had called `pthread_exit`, too.

use core::arch::naked_asm;
use core::ffi::c_int;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::hooks::cancel::pthread_exit;
use crate::tls;
use crate::world::dmt;

/// Address of libc's `pthread_exit`; set before any thread can be asked to end.
static EXIT: AtomicUsize = AtomicUsize::new(0);

/// A thread will be asked to end: looks up what is needed for it, while nothing is in the middle of anything.
pub fn prepare() {
    EXIT.store(pthread_exit::real() as *const () as usize, Ordering::Relaxed);
}

/// Whether the result of a function says that it failed.
pub trait Outcome: Copy {
    /// What a function returns that was not carried out.
    const FAILED: Self;
    /// For functions that return -1 and set `errno`.
    fn is_minus_one(self) -> bool;
    /// For functions that return an errno, or what is left to do.
    fn is_not_zero(self) -> bool;
}

macro_rules! outcome {
    ($($type:ty)*) => {$(
        impl Outcome for $type {
            const FAILED: Self = !0;
            fn is_minus_one(self) -> bool {
                self == !0
            }
            fn is_not_zero(self) -> bool {
                self != 0
            }
        }
    )*};
}
outcome! { c_int u32 isize }

/// Carries out `function` as a cancellation point; `failed` tells whether its result is a failure.
#[inline]
fn point<R: Outcome>(failed: impl Fn(R) -> bool, function: impl FnOnce() -> R) -> R {
    let Some(before) = dmt(|call| call.enter_point()) else {
        end_here();
        return R::FAILED;
    };
    let result = function();
    if dmt(|call| call.leave_point(before, failed(result))) {
        end_here();
    }
    result
}

/// A cancellation point that returns -1 if it fails.
#[inline]
pub fn is_minus_one<R: Outcome>(function: impl FnOnce() -> R) -> R {
    point(R::is_minus_one, function)
}

/// A cancellation point that returns an errno, or what is left to do.
#[inline]
pub fn is_not_zero<R: Outcome>(function: impl FnOnce() -> R) -> R {
    point(R::is_not_zero, function)
}

/// A system call as a cancellation point.
pub fn is_negative(function: impl FnOnce() -> isize) -> isize {
    point(|result: isize| result < 0, function)
}

/// No cancellation point, but a thread that may end anywhere ends here.
pub fn is_asynchronous<R>(function: impl FnOnce() -> R) -> R {
    let result = function();
    if dmt(|call| call.cancelled_anywhere()) {
        end_here();
    }
    result
}

/// Ends the thread as soon as the current stub is left.
#[cold]
fn end_here() {
    dmt(|call| call.begin_exit());
    tls::current().cancel();
}

/// Whether system call `number` is a cancellation point also where libc itself makes it: those that can wait.
pub fn is_point(number: usize) -> bool {
    matches!(
        number as i64,
        libc::SYS_read
            | libc::SYS_readv
            | libc::SYS_write
            | libc::SYS_writev
            | libc::SYS_pause
            | libc::SYS_rt_sigsuspend
            | libc::SYS_rt_sigtimedwait
            | libc::SYS_wait4
            | libc::SYS_waitid
            | libc::SYS_poll
            | libc::SYS_ppoll
            | libc::SYS_select
            | libc::SYS_pselect6
            | libc::SYS_nanosleep
            | libc::SYS_clock_nanosleep
            | libc::SYS_msgrcv
            | libc::SYS_msgsnd
            | libc::SYS_mq_timedsend
            | libc::SYS_mq_timedreceive
    )
}

/// Where a cancelled thread goes on: `pthread_exit(PTHREAD_CANCELED)`.
///
/// # Safety
/// Never called: stubs jump here with the stack as their caller left it.
#[unsafe(naked)]
pub unsafe extern "C" fn exit() {
    naked_asm!(
        ".cfi_startproc",
        // A system call may have been made with the stack aligned to nothing.
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "and rsp, -16",
        "mov r11, qword ptr [rip + brolga_tls@gottpoff]",
        "mov dword ptr fs:[r11 + {flag}], 0",
        "mov rdi, -1",
        "call qword ptr [rip + {exit}]",
        "ud2",
        ".cfi_endproc",
        flag = const tls::CANCELLED_OFFSET,
        exit = sym EXIT,
    )
}

/// The most arguments that the stub of a cancellation point can hand on: six in registers and one on the stack.
pub const MAX_ARGUMENTS: usize = 7;

/// Whether the stub of a cancellation point hands on arguments of so many bytes each.
pub const fn hands_on(arguments: &[usize]) -> bool {
    let mut i = 0;
    while i < arguments.len() && arguments[i] <= size_of::<usize>() {
        i += 1;
    }
    i == arguments.len() && i <= MAX_ARGUMENTS
}

/// Defines hooks that are cancellation points of the kind behind the bar, a function of [`crate::cancel`]. See
/// [`hook!`](crate::hook!), too. Their arguments are numbers and pointers, [`MAX_ARGUMENTS`] of them at the most.
#[macro_export]
macro_rules! cancellation_points {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty | $kind:ident $body:block)*) => {$(
        #[doc = concat!("Stands in for libc's `", stringify!($name), "`, a cancellation point.")]
        ///
        /// # Safety
        /// As the function that it replaces.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $ret {
            unsafe extern "C" fn body($($arg: $ty),*) -> $ret {
                $crate::guard!($name, $($arg),*);
                let result = $crate::cancel::$kind(|| $body);
                $crate::call_ends!(sym $name::ROW, result);
                result
            }
            const _: () = assert!($crate::cancel::hands_on(&[$(size_of::<$ty>()),*]), "too many arguments");
            core::arch::naked_asm!(
                ".cfi_startproc",
                // Where the body looks for a seventh argument. If there is none, it is a word of the caller's that nobody reads.
                "push qword ptr [rsp + 8]",
                ".cfi_adjust_cfa_offset 8",
                "call {body}",
                "add rsp, 8",
                ".cfi_adjust_cfa_offset -8",
                "mov r11, qword ptr [rip + brolga_tls@gottpoff]",
                "cmp dword ptr fs:[r11 + {flag}], 0",
                "jne {exit}",
                "ret",
                ".cfi_endproc",
                body = sym body,
                flag = const $crate::tls::CANCELLED_OFFSET,
                exit = sym $crate::cancel::exit,
            )
        }

        $crate::replaced! { fn $name($($arg: $ty),*) -> $ret }
    )*};
}
