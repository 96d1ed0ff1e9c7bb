//! Clients of databases that are written in Python.

use std::process::{Command, Stdio};

/// A Python that has the module: the first one of the path, else the system's own, for which packages install theirs.
pub fn with(module: &str) -> Command {
    let has = |python: &&str| {
        let import = ["-c".to_owned(), format!("import {module}")];
        let status = Command::new(python).args(import).stdin(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has);
    Command::new(found.unwrap_or_else(|| panic!("no python3 has the module {module}: run scripts/setup")))
}
