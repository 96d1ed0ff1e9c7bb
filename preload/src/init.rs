//! The constructor: makes a process of the replica's server out of a plain one.
//!
//! Runs before every other constructor (`-z initfirst`). Without `BROLGA_ARENA` it does nothing, and every hook then calls what
//! it replaces. In a program that was started by `exec` from a managed one the filter is in force already, so the gate
//! page comes first, and everything else goes through it.

use core::ffi::{CStr, c_char, c_int};

use dmt::arena::ARENA_BYTES;
use dmt::bounds::ARENA_ADDRESS;

use crate::calls::disk::{changed, freed};
use crate::fatal;
use crate::maps::{self, Variables};
use crate::raw;
use crate::signals::{self, NEVER_BLOCKED};
use crate::{
    apart, carrier, faults, filter, gate, mailbox, own, process, sigsys, threads, tsc, vdso, watches,
};

#[cfg(not(test))]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = construct;

extern "C" fn construct(_count: c_int, _arguments: *const *const c_char, variables: *const *const c_char) {
    // SAFETY: the array that the kernel made; nobody has run who could change it.
    let variables = unsafe { Variables::new(variables) };
    let Some(arena) = variables.get(c"BROLGA_ARENA") else { return };
    set_panic_hook();
    must("map the gate page", gate::open());
    check_libc();
    must("reserve addresses for stacks", apart::reserve());
    carrier::learn();
    must("map the arena named by BROLGA_ARENA", map_arena(arena));
    own::set_kick_fd(variables.get(c"BROLGA_KICK_FD").and_then(maps::decimal).unwrap_or(-1));
    if variables.get(c"BROLGA_SYNC").is_some() {
        crate::calls::sync::make_real();
    }
    crate::exec::save(variables);
    let pid = gate_getpid();
    let Some(role) = process::role(pid) else { return };
    must("install the SIGSYS handler", sigsys::install());
    must("install the preemption handler", signals::install_preempt());
    must("install the SIGSEGV handler", tsc::install());
    must("install the handlers of other faults", faults::install());
    unblock_own_signals();
    crate::traced::stack::prepare();
    must("patch the vDSO", vdso::patch());
    tsc::trap();
    if role == process::Role::First {
        must("make the box for passed files", mailbox::open());
        must("make the way of deleted files", freed::open());
        must("make an inotify instance (is fs.inotify.max_user_instances exhausted?)", watches::open());
        must("install the seccomp filter", filter::install(maps::loader_text(), crate::traced::is_on()));
        must("give up capabilities", crate::privileges::drop_unneeded());
    }
    process::begin(role, pid);
    watches::after_exec();
    changed::started();
    overwrite_random_bytes();
    apart::clear_below();
}

fn gate_getpid() -> i32 {
    // SAFETY: no arguments.
    unsafe { raw!(libc::SYS_getpid) as i32 }
}

/// Some of what is known of libc is not in any header; it is looked at before anything relies on it.
fn check_libc() {
    // SAFETY: no arguments; libc's text is a constant.
    let (handle, own, version) = unsafe {
        let version = CStr::from_ptr(libc::gnu_get_libc_version());
        (libc::pthread_self(), raw!(libc::SYS_gettid) as i32, version)
    };
    if let Some(line) = threads::misplaced_tid(handle, own, version) {
        fatal::die_with(&line);
    }
}

fn must(what: &str, outcome: Result<(), isize>) {
    use core::fmt::Write;
    let Err(error) = outcome else { return };
    let mut line = fatal::Line::new();
    let _ = writeln!(line, "brolga: cannot {what} (error {})", -error);
    fatal::die_with(&line);
}

fn map_arena(path: &CStr) -> Result<(), isize> {
    let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: maps a file at an address that is kept free for it; NOREPLACE refuses if anything is there.
    unsafe {
        let fd = raw!(libc::SYS_open, path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC, 0);
        if fd < 0 {
            return Err(fd);
        }
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let at = raw!(libc::SYS_mmap, ARENA_ADDRESS, ARENA_BYTES, rights, flags, fd, 0);
        raw!(libc::SYS_close, fd);
        if at == ARENA_ADDRESS as isize { Ok(()) } else { Err(at) }
    }
}

fn unblock_own_signals() {
    let set = NEVER_BLOCKED;
    // SAFETY: the mask lives until the call returns.
    unsafe { raw!(libc::SYS_rt_sigprocmask, libc::SIG_UNBLOCK, &raw const set, 0, signals::SET_BYTES) };
}

/// The 16 random bytes that the kernel gave to the process, from the virtual stream instead; and what `ld.so` has made
/// of them: the canary that functions leave on their stacks, and the key of stored code addresses (`jmp_buf`, `atexit`).
/// New threads copy both.
fn overwrite_random_bytes() {
    let Some(at) = maps::auxiliary(libc::AT_RANDOM) else { return };
    // SAFETY: the auxiliary vector points to 16 bytes on the stack.
    let bytes = unsafe { core::slice::from_raw_parts_mut(at as *mut u8, 16) };
    crate::calls::random::fill(bytes);
    let word = |from| u64::from_le_bytes(core::array::from_fn(|i| bytes[from + i]));
    // libc's canaries start with a zero byte, which no string runs over.
    let (canary, key) = (word(0) & !0xff, word(8));
    let here = 0usize;
    // SAFETY: the words of libc's thread descriptor that the ABI names. No other thread exists, and no pointer has been
    // stored with the old key. Frames that are open above this one look for the canary: they find the new one.
    unsafe {
        let old: u64;
        core::arch::asm!("mov {0}, qword ptr fs:[0x28]", out(reg) old, options(nostack));
        let mut slot = &raw const here as usize & !7;
        while slot < at & !7 {
            let place = slot as *mut u64;
            if place.read_volatile() == old {
                place.write_volatile(canary);
            }
            slot += 8;
        }
        core::arch::asm!(
            "mov qword ptr fs:[0x28], {0}",
            "mov qword ptr fs:[0x30], {1}",
            in(reg) canary,
            in(reg) key,
            options(nostack)
        );
    }
}

#[expect(clippy::disallowed_types, reason = "std asks for it; a box of a function takes no memory")]
fn set_panic_hook() {
    std::panic::set_hook(std::boxed::Box::new(on_panic));
}

/// A panic inside the library: says where, and ends the process. No allocation, no lock of the program's.
fn on_panic(info: &std::panic::PanicHookInfo<'_>) {
    use core::fmt::Write;
    let mut line = fatal::Line::new();
    let _ = write!(line, "brolga: internal error");
    if let Some(at) = info.location() {
        let _ = write!(line, " at {}:{}", at.file(), at.line());
    }
    #[expect(clippy::disallowed_types, reason = "std made it, and it is only read")]
    type Formatted = std::string::String;
    let text = info.payload().downcast_ref::<&str>().copied();
    let text = text.or_else(|| info.payload().downcast_ref::<Formatted>().map(|s| s.as_str()));
    let _ = writeln!(line, ": {}", text.unwrap_or("panic"));
    fatal::die_with(&line);
}
