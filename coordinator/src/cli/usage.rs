//! What is said of a command line that cannot be read: one line, and where the right use stands.

use std::ffi::OsString;

use clap::{Command, CommandFactory, Error};

use super::Cli;

/// `error` in one line. `words` is the command line, the program's name first.
pub(super) fn line(error: &Error, words: &[OsString]) -> String {
    let text = error.to_string();
    // Behind the first empty line come tips and the usage.
    let told: Vec<_> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let told = told.join(" ");
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    let tip = text.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    let tip = tip.filter(|tip| tip.contains("similar")).map(|tip| format!(" ({tip})"));
    format!("{told}{}; see {} --help", tip.take(1).collect::<String>(), path(words))
}

/// The command that was meant, as far as it can be read.
fn path(words: &[OsString]) -> String {
    let (mut path, mut command) = ("brolga".to_owned(), Cli::command());
    for word in words.iter().skip(1) {
        let Some(inner) = command.find_subcommand(word).filter(|inner| !inner.is_hide_set()) else { break };
        path = format!("{path} {}", inner.get_name());
        command = Command::clone(inner);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::{Cli, OsString, line};
    use clap::Parser;

    fn told(words: &[&str]) -> String {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        line(&Cli::try_parse_from(&words).map(drop).unwrap_err(), &words)
    }

    #[test]
    fn says_what_is_wrong_in_one_line_with_the_command_that_helps() {
        for (words, wanted) in [
            (
                &["brolga", "rum"] as &[&str],
                &["'rum'", "similar subcommand", "'run'", "; see brolga --help"] as &[&str],
            ),
            (
                &["brolga", "run", "--freesh", "--", "a"],
                &["'--freesh'", "'--fresh'", "; see brolga run --help"],
            ),
            (&["brolga", "run", "-n", "0", "--", "a"], &["'0'", "; see brolga run --help"]),
            (&["brolga", "run", "-n"], &["--replicas", "; see brolga run --help"]),
            (&["brolga", "run"], &["required", "COMMAND", "; see brolga run --help"]),
            (&["brolga", "run", "--durability", "tape", "--", "a"], &["'tape'", "memory, disk"]),
            (&["brolga", "member", "remove", "x"], &["'x'", "; see brolga member remove --help"]),
        ] {
            let told = told(words);
            assert!(wanted.iter().all(|part| told.contains(part)), "{words:?}: {told}");
            assert!(!told.contains('\n') && !told.starts_with("error"), "{words:?}: {told}");
        }
    }
}
