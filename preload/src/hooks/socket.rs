//! Sockets, with libc's checked forms.

use core::ffi::{c_int, c_uint, c_void};

use libc::{
    SYS_accept, SYS_accept4, SYS_bind, SYS_connect, SYS_getpeername, SYS_getsockname, SYS_getsockopt,
};
use libc::{SYS_listen, SYS_recvfrom, SYS_recvmmsg, SYS_recvmsg, SYS_sendmmsg, SYS_sendmsg, SYS_sendto};
use libc::{SYS_setsockopt, SYS_shutdown, mmsghdr, msghdr, sockaddr, socklen_t};

use crate::args;
use crate::calls::socket as calls;
use crate::cancellation_points;
use crate::errno::{libc_int, libc_result};
use crate::hook;

hook! {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
        // SAFETY: the program's own arguments, here and below.
        libc_int(unsafe { calls::socket(args!(domain, kind, protocol)) })
    }

    fn socketpair(domain: c_int, kind: c_int, protocol: c_int, fds: *mut c_int) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::socketpair(args!(domain, kind, protocol, fds)) })
    }

    fn bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::on_descriptor(SYS_bind, args!(fd, address, len)) })
    }

    fn listen(fd: c_int, backlog: c_int) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::on_descriptor(SYS_listen, args!(fd, backlog)) })
    }

    fn shutdown(fd: c_int, how: c_int) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::on_descriptor(SYS_shutdown, args!(fd, how)) })
    }

    fn getsockname(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::on_descriptor(SYS_getsockname, args!(fd, address, len)) })
    }

    fn getpeername(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::on_descriptor(SYS_getpeername, args!(fd, address, len)) })
    }

    fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::on_descriptor(SYS_getsockopt, args!(fd, level, name, value, len)) })
    }

    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int {
        // SAFETY: as above.
        libc_int(unsafe { calls::on_descriptor(SYS_setsockopt, args!(fd, level, name, value, len)) })
    }
}

cancellation_points! {
    fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { calls::on_descriptor(SYS_accept, args!(fd, address, len)) })
    }

    fn accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { calls::on_descriptor(SYS_accept4, args!(fd, address, len, flags)) })
    }

    fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { calls::on_descriptor(SYS_connect, args!(fd, address, len)) })
    }

    fn recv(fd: c_int, buffer: *mut c_void, len: usize, flags: c_int) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { calls::on_descriptor(SYS_recvfrom, args!(fd, buffer, len, flags, 0, 0)) })
    }

    fn __recv_chk(fd: c_int, buffer: *mut c_void, len: usize, room: usize, flags: c_int) -> isize | is_minus_one {
        if len > room {
            // SAFETY: libc's own way to end a program that overflows a buffer.
            return unsafe { __recv_chk::real()(fd, buffer, len, room, flags) };
        }
        // SAFETY: as above.
        libc_result(unsafe { calls::on_descriptor(SYS_recvfrom, args!(fd, buffer, len, flags, 0, 0)) })
    }

    fn recvfrom(
        fd: c_int, buffer: *mut c_void, len: usize, flags: c_int, from: *mut sockaddr, from_len: *mut socklen_t,
    ) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { calls::on_descriptor(SYS_recvfrom, args!(fd, buffer, len, flags, from, from_len)) })
    }

    fn __recvfrom_chk(
        fd: c_int, buffer: *mut c_void, len: usize, room: usize, flags: c_int, from: *mut sockaddr,
        from_len: *mut socklen_t,
    ) -> isize | is_minus_one {
        if len > room {
            // SAFETY: libc's own way to end a program that overflows a buffer.
            return unsafe { __recvfrom_chk::real()(fd, buffer, len, room, flags, from, from_len) };
        }
        // SAFETY: as above.
        libc_result(unsafe { calls::on_descriptor(SYS_recvfrom, args!(fd, buffer, len, flags, from, from_len)) })
    }

    fn send(fd: c_int, buffer: *const c_void, len: usize, flags: c_int) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { calls::on_descriptor(SYS_sendto, args!(fd, buffer, len, flags, 0, 0)) })
    }

    fn sendto(
        fd: c_int, buffer: *const c_void, len: usize, flags: c_int, to: *const sockaddr, to_len: socklen_t,
    ) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { calls::on_descriptor(SYS_sendto, args!(fd, buffer, len, flags, to, to_len)) })
    }

    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { calls::on_descriptor(SYS_recvmsg, args!(fd, message, flags)) })
    }

    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> isize | is_minus_one {
        // SAFETY: as above.
        libc_result(unsafe { calls::on_descriptor(SYS_sendmsg, args!(fd, message, flags)) })
    }

    fn recvmmsg(
        fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, limit: *mut libc::timespec,
    ) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { calls::on_descriptor(SYS_recvmmsg, args!(fd, messages, count, flags, limit)) })
    }

    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int | is_minus_one {
        // SAFETY: as above.
        libc_int(unsafe { calls::on_descriptor(SYS_sendmmsg, args!(fd, messages, count, flags)) })
    }
}
