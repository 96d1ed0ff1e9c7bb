//! POSIX message queues: `mq_open` and its kin. An open queue is a virtual file, so it waits, polls and closes as such; the
//! queue itself lives on while it has a name or is open.

use crate::bounds::{
    DEFAULT_POSIX_MESSAGES, MAX_MESSAGE_BYTES, MAX_POSIX_MESSAGE_BYTES, MAX_POSIX_MESSAGES, MAX_POSIX_QUEUES,
};
use crate::call::Call;
use crate::file::abi::{
    EACCES, EBADF, EEXIST, EINVAL, ENAMETOOLONG, ENFILE, ENOENT, ENOSPC, O_ACCMODE, O_NONBLOCK, O_RDONLY,
    O_RDWR, O_WRONLY,
};
use crate::file::notify::{READABLE, WRITABLE};
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::op::Op;
use crate::process::abi::{EBUSY, SIGEV_NONE, SIGEV_SIGNAL};
use crate::thread::ThreadId;

/// Bytes of the longest name.
pub const NAME_BYTES: usize = 255;
const O_CREAT: i32 = 0o100;
const O_EXCL: i32 = 0o200;

/// `struct mq_attr`, but for what is unused.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Attributes {
    /// `O_NONBLOCK`.
    pub flags: i64,
    /// Messages that fit.
    pub messages: i64,
    /// Bytes of the longest message.
    pub bytes: i64,
    /// Messages in it.
    pub count: i64,
}

/// What `mq_open` asks for.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Without the slash in front.
    pub name: &'a [u8],
    /// `O_` flags.
    pub flags: i32,
    /// Rights of a new queue.
    pub mode: u32,
    /// Size of a new queue, if it is not the default.
    pub size: Option<Attributes>,
}

/// Whom a message in an empty queue is told to.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Notice {
    /// `sigev_value`.
    pub value: u64,
    /// `SIGEV_SIGNAL` or `SIGEV_NONE`.
    pub how: i32,
    /// Its signal.
    pub signal: i32,
}

/// One queue. All zeroes = none.
#[repr(C)]
pub(super) struct PosixQueue {
    name: [u8; NAME_BYTES],
    name_bytes: u8,
    /// It can be found by its name.
    named: bool,
    uid: u32,
    gid: u32,
    mode: u32,
    pub(super) size: Attributes,
    /// First of the files that it is open as; they are linked by `next`.
    pub(super) files: FileId,
    /// First message: of the highest priority, and of these the oldest.
    pub(super) head: u16,
    /// Process to be told of the next message, 0 = none.
    pub(super) told: u16,
    pub(super) notice: Notice,
}

impl PosixQueue {
    fn is_free(&self) -> bool {
        !self.named && self.files == 0
    }

    fn name(&self) -> &[u8] {
        &self.name[..usize::from(self.name_bytes)]
    }
}

/// All queues.
#[repr(C)]
pub(crate) struct PosixQueues {
    queues: [PosixQueue; MAX_POSIX_QUEUES],
}

fn checked(name: &[u8]) -> Result<(), i64> {
    match name {
        [] => Err(ENOENT),
        b"." | b".." => Err(EACCES),
        _ if name.len() > NAME_BYTES => Err(ENAMETOOLONG),
        _ if name.contains(&b'/') => Err(EACCES),
        _ => Ok(()),
    }
}

fn fits(size: &Attributes) -> bool {
    (1..=MAX_POSIX_MESSAGES as i64).contains(&size.messages)
        && (1..=MAX_POSIX_MESSAGE_BYTES as i64).contains(&size.bytes)
}

impl Kernel {
    pub(super) fn posix(&mut self, at: usize) -> &mut PosixQueue {
        &mut self.ipc.posix.queues[at]
    }

    /// The queue that `fd` is open as, if it may be used in this way.
    fn posix_queue_of(&self, me: ThreadId, fd: i32, not: i32) -> Result<(usize, FileId), i64> {
        let file = self.descriptor(me, fd).ok_or(EBADF)?;
        let at = self.posix_queue_of_file(file, not)?;
        Ok((at, file))
    }

    pub(super) fn posix_queue_of_file(&self, file: FileId, not: i32) -> Result<usize, i64> {
        let file = self.files.get(file);
        let is_queue = file.kind == FileKind::MessageQueue && file.flags & O_ACCMODE != not;
        if is_queue { Ok(file.counter as usize - 1) } else { Err(EBADF) }
    }

    fn find_posix(&self, name: &[u8]) -> Option<usize> {
        self.ipc.posix.queues.iter().position(|queue| queue.named && queue.name() == name)
    }

    fn make_posix(&mut self, me: ThreadId, asked: &Opening<'_>) -> Result<usize, i64> {
        let size = asked.size.unwrap_or(Attributes {
            messages: DEFAULT_POSIX_MESSAGES as i64,
            bytes: MAX_MESSAGE_BYTES as i64,
            ..Attributes::default()
        });
        if !fits(&size) {
            return Err(EINVAL);
        }
        let at = self.ipc.posix.queues.iter().position(PosixQueue::is_free).ok_or(ENOSPC)?;
        let process = self.processes.get(self.process_of(me));
        let (uid, gid) = (process.uid, process.gid);
        let queue = self.posix(at);
        // SAFETY: numbers and bytes, for which zeroes are valid.
        *queue = unsafe { core::mem::zeroed() };
        queue.name[..asked.name.len()].copy_from_slice(asked.name);
        (queue.name_bytes, queue.uid, queue.gid, queue.mode) =
            (asked.name.len() as u8, uid, gid, asked.mode & 0o777);
        queue.size = Attributes { flags: 0, count: 0, ..size };
        Ok(at)
    }

    /// Whether the caller may read and write as `flags` say.
    fn may_open_posix(&self, me: ThreadId, at: usize, flags: i32) -> bool {
        let process = self.processes.get(self.process_of(me));
        let queue = &self.ipc.posix.queues[at];
        let shift = match () {
            () if process.uid == 0 => return true,
            () if process.uid == queue.uid => 6,
            () if process.gid == queue.gid => 3,
            () => 0,
        };
        let wanted = match flags & O_ACCMODE {
            O_RDONLY => 4,
            O_WRONLY => 2,
            _ => 6,
        };
        queue.mode >> shift & wanted == wanted
    }

    fn open_posix(&mut self, me: ThreadId, asked: &Opening<'_>) -> Result<FileId, i64> {
        checked(asked.name)?;
        let flags = asked.flags;
        if flags & O_ACCMODE > O_RDWR {
            return Err(EINVAL);
        }
        let at = match self.find_posix(asked.name) {
            Some(_) if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL => return Err(EEXIST),
            Some(at) if !self.may_open_posix(me, at, flags) => return Err(EACCES),
            Some(at) => at,
            None if flags & O_CREAT == 0 => return Err(ENOENT),
            None => self.make_posix(me, asked)?,
        };
        let kept = flags & (O_ACCMODE | O_NONBLOCK);
        let file = self.files.create(FileKind::MessageQueue, kept).ok_or(ENFILE)?;
        let queue = self.posix(at);
        queue.named |= queue.files == 0;
        let next = core::mem::replace(&mut queue.files, file);
        let opened = self.files.get_mut(file);
        (opened.counter, opened.next) = (at as u64 + 1, next);
        Ok(file)
    }

    fn unlink_posix(&mut self, me: ThreadId, name: &[u8]) -> Result<i64, i64> {
        checked(name)?;
        let at = self.find_posix(name).ok_or(ENOENT)?;
        let uid = self.processes.get(self.process_of(me)).uid;
        if uid != 0 && uid != self.posix(at).uid {
            return Err(EACCES);
        }
        self.posix(at).named = false;
        self.end_posix(at);
        Ok(0)
    }

    /// Frees the messages of a queue that nobody can reach any more.
    fn end_posix(&mut self, at: usize) {
        while self.posix(at).is_free() && self.posix(at).head != 0 {
            self.take_posix_message(at, &mut []);
        }
    }

    /// An open queue is closed for good.
    pub(crate) fn close_posix(&mut self, id: FileId) {
        let at = self.files.get(id).counter as usize - 1;
        let next = self.files.get(id).next;
        if self.posix(at).files == id {
            self.posix(at).files = next;
        } else {
            let mut before = self.posix(at).files;
            while self.files.get(before).next != id {
                before = self.files.get(before).next;
            }
            self.files.get_mut(before).next = next;
        }
        self.end_posix(at);
    }

    /// A process closes a descriptor: it wants to be told of no message any more.
    pub(crate) fn forget_notice(&mut self, process: u16, file: FileId) {
        if let Ok(at) = self.posix_queue_of_file(file, -1)
            && self.posix(at).told == process
        {
            self.posix(at).told = 0;
        }
    }

    /// What an open queue is ready for.
    pub(crate) fn posix_readiness(&self, id: FileId) -> u32 {
        let queue = &self.ipc.posix.queues[self.files.get(id).counter as usize - 1];
        let readable = if queue.size.count > 0 { READABLE } else { 0 };
        readable | if queue.size.count < queue.size.messages { WRITABLE } else { 0 }
    }

    fn set_notice(&mut self, me: ThreadId, fd: i32, notice: Option<Notice>) -> Result<i64, i64> {
        let (at, _) = self.posix_queue_of(me, fd, -1)?;
        let process = self.process_of(me);
        let queue = self.posix(at);
        match notice {
            None if queue.told == process => queue.told = 0,
            None => {}
            Some(_) if queue.told != 0 => return Err(EBUSY),
            Some(notice) => (queue.told, queue.notice) = (process, notice),
        }
        Ok(0)
    }
}

fn returned<T: Into<i64>>(value: Result<T, i64>) -> i64 {
    value.map_or_else(|errno| -errno, Into::into)
}

impl Call<'_> {
    /// `mq_open`: returns a file number.
    pub fn posix_queue_open(&self, asked: &Opening<'_>) -> i64 {
        self.quick(Op::PosixMessages, asked.name.len() as u64, |k, me| returned(k.open_posix(me, asked)))
    }

    /// `mq_unlink`.
    pub fn posix_queue_unlink(&self, name: &[u8]) -> i64 {
        self.quick(Op::PosixMessages, name.len() as u64, |k, me| returned(k.unlink_posix(me, name)))
    }

    /// `mq_notify`; `None` ends what the process asked for before.
    pub fn posix_notify(&self, fd: i32, notice: Option<Notice>) -> i64 {
        self.quick(Op::PosixMessages, fd as u64, |k, me| {
            let known = |notice: Notice| match notice.how {
                SIGEV_SIGNAL => (1..=64).contains(&notice.signal),
                how => how == SIGEV_NONE,
            };
            if notice.is_some_and(|notice| !known(notice)) {
                return -EINVAL;
            }
            returned(k.set_notice(me, fd, notice))
        })
    }

    /// `mq_getattr`, `mq_setattr`: sets `O_NONBLOCK` if `flags` are given, and tells what was.
    pub fn posix_attributes(&self, fd: i32, flags: Option<i64>, old: &mut Attributes) -> i64 {
        self.quick(Op::PosixMessages, fd as u64, |k, me| {
            let nonblock = i64::from(O_NONBLOCK);
            if flags.is_some_and(|flags| flags & !nonblock != 0) {
                return -EINVAL;
            }
            let (at, file) = match k.posix_queue_of(me, fd, -1) {
                Ok(found) => found,
                Err(errno) => return -errno,
            };
            let file = k.files.get_mut(file);
            let before = i64::from(file.flags) & nonblock;
            if let Some(flags) = flags {
                file.flags = file.flags & !O_NONBLOCK | flags as i32;
            }
            *old = Attributes { flags: before, ..k.posix(at).size };
            0
        })
    }
}
