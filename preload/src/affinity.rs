//! Keeps the turn on one processor: a process that takes the turn from another one should run where that one stops.
//!
//! Left to itself the kernel wakes the next process on an idle processor, which takes ten times as long as a change of processes
//! on one processor, and the two then take turns at finding each other's memory in the wrong cache. So the giver of the turn
//! binds the taker to its own processor first. Nothing is bound for long: a process that waits for the coordinator
//! may wake anywhere, and so may every [`FREE_EVERY`]th taker of the turn, so that the kernel can still balance its load.
//! Programs see one processor and cannot bind themselves, so none of this is visible to them.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use dmt::affinity::{CpuMask, Place};

use crate::raw;
use crate::world::dmt;

/// Changes of the turn within a process after which one is not bound.
const FREE_EVERY: u32 = 64;

static TURNS: AtomicU32 = AtomicU32::new(0);

/// Notes which processors the server may use; its first thread calls it before anything is bound.
pub fn learn() {
    let mut mask = CpuMask::default();
    // SAFETY: the mask has as many bytes as the call is told.
    unsafe { raw!(libc::SYS_sched_getaffinity, 0, size_of::<CpuMask>(), &raw mut mask) };
    dmt(|call| call.with(|k| k.processors = mask));
}

/// The taker of the turn, whose id is `pid` and which may run in `place`: where it may run from now on.
pub fn bring(pid: i32, place: Place, all: &CpuMask) -> Place {
    if TURNS.fetch_add(1, Ordering::Relaxed).is_multiple_of(FREE_EVERY) {
        return free(pid, place, all);
    }
    settle(pid, place, current_processor(), all)
}

/// Lets a process run on one processor only, if it may run there at all.
pub fn settle(pid: i32, place: Place, processor: u32, all: &CpuMask) -> Place {
    if place == Place::bound(processor) || !all.has(processor) {
        return place;
    }
    bind(pid, &CpuMask::only(processor));
    Place::bound(processor)
}

/// Lets a process run anywhere.
pub fn free(pid: i32, place: Place, all: &CpuMask) -> Place {
    if place != Place::FREE && !all.is_empty() {
        bind(pid, all);
    }
    Place::FREE
}

/// Makes what dmt knows of the calling process true again: that it may run anywhere.
pub fn reset() {
    let tls = crate::tls::current();
    if !tls.managed() {
        return;
    }
    let id = tls.id() as dmt::thread::ThreadId;
    crate::world::call_as(id).with(|k| {
        let process = k.process_of(id);
        k.processes.get_mut(process).place = Place::FREE;
        if !k.processors.is_empty() {
            bind(0, &k.processors);
        }
    });
}

/// A failure (the other process belongs to another user) costs time, nothing else.
fn bind(pid: i32, mask: &CpuMask) {
    // SAFETY: reads the mask.
    unsafe { raw!(libc::SYS_sched_setaffinity, pid, size_of::<CpuMask>(), core::ptr::from_ref(mask)) };
}

/// As the vDSO finds it: the kernel keeps the processor's number in the limit of this segment. (`rdtscp` would trap.)
fn current_processor() -> u32 {
    const SEGMENT: u32 = 0x7b;
    const PROCESSOR_BITS: u32 = 0xfff;
    let limit: u32;
    // SAFETY: reads a segment's limit.
    unsafe { asm!("lsl {0:e}, {1:e}", out(reg) limit, in(reg) SEGMENT, options(nomem, nostack)) };
    limit & PROCESSOR_BITS
}
