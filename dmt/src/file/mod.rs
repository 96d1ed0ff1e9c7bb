//! Open file descriptions that dmt emulates: sockets, pipes, epolls, timers, events.
//!
//! # How preload uses them
//! A descriptor number is the kernel's: preload opens a *placeholder* and calls [`Call::install`] for it. So calls that
//! make a file (`socket`, `accept`, `pipe`, ...) return a file number (from 1) or a negative errno; preload then gets a
//! placeholder and installs the file, or calls [`Call::discard`] if the kernel has no descriptor left. Calls on a
//! descriptor return -`EBADF` if it is not virtual.
//!
//! Timeouts are relative, in nanoseconds; `None` = for ever.
//!
//! [`Call::install`]: crate::call::Call::install
//! [`Call::discard`]: crate::call::Call::discard

pub mod abi;
pub mod counter;
pub mod descriptor;
pub mod epoll;
pub mod io;
pub mod poll;
pub mod socket;

use crate::entry::Event;
use crate::kernel::Kernel;
use crate::link::Shared;

/// Number of an open file, from 1; 0 means none.
pub type FileId = u32;

/// The table of open files.
#[repr(C)]
pub struct Files {
    descriptors: descriptor::Descriptors,
    used_blocks: u64,
}

impl Files {
    /// Blocks of the buffer pool in use.
    pub fn pool_used(&self) -> u64 {
        self.used_blocks
    }
}

/// What a virtual file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FileKind {
    /// The slot is free.
    Free = 0,
    /// A TCP socket, IPv4 or IPv6.
    Tcp = 1,
    /// A UDP socket.
    Udp = 2,
    /// A unix-domain socket.
    Unix = 3,
    /// The reading end of a pipe.
    PipeRead = 4,
    /// The writing end of a pipe.
    PipeWrite = 5,
    /// An eventfd.
    EventFd = 6,
    /// A timerfd.
    TimerFd = 7,
    /// A signalfd.
    SignalFd = 8,
    /// An epoll instance.
    Epoll = 9,
    /// An inotify instance.
    Inotify = 10,
    /// `/dev/urandom` or `/dev/random`.
    Random = 11,
}

impl Kernel {
    /// A client connected.
    pub fn client_connected(&mut self, _shared: &Shared, _event: &Event<'_>) {}
    /// Bytes came from a client.
    pub fn client_data(&mut self, _shared: &Shared, _event: &Event<'_>) {}
    /// A client sent FIN.
    pub fn client_closed(&mut self, _shared: &Shared, _event: &Event<'_>) {}
    /// A client is gone.
    pub fn client_reset(&mut self, _shared: &Shared, _event: &Event<'_>) {}
    /// A client took output.
    pub fn client_drained(&mut self, _shared: &Shared, _event: &Event<'_>) {}
    /// The timerfd with this file number expired.
    pub fn timerfd_fired(&mut self, _file: u32) {}
}
