//! Files of /proc that are made of lines with numbers of the host's in them: what becomes of a line.

use crate::disk::devices::Devices;
use crate::disk::listing::position;

/// Where the copy of a file goes, byte by byte.
pub type Emit<'a> = &'a mut dyn FnMut(u8);

/// Mounts that keep their place in the tree; those beyond are shown under the first.
const MAX_MOUNTS: usize = 128;
/// Number of the first mount.
const FIRST_MOUNT: u64 = 20;
/// Number of what the first one is mounted on.
const OUTSIDE: u64 = 1;
/// Where Brolga's own files are mounted.
const OWN: &[u8] = b"/run/brolga";

fn text(bytes: &[u8], emit: Emit<'_>) {
    bytes.iter().for_each(|&byte| emit(byte));
}

fn number(mut value: u64, base: u64, width: usize, emit: Emit<'_>) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while value > 0 || at > digits.len() - width.max(1) {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(value % base) as usize];
        value /= base;
    }
    text(&digits[at..], emit);
}

fn parse(text: &[u8], base: u32) -> Option<u64> {
    u64::from_str_radix(core::str::from_utf8(text).ok()?, base).ok()
}

/// A device `MAJOR:MINOR` as the kernel's number.
fn device(text: &[u8], base: u32) -> Option<u64> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    let (major, minor) = (parse(&text[..colon], base)?, parse(&text[colon + 1..], base)?);
    Some((minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32)
}

/// `mountinfo` and `mounts`.
#[derive(Debug)]
pub struct Mounts {
    real: [u64; MAX_MOUNTS],
    count: usize,
}

impl Mounts {
    /// Before the first line.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { real: [0; MAX_MOUNTS], count: 0 }
    }

    /// A line, without its end.
    pub fn row(&mut self, line: &[u8], devices: &mut Devices, emit: Emit<'_>) {
        let mut fields = line.split(|&byte| byte == b' ');
        let (first, second) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        // A line of `mountinfo` starts with a number, one of `mounts` with a name.
        let point = match parse(first, 10) {
            Some(_) => fields.nth(2).unwrap_or_default(),
            None => second,
        };
        if point.starts_with(OWN) {
            return;
        }
        match (parse(first, 10), parse(second, 10)) {
            (Some(id), Some(parent)) => {
                let known = &self.real[..self.count];
                let above = known.iter().position(|&real| real == parent);
                let above = above.map_or(OUTSIDE, |at| FIRST_MOUNT + at as u64);
                number(FIRST_MOUNT + self.count as u64, 10, 1, emit);
                emit(b' ');
                number(above, 10, 1, emit);
                if self.count < MAX_MOUNTS {
                    self.real[self.count] = id;
                    self.count += 1;
                }
                let rest = &line[first.len() + second.len() + 2..];
                let third = rest.split(|&byte| byte == b' ').next().unwrap_or_default();
                text(b" 0:", emit);
                number(Devices::number(devices.index(device(third, 10).unwrap_or(0))), 10, 1, emit);
                without_layers(&rest[third.len()..], emit);
            }
            _ => without_layers(line, emit),
        }
        emit(b'\n');
    }
}

/// A line without the options that say where a replica has its layers.
fn without_layers(line: &[u8], emit: Emit<'_>) {
    const OPTION: &[u8] = b",lowerdir=";
    let from = line.windows(OPTION.len()).position(|part| part == OPTION).unwrap_or(line.len());
    text(&line[..from], emit);
    let rest = &line[from..];
    let to = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
    text(&rest[to..], emit);
}

/// A line of `maps` or `smaps`: device and inode number of the file, if there is one.
pub fn mapping(line: &[u8], devices: &mut Devices, emit: Emit<'_>) {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let (range, rights, offset) = (fields.next(), fields.next(), fields.next());
    let (Some(real), Some(inode)) =
        (fields.next().and_then(|field| device(field, 16)), fields.next().and_then(|field| parse(field, 10)))
    else {
        text(line, emit);
        return emit(b'\n');
    };
    for field in [range, rights, offset] {
        text(field.unwrap_or_default(), emit);
        emit(b' ');
    }
    let path = fields.next().unwrap_or_default();
    let (mut shown, mut own) = (0, 0);
    if inode != 0 {
        shown = Devices::number(devices.index(real));
        own = position(path.trim_ascii_start()) >> 32;
    }
    text(b"00:", emit);
    number(shown, 16, 2, emit);
    emit(b' ');
    number(own, 10, 1, emit);
    if !path.is_empty() {
        emit(b' ');
        text(path, emit);
    }
    emit(b'\n');
}

/// `cpuinfo`: the first processor, as the only one.
#[derive(Debug)]
pub struct Processor {
    ended: bool,
}

impl Processor {
    /// Before the first line.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { ended: false }
    }

    /// A line, without its end.
    pub fn row(&mut self, line: &[u8], emit: Emit<'_>) {
        if self.ended {
            return;
        }
        self.ended = line.is_empty();
        let key = line.split(|&byte| byte == b':').next().unwrap_or_default();
        let fixed: Option<&[u8]> = match key.trim_ascii_end() {
            b"cpu MHz" | b"bogomips" => Some(b"1000.000"),
            b"siblings" | b"cpu cores" => Some(b"1"),
            b"apicid" | b"initial apicid" | b"core id" | b"physical id" => Some(b"0"),
            _ => None,
        };
        match fixed {
            Some(value) => {
                text(key, emit);
                text(b": ", emit);
                text(value, emit);
            }
            None => text(line, emit),
        }
        emit(b'\n');
    }
}

/// A random UUID of version 4.
pub fn uuid(mut bytes: [u8; 16], emit: Emit<'_>) {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    for (i, byte) in bytes.into_iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            emit(b'-');
        }
        number(byte.into(), 16, 2, emit);
    }
    emit(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> Devices {
        // SAFETY: plain data, for which all zeroes is valid.
        unsafe { core::mem::zeroed() }
    }

    fn out(f: impl FnOnce(Emit<'_>)) -> String {
        let mut bytes = Vec::new();
        f(&mut |byte| bytes.push(byte));
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn mounts_are_numbered_anew_and_say_nothing_of_a_replica() {
        let (mut mounts, mut devices) = (Mounts::new(), devices());
        let mut row = |line: &str| out(|emit| mounts.row(line.as_bytes(), &mut devices, emit));
        let root = "247 99 0:131 / / rw,relatime - overlay overlay rw,lowerdir=/,upperdir=/x/1,workdir=/x/w";
        assert_eq!(row(root), "20 1 0:32 / / rw,relatime - overlay overlay rw\n");
        assert_eq!(
            row("280 247 0:143 / /dev rw - tmpfs tmpfs rw,size=64k"),
            "21 20 0:33 / /dev rw - tmpfs tmpfs rw,size=64k\n"
        );
        assert_eq!(row("290 247 0:27 /brolga-1 /run/brolga rw - tmpfs tmpfs rw"), "");
        assert_eq!(
            row("281 280 0:143 /null /dev/null rw - tmpfs tmpfs rw"),
            "22 21 0:33 /null /dev/null rw - tmpfs tmpfs rw\n"
        );
        let old = "overlay / overlay rw,relatime,lowerdir=/,upperdir=/x/1,workdir=/x/w 0 0";
        assert_eq!(row(old), "overlay / overlay rw,relatime 0 0\n");
    }

    #[test]
    fn mappings_keep_all_but_device_and_inode() {
        let mut devices = devices();
        let mut row = |line: &str| out(|emit| mapping(line.as_bytes(), &mut devices, emit));
        let line = "7ffff7ce2000-7ffff7ce5000 r--p 00001000 00:83 326426                     /usr/lib/a b.so";
        let shown = row(line);
        assert!(shown.starts_with("7ffff7ce2000-7ffff7ce5000 r--p 00001000 00:20 "), "{shown}");
        assert!(shown.ends_with(" /usr/lib/a b.so\n"), "{shown}");
        assert_eq!(row("Size:  4 kB"), "Size:  4 kB\n");
        let heap = "5555-5556 rw-p 00000000 00:00 0                          [heap]";
        assert_eq!(row(heap), format!("{heap}\n"));
        assert_eq!(row("5555-5556 rw-p 00000000 00:00 0 "), "5555-5556 rw-p 00000000 00:00 0\n");
    }

    #[test]
    fn one_processor_is_left() {
        let mut processor = Processor::new();
        let lines = ["processor\t: 0", "cpu MHz\t\t: 2445.404", "siblings\t: 2", "", "processor\t: 1", ""];
        let shown: String =
            lines.iter().map(|line| out(|emit| processor.row(line.as_bytes(), emit))).collect();
        assert_eq!(shown, "processor\t: 0\ncpu MHz\t\t: 1000.000\nsiblings\t: 1\n\n");
    }

    #[test]
    fn a_uuid_says_that_it_is_random() {
        assert_eq!(out(|emit| uuid([0xff; 16], emit)), "ffffffff-ffff-4fff-bfff-ffffffffffff\n");
    }
}
