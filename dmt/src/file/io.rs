//! Reading and writing of every kind of virtual file.

use crate::call::Call;
use crate::file::abi::{ENOSYS, IoVec, SocketAddress};

impl Call<'_> {
    /// `read`, `readv`.
    ///
    /// # Safety
    /// Each of `iov` is memory of the calling process that may be written, and that nobody else accesses meanwhile.
    pub unsafe fn read(&self, _fd: i32, _iov: &[IoVec]) -> i64 {
        -ENOSYS
    }
    /// `write`, `writev`.
    ///
    /// # Safety
    /// Each of `iov` is memory of the calling process that may be read.
    pub unsafe fn write(&self, _fd: i32, _iov: &[IoVec]) -> i64 {
        -ENOSYS
    }
    /// `recv`, `recvfrom`, `recvmsg`. `from` gets the sender's address, `out_flags` gets `msg_flags`.
    ///
    /// # Safety
    /// As for [`Call::read`].
    pub unsafe fn receive(
        &self,
        _fd: i32,
        _iov: &[IoVec],
        _flags: i32,
        _from: &mut SocketAddress,
        _out_flags: &mut i32,
    ) -> i64 {
        -ENOSYS
    }
    /// `send`, `sendto`, `sendmsg`. An empty `to` = the connected peer.
    ///
    /// # Safety
    /// As for [`Call::write`].
    pub unsafe fn send(&self, _fd: i32, _iov: &[IoVec], _flags: i32, _to: &[u8]) -> i64 {
        -ENOSYS
    }
    /// Bytes that a write takes now without blocking, for `sendfile` and `splice`: preload reads that many bytes of the
    /// file at the most and writes them. Costs no tick. -`EAGAIN` never; 0 = a write would block.
    pub fn write_room(&self, _fd: i32) -> i64 {
        -ENOSYS
    }
}
