//! `mountinfo`, as far as devices get their numbers from it.

use super::devices::Measured;

/// Longest name of a type that is looked at, bytes.
const MAX_TYPE_BYTES: usize = 16;
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_FACTOR: u64 = 0x100_0000_01b3;

/// A mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's number.
    pub device: u64,
    /// Hash of where it is mounted.
    pub point: u64,
    /// What files it has.
    pub measured: Measured,
}

/// What has been read of a line.
#[derive(Debug)]
pub struct Reader {
    field: u32,
    numbers: [u64; 2],
    minor: bool,
    point: u64,
    /// Fields behind the dash, which ends the optional ones.
    behind: u32,
    dash: bool,
    kind: [u8; MAX_TYPE_BYTES],
    len: usize,
}

impl Reader {
    /// Before the first line.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            field: 0,
            numbers: [0; 2],
            minor: false,
            point: HASH_START,
            behind: 0,
            dash: false,
            kind: [0; MAX_TYPE_BYTES],
            len: 0,
        }
    }

    /// Takes the next byte; a mount if that ends a line.
    pub fn feed(&mut self, byte: u8) -> Option<Mount> {
        match byte {
            b'\n' => return Some(core::mem::replace(self, Self::new()).mount()),
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
                    *number = number.wrapping_mul(10).wrapping_add(u64::from(byte.wrapping_sub(b'0')));
                }
            },
            _ if self.field == 4 => {
                self.point = (self.point ^ u64::from(byte)).wrapping_mul(HASH_FACTOR);
            }
            // The fields before the dash are those that every line has, and then some with a colon in them.
            b'-' if self.field >= 6 && self.behind == 0 => self.dash = true,
            _ if self.behind == 1 && self.len < MAX_TYPE_BYTES => {
                self.kind[self.len] = byte;
                self.len += 1;
            }
            _ => self.dash = false,
        }
        None
    }

    fn mount(&self) -> Mount {
        let [major, minor] = self.numbers;
        let measured = match &self.kind[..self.len] {
            b"proc" => Measured::Proc,
            b"sysfs" => Measured::Sys,
            _ => Measured::No,
        };
        Mount { device: device(major, minor), point: self.point, measured }
    }
}

/// The kernel's number of a device.
pub fn device(major: u64, minor: u64) -> u64 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32
}

#[cfg(test)]
mod tests {
    use super::{Measured, Mount, Reader};

    fn mounts(text: &str) -> Vec<Mount> {
        let mut reader = Reader::new();
        text.bytes().filter_map(|byte| reader.feed(byte)).collect()
    }

    #[test]
    fn lines_are_mounts() {
        let found = mounts(
            "36 35 98:300 /a-b /proc rw,noatime master:1 - proc proc rw\n37 35 0:7 / /x rw - tmpfs tmpfs rw\n\
             38 35 0:8 / /x rw - sysfs - rw\n",
        );
        let numbers: Vec<_> = found.iter().map(|mount| (mount.device, mount.measured)).collect();
        let large = 300 & 0xff | 98 << 8 | (300 & !0xff) << 12;
        assert_eq!(numbers[1..], [(7, Measured::No), (8, Measured::Sys)]);
        assert_eq!(numbers[0], (large, Measured::Proc));
        assert_eq!(found[1].point, found[2].point);
        assert_ne!(found[0].point, found[1].point);
    }
}
