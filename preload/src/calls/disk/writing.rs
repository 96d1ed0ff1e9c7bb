//! Who writes to which file: a descriptor's place in dmt's table of written files. A write costs a look at it and a store
//! of the virtual time; the file itself gets the time when its last writer closes it.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use dmt::bounds::MAX_FDS;
use dmt::disk::{SlotId, Time, written::kept};

use super::times::{Change, changed, store_written};
use super::{look_fd, show_in};
use crate::world::{apart, dmt};

/// Place of each descriptor of this process; 0 = not looked at yet.
static PLACES: [AtomicU32; MAX_FDS] = [const { AtomicU32::new(0) }; MAX_FDS];
/// Above the highest descriptor that has a place.
static END: AtomicUsize = AtomicUsize::new(0);
/// In the place of a descriptor that is no regular file: a device's times are the host's.
const NOT_REGULAR: u32 = u32::MAX;

/// The content of `fd` has changed.
#[inline]
pub fn modified(fd: usize) {
    let Some(place) = PLACES.get(fd) else { return };
    match place.load(Ordering::Relaxed) {
        NOT_REGULAR => {}
        0 => apart(|| first(fd, place)),
        id => touch(id),
    }
}

/// As [`modified`] if `result` says that bytes were written; returns it.
#[inline]
pub fn written(fd: usize, result: isize) -> isize {
    if result > 0 {
        modified(fd);
    }
    result
}

fn touch(id: SlotId) {
    dmt(|call| {
        call.with(|k| {
            let now = Time::of_clock(k.clock());
            let slot = k.disk.written.get_mut(id);
            (slot.modified, slot.changed) = (now, now);
        });
    });
}

/// The first write by a descriptor.
#[cold]
fn first(fd: usize, place: &AtomicU32) {
    match find(fd) {
        Found::NotRegular => place.store(NOT_REGULAR, Ordering::Relaxed),
        Found::Slot(id) => {
            dmt(|call| call.with(|k| k.disk.written.hold(id)));
            place.store(id, Ordering::Relaxed);
            END.fetch_max(fd + 1, Ordering::Relaxed);
            touch(id);
        }
        // The table is full: the time is stored with each write.
        // SAFETY: no path.
        Found::Full => unsafe { changed(fd, 0, 0, Change::Content) },
    }
}

enum Found {
    NotRegular,
    Slot(SlotId),
    Full,
}

fn find(fd: usize) -> Found {
    let Some(real) = look_fd(fd).filter(|real| real.is_regular()) else { return Found::NotRegular };
    let slot = dmt(|call| {
        call.with(|k| {
            let (key, shown) = (k.disk.key(&real), show_in(k, &real));
            k.disk.written.find_or_make(key, shown.modified, shown.changed)
        })
    });
    slot.map_or(Found::Full, Found::Slot)
}

/// `fd` is mapped for writing: from now on the kernel changes the file's time when it likes, so the table has it for good.
pub fn mapped(fd: usize) {
    apart(|| {
        if let Found::Slot(id) = find(fd) {
            dmt(|call| call.with(|k| k.disk.written.keep(id, kept::MAPPED)));
            touch(id);
        }
    });
}

/// `fd` is about to be closed.
#[inline]
pub fn closing(fd: usize) {
    if let Some(place) = PLACES.get(fd)
        && place.load(Ordering::Relaxed) != 0
    {
        give_back(fd, place);
    }
}

fn give_back(fd: usize, place: &AtomicU32) {
    let id = place.swap(0, Ordering::Relaxed);
    if id == NOT_REGULAR {
        return;
    }
    let last = dmt(|call| {
        call.with(|k| {
            let last = k.disk.written.release(id);
            last.then(|| *k.disk.written.get(id))
        })
    });
    if let Some(slot) = last {
        let done = store_written(fd, slot.key(), slot.modified, slot.changed);
        dmt(|call| call.with(|k| k.disk.written.stored(id, done)));
    }
}

/// All descriptors in `first..=last` are about to be closed, or to become another process's as well.
pub fn closing_all(first: usize, last: usize) {
    let end = END.load(Ordering::Relaxed);
    for fd in first..last.saturating_add(1).min(end) {
        closing(fd);
    }
    if first == 0 && last >= end {
        END.store(0, Ordering::Relaxed);
    }
}
