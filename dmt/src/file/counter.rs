//! Files without bytes of their own: eventfd, timerfd, signalfd, inotify, the random device.

use crate::call::Call;
use crate::file::abi::{ENOSYS, TimerSpec};

impl Call<'_> {
    /// `eventfd2`: returns a file number. `flags`: `EFD_SEMAPHORE`, `O_NONBLOCK`.
    pub fn eventfd(&self, _initial: u32, _flags: i32) -> i64 {
        -ENOSYS
    }
    /// `timerfd_create`: returns a file number.
    pub fn timerfd(&self, _clock: i32, _flags: i32) -> i64 {
        -ENOSYS
    }
    /// `timerfd_settime`; `old` gets the setting before.
    pub fn timerfd_settime(&self, _fd: i32, _flags: i32, _new: TimerSpec, _old: &mut TimerSpec) -> i64 {
        -ENOSYS
    }
    /// `timerfd_gettime`.
    pub fn timerfd_gettime(&self, _fd: i32, _current: &mut TimerSpec) -> i64 {
        -ENOSYS
    }
    /// `signalfd4` with descriptor -1: returns a file number.
    pub fn signalfd(&self, _mask: u64, _flags: i32) -> i64 {
        -ENOSYS
    }
    /// `signalfd4` on an existing descriptor.
    pub fn signalfd_set(&self, _fd: i32, _mask: u64) -> i64 {
        -ENOSYS
    }
    /// `inotify_init1`: returns a file number.
    pub fn inotify(&self, _flags: i32) -> i64 {
        -ENOSYS
    }
    /// `inotify_add_watch`: returns a watch number. No event will ever come.
    pub fn inotify_add_watch(&self, _fd: i32) -> i64 {
        -ENOSYS
    }
    /// `inotify_rm_watch`.
    pub fn inotify_remove_watch(&self, _fd: i32, _watch: i32) -> i64 {
        -ENOSYS
    }
    /// `open` of `/dev/urandom` or `/dev/random`: returns a file number. `flags` are those of `open`.
    pub fn random_file(&self, _flags: i32) -> i64 {
        -ENOSYS
    }
}
