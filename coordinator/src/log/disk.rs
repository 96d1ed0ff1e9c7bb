//! Where log files live: a trait, so that the simulator can lose writes and flip bits, and the real thing.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use super::error::LogError;
use super::spare::Spare;

/// A directory of log files.
pub trait Disk {
    /// An open file of it.
    type File: DiskFile + std::fmt::Debug;
    /// Names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file of `len` zero bytes, all of them allocated, so that later writes cannot run out of space.
    fn create(&self, name: &str, len: u64) -> io::Result<Self::File>;
    /// Begins to make a file that the next [`Disk::create`] of this name and length takes, with its zeros on the disk if
    /// `durable`. Only a hint: errors show when it is taken.
    fn prepare(&self, _name: &str, _len: u64, _durable: bool) {}
    /// Closes a file that is not needed any more, perhaps later.
    fn retire(&self, file: Self::File) {
        drop(file);
    }
    /// Opens a file to be read.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file to be read and written.
    fn open_writable(&self, name: &str) -> io::Result<Self::File>;
    /// Renames a file, replacing the target.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Removes a file that is not needed any more, perhaps later. If that fails, it is tried again at the next start.
    fn discard(&self, name: &str) {
        if let Err(error) = self.remove(name) {
            tracing::warn!("cannot remove {}: {error}", self.describe(name));
        }
    }
    /// Makes created, renamed and removed names durable.
    fn sync_names(&self) -> io::Result<()>;
    /// Reads a small file whole; `None` if there is none.
    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Writes a small file, durably and all or nothing.
    fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Writes a small file, all or nothing if no power is lost.
    fn write_small_unsynced(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_small(name, bytes)
    }
    /// How messages call this file; the directory itself for an empty name.
    fn describe(&self, name: &str) -> String;
}

/// An open log file.
pub trait DiskFile {
    /// Bytes in the file.
    fn len(&self) -> u64;
    /// Whether the file has no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Writes within the file's length.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads within the file's length.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Waits until everything written is durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// A real directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Holds a record lock, which the kernel drops with this process, and which a forked child does not inherit.
    _lock: File,
    /// Started when it is first needed.
    spare: RefCell<Option<Spare>>,
}

impl Directory {
    /// Opens `path` for this process alone, and makes it if need be.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let io = |source| LogError::Io { action: "open", file: path.display().to_string(), source };
        fs::create_dir_all(path).map_err(io)?;
        // The names of the log's directory and of the replica's must outlive a power cut as well as what is in them.
        for above in path.ancestors().skip(1).take(2).filter(|above| !above.as_os_str().is_empty()) {
            File::open(above).and_then(|directory| directory.sync_all()).map_err(io)?;
        }
        let lock =
            File::options().read(true).write(true).create(true).truncate(false).open(path.join("lock"));
        let lock = lock.map_err(io)?;
        let whole = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
        // SAFETY: the descriptor is open, and `whole` is a valid flock that the call only reads.
        if unsafe { libc::fcntl(lock.as_raw_fd(), libc::F_SETLK, &whole) } != 0 {
            let error = io::Error::last_os_error();
            let taken = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EAGAIN));
            return Err(if taken {
                LogError::InUse { directory: path.display().to_string() }
            } else {
                io(error)
            });
        }
        Ok(Self { path: path.to_owned(), _lock: lock, spare: RefCell::default() })
    }
}

impl Disk for Directory {
    type File = MappedFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in fs::read_dir(&self.path)? {
            names.extend(item?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<MappedFile> {
        let path = self.path.join(name);
        let ready = self.spare.borrow_mut().as_mut().and_then(|spare| spare.take(&path, len));
        // What kept the other thread from making it may be over.
        ready.and_then(Result::ok).map_or_else(|| MappedFile::create(&path, len), Ok)
    }

    fn prepare(&self, name: &str, len: u64, durable: bool) {
        let mut spare = self.spare.borrow_mut();
        spare.get_or_insert_with(Spare::start).make(self.path.join(name), len, durable);
    }

    fn retire(&self, file: MappedFile) {
        match &*self.spare.borrow() {
            Some(spare) => spare.close(file),
            None => drop(file),
        }
    }

    fn open(&self, name: &str) -> io::Result<MappedFile> {
        MappedFile::new(File::open(self.path.join(name))?, false)
    }

    fn open_writable(&self, name: &str) -> io::Result<MappedFile> {
        MappedFile::new(File::options().read(true).write(true).open(self.path.join(name))?, true)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn discard(&self, name: &str) {
        let path = self.path.join(name);
        match &*self.spare.borrow() {
            Some(spare) => spare.remove(path),
            None => remove(&path),
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        match File::open(self.path.join(name)) {
            Ok(mut file) => file.read_to_end(&mut bytes).map(|_| Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.tmp");
        let mut file = File::create(self.path.join(&temporary))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.rename(&temporary, name)?;
        self.sync_names()
    }

    fn write_small_unsynced(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.tmp");
        fs::write(self.path.join(&temporary), bytes)?;
        self.rename(&temporary, name)
    }

    fn describe(&self, name: &str) -> String {
        if name.is_empty() {
            self.path.display().to_string()
        } else {
            self.path.join(name).display().to_string()
        }
    }
}

/// Removes a file that nobody needs; what is left of it is removed at the next start.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

/// Takes the room for the first `len` bytes of a file.
pub fn allocate(file: &File, len: u64) -> io::Result<()> {
    let len = i64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open; the call touches no memory of this process.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A file; if it is writable, mapped shared, so that what was written survives the death of this process.
#[derive(Debug)]
pub struct MappedFile {
    file: File,
    len: u64,
    map: Option<NonNull<u8>>,
}

// SAFETY: the mapping belongs to this value alone, and `&self` methods only read from it.
unsafe impl Send for MappedFile {}

impl MappedFile {
    /// Makes the file anew; nothing is left of it after an error.
    pub(super) fn create(path: &Path, len: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let made = allocate(&file, len).and_then(|()| Self::new(file, true));
        if made.is_err() {
            let _ = fs::remove_file(path);
        }
        made
    }

    /// Writes `zeros` over zeros at `offset`, so that these pages are there and may be written. By the file first: what is touched in
    /// the mapping alone is read ahead, megabytes of it on some disks, and the kernel keeps the processor for that.
    pub(super) fn touch(&mut self, offset: u64, zeros: &[u8]) -> io::Result<()> {
        self.file.write_all_at(zeros, offset)?;
        self.write_at(offset, zeros)
    }

    /// Unmaps so many bytes at a time, and gives way after each; then closes the file.
    pub(super) fn close_in_pieces(mut self, piece: u64) {
        let Some(map) = self.map.take() else { return };
        let mut at = 0;
        while at < self.len {
            let bytes = piece.min(self.len - at) as usize;
            // SAFETY: a part of the mapping that `mmap` made with this length, which has no other owner any more.
            unsafe { libc::munmap(map.as_ptr().add(at as usize).cast(), bytes) };
            at += bytes as u64;
            std::thread::yield_now();
        }
    }

    fn new(file: File, writable: bool) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let map = if writable && len > 0 { Some(Self::map(&file, len)?) } else { None };
        Ok(Self { file, len, map })
    }

    fn map(file: &File, len: u64) -> io::Result<NonNull<u8>> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses; the descriptor is open and `len` not zero.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn check(&self, offset: u64, len: usize) -> io::Result<usize> {
        let fits = offset.checked_add(len as u64).is_some_and(|end| end <= self.len);
        if fits { Ok(offset as usize) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl DiskFile for MappedFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = self.check(offset, bytes.len())?;
        let Some(map) = self.map else { return Err(io::ErrorKind::PermissionDenied.into()) };
        // SAFETY: `check` keeps the range inside the mapping, whose blocks are all allocated; `bytes` is another object,
        // because nobody else has a pointer into the mapping.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), map.as_ptr().add(start), bytes.len()) };
        Ok(())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let start = self.check(offset, bytes.len())?;
        match self.map {
            None => self.file.read_exact_at(bytes, offset),
            Some(map) => {
                // SAFETY: as in `write_at`.
                unsafe {
                    std::ptr::copy_nonoverlapping(map.as_ptr().add(start), bytes.as_mut_ptr(), bytes.len())
                };
                Ok(())
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        // On Linux this writes pages that were dirtied through the mapping as well.
        self.file.sync_data()
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        if let Some(map) = self.map {
            // SAFETY: `map` was made by `mmap` with this length, and no pointer into it outlives this value.
            unsafe { libc::munmap(map.as_ptr().cast(), self.len as usize) };
        }
    }
}
