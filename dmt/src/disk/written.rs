//! Files whose times are known here and not yet stored with them. A file gets a place when a process first writes to it,
//! and gives it back when the last of its writers closes it and the times have been stored. What cannot be stored keeps
//! its place: a file of another owner than the writer, or one that is mapped for writing, whose time the kernel changes
//! at its own pace.

use super::time::Time;
use crate::bounds::MAX_WRITTEN_FILES;

/// What file it is: its own number, or device and number of the kernel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FileKey(u64);

const OWN: u64 = 1 << 63;
const DEVICE_SHIFT: u32 = 56;

impl FileKey {
    /// A file that carries number `inode`.
    pub fn of_inode(inode: u32) -> Self {
        Self(OWN | u64::from(inode))
    }

    /// A file with the kernel's `inode` on the device at `index`.
    pub fn of_real(index: u64, inode: u64) -> Self {
        Self(index << DEVICE_SHIFT | inode & ((1 << DEVICE_SHIFT) - 1))
    }

    /// The number that the file carries, 0 if it carries none.
    pub fn own_inode(self) -> u32 {
        if self.0 & OWN == 0 { 0 } else { self.0 as u32 }
    }

    fn bucket(self) -> usize {
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % BUCKETS
    }
}

/// A place in the table, from 1; 0 is none.
pub type SlotId = u32;

/// Why a place is kept though nobody writes any more.
pub mod kept {
    /// The times could not be stored.
    pub const FOREIGN: u32 = 1;
    /// The file was mapped for writing.
    pub const MAPPED: u32 = 2;
    /// It is a directory: its times change with each name in it, too often to store them each time.
    pub const DIRECTORY: u32 = 4;
}

const BUCKETS: usize = 4096;

/// A file with times.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Slot {
    key: FileKey,
    /// Modification time.
    pub modified: Time,
    /// Change time.
    pub changed: Time,
    writers: u32,
    kept: u32,
    next: SlotId,
}

impl Slot {
    /// What file it is.
    pub fn key(&self) -> FileKey {
        self.key
    }
}

/// The table. All zeroes is an empty one.
#[repr(C)]
pub struct Written {
    slots: [Slot; MAX_WRITTEN_FILES],
    heads: [SlotId; BUCKETS],
    free: SlotId,
    touched: u32,
    used: u32,
}

impl Written {
    /// The place of a file, if it has one.
    #[inline]
    pub fn find(&self, key: FileKey) -> Option<SlotId> {
        if self.used == 0 {
            return None;
        }
        let mut id = self.heads[key.bucket()];
        while id != 0 {
            let slot = &self.slots[id as usize - 1];
            if slot.key == key {
                return Some(id);
            }
            id = slot.next;
        }
        None
    }

    /// A place.
    #[inline]
    pub fn get(&self, id: SlotId) -> &Slot {
        &self.slots[id as usize - 1]
    }

    /// A place, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: SlotId) -> &mut Slot {
        &mut self.slots[id as usize - 1]
    }

    fn take(&mut self) -> Option<SlotId> {
        if self.free != 0 {
            let id = self.free;
            self.free = self.get(id).next;
            return Some(id);
        }
        if self.touched as usize == MAX_WRITTEN_FILES {
            return None;
        }
        self.touched += 1;
        Some(self.touched)
    }

    /// The place of a file, a new one with these times if it has none; `None` if the table is full.
    pub fn find_or_make(&mut self, key: FileKey, modified: Time, changed: Time) -> Option<SlotId> {
        if let Some(id) = self.find(key) {
            return Some(id);
        }
        let id = self.take()?;
        let bucket = key.bucket();
        *self.get_mut(id) = Slot { key, modified, changed, writers: 0, kept: 0, next: self.heads[bucket] };
        self.heads[bucket] = id;
        self.used += 1;
        Some(id)
    }

    /// One more writer.
    pub fn hold(&mut self, id: SlotId) {
        self.get_mut(id).writers += 1;
    }

    /// Keeps the place for good, for reason `why` of [`kept`].
    pub fn keep(&mut self, id: SlotId, why: u32) {
        self.get_mut(id).kept |= why;
    }

    /// One writer less. True if it was the last: then the caller stores the times and says how that went to [`Written::stored`].
    pub fn release(&mut self, id: SlotId) -> bool {
        let slot = self.get_mut(id);
        slot.writers -= 1;
        slot.writers == 0
    }

    /// The times of a file without writers have been stored, or could not be.
    pub fn stored(&mut self, id: SlotId, done: bool) {
        let slot = self.get_mut(id);
        slot.kept = if done { slot.kept & !kept::FOREIGN } else { slot.kept | kept::FOREIGN };
        if slot.kept == 0 && slot.writers == 0 {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: SlotId) {
        let Slot { key, next, .. } = *self.get(id);
        let bucket = key.bucket();
        if self.heads[bucket] == id {
            self.heads[bucket] = next;
        } else {
            let mut before = self.heads[bucket];
            while self.get(before).next != id {
                before = self.get(before).next;
            }
            self.get_mut(before).next = next;
        }
        let free = core::mem::replace(&mut self.free, id);
        *self.get_mut(id) = Slot { next: free, ..Slot::default() };
        self.used -= 1;
    }

    /// Whether there is room for directories, which could do without.
    pub fn has_room(&self) -> bool {
        (self.used as usize) < MAX_WRITTEN_FILES / 2
    }

    /// A directory has been removed.
    pub fn forget(&mut self, key: FileKey) {
        if let Some(id) = self.find(key)
            && self.get(id).kept == kept::DIRECTORY
        {
            self.remove(id);
        }
    }

    /// Files in the table.
    pub fn used(&self) -> u32 {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Box<Written> {
        // SAFETY: plain data, for which all zeroes is valid; too large for a stack.
        unsafe {
            let layout = std::alloc::Layout::new::<Written>();
            Box::from_raw(std::alloc::alloc_zeroed(layout).cast())
        }
    }

    const T: Time = Time { seconds: 7, nanoseconds: 8 };

    #[test]
    fn a_place_is_given_back_when_its_times_are_stored() {
        let mut table = table();
        let keys: Vec<_> = (1..=MAX_WRITTEN_FILES as u32).map(FileKey::of_inode).collect();
        let ids: Vec<_> = keys.iter().map(|&key| table.find_or_make(key, T, T).unwrap()).collect();
        assert_eq!(table.find_or_make(FileKey::of_real(1, 2), T, T), None);
        for (&key, &id) in keys.iter().zip(&ids) {
            assert_eq!(table.find(key), Some(id));
            table.hold(id);
            assert!(table.release(id));
            table.stored(id, true);
            assert_eq!(table.find(key), None);
        }
        assert_eq!(table.used(), 0);
        assert!(table.find_or_make(FileKey::of_real(1, 2), T, T).is_some());
    }

    #[test]
    fn a_place_is_kept_while_somebody_writes_or_nobody_may_store() {
        let mut table = table();
        let key = FileKey::of_real(3, 9);
        let id = table.find_or_make(key, T, T).unwrap();
        table.hold(id);
        table.hold(id);
        assert!(!table.release(id));
        assert!(table.release(id));
        table.stored(id, false);
        assert_eq!(table.find(key), Some(id), "of another owner");
        table.stored(id, true);
        assert_eq!(table.find(key), None, "stored by its owner");
        let id = table.find_or_make(key, T, T).unwrap();
        table.keep(id, kept::MAPPED);
        table.stored(id, true);
        assert_eq!(table.find(key), Some(id), "mapped");
        table.forget(key);
        assert_eq!(table.find(key), Some(id), "not a directory");
    }

    #[test]
    fn a_removed_directory_is_forgotten() {
        let mut table = table();
        let key = FileKey::of_inode(5);
        let id = table.find_or_make(key, T, T).unwrap();
        table.keep(id, kept::DIRECTORY);
        table.forget(key);
        assert_eq!((table.find(key), table.used()), (None, 0));
    }
}
