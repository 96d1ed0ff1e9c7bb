//! The server's mounts, as the first process finds them: devices get their numbers in this order.

use dmt::disk::devices::Measured;

use crate::raw;
use crate::world::dmt;

const CHUNK_BYTES: usize = 1024;
const MAX_TYPE_BYTES: usize = 16;

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
        let mut line = Line::default();
        loop {
            let got = raw!(libc::SYS_read, fd, chunk.as_mut_ptr(), chunk.len());
            if got <= 0 {
                break;
            }
            chunk[..got as usize].iter().for_each(|&byte| line.feed(byte));
        }
        raw!(libc::SYS_close, fd);
    }
}

/// What has been read of a line: number of the field, the device, the type of the file system.
#[derive(Default)]
struct Line {
    field: u32,
    numbers: [u32; 2],
    minor: bool,
    /// Fields behind the dash, which ends the optional ones.
    behind: u32,
    dash: bool,
    kind: [u8; MAX_TYPE_BYTES],
    len: usize,
}

impl Line {
    fn feed(&mut self, byte: u8) {
        match byte {
            b'\n' => {
                self.tell();
                *self = Self::default();
            }
            b' ' => {
                self.field += 1;
                if self.dash || self.behind > 0 {
                    self.behind += 1;
                }
                self.dash = false;
            }
            _ if self.field == 2 => match byte {
                b':' => self.minor = true,
                _ => {
                    let number = &mut self.numbers[usize::from(self.minor)];
                    *number = number.wrapping_mul(10).wrapping_add(u32::from(byte.wrapping_sub(b'0')));
                }
            },
            // The fields before the dash are those that every line has, and then some with a colon in them.
            b'-' if self.field >= 6 && self.behind == 0 => self.dash = true,
            _ if self.behind == 1 && self.len < MAX_TYPE_BYTES => {
                self.kind[self.len] = byte;
                self.len += 1;
            }
            _ => self.dash = false,
        }
    }

    fn tell(&self) {
        let device = libc::makedev(self.numbers[0], self.numbers[1]);
        let what = match &self.kind[..self.len] {
            b"proc" => Measured::Proc,
            b"sysfs" => Measured::Sys,
            _ => Measured::No,
        };
        dmt(|call| {
            call.with(|k| {
                k.disk.devices.index(device);
                if what != Measured::No {
                    k.disk.devices.set_measured(device, what);
                }
            });
        });
    }
}
