//! Names of the scheduled operations, for the digest and the trace. Numbers are stable: traces of two binaries of one
//! layout version can be compared.

macro_rules! ops {
    ($($name:ident = $number:literal,)*) => {
        /// A scheduled operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        #[allow(missing_docs)]
        pub enum Op { $($name = $number,)* }

        impl Op {
            /// The operation's name, for people.
            pub fn name(number: u16) -> &'static str {
                match number { $($number => stringify!($name),)* _ => "unknown" }
            }

            /// The number of the operation with this name.
            pub fn number(name: &str) -> Option<u16> {
                $(if name == stringify!($name) {
                    return Some($number);
                })*
                None
            }
        }
    };
}

ops! {
    ThreadStart = 1, ThreadExit = 2, ThreadCreate = 3, Join = 4, Detach = 5, Yield = 6, Spin = 7,
    MutexLock = 10, MutexTryLock = 11, MutexTimedLock = 12, MutexUnlock = 13,
    CondWait = 20, CondTimedWait = 21, CondSignal = 22, CondBroadcast = 23,
    RwRead = 30, RwWrite = 31, RwUnlock = 32,
    SemWait = 40, SemPost = 41, BarrierWait = 42, Once = 43, SpinLock = 44, SpinUnlock = 45,
    Futex = 50,
    Clock = 60, Sleep = 61, Random = 62, TimerSet = 63,
    Socket = 100, Bind = 101, Listen = 102, Accept = 103, Connect = 104, Read = 105, Write = 106, Shutdown = 107,
    Close = 108, Dup = 109, SockOpt = 110, SockName = 111, Poll = 112, EpollCreate = 113, EpollCtl = 114,
    EpollWait = 115, Pipe = 116, SocketPair = 117, EventFd = 118, TimerFd = 119, SignalFd = 120, FdFlags = 121,
    SendFile = 122, Inotify = 123, FileLock = 124, Mail = 125, Netlink = 126, Fifo = 127,
    Semaphores = 130, Messages = 131, PosixMessages = 132,
    Fork = 140, Wait = 141, Kill = 142, ProcessExit = 143, SignalAction = 144, SignalMask = 145, SignalWait = 146,
    Signal = 147, Pause = 148, Preempted = 149,
    Exec = 150, Cancel = 151,
    Replaced = 160,
}
