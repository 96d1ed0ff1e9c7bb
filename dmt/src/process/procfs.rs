//! Files of /proc that show what the kernel measures (memory in use, time, load): programs read them and pass the
//! numbers on, as Redis does in INFO, and they are never the same on two replicas. Here stands which files these are and
//! what a program gets instead; preload makes the copy when such a file is opened.

use crate::kernel::Kernel;
use crate::process::table::ProcessState;
use crate::thread::ThreadState;

/// What a file's copy is made of.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// One line of numbers, `/proc/PID/stat`.
    Stat,
    /// `/proc/PID/status`: as the next, but for what dmt knows of the process.
    Status,
    /// Lines `key: number unit`, of which some are fixed at 0.
    Lines(fn(&[u8]) -> bool),
    /// Words and numbers of what was counted, all numbers fixed at 0.
    Counters,
    /// The same on every machine.
    Fixed(&'static [u8]),
    /// Mounts, which show numbers of the host's and where a replica keeps its layers.
    Mounts,
    /// Mappings, with nothing of what is measured of each (`smaps`).
    Mappings,
    /// One processor of those in `cpuinfo`.
    Processor,
    /// A random UUID.
    Uuid,
}

/// Pages in use that every process reports.
const RESIDENT_PAGES: &[u8] = b"16384";
/// The key of a mask: of the one processor, the first, that a program sees. Where threads may really run changes.
const PROCESSORS_ALLOWED: &[u8] = b"Cpus_allowed";
/// Longest key of a line.
const MAX_KEY_BYTES: usize = 32;

const MEMORY: &[u8] = b"MemTotal: 8388608 kB\nMemFree: 4194304 kB\nMemAvailable: 4194304 kB\nBuffers: 0 kB\n\
Cached: 0 kB\nSwapCached: 0 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\nHugePages_Total: 0\nHugePages_Free: 0\n\
Hugepagesize: 2048 kB\n";
const LOAD: &[u8] = b"0.00 0.00 0.00 1/1 1\n";
const UPTIME: &[u8] = b"1000.00 1000.00\n";
const PROCESSORS: &[u8] =
    b"cpu 0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\nintr 0\nctxt 0\nbtime 0\nprocesses 1\n\
procs_running 1\nprocs_blocked 0\n";

/// The kernel that every program sees, whatever its machine has: `uname -r`.
pub const KERNEL_RELEASE: &[u8] = b"6.1.0";
/// `uname -v`.
pub const KERNEL_VERSION: &[u8] = b"#1 SMP";
const KERNEL_LINE: &[u8] = b"Linux version 6.1.0 (brolga@brolga) #1 SMP\n";

const NODE_MEMORY: &[u8] =
    b"Node 0 MemTotal: 8388608 kB\nNode 0 MemFree: 4194304 kB\nNode 0 MemUsed: 4194304 kB\n";
const BOOT: &[u8] = b"b2016a00-0000-4000-8000-000000000001\n";
/// The kernel counts memory of all network namespaces here.
const SOCKETS: &[u8] =
    b"sockets: used 1\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\nUDPLITE: inuse 0\n\
RAW: inuse 0\nFRAG: inuse 0 memory 0\n";
// Disks and modules of the kernel come and go, and another machine has others.
const PARTITIONS: &[u8] = b"major minor  #blocks  name\n\n";
const SWAPS: &[u8] = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
const FILE_SYSTEMS: &[u8] =
    b"nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevpts\nnodev\toverlay\n\text4\n";
const NETLINK_SOCKETS: &[u8] =
    b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n";
const UNIX_SOCKETS: &[u8] = b"Num       RefCount Protocol Flags    Type St Inode Path\n";

/// What to give for the file of /proc or /sys that the kernel knows by `path`; `None` = the kernel's own file.
pub fn content(path: &[u8]) -> Option<Content> {
    if let Some(rest) = path.strip_prefix(b"/sys/") {
        return of_sys(rest);
    }
    let rest = path.strip_prefix(b"/proc/")?;
    if let Some(rest) = rest.strip_prefix(b"sys/") {
        return of_sysctl(rest);
    }
    let mut parts = rest.split(|&byte| byte == b'/');
    let first = parts.next()?;
    let own = first == b"self" || first == b"thread-self" || first.iter().all(u8::is_ascii_digit);
    let Some(last) = parts.next_back() else {
        return match first {
            b"meminfo" => Some(Content::Fixed(MEMORY)),
            b"loadavg" => Some(Content::Fixed(LOAD)),
            b"uptime" => Some(Content::Fixed(UPTIME)),
            b"stat" => Some(Content::Fixed(PROCESSORS)),
            b"version" => Some(Content::Fixed(KERNEL_LINE)),
            b"cmdline" => Some(Content::Fixed(b"\n")),
            b"cpuinfo" => Some(Content::Processor),
            b"partitions" => Some(Content::Fixed(PARTITIONS)),
            b"swaps" => Some(Content::Fixed(SWAPS)),
            b"filesystems" => Some(Content::Fixed(FILE_SYSTEMS)),
            b"vmstat" | b"diskstats" | b"interrupts" | b"softirqs" | b"zoneinfo" | b"buddyinfo"
            | b"pagetypeinfo" | b"slabinfo" | b"schedstat" | b"timer_list" | b"key-users" | b"locks"
            | b"modules" | b"vmallocinfo" => Some(Content::Fixed(b"")),
            _ => None,
        };
    };
    if first == b"pressure" {
        return Some(Content::Fixed(b""));
    }
    match last {
        _ if !own || first.is_empty() => None,
        _ if parts.next_back() == Some(b"fdinfo") => Some(Content::Lines(is_number_of_host)),
        b"mountinfo" | b"mounts" => Some(Content::Mounts),
        b"autogroup" => Some(Content::Fixed(b"/autogroup-1 nice 0\n")),
        b"syscall" => Some(Content::Fixed(b"running\n")),
        b"netlink" => Some(Content::Fixed(NETLINK_SOCKETS)),
        b"mountstats" | b"sched" | b"numa_maps" | b"timers" => Some(Content::Fixed(b"")),
        b"unix" => Some(Content::Fixed(UNIX_SOCKETS)),
        b"sockstat" => Some(Content::Fixed(SOCKETS)),
        // The kernel greets its neighbours on a new interface when it likes.
        b"dev" | b"snmp" | b"snmp6" | b"netstat" => Some(Content::Counters),
        b"protocols" | b"softnet_stat" | b"ipv6_route" => Some(Content::Fixed(b"")),
        b"maps" | b"smaps" => Some(Content::Mappings),
        b"stat" => Some(Content::Stat),
        b"statm" => Some(Content::Fixed(b"16384 16384 0 0 0 0 0\n")),
        b"smaps_rollup" => Some(Content::Lines(is_measured_mapping)),
        b"status" => Some(Content::Status),
        b"io" => Some(Content::Lines(|_| true)),
        b"schedstat" => Some(Content::Fixed(b"0 0 0\n")),
        // A restored process has the clocks of the one that was dumped, by a name space of its own.
        b"timens_offsets" => {
            Some(Content::Fixed(b"monotonic           0         0\nboottime            0         0\n"))
        }
        _ => None,
    }
}

fn of_sys(rest: &[u8]) -> Option<Content> {
    let mut parts = rest.rsplit(|&byte| byte == b'/');
    let (last, above) = (parts.next()?, parts.next()?);
    let fixed: &[u8] = match last {
        b"online" | b"possible" | b"present" if above == b"cpu" => b"0\n",
        b"meminfo" if above.starts_with(b"node") => NODE_MEMORY,
        b"numastat" | b"vmstat" | b"stat" | b"inflight" => b"",
        b"uevent_seqnum" if above == b"kernel" => b"0\n",
        b"max_bytes" | b"min_bytes" => b"0\n",
        _ if above == b"power" && last.starts_with(b"runtime_") && last.ends_with(b"_time") => b"0\n",
        _ if above.starts_with(b"state") && rest.starts_with(b"devices/system/cpu/") && is_counted(last) => {
            b"0\n"
        }
        _ if rest.starts_with(b"kernel/slab/") => b"0\n",
        _ if above == b"statistics" => b"0\n",
        _ => return None,
    };
    Some(Content::Fixed(fixed))
}

/// What is counted of the states of an idle processor.
fn is_counted(name: &[u8]) -> bool {
    matches!(name, b"time" | b"usage" | b"above" | b"below" | b"rejected")
}

fn of_sysctl(rest: &[u8]) -> Option<Content> {
    Some(match rest {
        b"kernel/random/uuid" => Content::Uuid,
        b"kernel/random/boot_id" => Content::Fixed(BOOT),
        b"kernel/random/entropy_avail" => Content::Fixed(b"256\n"),
        b"kernel/osrelease" => Content::Fixed(b"6.1.0\n"),
        b"kernel/version" => Content::Fixed(b"#1 SMP\n"),
        b"fs/file-nr" => Content::Fixed(b"1000\t0\t9223372036854775807\n"),
        b"fs/inode-nr" => Content::Fixed(b"1000\t0\n"),
        b"fs/inode-state" | b"fs/dentry-state" => Content::Fixed(b"1000\t0\t0\t0\t0\t0\t0\n"),
        b"fs/aio-nr" => Content::Fixed(b"0\n"),
        _ => return None,
    })
}

fn is_number_of_host(key: &[u8]) -> bool {
    matches!(key, b"mnt_id" | b"ino")
}

/// Whether a line of `smaps_rollup` has a measured number.
fn is_measured_mapping(key: &[u8]) -> bool {
    !matches!(
        key,
        b"Size" | b"KernelPageSize" | b"MMUPageSize" | b"VmFlags" | b"THPeligible" | b"ProtectionKey"
    )
}

/// Whether a line of `status` has a measured number.
pub fn is_measured_status(key: &[u8]) -> bool {
    let prefixes: [&[u8]; 4] = [b"Vm", b"Rss", b"Hugetlb", b"SigQ"];
    prefixes.iter().any(|prefix| key.starts_with(prefix))
        || key.ends_with(b"ctxt_switches")
        || matches!(key, PROCESSORS_ALLOWED | b"Cpus_allowed_list")
}

/// What dmt knows of a process or thread that `stat` and `status` show: the kernel learns of an end later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Threads of the process.
    pub threads: u16,
    /// `R`, `S`, `T` or `Z`.
    pub state: u8,
}

impl Shown {
    fn decimal(self, room: &mut [u8; 5]) -> &[u8] {
        let (mut rest, mut at) = (self.threads, room.len());
        while rest > 0 || at == room.len() {
            at -= 1;
            room[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        &room[at..]
    }

    fn state_name(self) -> &'static [u8] {
        match self.state {
            b'Z' => b"Z (zombie)",
            b'T' => b"T (stopped)",
            b'R' => b"R (running)",
            _ => b"S (sleeping)",
        }
    }

    /// What becomes of a line of `status`, if it tells one of these; else `None`.
    pub fn status_line(self, line: &[u8], emit: &mut dyn FnMut(u8)) -> Option<()> {
        let key: &[u8] = if line.starts_with(b"State:") { b"State:\t" } else { b"Threads:\t" };
        let mut room = [0; 5];
        let value = match key[0] {
            b'S' => self.state_name(),
            _ if !line.starts_with(b"Threads:") => return None,
            _ => self.decimal(&mut room),
        };
        key.iter().chain(value).chain(b"\n").for_each(|&byte| emit(byte));
        Some(())
    }
}

impl Kernel {
    /// What a file of /proc with this path shows of its process.
    pub fn shown_process(&self, path: &[u8]) -> Shown {
        let number = |part: Option<&[u8]>| core::str::from_utf8(part?).ok()?.parse::<i32>().ok();
        let mut parts = path.split(|&byte| byte == b'/').skip(2);
        let pid = number(parts.next()).unwrap_or(0);
        let thread = if parts.next() == Some(b"task") { number(parts.next()) } else { None };
        let Some(process) = self.processes.by_pid(pid).map(|id| self.processes.get(id)) else {
            return Shown { threads: 1, state: b'R' };
        };
        if process.state == ProcessState::Zombie {
            return Shown { threads: 1, state: b'Z' };
        }
        let thread = thread.and_then(|tid| self.thread_by_tid(pid, tid)).unwrap_or(process.main);
        let thread = self.threads.get(thread);
        let state = match thread.state {
            _ if thread.stopped => b'T',
            ThreadState::Runnable => b'R',
            _ => b'S',
        };
        Shown { threads: process.threads.max(1), state }
    }
}

/// `/proc/PID/stat` with its measured fields fixed.
pub fn stat_line(line: &[u8], shown: Shown, emit: &mut dyn FnMut(u8)) {
    let mut room = [0; 5];
    let threads = shown.decimal(&mut room);
    // The name is in parentheses and may hold any byte.
    let end = line.iter().rposition(|&byte| byte == b')').map_or(0, |at| at + 1);
    line[..end].iter().for_each(|&byte| emit(byte));
    let rest = line[end..].strip_suffix(b"\n").unwrap_or(&line[end..]);
    for (at, field) in rest.split(|&byte| byte == b' ').enumerate() {
        // The first field behind the name, empty because of the blank, is number 2 of the manual page.
        let text: &[u8] = match at + 2 {
            2 => b"",
            3 => &[shown.state],
            9..=17 | 21 | 22 | 29 | 30 | 35 | 39 | 42..=44 => b"0",
            20 => threads,
            24 => RESIDENT_PAGES,
            // What its parent gets from the kernel at its end, which a restore changes, and nobody sees.
            38 => b"17",
            _ => field,
        };
        if at > 0 {
            emit(b' ');
        }
        text.iter().for_each(|&byte| emit(byte));
    }
    emit(b'\n');
}

/// A line of counters with its numbers fixed at 0, and one blank between its words.
pub fn counters(line: &[u8], emit: &mut dyn FnMut(u8)) {
    let words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        let fixed = if word.iter().all(u8::is_ascii_digit) { b"0" } else { word };
        let blank: &[u8] = if at > 0 { b" " } else { b"" };
        blank.iter().chain(fixed).for_each(|&byte| emit(byte));
    }
    emit(b'\n');
}

#[derive(Clone, Copy, Debug)]
enum At {
    Key,
    Kept,
    Fixed,
}

/// Replaces the numbers of measured lines by 0.
#[derive(Debug)]
pub struct Lines {
    is_measured: fn(&[u8]) -> bool,
    key: [u8; MAX_KEY_BYTES],
    len: usize,
    at: At,
}

impl Lines {
    /// A filter that fixes the lines whose key `is_measured` takes.
    pub fn new(is_measured: fn(&[u8]) -> bool) -> Self {
        Self { is_measured, key: [0; MAX_KEY_BYTES], len: 0, at: At::Key }
    }

    /// Takes the next byte of the file and emits what becomes of it.
    pub fn feed(&mut self, byte: u8, emit: &mut dyn FnMut(u8)) {
        match (self.at, byte) {
            // Numbers, lists and masks; not their unit.
            (At::Fixed, b' ' | b'\t' | b'/' | b',' | b'-' | b'0'..=b'9' | b'a'..=b'f') => return,
            (At::Fixed, b'\n') => emit(byte),
            (At::Fixed, _) => {
                emit(b' ');
                emit(byte);
                self.at = At::Kept;
            }
            (At::Key, b':') => {
                emit(byte);
                self.at = At::Kept;
                if (self.is_measured)(&self.key[..self.len]) {
                    // libnuma looks for the tab.
                    emit(if self.key.starts_with(PROCESSORS_ALLOWED) { b'\t' } else { b' ' });
                    emit(if self.key[..self.len] == *PROCESSORS_ALLOWED { b'1' } else { b'0' });
                    self.at = At::Fixed;
                }
            }
            (At::Key, _) if self.len < MAX_KEY_BYTES && (byte.is_ascii_alphanumeric() || byte == b'_') => {
                self.key[self.len] = byte;
                self.len += 1;
                emit(byte);
            }
            _ => {
                emit(byte);
                self.at = At::Kept;
            }
        }
        if byte == b'\n' {
            (self.at, self.len) = (At::Key, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, is_measured: fn(&[u8]) -> bool) -> String {
        let (mut lines, mut out) = (Lines::new(is_measured), Vec::new());
        text.bytes().for_each(|byte| lines.feed(byte, &mut |byte| out.push(byte)));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn measured_numbers_are_fixed_and_others_stay() {
        let smaps = "7f00-7f01 r-xp 00000000 08:01 12 /lib\nSize:   4 kB\nRss:    12 kB\nVmFlags: rd ex\n";
        let expected = "7f00-7f01 r-xp 00000000 08:01 12 /lib\nSize:   4 kB\nRss: 0 kB\nVmFlags: rd ex\n";
        assert_eq!(lines(smaps, is_measured_mapping), expected);
        let status = "Pid:\t7\nVmRSS:\t  88 kB\nSigQ:\t3/99\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n";
        let expected = "Pid:\t7\nVmRSS: 0 kB\nSigQ: 0\nCpus_allowed:\t1\nCpus_allowed_list:\t0\n";
        assert_eq!(lines(status, is_measured_status), expected);
    }

    #[test]
    fn the_stat_line_keeps_its_fields() {
        let numbers: Vec<_> = (4..=52).map(|n| format!("{}", n * 100)).collect();
        let line = format!("7 (a ) b) S {}\n", numbers.join(" "));
        let mut out = Vec::new();
        stat_line(line.as_bytes(), Shown { threads: 12, state: b'S' }, &mut |byte| out.push(byte));
        let out = String::from_utf8(out).unwrap();
        let fields: Vec<_> = out.trim_end().rsplit_once(')').unwrap().1.split(' ').collect();
        assert_eq!(fields.len(), 51);
        assert_eq!((fields[1], fields[2], fields[12], fields[22]), ("S", "400", "0", "16384"));
        assert_eq!(fields[18], "12");
        assert_eq!((fields[21], fields[36]), ("2300", "17"));
    }

    #[test]
    fn state_and_threads_are_those_of_dmt() {
        let shown = Shown { threads: 305, state: b'R' };
        let mut out = Vec::new();
        for line in ["State:\tD (disk sleep)", "Threads:\t7", "Tgid:\t7"] {
            if shown.status_line(line.as_bytes(), &mut |byte| out.push(byte)).is_none() {
                out.extend(b"-\n");
            }
        }
        assert_eq!(String::from_utf8(out).unwrap(), "State:\tR (running)\nThreads:\t305\n-\n");
    }

    #[test]
    fn counters_are_fixed_and_keep_their_words() {
        let mut out = Vec::new();
        for line in ["face |bytes    packets", "  eth0:    1234      12    0", "Icmp6InMsgs\t 7"] {
            counters(line.as_bytes(), &mut |byte| out.push(byte));
        }
        assert_eq!(String::from_utf8(out).unwrap(), "face |bytes packets\neth0: 0 0 0\nIcmp6InMsgs 0\n");
    }

    #[test]
    fn only_measured_files_are_copied() {
        assert!(matches!(content(b"/proc/self/stat"), Some(Content::Stat)));
        assert!(matches!(content(b"/proc/1000/task/1001/stat"), Some(Content::Stat)));
        assert!(matches!(content(b"/proc/stat"), Some(Content::Fixed(_))));
        for path in [
            &b"/proc/self/limits"[..],
            b"/proc/sys/vm/stat",
            b"/proc/self",
            b"/tmp/stat",
            b"/proc//stat",
            b"/sys/stats",
        ] {
            assert!(content(path).is_none());
        }
    }
}
