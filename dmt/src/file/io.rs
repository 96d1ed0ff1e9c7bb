//! Reading and writing of every kind of virtual file.

use crate::call::Call;
use crate::file::abi::{
    EAGAIN, EBADF, EINVAL, EISCONN, ENOTSOCK, EOPNOTSUPP, IoVec, MSG_OOB, SOCK_DGRAM, SocketAddress,
};
use crate::file::memory::UserMemory;
use crate::file::waiting::{Try, Wait};
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::op::Op;
use crate::park::Space;
use crate::thread::ThreadId;

impl Kernel {
    fn read_file(
        &mut self,
        shared: &Shared,
        me: ThreadId,
        id: FileId,
        target: &mut UserMemory<'_>,
        flags: i32,
        out_flags: &mut i32,
    ) -> Try {
        let file = self.files.get(id);
        match file.kind {
            FileKind::Tcp | FileKind::PipeRead => self.read_stream(shared, id, target, flags),
            FileKind::Unix if file.socket.is_stream() => self.read_stream(shared, id, target, flags),
            FileKind::Unix | FileKind::Udp => self.read_message(shared, id, target, flags, out_flags),
            FileKind::EventFd => self.read_eventfd(id, target),
            FileKind::TimerFd => self.read_timerfd(id, target),
            FileKind::SignalFd => self.read_signalfd(me, id, target),
            FileKind::Random => Try::Done(self.read_random(target)),
            FileKind::Inotify if file.nonblocking() => Try::Done(-EAGAIN),
            FileKind::Inotify => Wait::after(Space::Read, 0, 0),
            FileKind::Epoll => Try::Done(-EINVAL),
            FileKind::PipeWrite | FileKind::Free => Try::Done(-EBADF),
        }
    }

    fn write_file(
        &mut self,
        shared: &Shared,
        me: ThreadId,
        id: FileId,
        source: &mut UserMemory<'_>,
        flags: i32,
        to: &[u8],
    ) -> Try {
        let file = self.files.get(id);
        match file.kind {
            FileKind::Tcp | FileKind::PipeWrite => self.write_stream(shared, me, id, source, flags),
            FileKind::Unix if file.socket.is_stream() => {
                if !to.is_empty() {
                    let connected = file.socket.is_connected();
                    return Try::Done(-if connected { EISCONN } else { EOPNOTSUPP });
                }
                self.write_stream(shared, me, id, source, flags)
            }
            FileKind::Unix | FileKind::Udp => self.write_message(me, id, source, flags, to),
            FileKind::EventFd => self.write_eventfd(id, source),
            // What is written is mixed into the kernel's pool natively; here it changes nothing.
            FileKind::Random => Try::Done(source.left() as i64),
            FileKind::TimerFd | FileKind::SignalFd | FileKind::Epoll => Try::Done(-EINVAL),
            FileKind::Inotify | FileKind::PipeRead | FileKind::Free => Try::Done(-EBADF),
        }
    }
}

impl Call<'_> {
    /// `read`, `readv`.
    ///
    /// # Safety
    /// Each of `iov` is memory of the calling process that may be written, and that nobody else accesses meanwhile.
    pub unsafe fn read(&self, fd: i32, iov: &[IoVec]) -> i64 {
        // SAFETY: forwarded promise.
        let Some(mut target) = (unsafe { UserMemory::new(iov) }) else { return -EINVAL };
        let mut out_flags = 0;
        self.file_op(Op::Read, fd, |k, shared, me, file| {
            k.read_file(shared, me, file, &mut target, 0, &mut out_flags)
        })
    }

    /// `write`, `writev`.
    ///
    /// # Safety
    /// Each of `iov` is memory of the calling process that may be read.
    pub unsafe fn write(&self, fd: i32, iov: &[IoVec]) -> i64 {
        // SAFETY: forwarded promise.
        let Some(mut source) = (unsafe { UserMemory::new(iov) }) else { return -EINVAL };
        self.write_op(fd, &mut source, 0, &[])
    }

    fn write_op(&self, fd: i32, source: &mut UserMemory<'_>, flags: i32, to: &[u8]) -> i64 {
        let client = self.with(|k| {
            k.descriptor(self.thread(), fd).is_some_and(|file| k.files.get(file).socket.connection != 0)
        });
        let write =
            |k: &mut Kernel, shared: &Shared, me, file| k.write_file(shared, me, file, source, flags, to);
        if client { self.file_output_op(Op::Write, fd, write) } else { self.file_op(Op::Write, fd, write) }
    }

    /// `recv`, `recvfrom`, `recvmsg`. `from` gets the sender's address, `out_flags` gets `msg_flags`.
    ///
    /// # Safety
    /// As for [`Call::read`].
    pub unsafe fn receive(
        &self,
        fd: i32,
        iov: &[IoVec],
        flags: i32,
        from: &mut SocketAddress,
        out_flags: &mut i32,
    ) -> i64 {
        // SAFETY: forwarded promise.
        let Some(mut target) = (unsafe { UserMemory::new(iov) }) else { return -EINVAL };
        (*from, *out_flags) = (SocketAddress::NONE, 0);
        self.file_op(Op::Read, fd, |k, shared, me, file| {
            if k.is_socket(file).is_err() {
                return Try::Done(-ENOTSOCK);
            }
            if flags & MSG_OOB != 0 {
                return Try::Done(-EINVAL);
            }
            let socket = &k.files.get(file).socket;
            if socket.is_connected() && socket.kind == SOCK_DGRAM {
                *from = socket.remote;
            }
            k.read_file(shared, me, file, &mut target, flags, out_flags)
        })
    }

    /// `send`, `sendto`, `sendmsg`. An empty `to` = the connected peer.
    ///
    /// # Safety
    /// As for [`Call::write`].
    pub unsafe fn send(&self, fd: i32, iov: &[IoVec], flags: i32, to: &[u8]) -> i64 {
        // SAFETY: forwarded promise.
        let Some(mut source) = (unsafe { UserMemory::new(iov) }) else { return -EINVAL };
        match self.with(|k| k.descriptor(self.thread(), fd).map(|file| k.is_socket(file))) {
            Some(Ok(())) if flags & MSG_OOB != 0 => -EOPNOTSUPP,
            Some(Err(errno)) => -errno,
            Some(Ok(())) | None => self.write_op(fd, &mut source, flags, to),
        }
    }

    /// Bytes that a write takes now without blocking, for `sendfile` and `splice`: preload reads that many bytes of the
    /// file at the most and writes them. Costs no tick. 0 = a write would block; an error's case counts as room, so
    /// that the write reports it.
    pub fn write_room(&self, fd: i32) -> i64 {
        self.with(|k| match k.descriptor(self.thread(), fd) {
            Some(file) => match k.files.get(file).kind {
                FileKind::Tcp | FileKind::Unix | FileKind::PipeWrite => k.room(file) as i64,
                _ => i64::from(u16::MAX),
            },
            None => -EBADF,
        })
    }
}
