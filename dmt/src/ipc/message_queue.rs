//! System V message queues: `msgget`, `msgsnd`, `msgrcv`, `msgctl`.

use crate::bounds::{MAX_MESSAGE_BYTES, MAX_MESSAGE_QUEUES, MAX_QUEUED_MESSAGES, MESSAGE_QUEUE_BYTES};
use crate::call::Call;
use crate::file::pool::Queue;
use crate::ipc::{
    E2BIG, EAGAIN, EIDRM, EINTR, EINVAL, ENOMEM, ENOMSG, Found, IPC_NOWAIT, Permissions, find, place,
};
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::thread::{ThreadId, Wake};

const MSG_NOERROR: i32 = 0o10000;
const MSG_EXCEPT: i32 = 0o20000;
const MSG_COPY: i32 = 0o40000;

/// What `IPC_STAT` tells of a queue.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct QueueState {
    /// Whose it is.
    pub permissions: Permissions,
    /// Second of the last `msgsnd`.
    pub sent: u64,
    /// Second of the last `msgrcv`.
    pub received: u64,
    /// Second of the last change by `msgctl`.
    pub changed: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Messages in it.
    pub messages: u64,
    /// Bytes that fit.
    pub room: u64,
    /// Process of the last `msgsnd`.
    pub sender: i32,
    /// Process of the last `msgrcv`.
    pub receiver: i32,
    head: u16,
    tail: u16,
}

/// One message.
#[repr(C)]
pub(super) struct Message {
    /// Next of its queue, or in the free list; 0 ends it.
    pub(super) next: u16,
    /// Of a POSIX queue: its priority.
    pub(super) kind: i64,
    pub(super) bytes: Queue,
}

/// All queues and messages. All zeroes = none.
#[repr(C)]
pub(crate) struct MessageQueues {
    queues: [QueueState; MAX_MESSAGE_QUEUES],
    messages: [Message; MAX_QUEUED_MESSAGES],
    free: u16,
    touched: u16,
}

impl MessageQueues {
    pub(super) fn message(&mut self, id: u16) -> &mut Message {
        &mut self.messages[usize::from(id) - 1]
    }

    /// Frees a message without bytes.
    pub(super) fn give_back(&mut self, id: u16) {
        let free = core::mem::replace(&mut self.free, id);
        self.message(id).next = free;
    }

    pub(super) fn take(&mut self) -> Option<u16> {
        if self.free != 0 {
            let id = self.free;
            self.free = self.message(id).next;
            return Some(id);
        }
        if usize::from(self.touched) == MAX_QUEUED_MESSAGES {
            return None;
        }
        self.touched += 1;
        Some(self.touched)
    }
}

/// A request of `msgctl`.
#[derive(Debug)]
pub enum QueueControl<'a> {
    /// `IPC_STAT`.
    Stat(&'a mut QueueState),
    /// `IPC_SET`: owner, group, rights, bytes that fit.
    Set(u32, u32, u32, u64),
    /// `IPC_RMID`.
    Remove,
}

fn key_of(queue: usize) -> WaitKey {
    WaitKey::number(Space::Messages, queue as u64)
}

impl Kernel {
    fn queue(&self, id: i32) -> Result<usize, i64> {
        let queue = self.ipc.queues.queues.get(place(id)).ok_or(EINVAL)?;
        if queue.permissions.is(id, place(id)) { Ok(place(id)) } else { Err(EINVAL) }
    }

    fn make_queue(&mut self, me: ThreadId, key: i32, flags: i32) -> Result<i64, i64> {
        let all = self.ipc.queues.queues.iter().map(|queue| &queue.permissions);
        match find(all, key, flags)? {
            Found::Old(at) => Ok(self.ipc.queues.queues[at].permissions.id(at).into()),
            Found::New(at) => {
                let permissions =
                    self.new_permissions(me, key, flags, &self.ipc.queues.queues[at].permissions);
                let changed = self.seconds();
                self.ipc.queues.queues[at] =
                    QueueState { permissions, changed, room: MESSAGE_QUEUE_BYTES, ..QueueState::default() };
                Ok(permissions.id(at).into())
            }
        }
    }

    /// Appends a message; `None` if there is no room now.
    fn put_message(&mut self, me: ThreadId, at: usize, kind: i64, bytes: &[u8]) -> Option<i64> {
        let (now, pid) = (self.seconds(), self.processes.get(self.process_of(me)).pid);
        let state = self.ipc.queues.queues[at];
        if state.bytes + bytes.len() as u64 > state.room || state.messages >= state.room {
            return None;
        }
        if self.files.pool.room() < bytes.len() as u64 {
            return Some(-ENOMEM);
        }
        let Some(id) = self.ipc.queues.take() else { return Some(-ENOMEM) };
        let message = self.ipc.queues.message(id);
        (message.next, message.kind) = (0, kind);
        self.files.pool.push(&mut message.bytes, bytes);
        match state.tail {
            0 => self.ipc.queues.queues[at].head = id,
            tail => self.ipc.queues.message(tail).next = id,
        }
        let state = &mut self.ipc.queues.queues[at];
        (state.tail, state.sent, state.sender) = (id, now, pid);
        (state.bytes, state.messages) = (state.bytes + bytes.len() as u64, state.messages + 1);
        self.wake_all(key_of(at));
        Some(0)
    }

    /// The message that a receiver of `kind` gets, and the one before it.
    fn find_message(&mut self, at: usize, kind: i64, flags: i32) -> Option<(u16, u16)> {
        let (mut before, mut id) = (0, self.ipc.queues.queues[at].head);
        let mut best: Option<(u16, u16, i64)> = None;
        while id != 0 {
            let message = self.ipc.queues.message(id);
            let (its, next) = (message.kind, message.next);
            let fits = match kind {
                0 => true,
                1.. if flags & MSG_EXCEPT != 0 => its != kind,
                1.. => its == kind,
                _ => its <= kind.saturating_neg() && best.is_none_or(|(_, _, least)| its < least),
            };
            if fits {
                best = Some((before, id, its));
                if kind >= 0 {
                    break;
                }
            }
            (before, id) = (id, next);
        }
        best.map(|(before, id, _)| (before, id))
    }

    /// Takes a message out; its bytes go to `out`, its kind to `kind`.
    fn get_message(
        &mut self,
        me: ThreadId,
        at: usize,
        kind: &mut i64,
        out: &mut [u8],
        flags: i32,
    ) -> Option<i64> {
        let (before, id) = self.find_message(at, *kind, flags)?;
        let message = &mut self.ipc.queues.messages[usize::from(id) - 1];
        let (length, next) = (message.bytes.len(), message.next);
        if length > out.len() as u64 && flags & MSG_NOERROR == 0 {
            return Some(-E2BIG);
        }
        *kind = message.kind;
        let got = self.files.pool.pop(&mut message.bytes, out);
        self.files.pool.clear(&mut message.bytes);
        self.ipc.queues.give_back(id);
        if before != 0 {
            self.ipc.queues.message(before).next = next;
        }
        let (now, pid) = (self.seconds(), self.processes.get(self.process_of(me)).pid);
        let state = &mut self.ipc.queues.queues[at];
        if before == 0 {
            state.head = next;
        }
        if state.tail == id {
            state.tail = before;
        }
        (state.bytes, state.messages) = (state.bytes - length, state.messages - 1);
        (state.received, state.receiver) = (now, pid);
        self.wake_all(key_of(at));
        Some(got as i64)
    }

    fn control_queue(&mut self, id: i32, request: &mut QueueControl<'_>) -> Result<i64, i64> {
        let at = self.queue(id)?;
        let now = self.seconds();
        match request {
            QueueControl::Stat(out) => **out = self.ipc.queues.queues[at],
            QueueControl::Set(uid, gid, mode, room) => {
                let state = &mut self.ipc.queues.queues[at];
                let permissions = &mut state.permissions;
                (permissions.uid, permissions.gid, permissions.mode) = (*uid, *gid, *mode & 0o777);
                (state.room, state.changed) = (*room, now);
                self.wake_all(key_of(at));
            }
            QueueControl::Remove => {
                self.ipc.queues.queues[at].permissions.used = false;
                let mut id = self.ipc.queues.queues[at].head;
                while id != 0 {
                    let message = &mut self.ipc.queues.messages[usize::from(id) - 1];
                    self.files.pool.clear(&mut message.bytes);
                    let next = core::mem::replace(&mut message.next, self.ipc.queues.free);
                    self.ipc.queues.free = id;
                    id = next;
                }
                self.wake_all(key_of(at));
            }
        }
        Ok(0)
    }
}

impl Call<'_> {
    /// `msgget`: an id or a negative errno.
    pub fn message_queue(&self, key: i32, flags: i32) -> i64 {
        self.quick(Op::Messages, key as u64, |k, me| {
            k.make_queue(me, key, flags).unwrap_or_else(|errno| -errno)
        })
    }

    /// `msgctl`.
    pub fn message_control(&self, id: i32, mut request: QueueControl<'_>) -> i64 {
        self.quick(Op::Messages, id as u64, |k, _| {
            k.control_queue(id, &mut request).unwrap_or_else(|errno| -errno)
        })
    }

    /// `msgsnd`.
    pub fn message_send(&self, id: i32, kind: i64, bytes: &[u8], flags: i32) -> i64 {
        self.message_op(id, flags, EAGAIN, |k, me, at| {
            if kind < 1 || bytes.len() > MAX_MESSAGE_BYTES {
                return Some(-EINVAL);
            }
            k.put_message(me, at, kind, bytes)
        })
    }

    /// `msgrcv`: bytes stored in `out`; `kind` says what is wanted, and gets what came.
    pub fn message_receive(&self, id: i32, kind: &mut i64, out: &mut [u8], flags: i32) -> i64 {
        self.message_op(id, flags, ENOMSG, |k, me, at| {
            if flags & MSG_COPY != 0 {
                return Some(-crate::file::abi::ENOSYS);
            }
            k.get_message(me, at, kind, out, flags)
        })
    }

    /// Tries until `f` has a result, unless `flags` say not to wait: then the error is `none`.
    fn message_op(
        &self,
        id: i32,
        flags: i32,
        none: i64,
        mut f: impl FnMut(&mut Kernel, ThreadId, usize) -> Option<i64>,
    ) -> i64 {
        let mut waited = false;
        self.op(Op::Messages, id as u64, |k, me| {
            let why = if waited { k.take_wake(me) } else { Wake::None };
            let Ok(at) = k.queue(id) else { return Step::Done(if waited { -EIDRM } else { -EINVAL }) };
            if let Some(result) = f(k, me, at) {
                return Step::Done(result);
            }
            if flags & IPC_NOWAIT != 0 {
                return Step::Done(-none);
            }
            if why == Wake::Signal && k.signal_due(me) {
                return Step::Done(-EINTR);
            }
            waited = true;
            k.wait(me, key_of(at), None);
            Step::Block
        })
    }
}
