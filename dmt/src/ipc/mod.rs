//! System V semaphores and message queues, and POSIX message queues. (Shared memory of that kind is the kernel's: it is private to the replica's
//! ipc namespace.)
//!
//! Permissions of the former are not checked: all processes of a server count as one user.

pub mod message_queue;
mod posix_message;
pub mod posix_queue;
mod posix_status;
pub mod semaphore_set;

use crate::kernel::Kernel;
use crate::thread::ThreadId;

macro_rules! numbers {
    ($type:ty: $($name:ident = $value:expr,)*) => { $(pub(crate) const $name: $type = $value;)* };
}

numbers! { i64:
    ENOENT = 2, EINTR = 4, E2BIG = 7, EAGAIN = 11, ENOMEM = 12, EEXIST = 17, EINVAL = 22, EFBIG = 27, ENOSPC = 28,
    ERANGE = 34, ENOMSG = 42, EIDRM = 43,
}
numbers! { i32: IPC_CREAT = 0o1000, IPC_EXCL = 0o2000, IPC_NOWAIT = 0o4000, IPC_PRIVATE = 0, }

/// Low bits of an id are the place in the table, the others count the place's lives, as in Linux.
const PLACES: i32 = 1 << 15;

/// `struct ipc_perm`, and what finds an object.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Permissions {
    /// Its key.
    pub key: i32,
    /// Its owner.
    pub uid: u32,
    /// Its owner's group.
    pub gid: u32,
    /// Its creator.
    pub cuid: u32,
    /// Its creator's group.
    pub cgid: u32,
    /// Rights.
    pub mode: u32,
    /// Lives of its place in the table.
    pub sequence: u16,
    pub(crate) used: bool,
}

impl Permissions {
    fn id(&self, place: usize) -> i32 {
        i32::from(self.sequence) * PLACES + place as i32
    }

    fn is(&self, id: i32, place: usize) -> bool {
        self.used && self.id(place) == id
    }
}

/// The place that an id names.
fn place(id: i32) -> usize {
    (id & (PLACES - 1)) as usize
}

/// What a `get` call found.
enum Found {
    /// An object at this place.
    Old(usize),
    /// Nothing; this place is free for a new one.
    New(usize),
}

/// Finds the object with `key`, or a place for a new one, as `flags` say.
fn find<'a>(all: impl Iterator<Item = &'a Permissions> + Clone, key: i32, flags: i32) -> Result<Found, i64> {
    let old = match key {
        IPC_PRIVATE => None,
        _ => all.clone().position(|one| one.used && one.key == key),
    };
    match old {
        Some(_) if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL => Err(EEXIST),
        Some(place) => Ok(Found::Old(place)),
        None if key != IPC_PRIVATE && flags & IPC_CREAT == 0 => Err(ENOENT),
        None => all.clone().position(|one| !one.used).map(Found::New).ok_or(ENOSPC),
    }
}

impl Kernel {
    /// The permissions of a new object.
    fn new_permissions(&self, me: ThreadId, key: i32, flags: i32, before: &Permissions) -> Permissions {
        let process = self.processes.get(self.process_of(me));
        let (uid, gid) = (process.uid, process.gid);
        let sequence = before.sequence.wrapping_add(1) & 0x7fff;
        Permissions {
            key,
            uid,
            gid,
            cuid: uid,
            cgid: gid,
            mode: (flags & 0o777) as u32,
            sequence,
            used: true,
        }
    }

    /// Seconds since the epoch.
    fn seconds(&self) -> u64 {
        self.clock() / 1_000_000_000
    }
}

/// All objects. All zeroes = none.
#[repr(C)]
pub struct Ipc {
    pub(crate) semaphores: semaphore_set::SemaphoreSets,
    pub(crate) queues: message_queue::MessageQueues,
    pub(crate) posix: posix_queue::PosixQueues,
}
