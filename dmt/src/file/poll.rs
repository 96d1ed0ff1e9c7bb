//! poll and select over virtual files, mixed with descriptors of the kernel.

use crate::call::Call;
use crate::file::abi::{ENOSYS, PollFd};

/// The three descriptor sets of `select`, as words of 64 bits; an empty slice = not given.
#[derive(Debug, Default)]
pub struct SelectSets<'a> {
    /// Descriptors to read.
    pub read: &'a mut [u64],
    /// Descriptors to write.
    pub write: &'a mut [u64],
    /// Descriptors with exceptions (never reported: there is no out-of-band data).
    pub except: &'a mut [u64],
}

impl Call<'_> {
    /// `poll`, `ppoll`. For an entry whose `fd` is not virtual preload has put into `revents` what is to be reported
    /// (regular files are ready for all that was asked, bad descriptors are `POLLNVAL`); it counts if it is not 0.
    pub fn poll(&self, _fds: &mut [PollFd], _timeout: Option<u64>, _mask: Option<u64>) -> i64 {
        -ENOSYS
    }
    /// `select`, `pselect6` over descriptors below `count`. Descriptors that are not virtual count as ready to read and
    /// to write; preload has checked that they are open.
    pub fn select(
        &self,
        _count: i32,
        _sets: SelectSets<'_>,
        _timeout: Option<u64>,
        _mask: Option<u64>,
    ) -> i64 {
        -ENOSYS
    }
}
