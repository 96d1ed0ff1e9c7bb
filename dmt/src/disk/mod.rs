//! Files on disk, as far as replicas can tell them apart: inode and device numbers, times, the order of a directory.
//!
//! The kernel keeps names and content, the same on every replica. What it adds of its own is replaced here: a file that
//! the server makes carries a number and the time of its last change in its access time ([`mark`]), which is on disk, so
//! that no table grows with the number of files, and a copy of the file system is all that a checkpoint needs. What has
//! been written and not yet been stored with the file is in [`written`]. Device numbers are counted ([`devices`]).
//!
//! preload makes the system calls; what they mean is decided here.

pub mod devices;
pub mod listing;
pub mod mark;
pub mod mounts;
pub mod shown;
pub mod time;
pub mod written;

pub use mark::Mark;
pub use shown::{Real, Shown};
pub use time::Time;
pub use written::{FileKey, SlotId};

use crate::bounds::{FIRST_VIRTUAL_INODE, MAX_VIRTUAL_INODES};

/// All state of this family. All zeroes is a valid one.
#[repr(C)]
pub struct Disk {
    /// Device numbers.
    pub devices: devices::Devices,
    /// Files with times that are not stored with them.
    pub written: written::Written,
    made: u32,
}

impl Disk {
    /// The number of a file that is made now. Numbers start again when they are used up; a file that old and a new one
    /// may then share one.
    pub fn next_inode(&mut self) -> u32 {
        let inode = FIRST_VIRTUAL_INODE + self.made;
        self.made = (self.made + 1) % (MAX_VIRTUAL_INODES - FIRST_VIRTUAL_INODE + 1);
        inode
    }
}
