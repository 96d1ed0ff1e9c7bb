//! The way into dmt: the arena at its fixed address, the calling thread's [`Call`], and what dmt needs of the kernel.

use core::ffi::c_void;
use core::sync::atomic::AtomicU32;

use dmt::affinity::{CpuMask, Place};
use dmt::arena::Arena;
use dmt::bounds::ARENA_ADDRESS;
use dmt::call::Call;
use dmt::platform::Platform;
use dmt::process::PendingSignal;
use dmt::thread::ThreadId;

use crate::affinity;
use crate::carrier;
use crate::own;
use crate::raw;
use crate::tls::{self, Passthrough};

/// The arena. Only after the constructor mapped it, which a managed thread implies.
pub fn arena() -> &'static Arena {
    // SAFETY: mapped by the constructor for the life of the process; all-zero bytes are a valid arena.
    unsafe { &*(ARENA_ADDRESS as *const Arena) }
}

/// Runs `f` inside dmt as the calling thread, which must be managed and hold the turn.
#[inline]
pub fn dmt<T>(f: impl FnOnce(Call<'static>) -> T) -> T {
    let _inside = Passthrough::enter();
    f(call_as(tls::current().id() as ThreadId))
}

/// Runs `f`, which makes no operation, where it leaves nothing on the program's stack.
#[inline]
pub fn apart<T>(f: impl FnOnce() -> T) -> T {
    let tls = tls::current();
    match tls.managed() {
        true => call_as(tls.id() as ThreadId).apart(f),
        false => f(),
    }
}

/// Access to dmt for thread `id`.
#[inline]
pub fn call_as(id: ThreadId) -> Call<'static> {
    Call::new(arena(), &World, id)
}

/// dmt's platform: system calls through the gate.
pub struct World;

/// `FUTEX_WAKE` wakes this many.
const ALL: i32 = i32::MAX;

impl Platform for World {
    fn wait(&self, word: &AtomicU32, expected: u32, timeout_ns: Option<u64>) {
        let timeout = timeout_ns.map(timespec);
        let timeout = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: the word is in the arena; the timeout lives until the call returns.
        unsafe { raw!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, timeout) };
    }

    fn wake(&self, word: &AtomicU32) {
        // SAFETY: as above.
        unsafe { raw!(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, ALL) };
    }

    fn real_time(&self) -> u64 {
        crate::clock::real_nanoseconds()
    }

    fn deliver(&self, signal: &PendingSignal) {
        crate::signals::deliver(signal);
    }

    fn took_turn(&self) {
        crate::restored::put_right();
    }

    fn resumed(&self) {
        crate::restored::put_right();
    }

    fn arm_spin_point(&self, branch: u64) {
        crate::spin::points::arm(branch);
    }

    unsafe fn apart(&self, me: ThreadId, function: unsafe extern "C" fn(*mut c_void), data: *mut c_void) {
        // SAFETY: forwarded promise.
        unsafe { crate::apart::run(me, function, data) };
    }

    fn carries(&self) -> bool {
        true
    }

    fn change(&self, me: ThreadId, next: ThreadId) {
        carrier::change(me, next);
    }

    fn go_on(&self, next: ThreadId) -> ! {
        carrier::go_on(next)
    }

    fn bring(&self, pid: i32, place: Place, processors: &CpuMask) -> Place {
        affinity::bring(pid, place, processors)
    }

    fn let_go(&self, pid: i32, place: Place, near: Option<u32>, processors: &CpuMask) -> Place {
        match near {
            Some(processor) => affinity::settle(pid, place, processor, processors),
            None => affinity::free(pid, place, processors),
        }
    }

    fn cpu_time(&self) -> u64 {
        crate::clock::cpu_nanoseconds()
    }

    fn give_way(&self) {
        // SAFETY: no pointers.
        unsafe { raw!(libc::SYS_sched_yield) };
    }

    fn kick_coordinator(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes to an eventfd; a closed or absent one gives an error that does not matter.
        unsafe { raw!(libc::SYS_write, own::kick_fd(), &raw const one, 8) };
    }
}

/// Nanoseconds as the kernel's structure.
pub fn timespec(ns: u64) -> libc::timespec {
    libc::timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}
