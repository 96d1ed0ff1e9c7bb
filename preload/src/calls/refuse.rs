//! Calls that brolga does not let through: each gives one line in the replica's log.

use crate::pending::Pending;
use core::fmt::Write;

use crate::fatal::Line;
use crate::syscalls;
use crate::world::dmt;

/// Severity of a log upcall.
const WARNING: u64 = 1;

/// Fails with `errno` and says so in the log.
pub fn refuse(name: &str, number: usize, errno: i32, caller: usize) -> isize {
    let mut line = Line::new();
    let _ = write!(line, "system call {name} ({number}) refused with errno {errno}, called from {caller:#x}");
    log(&line);
    -(errno as isize)
}

/// A call of a class that should have a handler and has none.
pub fn not_done(number: usize) -> isize {
    let name = syscalls::class(number).map_or("unclassified", |(name, _)| name);
    refuse(name, number, libc::ENOSYS, 0)
}

/// One line for the replica's log.
pub fn log(line: &Line) {
    dmt(|call| call.log(WARNING, line.bytes()));
}
