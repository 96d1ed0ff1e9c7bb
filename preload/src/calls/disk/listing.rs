//! `getdents64`: a directory in the order of [`dmt::disk::listing`], with the inode numbers that `stat` shows.
//!
//! A call reads the whole directory, sorts it, and gives out what comes behind the position, which the kernel keeps with
//! the open file, as ever. What did not fit into the program's buffer is kept for the next call. The memory for this is
//! mapped for the time being; its size is fixed, so the program's own mappings lie where they would lie.

use core::cell::UnsafeCell;
use core::ffi::c_int;
use core::fmt::Write;

use dmt::disk::devices::Measured;
use dmt::disk::listing::{END, position};

use super::{MAX_PATH_BYTES, path_of, stat};
use crate::fatal::Line;
use crate::raw;
use crate::watches;
use crate::world::{apart, dmt};

/// Address space for the entries of one directory, bytes.
const ENTRIES_BYTES: usize = 192 << 20;
/// Address space for their order, bytes.
const ORDER_BYTES: usize = 64 << 20;
/// Entries of a directory that is read without being sorted, bytes at a time.
const CHUNK_BYTES: usize = 4096;
/// Bytes of an entry before its name, as in the kernel's `struct linux_dirent64`.
const NAME_AT: usize = 19;
const POSITION_AT: usize = 8;
const LENGTH_AT: usize = 16;
const EINVAL: isize = -(libc::EINVAL as isize);

/// Where an entry stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
struct Place {
    position: u64,
    at: u64,
}

/// Room for entries, aligned as the kernel writes them.
#[repr(align(8))]
struct Chunk([u8; CHUNK_BYTES]);

/// A directory that has been read.
#[derive(Clone, Copy)]
struct Listing {
    memory: usize,
    count: usize,
    fd: usize,
    position: u64,
    file: (u64, u64),
    /// Bits of a position that the file system cannot keep.
    lost: u32,
}

const NONE: Listing = Listing { memory: 0, count: 0, fd: 0, position: 0, file: (0, 0), lost: 0 };

struct Kept(UnsafeCell<Listing>);
// SAFETY: only the thread that holds the turn looks at it.
unsafe impl Sync for Kept {}
/// What is left of the last directory that was not given out whole.
static KEPT: Kept = Kept(UnsafeCell::new(NONE));

/// `getdents64`.
///
/// # Safety
/// As the system call.
pub unsafe fn getdents64(a: [usize; 6]) -> isize {
    let (fd, out, room) = (a[0], a[1], a[2]);
    // SAFETY: reads and moves the position of the program's descriptor.
    unsafe {
        let at = raw!(libc::SYS_lseek, fd, 0, libc::SEEK_CUR);
        let lost = lost_bits(fd);
        let end = END >> lost;
        if at < 0 || raw!(libc::SYS_lseek, fd, end, libc::SEEK_SET) != end as isize {
            return unsorted(a);
        }
        let at = at as u64;
        if at >= end {
            return 0;
        }
        let Some(mut listing) = take(fd, at).or_else(|| read(fd, lost)) else {
            raw!(libc::SYS_lseek, fd, at, libc::SEEK_SET);
            return unsorted(a);
        };
        let (given, next) = give(&listing, at, out, room);
        let next = if given < 0 { at } else { next };
        raw!(libc::SYS_lseek, fd, next, libc::SEEK_SET);
        listing.position = next;
        if next >= end || given < 0 {
            free(&listing);
        } else {
            *KEPT.0.get() = listing;
        }
        given
    }
}

/// File systems of the kernel's own keep positions of 31 bits.
fn lost_bits(fd: usize) -> u32 {
    let measured = |device| dmt(|call| call.with(|k| k.disk.devices.measured(device)));
    match super::look_fd(fd).map(|real| measured(real.device)) {
        Some(Measured::Sys) => 32,
        _ => 0,
    }
}

/// A directory without positions of our own (/proc): the kernel's order, with our numbers, and of processes and threads only
/// those that dmt knows. What else the kernel lists never comes to the program's memory.
unsafe fn unsorted(a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise.
    apart(|| unsafe { known(a[0], a[1], a[2]) })
}

unsafe fn known(fd: usize, out: usize, room: usize) -> isize {
    let mut path = [0; MAX_PATH_BYTES];
    let directory = path_of(fd, &mut path);
    if let Some(pid) = dmt(|call| call.with(|k| k.lists_threads_of(directory))) {
        // SAFETY: forwarded promise.
        return unsafe { tasks(fd, pid, out, room) };
    }
    let mut chunk = Chunk([0; CHUNK_BYTES]);
    let entries = chunk.0.as_mut_ptr() as usize;
    let (mut used, mut position) = (0, 0);
    // SAFETY: the kernel writes entries into our buffer, and they are copied to the program's, which has room for them.
    unsafe {
        position = position.max(raw!(libc::SYS_lseek, fd, 0, libc::SEEK_CUR));
        loop {
            let got = watches::observed(|| raw!(libc::SYS_getdents64, fd, entries, CHUNK_BYTES));
            if got <= 0 {
                return if used > 0 { used as isize } else { got };
            }
            let mut at = 0;
            while (at as isize) < got {
                let (entry, bytes) = (entries + at, length(entries + at));
                if dmt(|call| call.with(|k| k.lists_task(directory, name(entry)))) {
                    if used + bytes > room {
                        raw!(libc::SYS_lseek, fd, position, libc::SEEK_SET);
                        return if used > 0 { used as isize } else { EINVAL };
                    }
                    let copy = out + used;
                    core::ptr::copy_nonoverlapping(entry as *const u8, copy as *mut u8, bytes);
                    number(fd, copy);
                    used += bytes;
                }
                position = ((entry + POSITION_AT) as *const isize).read_unaligned();
                at += bytes;
            }
        }
    }
}

/// The threads of a process, of which the kernel knows the first alone. The position behind an entry is the thread's id, behind the two
/// names that every directory has it is 1 and 2.
unsafe fn tasks(fd: usize, pid: i32, out: usize, room: usize) -> isize {
    let mut used = 0;
    // SAFETY: the position of the program's descriptor.
    let mut position = unsafe { raw!(libc::SYS_lseek, fd, 0, libc::SEEK_CUR) } as i32;
    loop {
        let next = match position {
            0 | 1 => Some(position + 1),
            _ => dmt(|call| call.with(|k| k.next_task(pid, position))),
        };
        let Some(next) = next else { break };
        let mut name = Line::new();
        let _ = match next {
            1 => name.write_str("."),
            2 => name.write_str(".."),
            tid => write!(name, "{tid}"),
        };
        let name = name.bytes();
        let bytes = (NAME_AT + name.len() + 1).next_multiple_of(8);
        if used + bytes > room {
            if used == 0 {
                return EINVAL;
            }
            break;
        }
        let entry = out + used;
        // SAFETY: the program's buffer has room for this entry.
        unsafe {
            core::ptr::write_bytes(entry as *mut u8, 0, bytes);
            ((entry + POSITION_AT) as *mut u64).write_unaligned(next as u64);
            ((entry + LENGTH_AT) as *mut u16).write_unaligned(bytes as u16);
            ((entry + LENGTH_AT + 2) as *mut u8).write(libc::DT_DIR);
            core::ptr::copy_nonoverlapping(name.as_ptr(), (entry + NAME_AT) as *mut u8, name.len());
            number(fd, entry);
        }
        used += bytes;
        position = next;
    }
    // SAFETY: as above.
    unsafe { raw!(libc::SYS_lseek, fd, position, libc::SEEK_SET) };
    used as isize
}

/// The listing that was kept, if it goes on here.
unsafe fn take(fd: usize, position: u64) -> Option<Listing> {
    // SAFETY: this thread holds the turn.
    let kept = unsafe { core::mem::replace(&mut *KEPT.0.get(), NONE) };
    if kept.memory == 0 {
        return None;
    }
    if kept.fd == fd && kept.position == position && Some(kept.file) == identity(fd) {
        return Some(kept);
    }
    free(&kept);
    None
}

fn identity(fd: usize) -> Option<(u64, u64)> {
    super::look_fd(fd).map(|real| (real.device, real.inode))
}

fn free(listing: &Listing) {
    // SAFETY: our own mapping, which nobody refers to any more.
    unsafe { raw!(libc::SYS_munmap, listing.memory, ENTRIES_BYTES + ORDER_BYTES) };
}

/// Reads and sorts a directory; `None` if it is none, or does not fit.
unsafe fn read(fd: usize, lost: u32) -> Option<Listing> {
    let file = identity(fd)?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: memory of our own; the kernel writes entries where we say.
    unsafe {
        if raw!(libc::SYS_lseek, fd, 0, libc::SEEK_SET) != 0 {
            return None;
        }
        let memory = raw!(libc::SYS_mmap, 0, ENTRIES_BYTES + ORDER_BYTES, rights, flags, usize::MAX, 0);
        if memory < 0 {
            return None;
        }
        let mut listing = Listing { memory: memory as usize, count: 0, fd, position: 0, file, lost };
        let mut used = 0;
        loop {
            let (at, room) = (listing.memory + used, ENTRIES_BYTES - used);
            let got = watches::observed(|| raw!(libc::SYS_getdents64, fd, at, room));
            if got < 0 {
                free(&listing);
                return None;
            }
            if got == 0 {
                break;
            }
            used += got as usize;
        }
        if !sort(&mut listing, used) {
            free(&listing);
            return None;
        }
        Some(listing)
    }
}

/// # Safety
/// `used` bytes of entries stand at the listing's memory.
unsafe fn sort(listing: &mut Listing, used: usize) -> bool {
    // SAFETY: the caller's promise; places are written where no entries are.
    unsafe {
        let order = (listing.memory + ENTRIES_BYTES) as *mut Place;
        let mut at = 0;
        while at < used {
            if listing.count == ORDER_BYTES / size_of::<Place>() {
                return false;
            }
            let entry = listing.memory + at;
            order
                .add(listing.count)
                .write(Place { position: behind(name(entry), listing.lost), at: at as u64 });
            listing.count += 1;
            at += length(entry);
        }
        core::slice::from_raw_parts_mut(order, listing.count).sort_unstable();
    }
    true
}

/// Gives out the entries behind `position`; returns their bytes and the new position.
unsafe fn give(listing: &Listing, position: u64, out: usize, room: usize) -> (isize, u64) {
    let (mut used, mut last) = (0, position);
    // SAFETY: `sort` wrote so many places; entries stand where they say, and the program has `room` bytes at `out`.
    unsafe {
        let order = (listing.memory + ENTRIES_BYTES) as *const Place;
        let order = core::slice::from_raw_parts(order, listing.count);
        let first = order.partition_point(|place| place.position <= position);
        for place in &order[first..] {
            let entry = listing.memory + place.at as usize;
            let bytes = length(entry);
            if used + bytes > room {
                return if used == 0 { (EINVAL, position) } else { (used as isize, last) };
            }
            let copy = out + used;
            core::ptr::copy_nonoverlapping(entry as *const u8, copy as *mut u8, bytes);
            ((copy + POSITION_AT) as *mut u64).write_unaligned(place.position);
            number(listing.fd, copy);
            used += bytes;
            last = place.position;
        }
    }
    (used as isize, END >> listing.lost)
}

/// The position behind a name, in the bits that are left. `.` and `..` come first all the same.
fn behind(name: &[u8], lost: u32) -> u64 {
    let position = position(name);
    if lost == 0 || matches!(name, b"." | b"..") { position } else { (position >> lost).max(3) }
}

unsafe fn length(entry: usize) -> usize {
    // SAFETY: the caller's promise: an entry of the kernel's stands there.
    usize::from(unsafe { ((entry + LENGTH_AT) as *const u16).read_unaligned() })
}

unsafe fn name<'a>(entry: usize) -> &'a [u8] {
    // SAFETY: as above; the name ends with a zero byte.
    unsafe { core::ffi::CStr::from_ptr((entry + NAME_AT) as *const core::ffi::c_char).to_bytes() }
}

/// Puts the number into an entry that `stat` of its name shows.
unsafe fn number(directory: usize, entry: usize) {
    const FLAGS: c_int = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the caller's promise: an entry stands there; our own structure.
    unsafe {
        let mut out: libc::stat = core::mem::zeroed();
        let path = entry + NAME_AT;
        let a = crate::args!(directory, path, &raw mut out, FLAGS);
        let done =
            stat::stat(libc::SYS_newfstatat, a, [directory, path, FLAGS as usize], &raw mut out as usize);
        // A directory that may be read but not entered: any number will do.
        let inode = if done == 0 { out.st_ino } else { position(name(entry)) };
        (entry as *mut u64).write_unaligned(inode);
    }
}
