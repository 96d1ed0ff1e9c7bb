//! Memory of this process that others may have mapped, too: which object it is a part of, and where in it. By that all processes
//! call a futex word the same, wherever they have mapped it (as the kernel's keys, `kernel/futex/core.c`).
//!
//! Mappings that are removed are forgotten when another shared one takes their place. One that `mremap` has moved is not known, nor
//! one that was made writable later. Files that are mapped to be read are not noted; who waits in one is rare, and then the kernel
//! is asked.

use core::cell::UnsafeCell;
use core::fmt::Write;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::calls::{disk, refuse};
use crate::fatal::Line;
use crate::mappings::{self, Mapping as Region};
use crate::raw;
use crate::world::apart;

/// Shared mappings of a process that are known at a time. With more, a word in what was mapped first is the same for all processes only
/// if they have it at the same address.
const MAX_MAPPINGS: usize = 256;

/// Names of words are above all addresses.
const NAME: u64 = 1 << 63;

/// Spreads what it is multiplied with over all bits (as in `ParkingLot::bucket`).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is mapped: two numbers that no other object has.
#[derive(Clone, Copy)]
pub struct Object(u64, u64);

#[derive(Clone, Copy)]
struct Mapping {
    start: u64,
    end: u64,
    object: Object,
    /// In the object, of `start`.
    offset: u64,
}

const NONE: Mapping = Mapping { start: 0, end: 0, object: Object(0, 0), offset: 0 };

struct Table {
    mappings: [Mapping; MAX_MAPPINGS],
    /// Where the next one goes: in place of the one that is known for longest.
    next: usize,
    /// One was forgotten that may be there still.
    overflowed: bool,
}

struct Known(UnsafeCell<Table>);
// SAFETY: only the turn holder touches it; a forked child has its own copy.
unsafe impl Sync for Known {}
static KNOWN: Known =
    Known(UnsafeCell::new(Table { mappings: [NONE; MAX_MAPPINGS], next: 0, overflowed: false }));

/// Memory without a file is numbered by who made it.
static ANONYMOUS: AtomicU32 = AtomicU32::new(0);

impl Object {
    /// The file that is open as `fd`, by the numbers that programs see; `None` if there is none.
    pub fn file(fd: usize) -> Option<Self> {
        let shown = disk::show(&disk::look_fd(fd)?);
        Some(Self(shown.device, shown.inode))
    }

    /// The file that `mapping` is of; `None` if it has no path any more, or too long a one.
    fn mapped(mapping: &Region) -> Option<Self> {
        // SAFETY: the path ends with 0.
        let real = unsafe { disk::look(libc::AT_FDCWD as usize, mapping.c_path()?.as_ptr() as usize, 0)? };
        let shown = disk::show(&real);
        Some(Self(shown.device, shown.inode))
    }

    /// Memory of no file, which is this process's and its children's.
    pub fn anonymous() -> Self {
        // SAFETY: no arguments.
        let pid = unsafe { raw!(libc::SYS_getpid) };
        Self(u64::MAX, (pid as u64) << 32 | u64::from(ANONYMOUS.fetch_add(1, Ordering::Relaxed)))
    }

    /// System V shared memory.
    pub fn system_v(id: usize) -> Self {
        Self(u64::MAX - 1, id as u64)
    }
}

impl Mapping {
    fn name(&self, address: u64) -> u64 {
        let Object(device, number) = self.object;
        let parts = [device, number, self.offset + (address - self.start)];
        let mixed = parts.iter().fold(0u64, |sum, part| {
            let sum = (sum ^ part).wrapping_mul(SPREAD);
            sum ^ sum >> 32
        });
        mixed | NAME
    }
}

impl Table {
    fn note(&mut self, new: Mapping) {
        for known in &mut self.mappings {
            if known.start >= new.start && known.end <= new.end {
                *known = NONE;
            }
        }
        let free = self.mappings.iter().position(|known| known.end == 0);
        self.overflowed |= free.is_none();
        self.cut(new.start, new.end);
        let at = free.unwrap_or(self.next);
        self.mappings[at] = new;
        self.next = (at + 1) % MAX_MAPPINGS;
    }

    /// Takes a range out of what it lies in in part. Of one that has it in its middle the part behind is lost.
    fn cut(&mut self, start: u64, end: u64) {
        for known in &mut self.mappings {
            if known.start < start && known.end > start {
                known.end = start;
            } else if known.start < end && known.end > end {
                known.offset += end - known.start;
                known.start = end;
            }
        }
    }

    fn name(&self, address: u64) -> Option<u64> {
        match self.mappings.iter().find(|known| (known.start..known.end).contains(&address)) {
            Some(found) => Some(found.name(address)),
            None => self.overflowed.then_some(address),
        }
    }
}

/// `len` bytes at `start` are shared memory from now on: `object` from `offset` on.
pub fn mapped(start: usize, len: usize, object: Object, offset: usize) {
    let (start, offset) = (start as u64, offset as u64);
    // SAFETY: we hold the turn.
    let table = unsafe { &mut *KNOWN.0.get() };
    table.note(Mapping { start, end: start.saturating_add(len as u64), object, offset });
}

/// What all processes call the word at `address`; `None` if it is this process's own.
pub fn name(address: usize) -> Option<u64> {
    // SAFETY: we hold the turn.
    let known = unsafe { &*KNOWN.0.get() }.name(address as u64);
    // Memory that is not known is mostly the process's own, which it may write to.
    if known.is_some() || is_writable(address) { known } else { name_to_read(address as u64) }
}

/// Whether this process may write to the word; nothing is written. A word that lies askew is none, and counts as one.
fn is_writable(address: usize) -> bool {
    const OR_ZERO: u32 = (libc::FUTEX_OP_OR as u32) << 28;
    let nobody = 0u32;
    // SAFETY: wakes nobody: no thread of the kernel waits for a word of the program's, nor for ours.
    let result = unsafe {
        let op = libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG;
        raw!(libc::SYS_futex, &raw const nobody, op, 0, 0, address, OR_ZERO)
    };
    result != -(libc::EFAULT as isize)
}

/// The name of a word in a file that is mapped to be read.
fn name_to_read(address: u64) -> Option<u64> {
    // Where it lies is the same on all replicas, and what the kernel says of it not.
    let region = apart(|| {
        mappings::find(|line| (line.from..line.to).contains(&address).then_some(*line))
            .filter(|region| region.rights[3] == b's' && region.is_file)
    })?;
    let Some(object) = apart(|| Object::mapped(&region)) else {
        let mut line = Line::new();
        let _ = write!(
            line,
            "a futex in shared memory that is mapped to be read, of a file without a path, is known by its address only: \
            map it with PROT_WRITE"
        );
        refuse::log_once(&line);
        return Some(address);
    };
    let Region { from, to, offset, .. } = region;
    Some(Mapping { start: from, end: to, object, offset }.name(address))
}

#[cfg(test)]
mod tests {
    use super::{MAX_MAPPINGS, Mapping, NONE, Object, Table};

    const PAGE: u64 = 4096;

    fn empty() -> Table {
        Table { mappings: [NONE; MAX_MAPPINGS], next: 0, overflowed: false }
    }

    fn mapping(start: u64, pages: u64, inode: u64, offset: u64) -> Mapping {
        Mapping { start, end: start + pages * PAGE, object: Object(7, inode), offset }
    }

    #[test]
    fn a_word_has_one_name_wherever_it_is_mapped() {
        let (mut one, mut other) = (empty(), empty());
        one.note(mapping(0x10_000, 4, 3, 0));
        other.note(mapping(0x50_000, 1, 3, 2 * PAGE));
        assert_eq!(one.name(0x10_000 + 2 * PAGE + 8), other.name(0x50_008));
        assert_ne!(one.name(0x10_000), other.name(0x50_000));
        assert_eq!(one.name(0x10_000 - 4), None);
        assert_eq!(one.name(0x10_000 + 4 * PAGE), None);
        one.note(mapping(0x80_000, 4, 4, 0));
        assert_ne!(one.name(0x10_000), one.name(0x80_000));
    }

    #[test]
    fn what_is_mapped_later_counts() {
        let mut table = empty();
        table.note(mapping(0x10_000, 8, 3, 0));
        let (first, last) = (table.name(0x10_000), table.name(0x10_000 + 7 * PAGE));
        table.note(mapping(0x10_000 + 6 * PAGE, 4, 4, 0));
        assert_eq!(table.name(0x10_000), first);
        assert_ne!(table.name(0x10_000 + 7 * PAGE), last);
        table.note(mapping(0x10_000 - PAGE, 2, 5, 0));
        assert_ne!(table.name(0x10_000), first);
        let mut alone = empty();
        alone.note(mapping(0x10_000, 8, 3, 0));
        assert_eq!(table.name(0x10_000 + PAGE), alone.name(0x10_000 + PAGE), "the offset follows the start");
    }

    #[test]
    fn more_than_there_is_room_for_are_known_by_their_addresses() {
        let mut table = empty();
        for number in 0..MAX_MAPPINGS as u64 {
            table.note(mapping(number << 20, 1, number, 0));
        }
        assert_eq!(table.name(0x123), table.name(0x123));
        assert_eq!(table.name(u64::MAX), None);
        table.note(mapping(1 << 60, 1, 1, 0));
        assert_eq!(table.name(1 << 40), Some(1 << 40));
        assert!(table.name(1 << 60).is_some_and(|name| name != 1 << 60));
        // The same place again takes no room.
        let mut again = empty();
        for number in 0..3 * MAX_MAPPINGS as u64 {
            again.note(mapping(0x10_000, 1 + number % 2, number, 0));
        }
        assert_eq!(again.name(0x90_000), None);
    }
}
