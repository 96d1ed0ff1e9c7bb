//! The parking lot: every wait of every thread is an entry in one table, keyed by what it waits for.
//!
//! Objects in the server's own memory (mutexes, conditions) need no queue of their own, and a deadline can take a
//! thread out of a wait although the object is in another process. Threads with the same key are woken in order of
//! arrival.

use crate::thread::ThreadId;

/// What kind of thing a thread waits for; part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Space {
    /// No wait.
    None = 0,
    /// A pthread object at an address (mutex, rwlock, semaphore, barrier, once, spin lock).
    Sync = 1,
    /// A condition variable at an address.
    Cond = 2,
    /// A raw futex word at an address.
    Futex = 3,
    /// The end of the thread with this number.
    Join = 4,
    /// Readability of an open file (number).
    Read = 5,
    /// Writability of an open file (number).
    Write = 6,
    /// poll or select; the files are in the thread's slot.
    Poll = 7,
    /// Time or a signal only.
    Sleep = 8,
    /// A change of state of a child of this process.
    Child = 9,
    /// A signal, by sigwait and its kin.
    SignalWait = 10,
    /// Its first turn.
    Start = 11,
    /// A file lock.
    FileLock = 12,
    /// A set of System V semaphores (its place).
    Semaphores = 13,
    /// A System V message queue (its place).
    Messages = 14,
    /// The start of another program in a process that was made by vfork (its slot), or its end.
    Exec = 15,
}

/// A wait's key. It is copied between the arena and the program's stack, so it has no bytes that nobody sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct WaitKey {
    /// Address or number.
    pub id: u64,
    /// Process whose address it is; 0 if it is shared between processes or no address.
    pub process: u16,
    /// What it is.
    pub space: Space,
    rest: [u8; 5],
}

const _: () = assert!(size_of::<WaitKey>() == size_of::<u64>() + size_of::<u16>() + 1 + 5);

impl WaitKey {
    /// A key for an object with a number.
    pub const fn number(space: Space, id: u64) -> Self {
        Self::within(0, space, id)
    }

    /// A key for an address of `process`, or of memory that processes share if that is 0.
    pub const fn within(process: u16, space: Space, id: u64) -> Self {
        Self { id, process, space, rest: [0; 5] }
    }
}

/// Buckets of the lot; a power of two.
const BUCKETS: usize = 1024;

/// Heads and tails of the buckets' lists; the links are in the thread slots.
#[repr(C)]
pub struct ParkingLot {
    buckets: [[ThreadId; 2]; BUCKETS],
}

impl ParkingLot {
    pub(crate) fn bucket(key: WaitKey) -> usize {
        let x = key.id ^ (u64::from(key.process) << 48) ^ ((key.space as u64) << 40);
        (x.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize & (BUCKETS - 1)
    }

    pub(crate) fn head(&self, bucket: usize) -> ThreadId {
        self.buckets[bucket][0]
    }

    pub(crate) fn ends(&mut self, bucket: usize) -> &mut [ThreadId; 2] {
        &mut self.buckets[bucket]
    }
}
