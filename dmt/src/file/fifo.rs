//! Named pipes (FIFOs): whoever opens one file of the disk meets here. The kernel's own are placeholders, which no byte passes.
//!
//! As Linux (`fs/pipe.c`): opening one end waits for the other unless it is non-blocking; a reader that came first is told of
//! an end only after there was a writer.

use crate::bounds::{MAX_FIFOS, PIPE_BYTES};
use crate::call::Call;
use crate::file::abi::{
    EAGAIN, EBADF, ENFILE, ENOBUFS, ENXIO, EPIPE, O_ACCMODE, O_NONBLOCK, O_RDONLY, O_WRONLY, POLLERR, POLLHUP,
};
use crate::file::memory::UserMemory;
use crate::file::notify::{READABLE, WRITABLE};
use crate::file::pool::Queue;
use crate::file::stream::PIPE_BUF;
use crate::file::waiting::{Try, Wait};
use crate::file::{FileId, FileKind, signals};
use crate::kernel::Kernel;
use crate::op::Op;
use crate::park::Space;
use crate::thread::ThreadId;

/// What `open` sets on every file.
const O_LARGEFILE: i32 = 0o100_000;

/// One that is open. Without ends it is a free slot.
#[repr(C)]
struct Fifo {
    /// Device and inode, as programs see them.
    name: [u64; 2],
    /// Newest first; [`super::table::File::next`] is the next one.
    ends: FileId,
    readers: u32,
    writers: u32,
    /// Ends that were opened so far.
    readers_ever: u32,
    writers_ever: u32,
    input: Queue,
}

/// All of a replica. All zeroes = none.
#[repr(C)]
pub(crate) struct Fifos {
    /// There is one on the disk, as far as is known: 0 or 1.
    seen: u32,
    table: [Fifo; MAX_FIFOS],
}

fn reads(flags: i32) -> bool {
    flags & O_ACCMODE != O_WRONLY
}

fn writes(flags: i32) -> bool {
    flags & O_ACCMODE != O_RDONLY
}

impl Kernel {
    fn fifo_of(&mut self, id: FileId) -> &mut Fifo {
        let at = self.files.get(id).counter as usize - 1;
        &mut self.files.fifos.table[at]
    }

    fn open_fifo(&mut self, name: [u64; 2], flags: i32) -> Result<FileId, i64> {
        self.files.fifos.seen = 1;
        let table = &self.files.fifos.table;
        let open = table.iter().position(|fifo| fifo.ends != 0 && fifo.name == name);
        if flags & O_ACCMODE == O_WRONLY
            && flags & O_NONBLOCK != 0
            && open.is_none_or(|at| table[at].readers == 0)
        {
            return Err(ENXIO);
        }
        let at = open.or_else(|| table.iter().position(|fifo| fifo.ends == 0)).ok_or(ENFILE)?;
        let kept = O_LARGEFILE | flags & (O_ACCMODE | O_NONBLOCK);
        let id = self.files.create(FileKind::Fifo, kept).ok_or(ENFILE)?;
        let fifo = &mut self.files.fifos.table[at];
        if fifo.ends == 0 {
            // SAFETY: numbers, for which zeroes are valid; the queue is empty, so it holds no block.
            *fifo = unsafe { core::mem::zeroed() };
            fifo.name = name;
        }
        let (others, ever) = match reads(flags) {
            true => (fifo.writers, fifo.writers_ever),
            false => (fifo.readers, fifo.readers_ever),
        };
        // One that is there has been met.
        let met = if others == 0 { ever } else { ever.wrapping_sub(1) };
        let next = core::mem::replace(&mut fifo.ends, id);
        for (is, now, ever) in [
            (reads(flags), &mut fifo.readers, &mut fifo.readers_ever),
            (writes(flags), &mut fifo.writers, &mut fifo.writers_ever),
        ] {
            *now += u32::from(is);
            *ever = ever.wrapping_add(u32::from(is));
        }
        let file = self.files.get_mut(id);
        (file.counter, file.next, file.met) = (at as u64 + 1, next, met);
        self.tell_ends(next, READABLE | WRITABLE);
        Ok(id)
    }

    /// Notifies the ends from `end` on.
    fn tell_ends(&mut self, mut end: FileId, events: u32) {
        while end != 0 {
            let next = self.files.get(end).next;
            self.notify(end, events);
            end = next;
        }
    }

    /// Whether the other end was open at some time since `id` was opened.
    fn has_met(&mut self, id: FileId) -> bool {
        let (flags, met) = (self.files.get(id).flags, self.files.get(id).met);
        let fifo = self.fifo_of(id);
        match reads(flags) {
            true => fifo.writers > 0 || fifo.writers_ever != met,
            false => fifo.readers > 0 || fifo.readers_ever != met,
        }
    }

    /// Bytes that a write takes now.
    pub(crate) fn fifo_room(&mut self, id: FileId) -> u64 {
        PIPE_BYTES.saturating_sub(self.fifo_of(id).input.len())
    }

    /// Bytes that wait to be read.
    pub(crate) fn fifo_bytes(&mut self, id: FileId) -> u64 {
        self.fifo_of(id).input.len()
    }

    pub(crate) fn read_fifo(&mut self, id: FileId, target: &mut UserMemory<'_>) -> Try {
        let flags = self.files.get(id).flags;
        if !reads(flags) {
            return Try::Done(-EBADF);
        }
        if target.left() == 0 {
            return Try::Done(0);
        }
        let at = self.files.get(id).counter as usize - 1;
        let (fifos, pool) = (&mut self.files.fifos, &mut self.files.pool);
        let fifo = &mut fifos.table[at];
        if fifo.input.is_empty() {
            return match fifo.writers {
                0 => Try::Done(0),
                _ if flags & O_NONBLOCK != 0 => Try::Done(-EAGAIN),
                _ => Wait::after(Space::Read, 0, 0),
            };
        }
        while target.left() > 0 && !fifo.input.is_empty() {
            let most = usize::try_from(fifo.input.len()).unwrap_or(usize::MAX);
            let piece = target.target(most);
            pool.pop(&mut fifo.input, piece);
        }
        let ends = fifo.ends;
        if PIPE_BYTES - fifo.input.len() >= PIPE_BUF {
            self.tell_ends(ends, WRITABLE);
        }
        Try::Done(target.done() as i64)
    }

    pub(crate) fn write_fifo(&mut self, me: ThreadId, id: FileId, source: &mut UserMemory<'_>) -> Try {
        let (flags, before) = (self.files.get(id).flags, source.done());
        let so_far = |done: usize, errno: i64| Try::Done(if done > 0 { done as i64 } else { -errno });
        if !writes(flags) {
            return Try::Done(-EBADF);
        }
        if self.fifo_of(id).readers == 0 {
            signals::broken_pipe(self, me, before > 0);
            return so_far(before, EPIPE);
        }
        let (room, whole) = (self.fifo_room(id), source.left() as u64);
        let mut left = if whole <= PIPE_BUF && room < whole { 0 } else { room.min(whole) } as usize;
        if left > 0 {
            let at = self.files.get(id).counter as usize - 1;
            let (fifos, pool) = (&mut self.files.fifos, &mut self.files.pool);
            if pool.room() < left as u64 {
                return so_far(before, ENOBUFS);
            }
            let fifo = &mut fifos.table[at];
            while left > 0 {
                let piece = source.source(left);
                pool.push(&mut fifo.input, piece);
                left -= piece.len();
            }
            let ends = fifo.ends;
            self.tell_ends(ends, READABLE);
        }
        let done = source.done();
        if source.left() == 0 {
            return Try::Done(done as i64);
        }
        if flags & O_NONBLOCK != 0 { so_far(done, EAGAIN) } else { Wait::after(Space::Write, 0, done) }
    }

    pub(crate) fn fifo_readiness(&self, id: FileId) -> u32 {
        let file = self.files.get(id);
        let fifo = &self.files.fifos.table[file.counter as usize - 1];
        let mut ready = 0;
        if reads(file.flags) {
            ready |= if fifo.input.is_empty() { 0 } else { READABLE };
            ready |= if fifo.writers == 0 && fifo.writers_ever != file.met { POLLHUP } else { 0 };
        }
        if writes(file.flags) {
            ready |= if PIPE_BYTES - fifo.input.len() >= PIPE_BUF { WRITABLE } else { 0 };
            ready |= if fifo.readers == 0 { POLLERR } else { 0 };
        }
        ready
    }

    /// The last reference to an end is gone; with the last end goes what nobody has read.
    pub(crate) fn close_fifo(&mut self, id: FileId) {
        let (flags, next) = (self.files.get(id).flags, self.files.get(id).next);
        let first = self.fifo_of(id).ends;
        if first == id {
            self.fifo_of(id).ends = next;
        } else {
            let mut before = first;
            while self.files.get(before).next != id {
                before = self.files.get(before).next;
            }
            self.files.get_mut(before).next = next;
        }
        let fifo = self.fifo_of(id);
        fifo.readers -= u32::from(reads(flags));
        fifo.writers -= u32::from(writes(flags));
        let ends = fifo.ends;
        if ends == 0 {
            let at = self.files.get(id).counter as usize - 1;
            let (fifos, pool) = (&mut self.files.fifos, &mut self.files.pool);
            pool.clear(&mut fifos.table[at].input);
        }
        self.tell_ends(ends, READABLE | WRITABLE | POLLHUP | POLLERR);
    }
}

impl Call<'_> {
    /// `open` of a FIFO: returns a file number. `device` and `inode` are what programs see of it. For an end that has to wait for
    /// the other one call [`Call::fifo_meet`] then.
    pub fn fifo(&self, device: u64, inode: u64, flags: i32) -> i64 {
        self.quick(Op::Fifo, flags as u64, |k, _| {
            k.open_fifo([device, inode], flags).map_or_else(|errno| -errno, i64::from)
        })
    }

    /// Waits until the other end of a FIFO is opened.
    pub fn fifo_meet(&self, fd: i32) -> i64 {
        self.file_op(Op::Fifo, fd, |k, _, _, file| {
            if k.files.get(file).kind != FileKind::Fifo || k.has_met(file) {
                return Try::Done(0);
            }
            let space = if reads(k.files.get(file).flags) { Space::Read } else { Space::Write };
            Wait::after(space, 0, 0)
        })
    }

    /// There is a FIFO on the disk.
    pub fn note_fifo(&self) {
        self.with(|k| k.files.fifos.seen = 1);
    }

    /// Whether there is one, as far as is known.
    pub fn has_fifos(&self) -> bool {
        self.with(|k| k.files.fifos.seen != 0)
    }
}
