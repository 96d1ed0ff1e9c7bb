//! `dlsym(RTLD_NEXT, ...)` from a library behind ours would find libc's function and so pass our hooks by. jemalloc does
//! that to get `pthread_create`, and its background thread would run beside dmt's schedule.
//!
//! The replacement jumps to the real `dlsym`, so that the caller's return address, by which `RTLD_NEXT` is resolved,
//! stays. Names of [`GUARDED`] functions get our hook instead. It works before the constructor.

use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::hooks::thread::pthread_create;

/// Functions that nobody may get past our hooks.
const GUARDED: [&CStr; 1] = [c"pthread_create"];

static REAL: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// Stands in for libc's `dlsym`.
///
/// # Safety
/// As the function that it replaces.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    core::arch::naked_asm!(
        "push rdi",
        "push rsi",
        "sub rsp, 8",
        "call {choose}",
        "add rsp, 8",
        "pop rsi",
        "pop rdi",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2: jmp qword ptr [rip + {real}]",
        choose = sym choose,
        real = sym REAL,
    )
}

/// Our hook, if `name` is guarded and looked for behind the caller; null = ask the real one, which is known then.
extern "C" fn choose(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    real();
    if handle != libc::RTLD_NEXT {
        return core::ptr::null_mut();
    }
    // SAFETY: dlsym's own precondition.
    let name = unsafe { CStr::from_ptr(name) };
    if GUARDED.contains(&name) { pthread_create as *mut c_void } else { core::ptr::null_mut() }
}

/// libc's `dlsym`.
fn real() -> *mut c_void {
    let known = REAL.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: both are C strings; this version exists in every glibc for x86-64.
    let found = unsafe { libc::dlvsym(libc::RTLD_NEXT, c"dlsym".as_ptr(), c"GLIBC_2.2.5".as_ptr()) };
    if found.is_null() {
        crate::fatal::die("libc has no function", b"dlsym");
    }
    REAL.store(found, Ordering::Relaxed);
    found
}

/// The symbol `name` behind this library.
pub fn behind_us(name: &CStr) -> *mut c_void {
    // SAFETY: the real dlsym has this signature, and is called from this library.
    unsafe {
        let real_dlsym: extern "C" fn(*mut c_void, *const c_char) -> *mut c_void =
            core::mem::transmute(real());
        real_dlsym(libc::RTLD_NEXT, name.as_ptr())
    }
}
