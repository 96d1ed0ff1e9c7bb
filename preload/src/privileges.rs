//! The server's capabilities: those that ordinary servers use, as container engines give them. A server that is started as root
//! is the host's root by its number, in namespaces of its own; without the others it can neither mount, nor trace, nor make
//! devices, nor load modules, nor change the clock or the network.
//!
//! Dropped after the filter is in force, because to install one without `no_new_privs` takes `SYS_ADMIN`.

use crate::raw;

/// What a server keeps, by number in `linux/capability.h`: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, KILL, SETGID, SETUID,
/// SETPCAP, NET_BIND_SERVICE, IPC_LOCK, IPC_OWNER, SYS_CHROOT, SYS_NICE, SYS_RESOURCE, LEASE, SETFCAP.
const KEPT: [u32; 17] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 14, 15, 18, 23, 24, 28, 31];
/// Capabilities have numbers below this.
const LIMIT: u32 = 64;
/// Version 3 of the structures of `capget` and `capset`.
const VERSION_3: u32 = 0x2008_0522;

const fn kept() -> u64 {
    let (mut mask, mut i) = (0, 0);
    while i < KEPT.len() {
        mask |= 1 << KEPT[i];
        i += 1;
    }
    mask
}

/// Drops the others for this process and all that it will start. What it does not have anyway is no error.
pub fn drop_unneeded() -> Result<(), isize> {
    let header = [VERSION_3, 0];
    // Effective, permitted, inheritable; then the same of the numbers from 32 on.
    let mut data = [0_u32; 6];
    // SAFETY: both have the layout of the version that the header names; the other calls have no pointers.
    unsafe {
        let told = raw!(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr());
        if told != 0 {
            return Err(told);
        }
        for number in (0..LIMIT).filter(|number| kept() >> number & 1 == 0) {
            raw!(libc::SYS_prctl, libc::PR_CAPBSET_DROP, number, 0, 0, 0);
        }
        for (at, word) in data.iter_mut().enumerate() {
            *word &= (kept() >> (32 * (at / 3))) as u32;
        }
        match raw!(libc::SYS_capset, header.as_ptr(), data.as_ptr()) {
            0 => Ok(()),
            error => Err(error),
        }
    }
}
