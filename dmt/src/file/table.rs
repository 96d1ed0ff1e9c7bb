//! The table of open file descriptions: life and death of a virtual file.

use crate::bounds::{MAX_EPOLL_ITEMS, MAX_FILES};
use crate::file::connections::Connections;
use crate::file::descriptor::Descriptors;
use crate::file::epoll::{EpollItem, EpollLists, ItemId};
use crate::file::fifo::Fifos;
use crate::file::mailed::Letters;
use crate::file::outbound::Outbound;
use crate::file::outside::Outside;
use crate::file::passed::{PassedList, PassedTable};
use crate::file::pool::{Pool, Queue};
use crate::file::socket::Socket;
use crate::file::timerfd::TimerState;
use crate::file::watched::Inotify;
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::link::Shared;

/// The server shut down its reading side.
pub(crate) const READ_SHUT: u8 = 1;
/// The server shut down its writing side.
pub(crate) const WRITE_SHUT: u8 = 2;
/// The other end will write no more.
pub(crate) const END_OF_INPUT: u8 = 4;
/// The connection is broken.
pub(crate) const BROKEN: u8 = 8;
/// A writer found no room; it wants to know when there is some.
pub(crate) const NO_ROOM: u8 = 16;
/// The next `connect` tells what became of the last one.
pub(crate) const CONNECT_UNREPORTED: u8 = 32;
/// A UDP socket to which clients outside may send.
pub(crate) const SERVICE: u8 = 64;
/// A client sent something, and the server has written nothing to it since.
pub(crate) const ASKED: u8 = 128;

/// One open file description. Which fields mean something depends on `kind`.
#[repr(C)]
pub struct File {
    /// What it is.
    pub(crate) kind: FileKind,
    /// [`READ_SHUT`] and its kin.
    pub(crate) state: u8,
    /// `O_NONBLOCK` and the access mode.
    pub(crate) flags: i32,
    /// Descriptors, operations in progress and queues that hold it.
    pub(crate) references: u32,
    /// `F_SETOWN`.
    pub(crate) owner: i32,
    /// Next in the free list, in an accept queue, of a message queue or of a FIFO.
    pub(crate) next: FileId,
    /// First epoll registration of it.
    pub(crate) watches: ItemId,
    /// The other end of a pipe or pair; 0 if it is gone or there never was one.
    pub(crate) peer: FileId,
    /// Error that the next call reports (`SO_ERROR`). Message queue: bytes of its status that were read.
    pub(crate) error: i32,
    /// Bytes to read.
    pub(crate) input: Queue,
    /// What was passed beside them.
    pub(crate) passed: PassedList,
    /// eventfd: the counter. signalfd: the mask. inotify, message queue, FIFO: its place, from 1. mailed: its letter's number.
    pub(crate) counter: u64,
    /// FIFO: ends on the other side that were opened before it.
    pub(crate) met: u32,
    /// timerfd.
    pub(crate) timer: TimerState,
    /// epoll.
    pub(crate) epoll: EpollLists,
    /// Sockets.
    pub(crate) socket: Socket,
}

impl File {
    pub(crate) fn is(&self, bits: u8) -> bool {
        self.state & bits != 0
    }

    pub(crate) fn is_service(&self) -> bool {
        self.is(SERVICE)
    }

    pub(crate) fn nonblocking(&self) -> bool {
        self.flags & super::abi::O_NONBLOCK != 0
    }
}

/// All virtual files of a replica. All zeroes = none.
#[repr(C)]
pub struct Files {
    pub(crate) descriptors: Descriptors,
    table: [File; MAX_FILES],
    free: FileId,
    touched: u32,
    /// Files in use.
    pub(crate) used: u32,
    /// First of the bound sockets, newest first.
    pub(crate) bound: FileId,
    /// Last port given to a socket that called others without having one.
    pub(crate) last_calling_port: u32,
    /// Last port given to a socket that asked for any to be found at.
    pub(crate) last_offered_port: u32,
    /// Last number that became a unix socket's name.
    pub(crate) last_unix_name: u32,
    /// Listeners made; part of their ids.
    pub(crate) listeners: u32,
    pub(crate) connections: Connections,
    pub(crate) items: [EpollItem; MAX_EPOLL_ITEMS],
    pub(crate) free_item: ItemId,
    pub(crate) touched_items: u32,
    pub(crate) passed: PassedTable,
    pub(crate) letters: Letters,
    pub(crate) outbound: Outbound,
    pub(crate) outside: Outside,
    pub(crate) inotify: Inotify,
    pub(crate) fifos: Fifos,
    pub(crate) pool: Pool,
}

impl Files {
    /// Blocks of the buffer pool in use.
    pub fn pool_used(&self) -> u64 {
        self.pool.used()
    }

    /// Virtual files in use.
    pub fn used(&self) -> u32 {
        self.used
    }

    #[inline]
    pub(crate) fn get(&self, id: FileId) -> &File {
        &self.table[id as usize - 1]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: FileId) -> &mut File {
        &mut self.table[id as usize - 1]
    }

    /// A file's slot together with the pool that its queue is in.
    pub(crate) fn with_pool(&mut self, id: FileId) -> (&mut File, &mut Pool) {
        (&mut self.table[id as usize - 1], &mut self.pool)
    }

    /// A new file with one reference; `None` at [`MAX_FILES`].
    pub(crate) fn create(&mut self, kind: FileKind, flags: i32) -> Option<FileId> {
        let id = if self.free != 0 {
            let id = self.free;
            self.free = self.get(id).next;
            id
        } else if (self.touched as usize) < MAX_FILES {
            self.touched += 1;
            self.touched
        } else {
            return None;
        };
        let file = self.get_mut(id);
        // SAFETY: an all-zero File is valid: its enums have zero variants, the rest is integers.
        *file = unsafe { core::mem::zeroed() };
        (file.kind, file.flags, file.references) = (kind, flags, 1);
        self.used += 1;
        Some(id)
    }

    fn free(&mut self, id: FileId) {
        let next = self.free;
        let (file, pool) = self.with_pool(id);
        pool.clear(&mut file.input);
        (file.kind, file.next) = (FileKind::Free, next);
        self.free = id;
        self.used -= 1;
    }
}

impl Kernel {
    /// Adds a reference.
    pub(crate) fn hold_file(&mut self, id: FileId) {
        self.files.get_mut(id).references += 1;
    }

    /// Drops a reference; the last one closes the file.
    pub fn release_file(&mut self, shared: &Shared, id: FileId) {
        let file = self.files.get_mut(id);
        file.references -= 1;
        if file.references > 0 {
            return;
        }
        let kind = file.kind;
        self.forget_watches(id);
        self.drop_parcels(shared, id);
        match kind {
            FileKind::Tcp => self.close_tcp(shared, id),
            FileKind::Unix => self.close_unix(shared, id),
            FileKind::Udp => self.close_datagram_socket(shared, id),
            FileKind::PipeRead | FileKind::PipeWrite => self.leave_peer(id, false),
            FileKind::TimerFd => self.disarm_timerfd(id),
            FileKind::Epoll => self.close_epoll(id),
            FileKind::Mailed => self.end_letter(id),
            FileKind::Inotify => self.close_inotify(id),
            FileKind::MessageQueue => self.close_posix(id),
            FileKind::Fifo => self.close_fifo(id),
            FileKind::Free
            | FileKind::EventFd
            | FileKind::SignalFd
            | FileKind::Random
            | FileKind::Netlink => {}
        }
        self.files.free(id);
    }
}

// What `create` relies on.
const _: () = assert!(FileKind::Free as u8 == 0);
