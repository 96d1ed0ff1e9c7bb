//! Capabilities are dropped for good, in two steps. What no part of Brolga needs goes first: then neither the process that starts
//! containers nor anything that it starts can get it, the container's init and the server's programs included. When that process
//! ([`crate::container::starter`]) is there, the coordinator gives up what containers alone are made with. The server's own are
//! fewer still (`preload/src/privileges.rs`). `docs/security.md` lists them.

/// What nothing needs, by number in `linux/capability.h`.
///
/// Kept is what containers are made with (`SYS_ADMIN` for namespaces, overlays and the process id of the server,
/// `NET_ADMIN` for the container's interfaces), what watches over processes (`SYS_PTRACE`, `KILL`,
/// `CHECKPOINT_RESTORE`), what CRIU restores a checkpoint with (`SYS_TIME` for the clocks of its namespace), and what a server may have.
const DROPPED: &[(u32, &str)] = &[
    (9, "LINUX_IMMUTABLE"),
    (11, "NET_BROADCAST"),
    (16, "SYS_MODULE"),
    (17, "SYS_RAWIO"),
    (20, "SYS_PACCT"),
    (22, "SYS_BOOT"),
    (26, "SYS_TTY_CONFIG"),
    (29, "AUDIT_WRITE"),
    (30, "AUDIT_CONTROL"),
    (32, "MAC_OVERRIDE"),
    (33, "MAC_ADMIN"),
    (34, "SYSLOG"),
    (35, "WAKE_ALARM"),
    (36, "BLOCK_SUSPEND"),
    (37, "AUDIT_READ"),
    (38, "PERFMON"),
    (39, "BPF"),
];

/// What the coordinator itself needs when another process starts its containers: to write files of any owner with rights and
/// attributes (`SYS_ADMIN` for those of overlays, `SYS_PTRACE` for those in a container), to use a file system's reserve, and to
/// listen on any port.
const OWN: &[(u32, &str)] = &[
    (0, "CHOWN"),
    (1, "DAC_OVERRIDE"),
    (2, "DAC_READ_SEARCH"),
    (3, "FOWNER"),
    (4, "FSETID"),
    (10, "NET_BIND_SERVICE"),
    (19, "SYS_PTRACE"),
    (21, "SYS_ADMIN"),
    (24, "SYS_RESOURCE"),
    (31, "SETFCAP"),
];

/// Numbers of capabilities are below this.
const NUMBERS: u32 = 64;

/// Version 3 of the structures of `capget` and `capset`.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Drops what nothing needs, for the calling thread and all that it starts: call it before there are other threads.
pub fn drop_unneeded() -> std::io::Result<()> {
    drop_all(DROPPED.iter().map(|(number, _)| *number))
}

/// Drops what the coordinator itself does not need, likewise.
pub fn keep_own() -> std::io::Result<()> {
    drop_all((0..NUMBERS).filter(|number| OWN.iter().all(|(own, _)| own != number)))
}

fn drop_all(numbers: impl Iterator<Item = u32>) -> std::io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: both structures are of the version that the header names.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    for number in numbers {
        // An error: without privileges there is nothing to drop, and an older kernel lacks the last ones.
        // SAFETY: no pointers.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        let (word, mask) = ((number / 32) as usize, !(1_u32 << (number % 32)));
        data[word].effective &= mask;
        data[word].permitted &= mask;
        data[word].inheritable &= mask;
    }
    // SAFETY: as above.
    match unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::{DROPPED, OWN, drop_unneeded, keep_own};

    #[test]
    fn what_is_dropped_is_gone_and_stays_gone() {
        let told = std::thread::spawn(|| {
            drop_unneeded().expect("to give up a capability needs none");
            std::fs::read_to_string("/proc/thread-self/status").expect("the own status")
        });
        let status = told.join().expect("a thread");
        for field in ["CapPrm:", "CapEff:", "CapInh:"] {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a line");
            let held = u64::from_str_radix(line.trim(), 16).expect("a number");
            for (number, name) in DROPPED {
                assert_eq!(held >> number & 1, 0, "{field} {name}");
            }
        }
    }
    #[test]
    fn nothing_is_left_but_what_the_coordinator_needs() {
        let told = std::thread::spawn(|| {
            keep_own().expect("to give up a capability needs none");
            std::fs::read_to_string("/proc/thread-self/status").expect("the own status")
        });
        let status = told.join().expect("a thread");
        let own = OWN.iter().fold(0_u64, |mask, (number, _)| mask | 1 << number);
        for field in ["CapPrm:", "CapEff:", "CapInh:", "CapBnd:"] {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a line");
            let held = u64::from_str_radix(line.trim(), 16).expect("a number");
            let root = nix::unistd::geteuid().is_root();
            assert!(held & !own == 0 || (field == "CapBnd:" && !root), "{field} {held:x}");
        }
    }
}
