//! The environment of the server: the caller's, without what differs from one login to the next.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::container::SYNC_VARIABLE;

/// Variables that describe the caller's shell, terminal or session and not what the server should do.
const DROPPED: &[&str] = &[
    "_",
    "COLORTERM",
    "COLUMNS",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LINES",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "LS_COLORS",
    "MAINPID",
    "NOTIFY_SOCKET",
    "OLDPWD",
    "PS1",
    "PWD",
    "SHLVL",
    "STY",
    "SYSTEMD_EXEC_PID",
    "TERM_SESSION_ID",
    "TMUX",
    "TMUX_PANE",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "WAYLAND_DISPLAY",
    "WINDOWID",
    "XAUTHORITY",
];
/// The same by prefix. A second preload library or a loader trace would come before Brolga's.
const DROPPED_PREFIXES: &[&str] = &[
    "BROLGA_",
    "LD_AUDIT",
    "LD_DEBUG",
    "LD_PRELOAD",
    "SSH_",
    "SUDO_",
    "XDG_SESSION",
    "XDG_SEAT",
    "XDG_VTNR",
];
/// Libraries, do not execute RDRAND and RDSEED: no two replicas would get the same.
const MASKED_CPU: [(&str, &str); 2] = [
    // OpenSSL: leaf 1, bit 62, and leaf 7, bit 18.
    ("OPENSSL_ia32cap", "~0x4000000000000000:~0x40000"),
    // Qt, by its own names.
    ("QT_NO_CPU_FEATURE", "rdrnd rdseed"),
];

/// What the server gets of `variables`, with a word on whether its own waiting for the disk is real. That is part of what the
/// logs were made with: the environment lies on the server's stack.
pub fn for_server(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    elide_fsync: bool,
) -> Vec<(OsString, OsString)> {
    let mut kept = clean(variables);
    if !elide_fsync {
        kept.push((SYNC_VARIABLE.into(), "1".into()));
        kept.sort();
    }
    kept
}

/// Cleans and sorts.
pub fn clean(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let mut kept: Vec<_> = variables.into_iter().filter(|(name, _)| keeps(name)).collect();
    kept.extend(MASKED_CPU.map(|(name, value)| (name.into(), value.into())));
    kept.sort();
    kept
}

fn keeps(name: &OsStr) -> bool {
    let dropped = DROPPED.iter().any(|dropped| name == *dropped)
        || DROPPED_PREFIXES.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
        || MASKED_CPU.iter().any(|(masked, _)| name == *masked);
    !dropped
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn keeps_what_matters_sorted() {
        let given = [
            ("TZ", "UTC"),
            ("_", "/bin/x"),
            ("LD_PRELOAD", "/x.so"),
            ("LD_LIBRARY_PATH", "/lib"),
            ("SSH_TTY", "3"),
            ("HOME", "/root"),
            ("OPENSSL_ia32cap", "0"),
            ("SHLVL", "1"),
            ("BROLGA_PRELOAD", "/p"),
        ];
        let cleaned = clean(given.map(|(n, v)| (n.into(), v.into())));
        let names: Vec<_> = cleaned.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["HOME", "LD_LIBRARY_PATH", "OPENSSL_ia32cap", "QT_NO_CPU_FEATURE", "TZ"]);
        assert_eq!(cleaned[2].1, "~0x4000000000000000:~0x40000");
        assert_eq!(cleaned[3].1, "rdrnd rdseed");
    }
}
