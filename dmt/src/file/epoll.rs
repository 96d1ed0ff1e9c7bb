//! epoll: level, edge, one-shot and exclusive registrations, nested instances.

use crate::call::Call;
use crate::file::abi::{ENOSYS, EpollEvent};

impl Call<'_> {
    /// `epoll_create1`: returns a file number.
    pub fn epoll_create(&self) -> i64 {
        -ENOSYS
    }
    /// `epoll_ctl`. Preload itself answers -`EPERM` for an open `fd` that is not virtual.
    pub fn epoll_ctl(&self, _epoll: i32, _operation: i32, _fd: i32, _event: EpollEvent) -> i64 {
        -ENOSYS
    }
    /// `epoll_wait`, `epoll_pwait2`: at most `events.len()` events. `mask` = the signal mask during the wait.
    pub fn epoll_wait(
        &self,
        _epoll: i32,
        _events: &mut [EpollEvent],
        _timeout: Option<u64>,
        _mask: Option<u64>,
    ) -> i64 {
        -ENOSYS
    }
}
