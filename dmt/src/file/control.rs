//! `fcntl` and `ioctl` of virtual files.

use crate::call::Call;
use crate::file::abi::{
    EBADF, EINVAL, ENOTTY, FIOASYNC, FIONBIO, FIONREAD, O_ACCMODE, O_APPEND, O_ASYNC, O_DIRECT, O_NONBLOCK,
    RNDGETENTCNT, SOCK_DGRAM, TIOCOUTQ,
};
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::op::Op;

/// Flags that `F_SETFL` can change.
const CHANGEABLE: i32 = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT;

/// What the random devices say that they have, as Linux since 5.18 whenever they have any.
const ENTROPY_BITS: i32 = 256;

fn set_flag(flags: &mut i32, flag: i32, on: bool) {
    *flags = if on { *flags | flag } else { *flags & !flag };
}

impl Kernel {
    fn io_control(&mut self, id: FileId, request: u32, value: &mut i32) -> i64 {
        match request {
            FIONBIO => set_flag(&mut self.files.get_mut(id).flags, O_NONBLOCK, *value != 0),
            FIOASYNC => set_flag(&mut self.files.get_mut(id).flags, O_ASYNC, *value != 0),
            FIONREAD => {
                let file = self.files.get(id);
                match file.kind {
                    FileKind::Tcp | FileKind::Unix if file.socket.is_listening() => return -EINVAL,
                    FileKind::Udp | FileKind::Netlink => *value = self.next_message_bytes(id) as i32,
                    FileKind::Unix if file.socket.kind == SOCK_DGRAM => {
                        *value = self.next_message_bytes(id) as i32;
                    }
                    FileKind::Tcp
                    | FileKind::Unix
                    | FileKind::PipeRead
                    | FileKind::PipeWrite
                    | FileKind::Inotify => *value = file.input.len() as i32,
                    FileKind::Fifo => *value = self.fifo_bytes(id) as i32,
                    _ => return -ENOTTY,
                }
            }
            TIOCOUTQ => match self.files.get(id).kind {
                FileKind::Tcp | FileKind::Unix | FileKind::Udp => *value = self.unsent(id) as i32,
                _ => return -ENOTTY,
            },
            RNDGETENTCNT if self.files.get(id).kind == FileKind::Random => *value = ENTROPY_BITS,
            _ => return -ENOTTY,
        }
        0
    }
}

impl Call<'_> {
    fn on_file(&self, op: Op, fd: i32, f: impl FnOnce(&mut Kernel, FileId) -> i64) -> i64 {
        self.quick(op, fd as u64, |k, me| match k.descriptor(me, fd) {
            Some(file) => f(k, file),
            None => -EBADF,
        })
    }

    /// `F_GETFL`.
    pub fn status_flags(&self, fd: i32) -> i64 {
        self.on_file(Op::FdFlags, fd, |k, file| i64::from(k.files.get(file).flags))
    }

    /// `F_SETFL`.
    pub fn set_status_flags(&self, fd: i32, flags: i32) -> i64 {
        self.on_file(Op::FdFlags, fd, |k, file| {
            let now = &mut k.files.get_mut(file).flags;
            *now = *now & (O_ACCMODE | !CHANGEABLE) | flags & CHANGEABLE;
            0
        })
    }

    /// `F_GETOWN`.
    pub fn owner(&self, fd: i32) -> i64 {
        self.on_file(Op::FdFlags, fd, |k, file| i64::from(k.files.get(file).owner))
    }

    /// `F_SETOWN`: remembered only; no file sends SIGIO.
    pub fn set_owner(&self, fd: i32, pid: i32) -> i64 {
        self.on_file(Op::FdFlags, fd, |k, file| {
            k.files.get_mut(file).owner = pid;
            0
        })
    }

    /// `FIONREAD`, `FIONBIO`, `TIOCOUTQ`, `FIOASYNC`: `value` is what the argument points to. Others: -`ENOTTY`.
    pub fn io_control(&self, fd: i32, request: u32, value: &mut i32) -> i64 {
        self.on_file(Op::FdFlags, fd, |k, file| k.io_control(file, request, value))
    }
}
