//! Reading and writing of every kind of virtual file.

use crate::call::Call;
use crate::file::abi::{
    EAGAIN, EBADF, EDESTADDRREQ, EINVAL, EISCONN, ENOTSOCK, EOPNOTSUPP, IoVec, MSG_ERRQUEUE, MSG_OOB,
    MSG_PEEK, Place, SocketAddress,
};
use crate::file::memory::UserMemory;
use crate::file::passed::Parcel;
use crate::file::waiting::Try;
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::op::Op;
use crate::thread::ThreadId;

/// What is sent beside the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `MSG_` flags.
    pub flags: i32,
    /// Where to; empty = the connected peer.
    pub to: &'a [u8],
    /// The file that `to` leads to, if that is a path.
    pub place: Place,
    /// What is passed.
    pub parcel: &'a Parcel,
}

/// What a read gives beside the bytes.
pub(crate) struct Extras<'a> {
    /// `msg_flags`.
    pub(crate) flags: i32,
    /// The sender's address, if it is wanted.
    pub(crate) from: Option<&'a mut SocketAddress>,
    /// What was passed, if it is wanted.
    pub(crate) parcel: Option<&'a mut Parcel>,
}

impl Kernel {
    fn read_file(
        &mut self,
        shared: &Shared,
        me: ThreadId,
        id: FileId,
        target: &mut UserMemory<'_>,
        flags: i32,
        extras: &mut Extras<'_>,
    ) -> Try {
        let file = self.files.get(id);
        match file.kind {
            FileKind::Tcp | FileKind::PipeRead => self.read_stream(shared, id, target, flags),
            FileKind::Unix if file.socket.is_stream() => self.read_local(shared, id, target, flags, extras),
            FileKind::Unix | FileKind::Udp | FileKind::Netlink => {
                self.read_message(shared, id, target, flags, extras)
            }
            FileKind::EventFd => self.read_eventfd(id, target),
            FileKind::TimerFd => self.read_timerfd(id, target),
            FileKind::SignalFd => self.read_signalfd(me, id, target),
            FileKind::Random => Try::Done(self.read_random(target)),
            FileKind::Inotify => self.read_inotify(id, target),
            FileKind::Fifo => self.read_fifo(id, target),
            FileKind::MessageQueue => Try::Done(self.read_posix_status(id, target)),
            FileKind::Epoll => Try::Done(-EINVAL),
            FileKind::PipeWrite | FileKind::Mailed | FileKind::Free => Try::Done(-EBADF),
        }
    }

    /// A unix stream: as any stream, but for what is passed beside the bytes.
    fn read_local(
        &mut self,
        shared: &Shared,
        id: FileId,
        target: &mut UserMemory<'_>,
        flags: i32,
        extras: &mut Extras<'_>,
    ) -> Try {
        let (start, before) = (self.files.get(id).input.taken(), target.done());
        if let Some(most) = self.passed_limit(id) {
            target.limit(most);
        }
        let read = self.read_stream(shared, id, target, flags);
        let bytes = (target.done() - before) as u64;
        if bytes > 0 {
            self.hand_over_parcel(shared, id, start, bytes, flags & MSG_PEEK != 0, extras);
        }
        read
    }

    /// Gives the reader what was passed with the `bytes` of input from `start` on; what it does not want is dropped.
    pub(crate) fn hand_over_parcel(
        &mut self,
        shared: &Shared,
        id: FileId,
        start: u64,
        bytes: u64,
        peek: bool,
        extras: &mut Extras<'_>,
    ) {
        if !self.has_parcels(id) {
            return;
        }
        let found = self.collect_parcel(id, start, bytes, peek);
        match &mut extras.parcel {
            Some(parcel) => **parcel = found,
            None => self.drop_parcel(shared, &found),
        }
    }

    /// Writes to a unix socket with what is passed beside the bytes.
    fn write_local(
        &mut self,
        shared: &Shared,
        me: ThreadId,
        id: FileId,
        source: &mut UserMemory<'_>,
        message: &Message<'_>,
    ) -> Try {
        let to = message.to;
        let target = match self.files.get(id).socket.is_stream() {
            true => Ok(self.files.get(id).peer),
            false => self.message_target(id, to, message.place),
        };
        let target = target.unwrap_or(0);
        if target == 0 {
            return self.write_file(shared, me, id, source, message);
        }
        // What was passed goes with the first byte.
        let given = if source.done() == 0 { message.parcel } else { &Parcel::EMPTY };
        if !self.carries(id, target, given) {
            return self.write_file(shared, me, id, source, message);
        }
        let parcel = match self.complete_parcel(me, id, target, given) {
            Ok(parcel) => parcel,
            Err(errno) => return Try::Done(-errno),
        };
        let start = self.input_end(target);
        let written = self.write_file(shared, me, id, source, message);
        self.attach_parcel(target, start, &parcel);
        written
    }

    fn write_file(
        &mut self,
        shared: &Shared,
        me: ThreadId,
        id: FileId,
        source: &mut UserMemory<'_>,
        message: &Message<'_>,
    ) -> Try {
        let (flags, to) = (message.flags, message.to);
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
            FileKind::Unix | FileKind::Udp => self.write_message(shared, me, id, source, message),
            FileKind::Fifo => self.write_fifo(me, id, source),
            // Preload asks the kernel then.
            FileKind::Netlink => Try::Done(-EDESTADDRREQ),
            FileKind::EventFd => self.write_eventfd(id, source),
            // What is written is mixed into the kernel's pool natively; here it changes nothing.
            FileKind::Random => Try::Done(source.left() as i64),
            FileKind::TimerFd | FileKind::SignalFd | FileKind::Epoll | FileKind::MessageQueue => {
                Try::Done(-EINVAL)
            }
            FileKind::Inotify | FileKind::PipeRead | FileKind::Mailed | FileKind::Free => Try::Done(-EBADF),
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
        let mut extras = Extras { flags: 0, from: None, parcel: None };
        self.file_op(Op::Read, fd, |k, shared, me, file| {
            k.read_file(shared, me, file, &mut target, 0, &mut extras)
        })
    }

    /// `write`, `writev`.
    ///
    /// # Safety
    /// Each of `iov` is memory of the calling process that may be read.
    pub unsafe fn write(&self, fd: i32, iov: &[IoVec]) -> i64 {
        // SAFETY: forwarded promise.
        let Some(mut source) = (unsafe { UserMemory::new(iov) }) else { return -EINVAL };
        self.write_op(
            fd,
            &mut source,
            &Message { flags: 0, to: &[], place: Place::NONE, parcel: &Parcel::EMPTY },
        )
    }

    fn write_op(&self, fd: i32, source: &mut UserMemory<'_>, message: &Message<'_>) -> i64 {
        let (leaves, local) = self.with(|k| match k.descriptor(self.thread(), fd) {
            Some(id) => {
                let file = k.files.get(id);
                (file.kind == FileKind::Udp || file.socket.connection != 0, k.passes(id))
            }
            None => (false, false),
        });
        let mut write = |k: &mut Kernel, shared: &Shared, me, file| match local {
            true => k.write_local(shared, me, file, source, message),
            false => k.write_file(shared, me, file, source, message),
        };
        if leaves {
            self.file_output_op(Op::Write, fd, write)
        } else {
            self.file_op(Op::Write, fd, &mut write)
        }
    }

    /// `recv`, `recvfrom`, `recvmsg`. `from` gets the sender's address, `out_flags` gets `msg_flags`, `parcel` what was
    /// passed, if the caller wants it; the files in it are the caller's to install or discard.
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
        parcel: Option<&mut Parcel>,
    ) -> i64 {
        // SAFETY: forwarded promise.
        let Some(mut target) = (unsafe { UserMemory::new(iov) }) else { return -EINVAL };
        *from = SocketAddress::NONE;
        let mut extras = Extras { flags: 0, from: Some(from), parcel };
        let got = self.file_op(Op::Read, fd, |k, shared, me, file| {
            if k.is_socket(file).is_err() {
                return Try::Done(-ENOTSOCK);
            }
            if flags & MSG_OOB != 0 {
                return Try::Done(-EINVAL);
            }
            // Nothing is reported there: no errors of packets, no transmission times.
            if flags & MSG_ERRQUEUE != 0 {
                return Try::Done(-EAGAIN);
            }
            k.read_file(shared, me, file, &mut target, flags, &mut extras)
        });
        *out_flags = extras.flags;
        got
    }

    /// `send`, `sendto`, `sendmsg`.
    ///
    /// # Safety
    /// As for [`Call::write`].
    pub unsafe fn send(&self, fd: i32, iov: &[IoVec], message: &Message<'_>) -> i64 {
        // SAFETY: forwarded promise.
        let Some(mut source) = (unsafe { UserMemory::new(iov) }) else { return -EINVAL };
        match self.with(|k| k.descriptor(self.thread(), fd).map(|file| k.is_socket(file))) {
            Some(Ok(())) if message.flags & MSG_OOB != 0 => -EOPNOTSUPP,
            Some(Err(errno)) => -errno,
            Some(Ok(())) | None => self.write_op(fd, &mut source, message),
        }
    }

    /// Bytes that a write takes now without blocking, for `sendfile` and `splice`: preload reads that many bytes of the
    /// file at the most and writes them. Costs no tick. 0 = a write would block; an error's case counts as room, so
    /// that the write reports it.
    pub fn write_room(&self, fd: i32) -> i64 {
        self.with(|k| match k.descriptor(self.thread(), fd) {
            Some(file) => match k.files.get(file).kind {
                FileKind::Tcp | FileKind::Unix | FileKind::PipeWrite => k.room(file) as i64,
                FileKind::Fifo => k.fifo_room(file) as i64,
                _ => i64::from(u16::MAX),
            },
            None => -EBADF,
        })
    }
}
