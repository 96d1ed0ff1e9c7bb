//! Files without a peer: eventfd, signalfd, the random device; and pipes are made here.

use crate::call::Call;
use crate::file::abi::{
    EAGAIN, EBADF, EFD_SEMAPHORE, EINVAL, ENFILE, O_DIRECT, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY,
};
use crate::file::memory::UserMemory;
use crate::file::notify::{READABLE, WRITABLE};
use crate::file::waiting::{Try, Wait};
use crate::file::{FileId, FileKind, signals};
use crate::kernel::Kernel;
use crate::op::Op;
use crate::park::Space;
use crate::thread::ThreadId;

/// In a file's flags: an eventfd is a semaphore. Not visible to `F_GETFL`.
pub(crate) const SEMAPHORE: u8 = 32;
/// Longest piece of randomness copied at once, bytes.
const RANDOM_PIECE: usize = 1 << 20;

impl Kernel {
    pub(crate) fn read_eventfd(&mut self, id: FileId, target: &mut UserMemory<'_>) -> Try {
        if target.left() < 8 {
            return Try::Done(-EINVAL);
        }
        let file = self.files.get_mut(id);
        if file.counter == 0 {
            return if file.nonblocking() { Try::Done(-EAGAIN) } else { Wait::after(Space::Read, 0, 0) };
        }
        let value = if file.is(SEMAPHORE) { 1 } else { file.counter };
        file.counter -= value;
        copy_out(target, &value.to_le_bytes());
        self.notify(id, WRITABLE);
        Try::Done(8)
    }

    pub(crate) fn write_eventfd(&mut self, id: FileId, source: &mut UserMemory<'_>) -> Try {
        if source.left() < 8 && source.done() == 0 {
            return Try::Done(-EINVAL);
        }
        let Some(value) = source.peek_u64() else { return Try::Done(-EINVAL) };
        if value == u64::MAX {
            return Try::Done(-EINVAL);
        }
        let file = self.files.get_mut(id);
        if file.counter.checked_add(value).is_none_or(|sum| sum == u64::MAX) {
            return if file.nonblocking() { Try::Done(-EAGAIN) } else { Wait::after(Space::Write, 0, 0) };
        }
        file.counter += value;
        self.notify(id, READABLE);
        Try::Done(8)
    }

    pub(crate) fn read_signalfd(&mut self, me: ThreadId, id: FileId, target: &mut UserMemory<'_>) -> Try {
        if target.left() < signals::SIGINFO_BYTES {
            return Try::Done(-EINVAL);
        }
        let (mask, nonblocking) = (self.files.get(id).counter, self.files.get(id).nonblocking());
        while target.left() >= signals::SIGINFO_BYTES {
            let Some(info) = signals::take(self, me, mask) else { break };
            copy_out(target, &info);
        }
        match target.done() {
            0 if nonblocking => Try::Done(-EAGAIN),
            0 => Wait::after(Space::Read, 0, 0),
            done => Try::Done(done as i64),
        }
    }

    pub(crate) fn read_random(&mut self, target: &mut UserMemory<'_>) -> i64 {
        while target.left() > 0 {
            self.random.fill(target.target(RANDOM_PIECE));
        }
        target.done() as i64
    }

    fn create_numbered(&mut self, kind: FileKind, flags: i32) -> i64 {
        self.files.create(kind, O_RDWR | flags & O_NONBLOCK).map_or(-ENFILE, i64::from)
    }
}

/// Copies `bytes`, which the target has room for.
pub(crate) fn copy_out(target: &mut UserMemory<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let piece = target.target(bytes.len());
        if piece.is_empty() {
            return;
        }
        let (now, rest) = bytes.split_at(piece.len());
        piece.copy_from_slice(now);
        bytes = rest;
    }
}

impl Call<'_> {
    /// `pipe2`: fills in the reading and the writing file number.
    pub fn pipe(&self, flags: i32, files: &mut [FileId; 2]) -> i64 {
        let shared = self.shared();
        self.quick(Op::Pipe, 0, |k, _| {
            let kept = flags & (O_NONBLOCK | O_DIRECT);
            let Some(reader) = k.files.create(FileKind::PipeRead, O_RDONLY | kept) else { return -ENFILE };
            let Some(writer) = k.files.create(FileKind::PipeWrite, O_WRONLY | kept) else {
                k.release_file(shared, reader);
                return -ENFILE;
            };
            k.files.get_mut(reader).peer = writer;
            k.files.get_mut(writer).peer = reader;
            *files = [reader, writer];
            0
        })
    }

    /// `eventfd2`: returns a file number. `flags`: `EFD_SEMAPHORE`, `O_NONBLOCK`.
    pub fn eventfd(&self, initial: u32, flags: i32) -> i64 {
        self.quick(Op::EventFd, u64::from(initial), |k, _| {
            let id = k.create_numbered(FileKind::EventFd, flags);
            if id > 0 {
                let file = k.files.get_mut(id as FileId);
                file.counter = u64::from(initial);
                file.state = if flags & EFD_SEMAPHORE != 0 { SEMAPHORE } else { 0 };
            }
            id
        })
    }

    /// `signalfd4` with descriptor -1: returns a file number.
    pub fn signalfd(&self, mask: u64, flags: i32) -> i64 {
        self.quick(Op::SignalFd, mask, |k, _| {
            let id = k.create_numbered(FileKind::SignalFd, flags);
            if id > 0 {
                k.files.get_mut(id as FileId).counter = mask;
                if !k.watch_signals(id as FileId) {
                    k.release_file(self.shared(), id as FileId);
                    return -ENFILE;
                }
            }
            id
        })
    }

    /// `signalfd4` on an existing descriptor.
    pub fn signalfd_set(&self, fd: i32, mask: u64) -> i64 {
        self.quick(Op::SignalFd, mask, |k, me| match k.descriptor(me, fd) {
            Some(file) if k.files.get(file).kind == FileKind::SignalFd => {
                k.files.get_mut(file).counter = mask;
                k.notify(file, READABLE);
                i64::from(fd)
            }
            Some(_) => -EINVAL,
            None => -EBADF,
        })
    }

    /// `open` of `/dev/urandom` or `/dev/random`: returns a file number. `flags` are those of `open`, `device` is what `fstat`
    /// calls it.
    pub fn random_file(&self, flags: i32, device: u64) -> i64 {
        self.quick(Op::Random, 0, |k, _| {
            let Some(file) = k.files.create(FileKind::Random, flags & (3 | O_NONBLOCK)) else {
                return -ENFILE;
            };
            k.files.get_mut(file).counter = device;
            i64::from(file)
        })
    }

    /// The device number of a file that [`Call::random_file`] made; `None` for all others. Costs no tick.
    pub fn random_device(&self, fd: i32) -> Option<u64> {
        self.with(|k| {
            let file = k.files.get(k.descriptor(self.thread(), fd)?);
            (file.kind == FileKind::Random).then_some(file.counter)
        })
    }
}
