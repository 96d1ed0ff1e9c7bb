//! The bytes of a disk with a volatile cache.

use std::collections::BTreeSet;

/// What is kept or lost as a whole.
pub const SECTOR_BYTES: usize = 512;
/// The beginning of the disk, which is kept or lost as a whole, too: ext4 has its superblock there, longer than a sector, and
/// mounts nothing of which half a superblock was written, whatever its journal has.
pub const SUPERBLOCK_BYTES: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct VolatileFile {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors of `now` that no flush has seen.
    dirty: BTreeSet<usize>,
    dead: bool,
    flushes: u64,
    /// The power fails when so many more writes have come.
    fuse: Option<u32>,
}

/// The disk has no power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPower;

impl VolatileFile {
    /// Zeros.
    pub fn new(bytes: usize) -> Self {
        Self {
            now: vec![0; bytes],
            durable: vec![0; bytes],
            dirty: BTreeSet::new(),
            dead: false,
            flushes: 0,
            fuse: None,
        }
    }

    /// Its size.
    pub fn len(&self) -> usize {
        self.now.len()
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.now.is_empty()
    }

    /// Sectors that a cut could lose.
    pub fn unflushed(&self) -> usize {
        self.dirty.len()
    }

    /// Bytes from `offset`, as many as there are.
    pub fn read(&self, offset: usize, len: usize) -> Result<&[u8], NoPower> {
        if self.dead {
            return Err(NoPower);
        }
        let begin = offset.min(self.now.len());
        Ok(&self.now[begin..(offset.saturating_add(len)).min(self.now.len())])
    }

    /// Writes into the cache; how many bytes fitted.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<usize, NoPower> {
        if self.dead {
            return Err(NoPower);
        }
        let len = bytes.len().min(self.now.len().saturating_sub(offset));
        if len > 0 {
            self.now[offset..offset + len].copy_from_slice(&bytes[..len]);
            self.dirty.extend(offset / SECTOR_BYTES..=(offset + len - 1) / SECTOR_BYTES);
        }
        if let Some(left) = &mut self.fuse {
            *left = left.saturating_sub(1);
            self.dead = *left == 0;
        }
        Ok(len)
    }

    /// Makes everything written durable.
    pub fn flush(&mut self) -> Result<(), NoPower> {
        if self.dead {
            return Err(NoPower);
        }
        self.flushes += 1;
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
        Ok(())
    }

    /// How often everything was made durable.
    pub fn flushes(&self) -> u64 {
        self.flushes
    }

    /// The power will fail with the `writes`-th write from now, which is still in the cache then.
    pub fn fail_at(&mut self, writes: u32) {
        self.fuse = Some(writes);
    }

    /// Whether the power has failed.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Cuts the power, if it has not failed yet; what is on the disk when it comes back.
    pub fn cut(&mut self, mut keep: impl FnMut() -> bool) -> Self {
        self.dead = true;
        let keep_superblock = keep();
        for sector in std::mem::take(&mut self.dirty) {
            let kept = if sector < SUPERBLOCK_BYTES / SECTOR_BYTES { keep_superblock } else { keep() };
            if kept {
                self.keep(sector);
            }
        }
        let durable = std::mem::take(&mut self.durable);
        Self { now: durable.clone(), durable, dirty: BTreeSet::new(), dead: false, flushes: 0, fuse: None }
    }

    fn keep(&mut self, sector: usize) {
        let begin = sector * SECTOR_BYTES;
        let end = (begin + SECTOR_BYTES).min(self.now.len());
        self.durable[begin..end].copy_from_slice(&self.now[begin..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::{NoPower, SECTOR_BYTES, SUPERBLOCK_BYTES, VolatileFile};

    #[test]
    fn a_cut_loses_what_was_not_flushed_and_nothing_else() {
        let begin = SUPERBLOCK_BYTES;
        let mut file = VolatileFile::new(begin + 4 * SECTOR_BYTES);
        file.write(begin + 10, b"flushed").unwrap();
        file.flush().unwrap();
        let border = begin + SECTOR_BYTES;
        file.write(border - 2, b"lost").unwrap();
        file.write(SECTOR_BYTES - 2, b"gone").unwrap();
        assert_eq!((file.unflushed(), file.read(border - 2, 4)), (4, Ok(&b"lost"[..])));
        let mut answers = [false, true, false].into_iter();
        let mut left = file.cut(|| answers.next().unwrap());
        assert_eq!(file.read(0, 1), Err(NoPower));
        assert_eq!((file.write(0, b"x"), file.flush()), (Err(NoPower), Err(NoPower)));
        assert_eq!(left.read(begin + 10, 7), Ok(&b"flushed"[..]));
        assert_eq!(left.read(border - 2, 4), Ok(&b"lo\0\0"[..]), "the first sector was kept");
        assert_eq!(left.read(SECTOR_BYTES - 2, 4), Ok(&[0; 4][..]), "the superblock was lost");
        assert_eq!(left.write(border + 3 * SECTOR_BYTES - 1, b"ab"), Ok(1), "there is no room for more");
    }
}
