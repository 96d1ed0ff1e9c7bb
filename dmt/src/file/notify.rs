//! What is ready, and who must know when that changes.

use crate::file::abi::{
    POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI, POLLRDBAND, POLLRDHUP, POLLRDNORM, POLLWRNORM,
};
use crate::file::socket::Phase;
use crate::file::table::{BROKEN, END_OF_INPUT, READ_SHUT, WRITE_SHUT};
use crate::file::{FileId, FileKind, signals};
use crate::kernel::Kernel;
use crate::park::{Space, WaitKey};
use crate::thread::{POLL_FILES, ThreadId};

/// Something to read.
pub(crate) const READABLE: u32 = POLLIN | POLLRDNORM;
/// Room to write.
pub(crate) const WRITABLE: u32 = POLLOUT | POLLWRNORM;
/// In the first place of [`crate::thread::Thread::poll_files`]: any file's change wakes the thread.
pub(crate) const ANY_FILE: u32 = u32::MAX;

impl Kernel {
    /// What `id` is ready for, as `poll` says it. `me` matters to a signalfd alone. `depth` is what nesting of epoll
    /// instances is still looked into.
    pub(crate) fn readiness(&self, id: FileId, me: ThreadId, depth: u32) -> u32 {
        let file = self.files.get(id);
        match file.kind {
            FileKind::Free | FileKind::Mailed => 0,
            FileKind::Inotify => {
                if file.input.is_empty() {
                    0
                } else {
                    READABLE
                }
            }
            FileKind::Tcp | FileKind::Unix => self.socket_readiness(id),
            FileKind::Udp | FileKind::Netlink => {
                WRITABLE
                    | if file.input.is_empty() { 0 } else { READABLE }
                    | if file.error != 0 { POLLERR } else { 0 }
            }
            FileKind::PipeRead => {
                let readable = if file.input.is_empty() { 0 } else { READABLE };
                readable | if file.peer == 0 { POLLHUP } else { 0 }
            }
            FileKind::PipeWrite if file.peer == 0 => WRITABLE | POLLERR,
            FileKind::PipeWrite => {
                if self.write_space(id) > 0 {
                    WRITABLE
                } else {
                    0
                }
            }
            FileKind::EventFd => {
                let readable = if file.counter > 0 { POLLIN } else { 0 };
                readable | if file.counter < u64::MAX - 1 { POLLOUT } else { 0 }
            }
            FileKind::TimerFd => {
                if file.timer.expirations > 0 {
                    POLLIN
                } else {
                    0
                }
            }
            FileKind::SignalFd => {
                if signals::pending(self, me, file.counter) {
                    POLLIN
                } else {
                    0
                }
            }
            FileKind::Epoll => self.epoll_readiness(id, me, depth),
            FileKind::Fifo => self.fifo_readiness(id),
            FileKind::Random => READABLE | WRITABLE,
            FileKind::MessageQueue => self.posix_readiness(id),
        }
    }

    fn socket_readiness(&self, id: FileId) -> u32 {
        let file = self.files.get(id);
        let mut ready = if file.error != 0 { POLLERR } else { 0 };
        if file.socket.is_listening() {
            return ready | if file.socket.queued > 0 { READABLE } else { 0 };
        }
        if file.socket.phase == Phase::Connecting {
            return ready;
        }
        let reads_no_more = file.is(READ_SHUT | END_OF_INPUT | BROKEN);
        if !file.input.is_empty() || reads_no_more {
            ready |= READABLE;
        }
        if !file.socket.is_connected() {
            return if file.socket.is_stream() { ready | WRITABLE | POLLHUP } else { ready | WRITABLE };
        }
        if reads_no_more {
            ready |= POLLRDHUP;
        }
        let writes_no_more = file.is(WRITE_SHUT | BROKEN);
        if writes_no_more && reads_no_more {
            ready |= POLLHUP;
        }
        if writes_no_more || self.write_space(id) > 0 {
            ready |= WRITABLE;
        }
        ready
    }

    /// `id` may have become ready for `events`: wakes who waits for it, and marks it in the epolls that watch it.
    pub(crate) fn notify(&mut self, id: FileId, events: u32) {
        if events & (POLLIN | POLLERR | POLLHUP | POLLRDHUP) != 0 {
            self.wake_all(WaitKey::number(Space::Read, u64::from(id)));
        }
        if events & (POLLOUT | POLLERR | POLLHUP) != 0 {
            self.wake_all(WaitKey::number(Space::Write, u64::from(id)));
        }
        self.wake_pollers(id);
        self.notify_epolls(id, events);
    }

    /// As [`Kernel::notify`] for a listener that got a connection: only one of those that wait in `accept` wakes.
    pub(crate) fn notify_accept(&mut self, id: FileId) {
        self.wake_one(WaitKey::number(Space::Read, u64::from(id)));
        self.wake_pollers(id);
        self.notify_epolls(id, READABLE);
    }

    /// Threads in poll and select wait under the file if they wait for one alone, else all together.
    pub(crate) fn wake_pollers(&mut self, id: FileId) {
        self.wake_all(WaitKey::number(Space::Poll, u64::from(id)));
        self.wake(WaitKey::number(Space::Poll, 0), u64::MAX, |threads, thread| {
            let files: &[u32; POLL_FILES] = &threads.get(thread).poll_files;
            files[0] == ANY_FILE || files.contains(&id)
        });
    }
}

/// Events of the kind that reading is about; an exclusive registration that gets one has been served.
pub(crate) const INPUT_EVENTS: u32 = POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND;
