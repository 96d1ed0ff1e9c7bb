//! The tables of hooks and system calls as text, for the test that holds them against golden lists and for the
//! generated page. Reached through one exported symbol, because the library is no crate that others could link.

use core::ffi::c_void;
use core::fmt::{self, Write};

use crate::hook;
use crate::syscalls::{Class, TABLE};

/// Receives a piece of text.
pub type Sink = extern "C" fn(context: *mut c_void, text: *const u8, len: usize);

struct Out(Sink, *mut c_void);

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        (self.0)(self.1, text.as_ptr(), text.len());
        Ok(())
    }
}

/// Writes one line for each hook (`hook NAME FAMILY`) and each system call (`syscall NUMBER NAME CLASS`).
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn brolga_tables(sink: Sink, context: *mut c_void) {
    let mut out = Out(sink, context);
    for row in hook::table() {
        let family = row.module.rsplit("::").nth(1).unwrap_or("");
        let _ = writeln!(out, "hook\t{}\t{family}", row.name);
    }
    for (number, name, class) in TABLE {
        let _ = match class {
            Class::Scheduled => writeln!(out, "syscall\t{number}\t{name}\tscheduled\t"),
            Class::Emulated => writeln!(out, "syscall\t{number}\t{name}\temulated\t"),
            Class::Passed(why) => writeln!(out, "syscall\t{number}\t{name}\tpassed\t{why}"),
            Class::Refused(errno) => writeln!(out, "syscall\t{number}\t{name}\trefused\terrno {errno}"),
        };
    }
}
