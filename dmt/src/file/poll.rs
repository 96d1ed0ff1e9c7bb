//! poll and select over virtual files, mixed with descriptors of the kernel.

use crate::call::Call;
use crate::file::FileId;
use crate::file::abi::{
    EINTR, EINVAL, POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, POLLRDBAND, POLLRDNORM, POLLWRBAND,
    POLLWRNORM, PollFd,
};
use crate::file::epoll::MAX_NESTING;
use crate::file::notify::ANY_FILE;
use crate::file::signals;
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::thread::{POLL_FILES, ThreadId, Wake};

/// What `select` calls readable.
const SELECT_READ: u32 = POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR;
/// What `select` calls writable.
const SELECT_WRITE: u32 = POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR;

/// The three descriptor sets of `select`, as words of 64 bits; an empty slice = not given.
#[derive(Debug, Default)]
pub struct SelectSets<'a> {
    /// Descriptors to read.
    pub read: &'a mut [u64],
    /// Descriptors to write.
    pub write: &'a mut [u64],
    /// Descriptors with exceptions (never reported: there is no out-of-band data).
    pub except: &'a mut [u64],
}

/// The files that a thread is about to wait for.
struct Watched {
    files: [FileId; POLL_FILES],
    count: usize,
}

impl Watched {
    const NONE: Self = Self { files: [0; POLL_FILES], count: 0 };

    fn add(&mut self, file: FileId) {
        if self.files[..self.count.min(POLL_FILES)].contains(&file) {
            return;
        }
        match self.files.get_mut(self.count) {
            Some(place) => *place = file,
            None => self.files[0] = ANY_FILE,
        }
        self.count = (self.count + 1).min(POLL_FILES + 1);
    }

    fn key(&self) -> WaitKey {
        WaitKey::number(Space::Poll, if self.count == 1 { u64::from(self.files[0]) } else { 0 })
    }
}

impl SelectSets<'_> {
    /// One look at all descriptors below `count`. With `report` the sets are changed to what is ready.
    fn look(&mut self, k: &Kernel, me: ThreadId, count: i32, report: bool, watched: &mut Watched) -> i64 {
        let mut found = 0;
        for (set, wanted) in
            [(&mut *self.read, SELECT_READ), (&mut *self.write, SELECT_WRITE), (&mut *self.except, POLLPRI)]
        {
            for fd in 0..count {
                let (word, bit) = (fd as usize / 64, 1u64 << (fd % 64));
                if set.get(word).is_none_or(|word| word & bit == 0) {
                    continue;
                }
                let ready = match k.descriptor(me, fd) {
                    Some(file) => {
                        watched.add(file);
                        k.readiness(file, me, MAX_NESTING)
                    }
                    None => POLLIN | POLLOUT,
                };
                if ready & wanted != 0 {
                    found += 1;
                } else if report {
                    set[word] &= !bit;
                }
            }
        }
        found
    }
}

/// One look at all of `fds`; sets what is found.
fn look(k: &Kernel, me: ThreadId, fds: &mut [PollFd], watched: &mut Watched) -> i64 {
    let mut found = 0;
    for entry in fds {
        if entry.fd < 0 {
            entry.revents = 0;
        } else if let Some(file) = k.descriptor(me, entry.fd) {
            watched.add(file);
            let wanted = entry.events as u16 as u32 | POLLERR | POLLHUP | POLLNVAL;
            entry.revents = (k.readiness(file, me, MAX_NESTING) & wanted) as i16;
        }
        found += i64::from(entry.revents != 0);
    }
    found
}

impl Call<'_> {
    /// `poll`, `ppoll`. For an entry whose `fd` is not virtual preload has put into `revents` what is to be reported
    /// (regular files are ready for all that was asked, bad descriptors are `POLLNVAL`); it counts if it is not 0.
    pub fn poll(&self, fds: &mut [PollFd], timeout: Option<u64>, mask: Option<u64>) -> i64 {
        let count = fds.len() as u64;
        self.with_signal_mask(mask, || {
            self.poll_op(count, timeout, |k, me, watched, _| look(k, me, fds, watched))
        })
    }

    /// `select`, `pselect6` over descriptors below `count`. Descriptors that are not virtual count as ready to read and
    /// to write; preload has checked that they are open.
    pub fn select(
        &self,
        count: i32,
        mut sets: SelectSets<'_>,
        timeout: Option<u64>,
        mask: Option<u64>,
    ) -> i64 {
        if count < 0 {
            return -EINVAL;
        }
        self.with_signal_mask(mask, || {
            self.poll_op(count as u64, timeout, |k, me, watched, last| {
                let found = sets.look(k, me, count, false, watched);
                if found > 0 || last {
                    sets.look(k, me, count, true, watched);
                }
                found
            })
        })
    }

    /// Looks (`look`; its last argument says that there will be no other look) until something is found.
    fn poll_op(
        &self,
        count: u64,
        timeout: Option<u64>,
        mut look: impl FnMut(&Kernel, ThreadId, &mut Watched, bool) -> i64,
    ) -> i64 {
        let (mut waited, mut deadline) = (false, None);
        self.op(Op::Poll, count, |k, me| {
            let why = if waited { k.take_wake(me) } else { Wake::None };
            let mut watched = Watched::NONE;
            let last = timeout == Some(0) || why == Wake::Timeout;
            let found = look(k, me, &mut watched, last);
            if found > 0 || last {
                return Step::Done(found);
            }
            if signals::waiting(k, me) {
                return Step::Done(-EINTR);
            }
            if !core::mem::replace(&mut waited, true) {
                deadline = timeout.map(|timeout| k.clock().saturating_add(timeout));
            }
            k.threads.get_mut(me).poll_files = watched.files;
            k.wait(me, watched.key(), deadline);
            Step::Block
        })
    }
}
