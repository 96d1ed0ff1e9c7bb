//! What a file carries in its access time: its number, and the time of its last change of any kind.
//!
//! The server's file systems are mounted `noatime`, and programs see the modification time in its place, so the field is
//! free. A mark looks like a time between 2106 and 2174. No file has such a time, and a kernel does not move it when
//! somebody reads the file outside (`relatime` moves what is old only). ext4, XFS (with `bigtime`), btrfs and tmpfs can
//! store it.

use super::time::Time;

/// Marked access times begin here.
const BASE_SECONDS: i64 = 1 << 32;
/// The change time 0: the earliest that can be stored, in 2004; the latest is in 2072.
const CHANGE_EPOCH: i64 = 1 << 30;
const LAST_CHANGE: i64 = (1 << 31) - 1;

/// What a marked file carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its number, 0 if it keeps the kernel's (a file of the host that the server changed).
    pub inode: u32,
    /// When its content, name or attributes last changed, in whole seconds.
    pub changed: i64,
}

impl Mark {
    /// The mark of a file that changes at `now`.
    pub fn new(inode: u32, now: Time) -> Self {
        Self { inode, changed: now.seconds }
    }

    /// The access time that says so.
    pub fn encode(self) -> Time {
        let changed = (self.changed - CHANGE_EPOCH).clamp(0, LAST_CHANGE);
        Time { seconds: BASE_SECONDS + changed, nanoseconds: i64::from(self.inode) }
    }

    /// What an access time says; `None` if it is one.
    pub fn decode(time: Time) -> Option<Self> {
        let changed = time.seconds - BASE_SECONDS;
        (0..=LAST_CHANGE)
            .contains(&changed)
            .then(|| Self { inode: time.nanoseconds as u32, changed: changed + CHANGE_EPOCH })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(inode in 0u32..1_000_000_000, changed in CHANGE_EPOCH..=CHANGE_EPOCH + LAST_CHANGE) {
            let mark = Mark { inode, changed };
            let time = mark.encode();
            // ext4 stores 34 bits, from 1901 on.
            prop_assert!(time.seconds < (1 << 34) - (1 << 31) && time.nanoseconds < 1_000_000_000);
            prop_assert_eq!(Mark::decode(time), Some(mark));
        }

        #[test]
        fn a_time_of_our_days_is_no_mark(seconds in -(1i64 << 40)..1 << 32, nanoseconds in 0i64..1_000_000_000) {
            prop_assert_eq!(Mark::decode(Time { seconds, nanoseconds }), None);
        }
    }
}
