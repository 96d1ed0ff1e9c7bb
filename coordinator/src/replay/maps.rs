//! What the processes of a container have mapped, as `/proc` tells it on the host.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One executable mapping of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// The file, as the process names it.
    pub path: PathBuf,
}

/// Adds what the processes of the container around `init` have mapped, by their process ids in there.
pub fn take(init: i32, known: &mut BTreeMap<i32, Vec<Mapped>>) {
    for (host, inside) in processes(init) {
        let Ok(text) = fs::read_to_string(format!("/proc/{host}/maps")) else { continue };
        known.insert(inside, text.lines().filter_map(parse).collect());
    }
}

/// The processes of the container around `init`: ids on the host and inside.
pub fn processes(init: i32) -> Vec<(i32, i32)> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(own) = namespace(init) else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|&pid| namespace(pid).as_ref() == Some(&own))
        .filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("NSpid:"))?;
            Some((pid, line.split_ascii_whitespace().last()?.parse().ok()?))
        })
        .collect()
}

fn parse(line: &str) -> Option<Mapped> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let executable = fields.next()?.contains('x');
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let offset = hex(fields.next()?)?;
    let path = line.find('/').map(|at| Path::new(&line[at..]).to_owned())?;
    executable.then_some(())?;
    Some(Mapped { start: hex(start)?, end: hex(end)?, offset, path })
}

#[cfg(test)]
mod tests {
    use super::{Mapped, parse};

    #[test]
    fn executable_mappings_of_files_are_kept() {
        let code = "7ffff7c26000-7ffff7d7c000 r-xp 00026000 fe:00 1234    /usr/lib/libc.so.6";
        let wanted = Mapped {
            start: 0x7fff_f7c2_6000,
            end: 0x7fff_f7d7_c000,
            offset: 0x26000,
            path: "/usr/lib/libc.so.6".into(),
        };
        assert_eq!(parse(code), Some(wanted));
        assert_eq!(parse("7ffff7c26000-7ffff7d7c000 rw-p 00026000 fe:00 1234    /usr/lib/libc.so.6"), None);
        assert_eq!(parse("5fffffff0000-5fffffff1000 r-xp 00000000 00:00 0 "), None);
    }
}
