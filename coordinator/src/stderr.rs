//! Lines on standard error, for what goes on whether anybody takes them or not.

use std::io::Write;

/// Says something in the name of the program. A full disk or a reader that is gone is no reason to end: `eprintln!` would panic.
pub(crate) fn say(message: &str) {
    line(&format!("brolga: {message}"));
}

/// A line as it is.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
