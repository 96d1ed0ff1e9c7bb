//! Numbers and layouts of the Linux x86-64 interface that virtual files speak: errno values, flags, structures.

macro_rules! numbers {
    ($type:ty: $($(#[$doc:meta])* $name:ident = $value:expr,)*) => { $(
        $(#[$doc])*
        #[allow(missing_docs)]
        pub const $name: $type = $value;
    )* };
}

numbers! { i64:
    EPERM = 1, ENOENT = 2, EINTR = 4, EIO = 5, ENXIO = 6, EAGAIN = 11, EBADF = 9, ENOMEM = 12, EACCES = 13, EFAULT = 14, EEXIST = 17, EINVAL = 22,
    ENFILE = 23, EMFILE = 24, ENOTTY = 25, ENOSPC = 28, ESPIPE = 29, EPIPE = 32, ELOOP = 40, ENAMETOOLONG = 36, ENOSYS = 38,
    ERESTART = 85, ENOTSOCK = 88, EDESTADDRREQ = 89, EMSGSIZE = 90, EPROTOTYPE = 91, ENOPROTOOPT = 92, EPROTONOSUPPORT = 93,
    ESOCKTNOSUPPORT = 94, EOPNOTSUPP = 95, EAFNOSUPPORT = 97, EADDRINUSE = 98, EADDRNOTAVAIL = 99, ENETUNREACH = 101,
    ECONNABORTED = 103, ECONNRESET = 104, ENOBUFS = 105, EISCONN = 106, ENOTCONN = 107, ETIMEDOUT = 110,
    ETOOMANYREFS = 109, ECONNREFUSED = 111, EALREADY = 114, EINPROGRESS = 115, ECANCELED = 125,
}

numbers! { i32:
    O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_ACCMODE = 3, O_APPEND = 0o2000, O_NONBLOCK = 0o4000,
    O_ASYNC = 0o20000, O_DIRECT = 0o40000, O_CLOEXEC = 0o2000000,
    AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10, AF_NETLINK = 16,
    SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_RAW = 3, SOCK_SEQPACKET = 5, SOCK_TYPE_MASK = 15,
    SOCK_NONBLOCK = O_NONBLOCK, SOCK_CLOEXEC = O_CLOEXEC,
    IPPROTO_IP = 0, IPPROTO_TCP = 6, IPPROTO_UDP = 17, IPPROTO_IPV6 = 41, SOL_SOCKET = 1,
    MSG_OOB = 1, MSG_PEEK = 2, MSG_CTRUNC = 8, MSG_TRUNC = 0x20, MSG_DONTWAIT = 0x40, MSG_WAITALL = 0x100,
    MSG_NOSIGNAL = 0x4000, MSG_ERRQUEUE = 0x2000, MSG_CMSG_CLOEXEC = 0x4000_0000,
    SHUT_RD = 0, SHUT_WR = 1, SHUT_RDWR = 2,
    SIGPIPE = 13,
    CLOCK_REALTIME = 0, CLOCK_MONOTONIC = 1, CLOCK_BOOTTIME = 7, CLOCK_REALTIME_ALARM = 8, CLOCK_BOOTTIME_ALARM = 9,
    EFD_SEMAPHORE = 1, TFD_TIMER_ABSTIME = 1, TFD_TIMER_CANCEL_ON_SET = 2,
    EPOLL_CTL_ADD = 1, EPOLL_CTL_DEL = 2, EPOLL_CTL_MOD = 3,
}

numbers! { u32:
    POLLIN = 0x1, POLLPRI = 0x2, POLLOUT = 0x4, POLLERR = 0x8, POLLHUP = 0x10, POLLNVAL = 0x20,
    POLLRDNORM = 0x40, POLLRDBAND = 0x80, POLLWRNORM = 0x100, POLLWRBAND = 0x200, POLLRDHUP = 0x2000,
    EPOLLEXCLUSIVE = 1 << 28, EPOLLWAKEUP = 1 << 29, EPOLLONESHOT = 1 << 30, EPOLLET = 1 << 31,
    FIONREAD = 0x541b, TIOCOUTQ = 0x5411, RNDGETENTCNT = 0x8004_5200, FIONBIO = 0x5421, FIOASYNC = 0x5452,
}

/// `struct iovec`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IoVec {
    /// First byte, in the calling process.
    pub base: *mut u8,
    /// Bytes.
    pub len: usize,
}

/// `struct epoll_event`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed)]
pub struct EpollEvent {
    /// Events.
    pub events: u32,
    /// The user's word.
    pub data: u64,
}
const _: () = assert!(size_of::<EpollEvent>() == 12);

/// `struct pollfd`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PollFd {
    /// Descriptor; negative = ignore.
    pub fd: i32,
    /// Events asked for.
    pub events: i16,
    /// Events found.
    pub revents: i16,
}

/// A timer's setting, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TimerSpec {
    /// Period; 0 = it fires once.
    pub interval: u64,
    /// Time to (or of, if absolute) the first firing; 0 = disarmed.
    pub value: u64,
}

/// Bytes that a socket address can have (`struct sockaddr_un` is the longest).
pub const MAX_ADDRESS_BYTES: usize = 110;

/// A socket address as the server knows it: `struct sockaddr_in`, `_in6` or `_un`, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SocketAddress {
    /// Bytes used.
    pub len: u16,
    bytes: [u8; MAX_ADDRESS_BYTES],
}

/// The file of the disk that the path of a unix socket leads to: device and inode, as programs see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Place {
    /// Its device.
    pub device: u64,
    /// Its inode; 0 = no file.
    pub inode: u64,
}

impl Place {
    /// No file: the address is no path.
    pub const NONE: Self = Self { device: 0, inode: 0 };
}

impl SocketAddress {
    /// No address.
    pub const NONE: Self = Self { len: 0, bytes: [0; MAX_ADDRESS_BYTES] };

    /// The address in these bytes; `None` if they are too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut address = Self::NONE;
        address.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        address.len = bytes.len() as u16;
        Some(address)
    }

    /// The bytes used.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}
