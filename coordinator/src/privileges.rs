//! Capabilities that no part of Brolga needs are dropped for good: the coordinator has them neither itself nor can anything that it
//! starts get them, the container's init and the server's programs included. The server's own are fewer still
//! (`preload/src/privileges.rs`). `docs/security.md` lists both.

/// What the coordinator gives up, by number in `linux/capability.h`.
///
/// It keeps what containers are made with (`SYS_ADMIN` for namespaces, overlays and the process id of the server,
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

/// Drops them, for the calling thread and all that it starts: call it before there are other threads.
pub fn drop_unneeded() -> std::io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: both structures are of the version that the header names.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    for (number, _) in DROPPED {
        // An error: without privileges there is nothing to drop, and an older kernel lacks the last ones.
        // SAFETY: no pointers.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(*number), 0, 0, 0) };
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
    use super::{DROPPED, drop_unneeded};

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
}
