//! inotify: who watches what, and what is told to whom.
//!
//! That something happened to a file is the kernel's to know. The processes of a replica share one inotify instance of the
//! kernel's, which watches all that any instance of the server's watches (a *place* is its number for a file), and preload
//! takes out of it what a call made, right after the call and under the turn. So events come in the order of the
//! schedule, and what others do to the replica's files (`brolga exec`) is not among them.

use crate::bounds::{MAX_INOTIFY_EVENTS, MAX_INOTIFY_INSTANCES, POOL_HIGH_WATER_BLOCKS};
use crate::call::Call;
use crate::file::abi::{
    EAGAIN, EBADF, EEXIST, EINVAL, EMFILE, ENFILE, ENOSPC, O_CLOEXEC, O_NONBLOCK, O_RDONLY,
};
use crate::file::event::copy_out;
use crate::file::memory::UserMemory;
use crate::file::notify::READABLE;
use crate::file::waiting::{Try, Wait};
use crate::file::watched::{Watch, WatchId};
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::op::Op;
use crate::park::Space;
use crate::thread::ThreadId;

const IN_UNMOUNT: u32 = 0x2000;
const IN_Q_OVERFLOW: u32 = 0x4000;
const IN_IGNORED: u32 = 0x8000;
/// Told whatever is watched for.
const ALWAYS: u32 = IN_UNMOUNT | IN_IGNORED;
const IN_MASK_CREATE: u32 = 0x1000_0000;
const IN_MASK_ADD: u32 = 0x2000_0000;
const IN_ONESHOT: u32 = 0x8000_0000;
/// A mask without any of these asks for nothing.
const ALL_BITS: u32 = 0xf700_efff;
/// Events in a mask; the others are flags.
const EVENT_BITS: u32 = 0xffff;

/// Bytes of an event without a name.
pub const HEADER_BYTES: usize = 16;
/// Bytes of the longest event: a name of 255 bytes and its end.
pub(super) const EVENT_BYTES: usize = HEADER_BYTES + 256;
/// What the kernel told.
#[derive(Clone, Copy, Debug)]
pub struct Happened<'a> {
    /// Where.
    pub place: i32,
    /// What.
    pub mask: u32,
    /// Joins the two halves of a rename.
    pub cookie: u32,
    /// The name in the watched directory, without the zero bytes behind it.
    pub name: &'a [u8],
}

fn place_of(file: u64) -> usize {
    file as usize - 1
}

impl Kernel {
    fn instance_of(&self, me: ThreadId, fd: i32) -> Result<usize, i64> {
        let file = self.descriptor(me, fd).ok_or(EBADF)?;
        let file = self.files.get(file);
        if file.kind == FileKind::Inotify { Ok(place_of(file.counter)) } else { Err(EINVAL) }
    }

    fn make_inotify(&mut self, flags: i32) -> Result<FileId, i64> {
        if flags & !(O_NONBLOCK | O_CLOEXEC) != 0 {
            return Err(EINVAL);
        }
        let all = &self.files.inotify.instances;
        let at = all.iter().position(|instance| instance.file == 0).ok_or(EMFILE)?;
        let kept = O_RDONLY | flags & O_NONBLOCK;
        let file = self.files.create(FileKind::Inotify, kept).ok_or(ENFILE)?;
        self.files.get_mut(file).counter = at as u64 + 1;
        let instance = &mut self.files.inotify.instances[at];
        // SAFETY: numbers and bytes, for which zeroes are valid.
        *instance = unsafe { core::mem::zeroed() };
        instance.file = file;
        Ok(file)
    }

    /// An instance is closed for good; the kernel goes on watching until preload asks what for.
    pub(crate) fn close_inotify(&mut self, id: FileId) {
        let at = place_of(self.files.get(id).counter);
        let inotify = &mut self.files.inotify;
        while inotify.instances[at].watches != 0 {
            let watch = inotify.instances[at].watches;
            inotify.unlink(at, watch);
            inotify.watch(watch).owner = 0;
            inotify.watch(watch).next = core::mem::replace(&mut inotify.orphans, watch);
        }
        inotify.instances[at].file = 0;
    }

    fn add_watch(&mut self, at: usize, place: i32, mask: u32) -> Result<i32, i64> {
        let inotify = &mut self.files.inotify;
        if let Some(id) = inotify.find(at, |watch| watch.place == place) {
            if mask & IN_MASK_CREATE != 0 {
                return Err(EEXIST);
            }
            let watch = inotify.watch(id);
            watch.mask = if mask & IN_MASK_ADD != 0 { watch.mask | mask } else { mask };
            return Ok(watch.number);
        }
        let id = inotify.take(place).ok_or(ENOSPC)?;
        let instance = &mut inotify.instances[at];
        instance.last_number += 1;
        let (owner, number) = (instance.file, instance.last_number);
        let next = core::mem::replace(&mut instance.watches, id);
        let watch = inotify.watch(id);
        (watch.owner, watch.number, watch.mask, watch.next) = (owner, number, mask, next);
        Ok(number)
    }

    /// Puts an event behind the others of an instance; beyond the bound, one that says so.
    fn put_event(&mut self, at: usize, number: i32, mask: u32, cookie: u32, name: &[u8]) {
        let full = self.files.inotify.instances[at].events as usize >= MAX_INOTIFY_EVENTS
            || self.files.pool.used() >= POOL_HIGH_WATER_BLOCKS;
        let (number, mask, cookie, name) =
            if full { (-1, IN_Q_OVERFLOW, 0, &[][..]) } else { (number, mask, cookie, name) };
        let room = if name.is_empty() { 0 } else { (name.len() + 1).next_multiple_of(HEADER_BYTES) };
        let mut event = [0u8; EVENT_BYTES];
        for (word, value) in [number as u32, mask, cookie, room as u32].into_iter().enumerate() {
            event[4 * word..4 * word + 4].copy_from_slice(&value.to_le_bytes());
        }
        event[HEADER_BYTES..HEADER_BYTES + name.len()].copy_from_slice(name);
        let event = &event[..HEADER_BYTES + room];
        let instance = &mut self.files.inotify.instances[at];
        let file = instance.file;
        let unread = !self.files.get(file).input.is_empty();
        let instance = &mut self.files.inotify.instances[at];
        // As Linux: a cookie alone makes no other event.
        let same = |tail: &[u8]| tail[..8] == event[..8] && tail[12..] == event[12..];
        let tail = &instance.tail[..instance.tail_bytes as usize];
        if unread && tail.len() == event.len() && mask & IN_IGNORED == 0 && same(tail) {
            return;
        }
        instance.events += 1;
        instance.tail_bytes = event.len() as u32;
        instance.tail[..event.len()].copy_from_slice(event);
        let (file_slot, pool) = self.files.with_pool(file);
        pool.push(&mut file_slot.input, event);
        self.notify(file, READABLE);
    }

    /// Ends a watch that its instance has, and tells so; true if nobody watches its place any more.
    fn end_watch(&mut self, at: usize, id: WatchId) -> bool {
        let inotify = &mut self.files.inotify;
        let (number, place) = (inotify.watch(id).number, inotify.watch(id).place);
        inotify.unlink(at, id);
        inotify.give_back(id);
        let last = inotify.next_on(place, 0).is_none();
        self.put_event(at, number, IN_IGNORED, 0, &[]);
        last
    }

    fn tell_watchers(&mut self, me: ThreadId, event: &Happened<'_>) {
        let cookie = self.files.inotify.cookie(event.cookie);
        if event.mask & IN_Q_OVERFLOW != 0 {
            for at in 0..MAX_INOTIFY_INSTANCES {
                if self.files.inotify.instances[at].file != 0 {
                    self.put_event(at, -1, IN_Q_OVERFLOW, 0, &[]);
                }
            }
            return;
        }
        let mut after = 0;
        while let Some(id) = self.files.inotify.next_on(event.place, after) {
            let Watch { owner, number, mask, .. } = *self.files.inotify.watch(id);
            let at = place_of(self.files.get(owner).counter);
            if event.mask & IN_IGNORED != 0 {
                // The file is gone, and with it the kernel's watch.
                self.end_watch(at, id);
                continue;
            }
            after = id;
            if event.mask & (mask | ALWAYS) & EVENT_BITS == 0 {
                continue;
            }
            self.put_event(at, number, event.mask, cookie, event.name);
            if mask & IN_ONESHOT != 0 {
                // Its chain goes on behind it.
                after = self.end_one_shot(at, id);
            }
        }
        let name = event.name.iter().fold(0u64, |sum, &byte| sum.rotate_left(5) ^ u64::from(byte));
        self.note(me, Op::Inotify, (event.place as u64) << 32 | u64::from(event.mask), name as i64);
    }

    /// Leaves a watch that was for one event to the orphans, after which the kernel's is ended.
    fn end_one_shot(&mut self, at: usize, id: WatchId) -> WatchId {
        let inotify = &mut self.files.inotify;
        let number = inotify.watch(id).number;
        inotify.unlink(at, id);
        inotify.watch(id).owner = 0;
        inotify.watch(id).next = core::mem::replace(&mut inotify.orphans, id);
        self.put_event(at, number, IN_IGNORED, 0, &[]);
        id
    }

    pub(crate) fn read_inotify(&mut self, id: FileId, target: &mut UserMemory<'_>) -> Try {
        let at = place_of(self.files.get(id).counter);
        if self.files.get(id).input.is_empty() {
            return match self.files.get(id).nonblocking() {
                true => Try::Done(-EAGAIN),
                false => Wait::after(Space::Read, 0, 0),
            };
        }
        let mut event = [0u8; EVENT_BYTES];
        while !self.files.get(id).input.is_empty() {
            let (file, pool) = self.files.with_pool(id);
            pool.peek(&file.input, 0, &mut event[..HEADER_BYTES]);
            let room = u32::from_le_bytes(event[12..HEADER_BYTES].try_into().unwrap_or_default());
            let length = (HEADER_BYTES + room as usize).min(EVENT_BYTES);
            if target.left() < length {
                break;
            }
            pool.pop(&mut file.input, &mut event[..length]);
            copy_out(target, &event[..length]);
            self.files.inotify.instances[at].events -= 1;
        }
        Try::Done(if target.done() == 0 { -EINVAL } else { target.done() as i64 })
    }
}

fn result(value: Result<i32, i64>) -> i64 {
    value.map_or_else(|errno| -errno, i64::from)
}

impl Call<'_> {
    /// Whether anybody watches any file. Costs no tick.
    #[inline]
    pub fn is_watching(&self) -> bool {
        self.with(|k| k.files.inotify.used > 0)
    }

    /// `inotify_init1`: returns a file number.
    pub fn inotify(&self, flags: i32) -> i64 {
        self.quick(Op::Inotify, 0, |k, _| k.make_inotify(flags).map_or_else(|e| -e, i64::from))
    }

    /// `inotify_add_watch`: returns a watch number. `watch` has the kernel watch for the events in its argument, and returns
    /// the place or a negative errno; `forget` undoes that.
    pub fn inotify_add_watch(
        &self,
        fd: i32,
        mask: u32,
        watch: impl FnOnce(u32) -> i32,
        forget: impl FnOnce(i32),
    ) -> i64 {
        self.quick(Op::Inotify, fd as u64, |k, me| {
            if mask & ALL_BITS == 0 || mask & (IN_MASK_ADD | IN_MASK_CREATE) == IN_MASK_ADD | IN_MASK_CREATE {
                return -EINVAL;
            }
            let at = match k.instance_of(me, fd) {
                Ok(at) => at,
                Err(errno) => return -errno,
            };
            // What one instance no longer watches for, another may, so the kernel's watch only grows.
            let place = watch(mask & !(IN_MASK_CREATE | IN_ONESHOT) | IN_MASK_ADD);
            if place < 0 {
                return i64::from(place);
            }
            let number = k.add_watch(at, place, mask);
            if number == Err(ENOSPC) && k.files.inotify.next_on(place, 0).is_none() {
                forget(place);
            }
            result(number)
        })
    }

    /// `inotify_rm_watch`; `forget` ends the kernel's watch.
    pub fn inotify_remove_watch(&self, fd: i32, number: i32, forget: impl FnOnce(i32)) -> i64 {
        self.quick(Op::Inotify, fd as u64, |k, me| {
            let at = match k.instance_of(me, fd) {
                Ok(at) => at,
                Err(errno) => return -errno,
            };
            let Some(id) = k.files.inotify.find(at, |watch| watch.number == number) else { return -EINVAL };
            let place = k.files.inotify.watch(id).place;
            if k.end_watch(at, id) {
                forget(place);
            }
            0
        })
    }

    /// Tells the server's instances of an event. Costs no tick.
    pub fn inotify_happened(&self, event: &Happened<'_>) {
        self.with(|k| k.tell_watchers(self.thread(), event));
    }

    /// A place that nobody watches any more, if there is one. Costs no tick.
    pub fn take_unwatched(&self) -> Option<i32> {
        self.with(|k| {
            let inotify = &mut k.files.inotify;
            while inotify.orphans != 0 {
                let id = inotify.orphans;
                inotify.orphans = inotify.watch(id).next;
                let place = inotify.watch(id).place;
                inotify.give_back(id);
                if inotify.next_on(place, 0).is_none() {
                    return Some(place);
                }
            }
            None
        })
    }
}
