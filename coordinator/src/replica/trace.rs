//! The last operations of a server that diverged, written to a file for people.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use dmt::arena::Arena;
use dmt::op::Op;

/// Writes the trace ring in the arena to `path`, a line an operation, oldest first.
///
/// # Safety
/// No process of the server runs any more.
pub unsafe fn dump(arena: &Arena, path: &Path) -> io::Result<()> {
    // SAFETY: promise of the caller: nobody else has the kernel now. An arena is valid from its zeroes on.
    let trace = unsafe { &(*arena.kernel()).trace };
    let mut text = String::from("tick thread operation object result digest(low 32 bits)\n");
    for operation in trace.iter() {
        let (name, object) = (Op::name(operation.op), operation.object);
        let _ = writeln!(
            text,
            "{} {} {name} {object:#x} {} {:08x}",
            operation.tick, operation.thread, operation.result, operation.digest
        );
    }
    // Whoever sees the file finds all of it.
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(unfinished, path)
}
