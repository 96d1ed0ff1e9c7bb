//! Socket calls: TCP, UDP and unix-domain.

use crate::call::Call;
use crate::file::FileId;
use crate::file::abi::{ENOSYS, SocketAddress};

impl Call<'_> {
    /// `socket`: returns a file number. `kind` may carry `SOCK_NONBLOCK`; `SOCK_CLOEXEC` is for [`Call::install`].
    pub fn socket(&self, _domain: i32, _kind: i32, _protocol: i32) -> i64 {
        -ENOSYS
    }
    /// `socketpair`: fills in two file numbers.
    pub fn socket_pair(&self, _domain: i32, _kind: i32, _protocol: i32, _files: &mut [FileId; 2]) -> i64 {
        -ENOSYS
    }
    /// `bind`.
    pub fn bind(&self, _fd: i32, _address: &[u8]) -> i64 {
        -ENOSYS
    }
    /// `listen`.
    pub fn listen(&self, _fd: i32, _backlog: i32) -> i64 {
        -ENOSYS
    }
    /// `accept4`: returns a file number; `peer` gets the address.
    pub fn accept(&self, _fd: i32, _flags: i32, _peer: &mut SocketAddress) -> i64 {
        -ENOSYS
    }
    /// `connect`.
    pub fn connect(&self, _fd: i32, _address: &[u8]) -> i64 {
        -ENOSYS
    }
    /// `shutdown`.
    pub fn shutdown(&self, _fd: i32, _how: i32) -> i64 {
        -ENOSYS
    }
    /// `getsockname`.
    pub fn socket_name(&self, _fd: i32, _address: &mut SocketAddress) -> i64 {
        -ENOSYS
    }
    /// `getpeername`.
    pub fn peer_name(&self, _fd: i32, _address: &mut SocketAddress) -> i64 {
        -ENOSYS
    }
    /// `getsockopt`: fills `value` from its start and returns the bytes filled, or a negative errno.
    pub fn socket_option(&self, _fd: i32, _level: i32, _name: i32, _value: &mut [u8]) -> i64 {
        -ENOSYS
    }
    /// `setsockopt`.
    pub fn set_socket_option(&self, _fd: i32, _level: i32, _name: i32, _value: &[u8]) -> i64 {
        -ENOSYS
    }
    /// `pipe2`: fills in the reading and the writing file number.
    pub fn pipe(&self, _flags: i32, _files: &mut [FileId; 2]) -> i64 {
        -ENOSYS
    }
}
