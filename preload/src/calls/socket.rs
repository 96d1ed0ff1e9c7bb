//! Sockets.

use core::ffi::c_int;
use core::fmt::Write;

use dmt::file::abi::{Place, SocketAddress};
use dmt::file::io::Message;
use dmt::file::passed::Parcel;

use crate::calls::ancillary;
use crate::calls::disk::names;
use crate::calls::file::{install, install_pair, is_virtual, piece};
use crate::calls::netlink;
use crate::calls::refuse::{self, Other};
use crate::calls::time;
use crate::calls::vector::pieces;
use crate::fatal::Line;
use crate::gate;
use crate::kernel;
use crate::raw;
use crate::watches;
use crate::world::{apart, dmt, timespec};

const EINVAL: isize = -(libc::EINVAL as isize);
const EFAULT: isize = -(libc::EFAULT as isize);
/// What dmt says of a message to send that is the kernel's to answer.
const NO_DESTINATION: isize = -(libc::EDESTADDRREQ as isize);
/// Bytes of the longest option that programs read or write.
const MAX_OPTION_BYTES: usize = 256;
/// Messages of one call; Linux leaves the others, too.
const MAX_MESSAGES: usize = 1024;

crate::family! {
    /// The calls of this family; on a descriptor of the kernel's they go to the kernel.
    pub unsafe fn call(number, a) {
        libc::SYS_socket => socket(a),
        libc::SYS_socketpair => socketpair(a),
        libc::SYS_bind
        | libc::SYS_listen
        | libc::SYS_accept
        | libc::SYS_accept4
        | libc::SYS_connect
        | libc::SYS_shutdown
        | libc::SYS_getsockname
        | libc::SYS_getpeername
        | libc::SYS_getsockopt
        | libc::SYS_setsockopt
        | libc::SYS_recvfrom
        | libc::SYS_sendto
        | libc::SYS_recvmsg
        | libc::SYS_sendmsg
        | libc::SYS_recvmmsg
        | libc::SYS_sendmmsg => on_descriptor(number, a),
    }
}

/// A call on an existing socket.
#[inline]
pub unsafe fn on_descriptor(number: i64, a: [usize; 6]) -> isize {
    if !is_virtual(a[0]) {
        // SAFETY: forwarded promise.
        return unsafe { gate::syscall(number, a) };
    }
    let fd = a[0] as c_int;
    // SAFETY: the program's addresses and buffers.
    unsafe {
        match number {
            libc::SYS_recvfrom => recvfrom(a),
            libc::SYS_sendto => {
                let to = address(a[4], a[5]);
                let place = match names::led_to(to) {
                    Ok(place) => place,
                    Err(errno) => return errno,
                };
                let message = Message { flags: a[3] as c_int, to, place, parcel: &Parcel::EMPTY };
                let sent = dmt(|call| call.send(fd, &piece(a[1], a[2]), &message)) as isize;
                or_ask(number, a, sent)
            }
            libc::SYS_recvmsg => recvmsg(fd, a[1] as *mut libc::msghdr, a[2] as c_int),
            libc::SYS_sendmsg => or_ask(number, a, sendmsg(fd, a[1] as *const libc::msghdr, a[2] as c_int)),
            libc::SYS_recvmmsg => match Patience::of(a[4]) {
                Ok(mut patience) => {
                    many(a, |message, flags| recvmsg(fd, message, flags), || patience.is_over())
                }
                Err(errno) => errno,
            },
            libc::SYS_sendmmsg => {
                or_ask(number, a, many(a, |message, flags| sendmsg(fd, message, flags), || false))
            }
            _ if netlink::is_netlink(a[0]) => netlink::on_socket(number, a),
            libc::SYS_bind => bind(a),
            libc::SYS_listen => dmt(|call| call.listen(fd, a[1] as c_int)) as isize,
            libc::SYS_accept => accept(a, 0),
            libc::SYS_accept4 => accept(a, a[3]),
            libc::SYS_connect => {
                let to = address(a[1], a[2]);
                match names::led_to(to) {
                    Ok(place) => dmt(|call| call.connect_at(fd, to, place)) as isize,
                    Err(errno) => errno,
                }
            }
            libc::SYS_shutdown => dmt(|call| call.shutdown(fd, a[1] as c_int)) as isize,
            libc::SYS_getsockname | libc::SYS_getpeername => name(number, a),
            libc::SYS_getsockopt => getsockopt(a),
            libc::SYS_setsockopt => {
                let value = bytes(a[3], a[4]);
                dmt(|call| call.set_socket_option(fd, a[1] as c_int, a[2] as c_int, value)) as isize
            }
            _ => -(libc::ENOSYS as isize),
        }
    }
}

/// What became of a call that sends; a netlink socket's goes to the kernel.
unsafe fn or_ask(number: i64, a: [usize; 6], sent: isize) -> isize {
    if sent == NO_DESTINATION && netlink::is_netlink(a[0]) {
        // SAFETY: forwarded promise.
        return unsafe { netlink::ask(number, a) };
    }
    sent
}

/// The program's bytes.
unsafe fn bytes<'a>(at: usize, len: usize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    if at == 0 || len == 0 { &[] } else { unsafe { core::slice::from_raw_parts(at as *const u8, len) } }
}

/// The program's address.
unsafe fn address<'a>(at: usize, len: usize) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe { bytes(at, len as u32 as usize) }
}

/// Gives the program an address, cut to the room that it has.
unsafe fn store_address(from: &SocketAddress, at: usize, len: usize) -> isize {
    if at == 0 || len == 0 {
        return 0;
    }
    let from = from.bytes();
    // SAFETY: the program's buffer and its length variable.
    unsafe {
        let len = len as *mut libc::socklen_t;
        let room = *len as usize;
        core::ptr::copy_nonoverlapping(from.as_ptr(), at as *mut u8, from.len().min(room));
        *len = from.len() as libc::socklen_t;
    }
    0
}

/// `socket`: internet and unix-domain sockets are dmt's; netlink, to read the network's configuration, asks the kernel.
pub unsafe fn socket(a: [usize; 6]) -> isize {
    let kind = a[1] as c_int & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    match (a[0] as c_int, kind) {
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_RAW) | (libc::AF_PACKET, _) => {
            let remedy = "packets are no inputs of the log: the server cannot see them here";
            return refuse::refuse_use("a raw socket", Other::RawSocket, libc::EPERM, remedy);
        }
        (libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX, _) => {}
        (libc::AF_NETLINK, _) if a[2] as c_int == libc::NETLINK_ROUTE => {
            // SAFETY: forwarded promise.
            return unsafe { netlink::socket(a) };
        }
        (family, _) => {
            let mut what = Line::new();
            let _ = write!(what, "a socket of family {family}, protocol {}", a[2]);
            let what = core::str::from_utf8(what.bytes()).unwrap_or("a socket");
            let remedy = "clients come by TCP, and the server's processes meet by TCP, UDP or unix sockets";
            let errno = match family {
                libc::AF_NETLINK => libc::EPROTONOSUPPORT,
                _ => libc::EAFNOSUPPORT,
            };
            return refuse::refuse_family(family, what, errno, remedy);
        }
    }
    install(dmt(|call| call.socket(a[0] as c_int, a[1] as c_int, a[2] as c_int)), a[1], true)
}

/// `socketpair`.
pub unsafe fn socketpair(a: [usize; 6]) -> isize {
    let mut files = [0; 2];
    let result = dmt(|call| call.socket_pair(a[0] as c_int, a[1] as c_int, a[2] as c_int, &mut files));
    install_pair(result, files, a[1], libc::SYS_socketpair, a)
}

/// `bind`: a path is first taken in the file system.
unsafe fn bind(a: [usize; 6]) -> isize {
    // SAFETY: the program's address.
    let wanted = unsafe { address(a[1], a[2]) };
    let unix = wanted.first_chunk() == Some(&(libc::AF_UNIX as u16).to_ne_bytes());
    if unix && wanted.get(2).is_some_and(|&byte| byte != 0) {
        // SAFETY: the program's own arguments.
        let taken = watches::observed(|| unsafe { take_path(a) });
        if taken < 0 {
            return taken;
        }
        // SAFETY: the address is not empty; the path may end without a zero byte.
        unsafe { names::bound(wanted) };
    }
    let place = names::led_to(wanted);
    dmt(|call| call.bind_at(a[0] as c_int, wanted, place.unwrap_or(Place::NONE))) as isize
}

/// Makes the file of a unix socket, by a socket of the kernel's that is gone afterwards: one that stays is bound anew when a
/// checkpoint is restored, to another file.
unsafe fn take_path(mut a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise; the descriptor and the structure are our own.
    unsafe {
        let helper = raw!(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if helper < 0 {
            return helper;
        }
        // The file gets the socket's own mode, which a program may have changed.
        let mode = apart(|| {
            let mut stat: libc::stat = core::mem::zeroed();
            raw!(libc::SYS_fstat, a[0], &raw mut stat);
            stat.st_mode
        });
        raw!(libc::SYS_fchmod, helper, mode & 0o7777);
        a[0] = helper as usize;
        let taken = kernel::quiet_call(libc::SYS_bind, a);
        raw!(libc::SYS_close, helper);
        taken
    }
}

unsafe fn accept(a: [usize; 6], flags: usize) -> isize {
    let mut peer = SocketAddress::NONE;
    let file = dmt(|call| call.accept(a[0] as c_int, flags as c_int, &mut peer));
    let fd = install(file, flags, true);
    if fd >= 0 {
        // SAFETY: the program's buffer.
        unsafe { store_address(&peer, a[1], a[2]) };
    }
    fd
}

unsafe fn name(number: i64, a: [usize; 6]) -> isize {
    let mut found = SocketAddress::NONE;
    let result = dmt(|call| match number {
        libc::SYS_getsockname => call.socket_name(a[0] as c_int, &mut found),
        _ => call.peer_name(a[0] as c_int, &mut found),
    });
    // SAFETY: the program's buffer.
    if result < 0 { result as isize } else { unsafe { store_address(&found, a[1], a[2]) } }
}

unsafe fn getsockopt(a: [usize; 6]) -> isize {
    let len = a[4] as *mut libc::socklen_t;
    if len.is_null() || a[3] == 0 {
        return EFAULT;
    }
    // SAFETY: the program's buffer and its length variable.
    unsafe {
        let room = (*len as usize).min(MAX_OPTION_BYTES);
        let value = core::slice::from_raw_parts_mut(a[3] as *mut u8, room);
        let result =
            dmt(|call| call.socket_option(a[0] as c_int, a[1] as c_int, a[2] as c_int, value)) as isize;
        if result < 0 {
            return result;
        }
        *len = result as libc::socklen_t;
    }
    0
}

/// `recvfrom`.
pub unsafe fn recvfrom(a: [usize; 6]) -> isize {
    let (mut from, mut flags) = (SocketAddress::NONE, 0);
    // SAFETY: the program's buffers.
    unsafe {
        let list = piece(a[1], a[2]);
        let got = dmt(|call| call.receive(a[0] as c_int, &list, a[3] as c_int, &mut from, &mut flags, None))
            as isize;
        if got >= 0 {
            store_address(&from, a[4], a[5]);
        }
        got
    }
}

unsafe fn recvmsg(fd: c_int, message: *mut libc::msghdr, flags: c_int) -> isize {
    let (mut from, mut parcel) = (SocketAddress::NONE, Parcel::EMPTY);
    // SAFETY: the program's message and what it points to.
    unsafe {
        let m = &mut *message;
        let Some(list) = pieces(m.msg_iov as usize, m.msg_iovlen) else { return EINVAL };
        let got = dmt(|call| call.receive(fd, list, flags, &mut from, &mut m.msg_flags, Some(&mut parcel)))
            as isize;
        if got >= 0 {
            let is_v6 = from.bytes().first_chunk() == Some(&(libc::AF_INET6 as u16).to_ne_bytes());
            ancillary::unpack(m, &parcel, flags, is_v6);
            if m.msg_name.is_null() {
                m.msg_namelen = 0;
            }
            store_address(&from, m.msg_name as usize, &raw mut m.msg_namelen as usize);
        }
        got
    }
}

unsafe fn sendmsg(fd: c_int, message: *const libc::msghdr, flags: c_int) -> isize {
    // SAFETY: the program's message and what it points to.
    unsafe {
        let m = &*message;
        let Some(list) = pieces(m.msg_iov as usize, m.msg_iovlen) else { return EINVAL };
        let to = address(m.msg_name as usize, m.msg_namelen as usize);
        let (mut parcel, mut letters) = (Parcel::EMPTY, ancillary::Letters::NONE);
        let sent = match ancillary::packed(m, &mut parcel, &mut letters) {
            Ok(()) => match names::led_to(to) {
                Ok(place) => {
                    let message = Message { flags, to, place, parcel: &parcel };
                    dmt(|call| call.send(fd, list, &message)) as isize
                }
                Err(errno) => errno,
            },
            Err(error) => error,
        };
        letters.release();
        sent
    }
}

/// The time-out of `recvmmsg`, which Linux looks at after each message, and not while it waits for one.
struct Patience {
    /// The program's structure, which gets what is left; null = no time-out.
    left: *mut libc::timespec,
    end: u64,
}

impl Patience {
    unsafe fn of(at: usize) -> Result<Self, isize> {
        let left = at as *mut libc::timespec;
        if left.is_null() {
            return Ok(Self { left, end: u64::MAX });
        }
        // SAFETY: the program's structure.
        let ns = unsafe { time::nanoseconds(at) }.ok_or(EINVAL)?;
        Ok(Self { left, end: time::after(ns) })
    }

    fn is_over(&mut self) -> bool {
        if self.left.is_null() {
            return false;
        }
        let left = self.end.saturating_sub(time::after(0));
        // SAFETY: as above; the call goes on.
        unsafe { *self.left = timespec(left) };
        left == 0
    }
}

/// Several messages in one call: the first error ends it, and is reported only if nothing was done before; `is_over` ends it
/// behind a message.
unsafe fn many(
    a: [usize; 6],
    mut one: impl FnMut(*mut libc::msghdr, c_int) -> isize,
    mut is_over: impl FnMut() -> bool,
) -> isize {
    let mut flags = a[3] as c_int;
    let count = (a[2] as u32 as usize).min(MAX_MESSAGES);
    for i in 0..count {
        // SAFETY: the program's array of messages.
        let message = unsafe { (a[1] as *mut libc::mmsghdr).add(i) };
        // SAFETY: as above.
        let result = one(unsafe { &raw mut (*message).msg_hdr }, flags & !libc::MSG_WAITFORONE);
        if result < 0 {
            return if i > 0 { i as isize } else { result };
        }
        // SAFETY: as above.
        unsafe { (*message).msg_len = result as u32 };
        if flags & libc::MSG_WAITFORONE != 0 {
            flags |= libc::MSG_DONTWAIT;
        }
        if is_over() {
            return i as isize + 1;
        }
    }
    count as isize
}
