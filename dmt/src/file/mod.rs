//! Open file descriptions that dmt emulates: sockets, pipes, epolls, timers, events.
//!
//! # How preload uses them
//! A descriptor number is the kernel's: preload opens a *placeholder* and calls [`Call::install`] for it. So calls that
//! make a file (`socket`, `accept`, `pipe`, ...) return a file number (from 1) or a negative errno; preload then gets a
//! placeholder and installs the file, or calls [`Call::discard`] if the kernel has no descriptor left. Calls on a
//! descriptor return -`EBADF` if it is not virtual.
//!
//! Timeouts are relative, in nanoseconds; `None` = for ever. A call that a signal interrupts returns -`EINTR` (or what
//! it has done so far).
//!
//! # How it works
//! All files are slots of one table ([`table`]); bytes to read are queues in one pool ([`pool`]). Whoever changes what a
//! file is ready for calls `Kernel::notify` ([`notify`]), which wakes threads that wait for it and marks it in the
//! epolls that watch it.
//!
//! [`Call::install`]: crate::call::Call::install
//! [`Call::discard`]: crate::call::Call::discard

pub mod abi;
mod accept;
mod address;
mod bind;
mod client;
mod connections;
mod control;
mod datagram;
pub mod descriptor;
pub mod epoll;
mod event;
pub(crate) mod fifo;
pub mod inotify;
pub mod io;
pub mod lock;
pub mod mailed;
pub(crate) mod memory;
mod message;
mod netlink;
pub(crate) mod notify;
mod options;
mod outbound;
mod outside;
pub mod passed;
pub mod poll;
pub mod pool;
mod signals;
mod socket;
mod stream;
pub mod table;
#[cfg(test)]
mod tests;
mod timerfd;
pub(crate) mod waiting;
mod watched;

pub use table::Files;

/// Number of an open file, from 1; 0 means none.
pub type FileId = u32;

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
    /// A file of the kernel's that is passed over a unix socket. It has no descriptor.
    Mailed = 12,
    /// An open POSIX message queue.
    MessageQueue = 13,
    /// A netlink socket. What it is bound to, and its options, its placeholder knows: that is one, too.
    Netlink = 14,
    /// An end of a named pipe.
    Fifo = 15,
}
