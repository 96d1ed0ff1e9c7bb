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
    Some(crate::disk::mounts::device(parse(&text[..colon], base)?, parse(&text[colon + 1..], base)?))
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

/// Longest path of a mapping, bytes; a longer one is cut.
const MAX_PATH_BYTES: usize = 4096;
/// Column of the path in a line about a mapping.
const PATH_COLUMN: usize = 73;
/// What `smaps` says of each mapping but its size and rights: nothing that is measured.
const DETAILS: [&[u8]; 19] = [
    b"Rss",
    b"Pss",
    b"Pss_Dirty",
    b"Shared_Clean",
    b"Shared_Dirty",
    b"Private_Clean",
    b"Private_Dirty",
    b"Referenced",
    b"Anonymous",
    b"KSM",
    b"LazyFree",
    b"AnonHugePages",
    b"ShmemPmdMapped",
    b"FilePmdMapped",
    b"Shared_Hugetlb",
    b"Private_Hugetlb",
    b"Swap",
    b"SwapPss",
    b"Locked",
];

/// A mapping, as the kernel tells it.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    start: u64,
    end: u64,
    rights: [u8; 4],
    offset: u64,
    device: u64,
    inode: u64,
}

impl Mapping {
    /// The mapping and its path, if the line is about one.
    fn parse(line: &[u8]) -> Option<(Self, &[u8])> {
        let mut fields = line.splitn(6, |&byte| byte == b' ');
        let range = fields.next()?;
        let dash = range.iter().position(|&byte| byte == b'-')?;
        let (start, end) = (parse(&range[..dash], 16)?, parse(&range[dash + 1..], 16)?);
        let rights = fields.next()?.try_into().ok()?;
        let offset = parse(fields.next()?, 16)?;
        let device = device(fields.next()?, 16)?;
        let inode = parse(fields.next()?, 10)?;
        let path = fields.next().unwrap_or_default().trim_ascii_start();
        Some((Self { start, end, rights, offset, device, inode }, path))
    }

    /// Whether `next` goes on where this one ends, in memory and in the file.
    fn goes_on_in(&self, next: &Self) -> bool {
        let same = (self.rights, self.device, self.inode) == (next.rights, next.device, next.inode);
        let offset = self.offset.wrapping_add(self.end - self.start);
        same && self.end == next.start && (self.inode == 0 || offset == next.offset)
    }
}

/// `maps` and `smaps`. Whether the kernel keeps two neighbours apart that do not differ depends on what became of them before, and a
/// restored process has not been through that: they are shown as one. Of what it says of each in `smaps` the same holds.
#[derive(Debug)]
pub struct Mappings {
    /// The one that may go on in the next line.
    held: Option<Mapping>,
    path: [u8; MAX_PATH_BYTES],
    path_bytes: usize,
    /// This is `smaps`.
    detailed: bool,
}

impl Mappings {
    /// Before the first line.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { held: None, path: [0; MAX_PATH_BYTES], path_bytes: 0, detailed: false }
    }

    /// A line, without its end.
    pub fn row(&mut self, line: &[u8], devices: &mut Devices, emit: Emit<'_>) {
        let Some((mapping, path)) = Mapping::parse(line) else {
            self.detailed = true;
            return;
        };
        let path = &path[..path.len().min(MAX_PATH_BYTES)];
        match &mut self.held {
            Some(held) if held.goes_on_in(&mapping) && self.path[..self.path_bytes] == *path => {
                held.end = mapping.end;
            }
            _ => {
                self.end(devices, emit);
                self.held = Some(mapping);
                self.path_bytes = path.len();
                self.path[..path.len()].copy_from_slice(path);
            }
        }
    }

    /// There are no more lines.
    pub fn end(&mut self, devices: &mut Devices, emit: Emit<'_>) {
        let Some(mapping) = self.held.take() else { return };
        let path = &self.path[..self.path_bytes];
        let (mut shown, mut own) = (0, 0);
        if mapping.inode != 0 {
            shown = Devices::number(devices.index(mapping.device));
            own = position(path) >> 32;
        }
        let mut column = 0;
        let counted: Emit<'_> = &mut |byte| {
            column += 1;
            emit(byte);
        };
        number(mapping.start, 16, 8, counted);
        counted(b'-');
        number(mapping.end, 16, 8, counted);
        counted(b' ');
        text(&mapping.rights, counted);
        counted(b' ');
        number(mapping.offset, 16, 8, counted);
        text(b" 00:", counted);
        number(shown, 16, 2, counted);
        counted(b' ');
        number(own, 10, 1, counted);
        counted(b' ');
        if !path.is_empty() {
            (column..PATH_COLUMN).for_each(|_| emit(b' '));
            text(path, emit);
        }
        emit(b'\n');
        if self.detailed {
            details(&mapping, emit);
        }
    }
}

/// The lines of `smaps` behind that of a mapping.
fn details(mapping: &Mapping, emit: Emit<'_>) {
    text(b"Size: ", emit);
    number((mapping.end - mapping.start) >> 10, 10, 1, emit);
    text(b" kB\nKernelPageSize: 4 kB\nMMUPageSize: 4 kB\n", emit);
    for key in DETAILS {
        text(key, emit);
        text(b": 0 kB\n", emit);
    }
    text(b"THPeligible: 0\nVmFlags:", emit);
    for (right, flag) in [(b'r', b" rd"), (b'w', b" wr"), (b'x', b" ex"), (b's', b" sh")] {
        if mapping.rights.contains(&right) {
            text(flag, emit);
        }
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

    fn mappings(lines: &[&str]) -> String {
        let (mut mappings, mut devices) = (Mappings::new(), devices());
        out(|emit| {
            lines.iter().for_each(|line| mappings.row(line.as_bytes(), &mut devices, emit));
            mappings.end(&mut devices, emit);
        })
    }

    #[test]
    fn mappings_keep_all_but_device_and_inode() {
        let line = "7ffff7ce2000-7ffff7ce5000 r--p 00001000 00:83 326426                     /usr/lib/a b.so";
        let shown = mappings(&[line]);
        assert!(shown.starts_with("7ffff7ce2000-7ffff7ce5000 r--p 00001000 00:20 "), "{shown}");
        assert!(shown.ends_with(" /usr/lib/a b.so\n"), "{shown}");
        assert_eq!(shown.find('/'), Some(73));
        let heap = "555555554000-555555556000 rw-p 00000000 00:00 0                          [heap]";
        assert_eq!(mappings(&[heap]), format!("{heap}\n"));
        let none = "555555554000-555555556000 rw-p 00000000 00:00 0 ";
        assert_eq!(mappings(&[none]), format!("{none}\n"));
    }

    #[test]
    fn neighbours_that_do_not_differ_are_one() {
        let file = |range: &str, offset: &str| format!("{range} r--p {offset} 00:83 326426 /usr/lib/a");
        let one = mappings(&[&file("00010000-00013000", "00001000")]);
        let two = [file("00010000-00012000", "00001000"), file("00012000-00013000", "00003000")];
        assert_eq!(mappings(&[&two[0], &two[1]]), one);
        let apart = file("00012000-00013000", "00009000");
        assert_eq!(mappings(&[&two[0], &apart]).lines().count(), 2, "another place in the file");
        let heap = [
            "00010000-00012000 rw-p 00000000 00:00 0 [heap]",
            "Size: 8 kB",
            "Rss: 8 kB",
            "VmFlags: rd wr ac",
        ];
        let more =
            ["00012000-00013000 rw-p 00000000 00:00 0 [heap]", "Size: 4 kB", "Rss: 0 kB", "VmFlags: rd wr"];
        let shown = mappings(&[heap, more].concat());
        assert!(shown.starts_with("00010000-00013000 rw-p "), "{shown}");
        assert!(shown.contains("\nSize: 12 kB\n") && shown.contains("\nRss: 0 kB\n"), "{shown}");
        assert!(shown.ends_with("VmFlags: rd wr\n"), "{shown}");
        assert_eq!(shown.matches("Size: 12").count(), 1);
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
