//! `brolga doctor`: each thing that Brolga needs of this machine, tried, with what to do if it is missing.

mod checks;

use std::path::Path;

/// The outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there; how it was seen.
    Pass(String),
    /// It works without, but something is lost.
    Warning {
        /// What is lost.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// Brolga cannot run.
    Fail {
        /// What is missing.
        what: String,
        /// What to do.
        remedy: String,
    },
}

impl Outcome {
    fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Warning { what: what.into(), remedy: remedy.into() }
    }

    fn fail(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Fail { what: what.into(), remedy: remedy.into() }
    }
}

/// Prints all checks; returns the exit code.
pub fn run(state: &Path) -> i32 {
    let mut failed = 0;
    for (name, outcome) in checks::all(state) {
        let (mark, text, remedy) = match outcome {
            Outcome::Pass(text) => ("pass", text, None),
            Outcome::Warning { what, remedy } => ("warn", what, Some(remedy)),
            Outcome::Fail { what, remedy } => {
                failed += 1;
                ("FAIL", what, Some(remedy))
            }
        };
        println!("{mark}  {name:<22} {text}");
        if let Some(remedy) = remedy {
            println!("      {:<22} -> {remedy}", "");
        }
    }
    match failed {
        0 => println!("this machine can run Brolga"),
        1 => println!("1 check failed"),
        _ => println!("{failed} checks failed"),
    }
    i32::from(failed > 0)
}
