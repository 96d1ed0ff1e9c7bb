//! A disk in memory that can lose what was not synced, fill up, and flip bits: for tests and the simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, DiskFile};

/// What a crash keeps or loses as a whole.
const SECTOR_BYTES: usize = 512;

/// A directory in memory. Clones share it, as processes share a disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Bytes>,
    next_file: u64,
    /// Bytes of files that may exist at once.
    capacity: Option<u64>,
    skip_syncs: u64,
    /// What changes something fails after so many more times.
    stops_after: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Bytes {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryFile {
    disk: MemoryDisk,
    id: u64,
}

impl MemoryDisk {
    /// A power failure: of what was not synced, `keep` decides for each sector and each name whether it was written.
    /// Files that are still open are of no use any more.
    pub fn crash(&self, mut keep: impl FnMut() -> bool) {
        let mut state = self.state();
        if !keep() {
            state.names = state.durable_names.clone();
        }
        let live: BTreeSet<u64> = state.names.values().copied().collect();
        state.files.retain(|id, _| live.contains(id));
        state.durable_names = state.names.clone();
        for file in state.files.values_mut() {
            for sector in std::mem::take(&mut file.dirty) {
                if keep() {
                    copy_sector(&file.now, &mut file.durable, sector);
                }
            }
            file.durable.resize(file.now.len(), 0);
            file.now = file.durable.clone();
        }
    }

    /// Creating files fails with "no space left" once all files together would exceed this.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The next `count` syncs do nothing, though they say that they did: what a lying disk does.
    pub fn skip_syncs(&self, count: u64) {
        self.state().skip_syncs = count;
    }

    /// After `count` more changes (of contents, names, or what of them is durable) all fail: the process that makes them has died.
    /// `None`: they work again.
    pub fn stop_after(&self, count: Option<u64>) {
        self.state().stops_after = count;
    }

    /// Another disk with the same files.
    pub fn duplicate(&self) -> Self {
        let state = self.state();
        let same = State {
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            files: state.files.clone(),
            next_file: state.next_file,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(same)))
    }

    /// Flips the bits of `mask` in one byte, durably.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) {
        let mut state = self.state();
        let id = state.names[name];
        let Some(file) = state.files.get_mut(&id) else { return };
        file.now[offset] ^= mask;
        file.durable[offset] = file.now[offset];
    }

    /// The bytes of a file.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).and_then(|id| state.files.get(id)).map(|file| file.now.clone())
    }

    /// Puts a file there, durably.
    pub fn set_contents(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let id = state.new_file(name, bytes);
        state.durable_names.insert(name.to_owned(), id);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, name: &str) -> io::Result<MemoryFile> {
        let id = *self.state().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(MemoryFile { disk: self.clone(), id })
    }
}

impl State {
    /// A change is about to be made.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.stops_after {
            None => Ok(()),
            Some(0) => Err(io::Error::other("it was stopped")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn new_file(&mut self, name: &str, bytes: Vec<u8>) -> u64 {
        self.next_file += 1;
        let id = self.next_file;
        self.files.insert(id, Bytes { durable: bytes.clone(), now: bytes, dirty: BTreeSet::new() });
        self.names.insert(name.to_owned(), id);
        id
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(|file| file.now.len() as u64).sum()
    }
}

fn copy_sector(from: &[u8], to: &mut Vec<u8>, sector: usize) {
    to.resize(from.len(), 0);
    let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(from.len());
    to[range.clone()].copy_from_slice(&from[range]);
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<MemoryFile> {
        let mut state = self.state();
        state.change()?;
        if state.capacity.is_some_and(|capacity| state.used() + len > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.new_file(name, vec![0; len as usize]);
        drop(state);
        self.file(name)
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        self.file(name)
    }

    fn open_writable(&self, name: &str) -> io::Result<MemoryFile> {
        self.file(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.names.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.contents(name))
    }

    fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.state().change()?;
        self.set_contents(name, bytes.to_vec());
        Ok(())
    }

    fn describe(&self, name: &str) -> String {
        format!("memory:{name}")
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> u64 {
        self.disk.state().files.get(&self.id).map_or(0, |file| file.now.len() as u64)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        let start = offset as usize;
        let target = file.now.get_mut(start..start + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        target.copy_from_slice(bytes);
        if !bytes.is_empty() {
            file.dirty.extend(start / SECTOR_BYTES..=(start + bytes.len() - 1) / SECTOR_BYTES);
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state();
        let file = state.files.get(&self.id).ok_or(io::ErrorKind::NotFound)?;
        let start = offset as usize;
        bytes.copy_from_slice(file.now.get(start..start + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        if state.skip_syncs > 0 {
            state.skip_syncs -= 1;
            return Ok(());
        }
        let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        let Bytes { now, durable, dirty } = file;
        for sector in std::mem::take(dirty) {
            copy_sector(now, durable, sector);
        }
        durable.resize(now.len(), 0);
        Ok(())
    }
}
