//! The server's mounts, as the first process finds them: devices get their numbers in this order.

use dmt::disk::mounts::Reader;

use crate::raw;
use crate::world::dmt;

const CHUNK_BYTES: usize = 1024;

/// Tells dmt the devices of all mounts.
pub fn register() {
    // SAFETY: reads a file into our own buffer.
    unsafe {
        let path = c"/proc/self/mountinfo";
        let fd = raw!(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0);
        if fd < 0 {
            return;
        }
        let mut chunk = [0u8; CHUNK_BYTES];
        let mut reader = Reader::new();
        loop {
            let got = raw!(libc::SYS_read, fd, chunk.as_mut_ptr(), chunk.len());
            if got <= 0 {
                break;
            }
            for mount in chunk[..got as usize].iter().filter_map(|&byte| reader.feed(byte)) {
                dmt(|call| call.with(|k| k.disk.devices.mounted(&mount)));
            }
        }
        raw!(libc::SYS_close, fd);
    }
}
