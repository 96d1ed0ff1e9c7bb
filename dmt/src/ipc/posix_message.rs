//! Sending to POSIX message queues and receiving from them.

use crate::call::Call;
use crate::file::FileId;
use crate::file::abi::{EAGAIN, EINVAL, EMSGSIZE, ENOMEM, ERESTART, ETIMEDOUT, O_RDONLY, O_WRONLY};
use crate::file::notify::{READABLE, WRITABLE};
use crate::file::waiting::{Try, Wait};
use crate::kernel::Kernel;
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::process::PendingSignal;
use crate::process::abi::SIGEV_SIGNAL;
use crate::process::queue::Target;
use crate::thread::ThreadId;

/// Priorities are below this.
const PRIORITIES: u32 = 32_768;
/// `si_code` of a signal that tells of a message.
const SI_MESGQ: i32 = -3;

fn wait(space: Space, now: u64, deadline: Option<u64>) -> Try {
    match deadline.map(|deadline| deadline.saturating_sub(now)) {
        Some(0) => Try::Done(-ETIMEDOUT),
        timeout => Try::Wait(Wait { space, timeout, timed_out: -ETIMEDOUT, interrupted: -ERESTART }),
    }
}

impl Kernel {
    fn tell_files(&mut self, at: usize, events: u32) {
        let mut file = self.posix(at).files;
        while file != 0 {
            self.notify(file, events);
            file = self.files.get(file).next;
        }
    }

    fn has_receiver(&mut self, at: usize) -> bool {
        let mut file = self.posix(at).files;
        while file != 0 {
            if self.first_waiter(WaitKey::number(Space::Read, file.into()), |_, _| true).is_some() {
                return true;
            }
            file = self.files.get(file).next;
        }
        false
    }

    /// Sends the signal of who wants to be told, once.
    fn give_notice(&mut self, me: ThreadId, at: usize) {
        let told = core::mem::take(&mut self.posix(at).told);
        let notice = self.posix(at).notice;
        if told == 0 || notice.how != SIGEV_SIGNAL {
            return;
        }
        let sender = self.processes.get(self.process_of(me));
        let (signal, value) = (notice.signal, notice.value);
        let info = PendingSignal {
            signal,
            code: SI_MESGQ,
            pid: sender.pid,
            uid: sender.uid,
            value,
            ..PendingSignal::NONE
        };
        self.send_signal(Target::Process(told), info);
    }

    fn send_posix(
        &mut self,
        me: ThreadId,
        file: FileId,
        bytes: &[u8],
        priority: u32,
        deadline: Option<u64>,
    ) -> Try {
        let at = match self.posix_queue_of_file(file, O_RDONLY) {
            Ok(at) => at,
            Err(errno) => return Try::Done(-errno),
        };
        let size = self.posix(at).size;
        if bytes.len() as i64 > size.bytes {
            return Try::Done(-EMSGSIZE);
        }
        if size.count >= size.messages {
            return match self.files.get(file).nonblocking() {
                true => Try::Done(-EAGAIN),
                false => wait(Space::Write, self.clock(), deadline),
            };
        }
        if self.files.pool.room() < bytes.len() as u64 {
            return Try::Done(-ENOMEM);
        }
        let Some(id) = self.ipc.queues.take() else { return Try::Done(-ENOMEM) };
        let (mut before, mut next) = (0, self.posix(at).head);
        while next != 0 && self.ipc.queues.message(next).kind >= i64::from(priority) {
            (before, next) = (next, self.ipc.queues.message(next).next);
        }
        let message = self.ipc.queues.message(id);
        (message.next, message.kind) = (next, i64::from(priority));
        self.files.pool.push(&mut message.bytes, bytes);
        match before {
            0 => self.posix(at).head = id,
            before => self.ipc.queues.message(before).next = id,
        }
        self.posix(at).size.count += 1;
        // Who waits for a message is told before who wants to be told of one.
        if size.count == 0 && !self.has_receiver(at) {
            self.give_notice(me, at);
        }
        self.tell_files(at, READABLE);
        Try::Done(0)
    }

    /// Takes the first message out; its bytes and its priority.
    pub(super) fn take_posix_message(&mut self, at: usize, out: &mut [u8]) -> (usize, u32) {
        let id = self.posix(at).head;
        let message = self.ipc.queues.message(id);
        let (next, priority) = (message.next, message.kind as u32);
        let got = self.files.pool.pop(&mut message.bytes, out);
        self.files.pool.clear(&mut message.bytes);
        self.ipc.queues.give_back(id);
        self.posix(at).head = next;
        self.posix(at).size.count -= 1;
        (got, priority)
    }

    fn receive_posix(
        &mut self,
        file: FileId,
        out: &mut [u8],
        priority: &mut u32,
        deadline: Option<u64>,
    ) -> Try {
        let at = match self.posix_queue_of_file(file, O_WRONLY) {
            Ok(at) => at,
            Err(errno) => return Try::Done(-errno),
        };
        let size = self.posix(at).size;
        if (out.len() as i64) < size.bytes {
            return Try::Done(-EMSGSIZE);
        }
        if size.count == 0 {
            return match self.files.get(file).nonblocking() {
                true => Try::Done(-EAGAIN),
                false => wait(Space::Read, self.clock(), deadline),
            };
        }
        let got;
        (got, *priority) = self.take_posix_message(at, out);
        self.tell_files(at, WRITABLE);
        Try::Done(got as i64)
    }
}

impl Call<'_> {
    /// `mq_timedsend`; `deadline` is on the virtual clock.
    pub fn posix_send(&self, fd: i32, bytes: &[u8], priority: u32, deadline: Option<u64>) -> i64 {
        self.file_op(Op::PosixMessages, fd, |k, _, me, file| match priority {
            PRIORITIES.. => Try::Done(-EINVAL),
            _ => k.send_posix(me, file, bytes, priority, deadline),
        })
    }

    /// `mq_timedreceive`: bytes stored in `out`.
    pub fn posix_receive(&self, fd: i32, out: &mut [u8], priority: &mut u32, deadline: Option<u64>) -> i64 {
        self.file_op(Op::PosixMessages, fd, |k, _, _, file| k.receive_posix(file, out, priority, deadline))
    }
}
