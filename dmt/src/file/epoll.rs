//! epoll: level, edge, one-shot and exclusive registrations, nested instances. The ready list works as Linux's does.
//!
//! A registration ([`EpollItem`]) is in two lists: that of the epoll instance, and that of the file which it watches; and,
//! when something happened to the file, in the instance's ready list, which is looked at first in, first out.

use crate::bounds::MAX_EPOLL_ITEMS;
use crate::call::Call;
use crate::file::abi::{
    EBADF, EEXIST, EINTR, EINVAL, ELOOP, ENFILE, ENOENT, ENOSPC, EPERM, EPOLL_CTL_ADD, EPOLL_CTL_DEL,
    EPOLL_CTL_MOD, EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLWAKEUP, EpollEvent, O_RDWR, POLLERR, POLLHUP,
};
use crate::file::notify::{INPUT_EVENTS, READABLE};
use crate::file::table::Files;
use crate::file::waiting::{Try, Wait};
use crate::file::{FileId, FileKind, signals};
use crate::kernel::Kernel;
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::thread::ThreadId;

/// Number of a registration, from 1; 0 means none.
pub(crate) type ItemId = u32;

/// Instances that may be nested in each other.
pub(crate) const MAX_NESTING: u32 = 5;

/// How many TCP sockets one `epoll_wait` reports at the most; the others stay at the head of the ready list for the next.
///
/// A server that collects its replies until it has served all that was ready (redis) would keep its clients idle meanwhile,
/// and be idle itself while they read.
const TCP_EVENTS_PER_WAIT: usize = 16;
/// Bits of a registration's events that are not events.
const PRIVATE: u32 = EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE;

/// One registration.
#[repr(C)]
pub struct EpollItem {
    data: u64,
    /// Events and [`PRIVATE`] bits; no event = a one-shot that has fired.
    events: u32,
    epoll: FileId,
    file: FileId,
    fd: i32,
    /// Neighbours in the file's list.
    watch_next: ItemId,
    watch_previous: ItemId,
    /// Neighbours in the instance's list.
    next: ItemId,
    previous: ItemId,
    /// Next in the ready list.
    ready_next: ItemId,
    ready_previous: ItemId,
    is_ready: bool,
}

/// What an epoll instance has; part of its file.
#[repr(C)]
pub struct EpollLists {
    items: ItemId,
    ready_head: ItemId,
    ready_tail: ItemId,
    ready_count: u32,
}

impl Files {
    fn item(&self, item: ItemId) -> &EpollItem {
        &self.items[item as usize - 1]
    }

    fn item_mut(&mut self, item: ItemId) -> &mut EpollItem {
        &mut self.items[item as usize - 1]
    }

    fn take_item(&mut self) -> Option<ItemId> {
        if self.free_item != 0 {
            let item = self.free_item;
            self.free_item = self.item(item).next;
            return Some(item);
        }
        if (self.touched_items as usize) < MAX_EPOLL_ITEMS {
            self.touched_items += 1;
            return Some(self.touched_items);
        }
        None
    }

    /// Makes a registration and links it; at the tail of the file's list, so that exclusive ones are served in order.
    fn link_item(&mut self, epoll: FileId, file: FileId, fd: i32) -> Option<ItemId> {
        let item = self.take_item()?;
        let (first, mut last, mut at) = (self.get(epoll).epoll.items, 0, self.get(file).watches);
        while at != 0 {
            (last, at) = (at, self.item(at).watch_next);
        }
        *self.item_mut(item) = EpollItem {
            data: 0,
            events: 0,
            epoll,
            file,
            fd,
            watch_next: 0,
            watch_previous: last,
            next: first,
            previous: 0,
            ready_next: 0,
            ready_previous: 0,
            is_ready: false,
        };
        if first != 0 {
            self.item_mut(first).previous = item;
        }
        self.get_mut(epoll).epoll.items = item;
        match last {
            0 => self.get_mut(file).watches = item,
            _ => self.item_mut(last).watch_next = item,
        }
        Some(item)
    }

    fn unlink_item(&mut self, item: ItemId) {
        self.unready(item);
        let EpollItem { epoll, file, watch_next, watch_previous, next, previous, .. } = *self.item(item);
        match watch_previous {
            0 => self.get_mut(file).watches = watch_next,
            _ => self.item_mut(watch_previous).watch_next = watch_next,
        }
        if watch_next != 0 {
            self.item_mut(watch_next).watch_previous = watch_previous;
        }
        match previous {
            0 => self.get_mut(epoll).epoll.items = next,
            _ => self.item_mut(previous).next = next,
        }
        if next != 0 {
            self.item_mut(next).previous = previous;
        }
        self.item_mut(item).next = self.free_item;
        self.free_item = item;
    }

    fn make_ready(&mut self, item: ItemId) {
        if core::mem::replace(&mut self.item_mut(item).is_ready, true) {
            return;
        }
        let epoll = self.item(item).epoll;
        let tail = core::mem::replace(&mut self.get_mut(epoll).epoll.ready_tail, item);
        let it = self.item_mut(item);
        (it.ready_previous, it.ready_next) = (tail, 0);
        match tail {
            0 => self.get_mut(epoll).epoll.ready_head = item,
            _ => self.item_mut(tail).ready_next = item,
        }
        self.get_mut(epoll).epoll.ready_count += 1;
    }

    fn unready(&mut self, item: ItemId) {
        let it = self.item_mut(item);
        if !core::mem::take(&mut it.is_ready) {
            return;
        }
        let (epoll, previous, next) = (it.epoll, it.ready_previous, it.ready_next);
        match previous {
            0 => self.get_mut(epoll).epoll.ready_head = next,
            _ => self.item_mut(previous).ready_next = next,
        }
        match next {
            0 => self.get_mut(epoll).epoll.ready_tail = previous,
            _ => self.item_mut(next).ready_previous = previous,
        }
        self.get_mut(epoll).epoll.ready_count -= 1;
    }

    fn find_item(&self, epoll: FileId, file: FileId, fd: i32) -> Option<ItemId> {
        let mut at = self.get(file).watches;
        while at != 0 {
            let item = self.item(at);
            if item.epoll == epoll && item.fd == fd {
                return Some(at);
            }
            at = item.watch_next;
        }
        None
    }

    /// True if `epoll` is reached from `from` through registrations, or the way is too deep to be allowed.
    fn would_loop(&self, from: FileId, epoll: FileId, depth: u32) -> bool {
        if from == epoll || depth == 0 {
            return true;
        }
        let mut at = self.get(from).epoll.items;
        while at != 0 {
            let item = self.item(at);
            if self.get(item.file).kind == FileKind::Epoll && self.would_loop(item.file, epoll, depth - 1) {
                return true;
            }
            at = item.next;
        }
        false
    }
}

impl Kernel {
    /// Readable if any registration on the ready list is really ready.
    pub(crate) fn epoll_readiness(&self, id: FileId, me: ThreadId, depth: u32) -> u32 {
        let mut at = self.files.get(id).epoll.ready_head;
        while at != 0 && depth > 0 {
            let item = self.files.item(at);
            if self.readiness(item.file, me, depth - 1) & item.events != 0 {
                return READABLE;
            }
            at = item.ready_next;
        }
        0
    }

    /// Something happened to `id`: puts it on the ready lists of the epolls that watch it for one of `events`.
    pub(crate) fn notify_epolls(&mut self, id: FileId, events: u32) {
        let (mut at, mut served) = (self.files.get(id).watches, false);
        while at != 0 {
            let item = self.files.item(at);
            let (next, watched, epoll) = (item.watch_next, item.events, item.epoll);
            let exclusive = watched & EPOLLEXCLUSIVE != 0;
            if watched & !PRIVATE & events != 0 && !(exclusive && served) {
                self.files.make_ready(at);
                let woke = self.tell_epoll(epoll);
                served |= exclusive && woke && events & INPUT_EVENTS != 0;
            }
            at = next;
        }
    }

    /// `epoll` has something on its ready list: wakes one waiter and whoever watches the instance itself.
    fn tell_epoll(&mut self, epoll: FileId) -> bool {
        let woke = self.wake_one(WaitKey::number(Space::Read, u64::from(epoll)));
        self.wake_pollers(epoll);
        if self.files.get(epoll).watches != 0 {
            self.notify_epolls(epoll, READABLE);
        }
        woke
    }

    /// A file is closed for good: no epoll watches it any more.
    pub(crate) fn forget_watches(&mut self, id: FileId) {
        while self.files.get(id).watches != 0 {
            self.files.unlink_item(self.files.get(id).watches);
        }
    }

    /// An instance is closed for good.
    pub(crate) fn close_epoll(&mut self, id: FileId) {
        while self.files.get(id).epoll.items != 0 {
            self.files.unlink_item(self.files.get(id).epoll.items);
        }
    }

    fn epoll_control(
        &mut self,
        me: ThreadId,
        epoll: FileId,
        operation: i32,
        fd: i32,
        event: EpollEvent,
    ) -> Result<i64, i64> {
        let file = self.descriptor(me, fd).ok_or(EBADF)?;
        if self.files.get(epoll).kind != FileKind::Epoll || file == epoll {
            return Err(EINVAL);
        }
        if self.files.get(file).kind == FileKind::Random {
            return Err(EPERM);
        }
        let known = self.files.find_item(epoll, file, fd);
        let exclusive = event.events & EPOLLEXCLUSIVE != 0;
        let item = match operation {
            EPOLL_CTL_ADD => {
                if known.is_some() {
                    return Err(EEXIST);
                }
                let nested = self.files.get(file).kind == FileKind::Epoll;
                if nested && (exclusive || self.files.would_loop(file, epoll, MAX_NESTING)) {
                    return Err(if exclusive { EINVAL } else { ELOOP });
                }
                self.files.link_item(epoll, file, fd).ok_or(ENOSPC)?
            }
            EPOLL_CTL_MOD => {
                let item = known.ok_or(ENOENT)?;
                if exclusive || self.files.item(item).events & EPOLLEXCLUSIVE != 0 {
                    return Err(EINVAL);
                }
                item
            }
            EPOLL_CTL_DEL => {
                self.files.unlink_item(known.ok_or(ENOENT)?);
                return Ok(0);
            }
            _ => return Err(EINVAL),
        };
        let it = self.files.item_mut(item);
        (it.events, it.data) = (event.events | POLLERR | POLLHUP, event.data);
        if self.readiness(file, me, MAX_NESTING) & (event.events | POLLERR | POLLHUP) & !PRIVATE != 0 {
            self.files.make_ready(item);
            self.tell_epoll(epoll);
        }
        Ok(0)
    }

    /// Takes up to `events.len()` events off the ready list, of them up to [`TCP_EVENTS_PER_WAIT`] of connections.
    fn epoll_collect(&mut self, id: FileId, me: ThreadId, events: &mut [EpollEvent]) -> usize {
        let (mut found, mut left) = (0, self.files.get(id).epoll.ready_count);
        let mut connections = 0;
        while found < events.len() && connections < TCP_EVENTS_PER_WAIT && left > 0 {
            left -= 1;
            let at = self.files.get(id).epoll.ready_head;
            self.files.unready(at);
            let item = self.files.item(at);
            let (watched, data, file) = (item.events, item.data, item.file);
            let ready = self.readiness(file, me, MAX_NESTING) & watched & !PRIVATE;
            if ready == 0 {
                continue;
            }
            events[found] = EpollEvent { events: ready, data };
            found += 1;
            connections += usize::from(self.files.get(file).kind == FileKind::Tcp);
            if watched & EPOLLONESHOT != 0 {
                self.files.item_mut(at).events &= PRIVATE;
            } else if watched & EPOLLET == 0 {
                self.files.make_ready(at);
            }
        }
        if found > 0 && self.files.get(id).epoll.ready_count > 0 {
            self.wake_one(WaitKey::number(Space::Read, u64::from(id)));
        }
        found
    }
}

impl Call<'_> {
    /// `epoll_create1`: returns a file number.
    pub fn epoll_create(&self) -> i64 {
        self.quick(Op::EpollCreate, 0, |k, _| {
            k.files.create(FileKind::Epoll, O_RDWR).map_or(-ENFILE, i64::from)
        })
    }

    /// `epoll_ctl`. Preload itself answers -`EPERM` for an open `fd` that is not virtual.
    pub fn epoll_ctl(&self, epoll: i32, operation: i32, fd: i32, event: EpollEvent) -> i64 {
        self.quick(Op::EpollCtl, (epoll as u64) << 32 | fd as u64, |k, me| match k.descriptor(me, epoll) {
            Some(id) => crate::file::socket::returned(k.epoll_control(me, id, operation, fd, event)),
            None => -EBADF,
        })
    }

    /// `epoll_wait`, `epoll_pwait2`: at most `events.len()` events. `mask` = the signal mask during the wait.
    pub fn epoll_wait(
        &self,
        epoll: i32,
        events: &mut [EpollEvent],
        timeout: Option<u64>,
        mask: Option<u64>,
    ) -> i64 {
        self.with_signal_mask(mask, || {
            self.file_op(Op::EpollWait, epoll, |k, _, me, id| {
                if k.files.get(id).kind != FileKind::Epoll || events.is_empty() {
                    return Try::Done(-EINVAL);
                }
                let found = k.epoll_collect(id, me, events);
                if found > 0 || timeout == Some(0) {
                    return Try::Done(found as i64);
                }
                Try::Wait(Wait { space: Space::Read, timeout, timed_out: 0, interrupted: -EINTR })
            })
        })
    }

    /// Runs `f` while the thread's signal mask is `mask`, if one is given; signals that it lets in are delivered before
    /// the old mask comes back.
    pub(crate) fn with_signal_mask(&self, mask: Option<u64>, f: impl FnOnce() -> i64) -> i64 {
        let Some(mask) = mask else { return f() };
        let before = self.with(|k| signals::swap_mask(k, self.thread(), mask));
        let value = f();
        self.with(|k| signals::swap_mask(k, self.thread(), before));
        value
    }
}
