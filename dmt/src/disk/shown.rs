//! What a program sees of a file, from what the kernel says.

use super::devices::Devices;
use super::{Disk, FileKey, Mark, Time};

/// Inode numbers of files that carry one are above those of the host's.
const OWN_INODES: u64 = 1 << 40;
/// Bytes of a directory, whatever the file system needs for its names.
const DIRECTORY_BYTES: u64 = 4096;
/// Names of a directory: as many as a file system says that does not count them.
const DIRECTORY_LINKS: u64 = 1;
/// A directory of the host that changed so shortly before the start is one that changes all the time, seconds.
const RECENTLY: i64 = 24 * 60 * 60;
/// Bytes of a unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;
/// Bytes in which a file's space is given out.
const CLUSTER_BYTES: u64 = 4096;

const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// What the kernel says.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Real {
    pub device: u64,
    pub inode: u64,
    pub mode: u32,
    pub links: u64,
    pub size: u64,
    pub blocks: u64,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
}

/// What the program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Shown {
    pub device: u64,
    pub inode: u64,
    pub links: u64,
    pub size: u64,
    pub blocks: u64,
    pub modified: Time,
    pub changed: Time,
}

impl Real {
    /// What the file carries.
    #[inline]
    pub fn mark(&self) -> Option<Mark> {
        Mark::decode(self.accessed)
    }

    /// Whether it is a directory.
    #[inline]
    pub fn is_directory(&self) -> bool {
        self.mode & TYPE == DIRECTORY
    }

    /// Whether it is a regular file.
    #[inline]
    pub fn is_regular(&self) -> bool {
        self.mode & TYPE == REGULAR
    }
}

impl Disk {
    /// What file it is.
    #[inline]
    pub fn key(&mut self, real: &Real) -> FileKey {
        match real.mark() {
            Some(Mark { inode: inode @ 1.., .. }) => FileKey::of_inode(inode),
            _ => FileKey::of_real(self.devices.index(real.device), real.inode),
        }
    }

    /// Whether this is a file of the host that has changed since `start`, the cluster's first moment, and not by the server: replicas
    /// may read it before and after, and so nothing that they share changes here.
    pub fn has_changed(&self, real: &Real, start: Time) -> bool {
        let of_host = real.is_regular() && real.mark().is_none() && !self.devices.is_measured(real.device);
        of_host
            && real.changed > start
            && self
                .devices
                .place(real.device)
                .is_some_and(|index| self.written.find(FileKey::of_real(index, real.inode)).is_none())
    }

    /// What a program sees of a file. One that the server never touched is the host's, but its times end at `start`, the
    /// cluster's first moment: what the host does in its directories later, replicas see at different times. For the same
    /// reason a directory in which the host is busy shows the start itself.
    #[inline]
    pub fn show(&mut self, real: &Real, start: Time) -> Shown {
        let index = self.devices.index(real.device);
        let mark = real.mark();
        let (inode, mut modified, mut changed) = match mark {
            Some(Mark { inode, changed }) => {
                let changed = Time { seconds: changed, nanoseconds: 0 };
                let own = if inode == 0 { real.inode } else { OWN_INODES + u64::from(inode) };
                (own, real.modified, real.modified.max(changed))
            }
            None => {
                let from = Time { seconds: start.seconds - RECENTLY, ..start };
                let end =
                    |time: Time| if real.is_directory() && time > from { start } else { time.min(start) };
                (real.inode, end(real.modified), end(real.changed))
            }
        };
        let key = self.key(real);
        let slot = self.written.find(key);
        if let Some(id) = slot {
            let slot = self.written.get(id);
            (modified, changed) = (slot.modified, slot.changed.max(slot.modified));
        }
        let (size, blocks) = match real.mode & TYPE {
            DIRECTORY => (DIRECTORY_BYTES, DIRECTORY_BYTES / BLOCK_BYTES),
            // How the file system lays it out, and when, is its own affair.
            REGULAR if mark.is_some() || slot.is_some() => {
                let clusters = real.size.div_ceil(CLUSTER_BYTES);
                (real.size, clusters * (CLUSTER_BYTES / BLOCK_BYTES))
            }
            _ if mark.is_some() => (real.size, 0),
            _ => (real.size, real.blocks),
        };
        let is_there = real.is_directory() && real.links > 0;
        let links = if is_there { DIRECTORY_LINKS } else { real.links };
        Shown { device: Devices::number(index), inode, links, size, blocks, modified, changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Box<Disk> {
        // SAFETY: plain data, for which all zeroes is valid; too large for a stack.
        unsafe {
            let layout = std::alloc::Layout::new::<Disk>();
            Box::from_raw(std::alloc::alloc_zeroed(layout).cast())
        }
    }

    fn at(seconds: i64) -> Time {
        Time { seconds, nanoseconds: 5 }
    }

    fn file(accessed: Time) -> Real {
        let times = (at(3_000_000_000), at(3_000_000_000));
        Real {
            device: 99,
            inode: 1234,
            mode: REGULAR | 0o644,
            links: 1,
            size: 5000,
            blocks: 3,
            accessed,
            modified: times.0,
            changed: times.1,
        }
    }

    #[test]
    fn a_file_of_the_host_is_shown_as_it_is_up_to_the_start() {
        let mut disk = disk();
        let start = at(2_000_000_000);
        let shown = disk.show(&file(at(1_999_999_999)), start);
        assert_eq!((shown.inode, shown.blocks, shown.size), (1234, 3, 5000));
        assert_eq!((shown.modified, shown.changed), (start, start));
        let recent = Real { modified: at(1_999_999_999), changed: at(1_999_999_999), ..file(at(0)) };
        assert_eq!(disk.show(&recent, start).modified, at(1_999_999_999));
        let busy = Real { mode: DIRECTORY | 0o755, ..recent };
        assert_eq!((disk.show(&busy, start).modified, disk.show(&busy, start).links), (start, 1));
        let old = Real { modified: at(1_000_000_000), ..file(at(0)) };
        assert_eq!(disk.show(&old, start).modified, at(1_000_000_000));
    }

    #[test]
    fn a_file_of_the_server_is_shown_by_what_it_carries() {
        let mut disk = disk();
        let mark = Mark { inode: 17, changed: 3_000_000_100 };
        let shown = disk.show(&file(mark.encode()), at(2_000_000_000));
        assert_eq!((shown.inode, shown.blocks), (OWN_INODES + 17, 16));
        assert_eq!(shown.modified, at(3_000_000_000));
        assert_eq!(shown.changed, Time { seconds: 3_000_000_100, nanoseconds: 0 });
    }

    #[test]
    fn only_the_hosts_own_changes_are_told() {
        let mut disk = disk();
        let start = at(2_000_000_000);
        let late = file(at(1_000_000_000));
        assert!(!disk.has_changed(&late, start), "no mount of the container has it");
        disk.devices.index(late.device);
        assert!(disk.has_changed(&late, start));
        assert!(!disk.has_changed(&Real { changed: start, ..late }, start));
        assert!(!disk.has_changed(&Real { mode: DIRECTORY | 0o755, ..late }, start));
        let mark = Mark { inode: 0, changed: 3_000_000_100 };
        assert!(!disk.has_changed(&file(mark.encode()), start), "the server did that");
        let key = disk.key(&late);
        let id = disk.written.find_or_make(key, at(3_000_000_000), at(3_000_000_000)).unwrap();
        disk.written.hold(id);
        assert!(!disk.has_changed(&late, start), "and that, which is not stored yet");
    }

    #[test]
    fn times_that_are_not_stored_yet_come_first() {
        let mut disk = disk();
        let real = file(Mark { inode: 17, changed: 3_000_000_100 }.encode());
        let key = disk.key(&real);
        let id = disk.written.find_or_make(key, at(4_000_000_000), at(4_000_000_000)).unwrap();
        disk.written.hold(id);
        let shown = disk.show(&real, at(2_000_000_000));
        assert_eq!((shown.modified, shown.changed), (at(4_000_000_000), at(4_000_000_000)));
    }

    #[test]
    fn devices_are_numbered_in_order_and_never_beyond_the_bound() {
        let mut disk = disk();
        for real in 1000..1200u64 {
            let expected = (real - 1000).min(crate::bounds::MAX_DEVICES as u64);
            assert_eq!(disk.devices.index(real), expected);
        }
        assert_eq!(disk.devices.index(1001), 1);
    }
}
