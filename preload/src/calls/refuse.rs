//! Calls that brolga does not let through: each gives one line in the replica's log.

use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use dmt::upcall::UpcallKind;

use crate::fatal::Line;
use crate::syscalls::LIMIT;
use crate::world::dmt;

/// Severity of a log upcall.
const WARNING: u64 = 1;

/// One bit for each number that this process has logged: a program that tries again and again is named once.
static SAID: [AtomicU64; LIMIT.div_ceil(64)] = [const { AtomicU64::new(0) }; LIMIT.div_ceil(64)];

/// Fails with `errno` and says so in the log.
pub fn refuse(name: &str, number: usize, errno: i32, caller: usize) -> isize {
    if first_time(number) {
        let mut line = Line::new();
        let _ =
            write!(line, "system call {name} ({number}) refused with errno {errno}, called from {caller:#x}");
        log(&line);
    }
    -(errno as isize)
}

fn first_time(number: usize) -> bool {
    let number = number.min(LIMIT - 1);
    let bit = 1 << (number % 64);
    SAID[number / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0
}

/// One line for the replica's log.
pub fn log(line: &Line) {
    dmt(|call| {
        call.room();
        call.with(|k| k.upcall(call.shared(), UpcallKind::Log, [WARNING, 0, 0, 0], 0, &[line.bytes()]));
        call.kick();
    });
}
