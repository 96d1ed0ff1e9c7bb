//! Deaths that the server's own library could not announce: a stack that overflowed, a fault that the program left to the
//! kernel, `kill -9` from outside.
//!
//! A process of the server normally tells dmt that it ends, and then ends. One that the kernel killed while it had the turn
//! would keep it for ever. The watchdog notices, and a thread of init does the exit in its place: the next operation of the
//! thread that died is the end of its process. A fault is at the same instruction on all replicas, so this operation has
//! the same place in the schedule everywhere.
//!
//! A `kill -9` is none of the server's own doing, which dmt would know of, so it has met this replica alone: it is a
//! divergence. Processes that were killed while they waited are found by [`super::killed`].
#![expect(clippy::disallowed_methods, reason = "dmt asks its platform for the real time")]

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use dmt::arena::Arena;
use dmt::call::Call;
use dmt::platform::Platform;
use dmt::process::PendingSignal;

use super::spawn::KICK_SOURCE_FD;
use super::watchdog::Sample;
use super::{ArenaMapping, SERVER_PID};
use crate::stderr::say;

/// Field of `/proc/PID/stat` that holds the wait status, counted from the one behind the name.
const EXIT_CODE_FIELD: usize = 49;

/// The part of a wait status that names the signal.
const TERMINATING_SIGNAL: i32 = 0x7f;
/// Signals by which the kernel ends a process for its own doing. Sent from outside, they end it as SIGKILL does (preload sees to
/// that).
const FAULTS: [i32; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// The watchdog's end: whom it reports.
pub(super) struct Deaths {
    reports: SyncSender<Sample>,
}

impl Deaths {
    /// Starts the thread that announces. It must run before the server does: a thread takes a process id.
    pub fn start(arena: ArenaMapping) -> std::io::Result<Self> {
        let (reports, received) = sync_channel(1);
        let run = move || announce(&arena, &received);
        std::thread::Builder::new().name("brolga-deaths".to_owned()).stack_size(256 * 1024).spawn(run)?;
        Ok(Self { reports })
    }

    /// Looks whether a turn holder that stands still is dead.
    pub fn look(&self, holder: &Sample) {
        // The first process is init's own child: its end ends the server.
        if holder.pid != 0 && holder.pid != SERVER_PID && is_dead(holder.pid) {
            // One at a time; while one is announced the turn holder is another one, or none.
            let _ = self.reports.try_send(*holder);
        }
    }
}

/// True if the process is gone or waits to be reaped.
fn is_dead(pid: i32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => is_over(&stat),
        Err(error) => matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)),
    }
}

/// The fields behind the name, which may hold anything.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace()
}

fn is_over(stat: &str) -> bool {
    matches!(fields(stat).next(), Some("Z" | "X") | None)
}

fn wait_status(stat: &str) -> Option<i32> {
    fields(stat).nth(EXIT_CODE_FIELD)?.parse().ok()
}

/// Whether a process with this wait status was ended for a fault of its own.
pub(super) fn is_fault(status: i32) -> bool {
    FAULTS.contains(&(status & TERMINATING_SIGNAL))
}

/// One thread does it, one death after the other: whoever acts as a thread of the server must be the only one.
fn announce(mapping: &ArenaMapping, received: &Receiver<Sample>) {
    // SAFETY: the mapping is of a whole arena and lives as long as this function's thread, which is init's.
    let arena: &Arena = unsafe { &*mapping.as_ptr::<Arena>() };
    while let Ok(death) = received.recv() {
        let control = &arena.shared.control;
        let now = Sample::read(control);
        // What was seen may be over, and the thread of that number another one.
        if (now.pid, now.tick) != (death.pid, death.tick) || !is_dead(now.pid) {
            continue;
        }
        let Ok(turn) = u16::try_from(control.turn.load(Ordering::SeqCst)) else { continue };
        let stat = fs::read_to_string(format!("/proc/{}/stat", death.pid));
        let status = stat.ok().and_then(|stat| wait_status(&stat)).unwrap_or(libc::SIGKILL);
        say(&format!("process {} of the server died by itself, wait status {status}", death.pid));
        // It may have died in the middle of a long call.
        control.in_kernel.store(0, Ordering::SeqCst);
        let call = Call::new(arena, &InitPlatform, turn);
        if is_fault(status) {
            call.process_exit(status);
        } else {
            call.fail(&format!("process {} of the server was killed from outside", death.pid));
        }
    }
}

/// dmt's platform in init: nothing of the dead process's own can be reached, nor need be.
struct InitPlatform;

impl Platform for InitPlatform {
    fn wait(&self, word: &AtomicU32, expected: u32, timeout_ns: Option<u64>) {
        let timeout = timeout_ns.map(|ns| libc::timespec {
            tv_sec: (ns / 1_000_000_000).cast_signed(),
            tv_nsec: (ns % 1_000_000_000).cast_signed(),
        });
        let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the word is in the arena; the timeout lives until the call returns.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, timeout) };
    }

    fn wake(&self, word: &AtomicU32) {
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }

    fn real_time(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |since| since.as_nanos() as u64)
    }

    fn deliver(&self, _signal: &PendingSignal) {
        // Nobody is there to take it.
    }

    fn carries(&self) -> bool {
        true
    }

    fn kick_coordinator(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes to an eventfd.
        unsafe { libc::write(KICK_SOURCE_FD, (&raw const one).cast(), 8) };
    }
}

#[cfg(test)]
mod tests {
    use super::{is_over, wait_status};

    #[test]
    fn reads_the_state_and_the_wait_status() {
        let zombie = format!("12 (a ) b) Z 1 {} 139", "0 ".repeat(47).trim_end());
        assert!(is_over(&zombie) && is_over("") && !is_over("12 (x) S 1 2"));
        assert_eq!(wait_status(&zombie), Some(139));
        let own = std::fs::read_to_string("/proc/self/stat").expect("read /proc");
        assert_eq!(wait_status(&own), Some(0));
    }
}
