//! Processes seen through `/proc`: who descends from whom, what they cost, and how to end one.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// The fields of `/proc/PID/stat` that are of use here.
#[derive(Clone, Debug)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Name of the program, at most 15 bytes.
    pub name: String,
    /// State letter; `Z` is a zombie.
    pub state: char,
    /// Time on a CPU so far, that of its reaped children counted.
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub resident: u64,
}

/// One process, if it is there.
pub fn look(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and brackets, so the fields are counted from its end.
    let (head, tail) = (stat.find('(')?, stat.rfind(')')?);
    let fields: Vec<&str> = stat.get(tail + 2..)?.split(' ').collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        name: stat.get(head + 1..tail)?.to_owned(),
        state: fields.first()?.chars().next()?,
        cpu: Duration::from_millis((11..=14).filter_map(number).sum::<u64>() * 1000 / ticks_per_second()),
        resident: number(21)? * 4096,
    })
}

fn ticks_per_second() -> u64 {
    // SAFETY: no pointers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100)
}

/// Memory of a process in which a page that several processes share counts as a part of one in each, bytes; `None` if it is gone.
pub fn proportional(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// All processes of the machine.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter_map(look).collect()
}

/// The process and all that descend from it.
pub fn tree(root: i32) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    let mut found = Vec::new();
    for process in all() {
        if process.pid == root {
            found.push(process);
        } else {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|p| p.pid) {
        found.extend(children.remove(&parent).unwrap_or_default());
        next += 1;
    }
    found
}

/// True while the process exists and is no zombie.
pub fn alive(pid: i32) -> bool {
    look(pid).is_some_and(|process| process.state != 'Z')
}

/// Sends a signal; a process that is gone already is no error.
pub fn signal(pid: i32, signal: i32) {
    assert!(pid > 1, "process {pid} is not ours to signal");
    // SAFETY: no pointers.
    unsafe { libc::kill(pid, signal) };
}
