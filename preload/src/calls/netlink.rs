//! Sockets of the kernel's own: netlink, by which programs read the network's configuration. They may not change it.

use core::ffi::c_int;

use crate::calls::refuse::{self, Other};
use crate::gate;
use crate::raw;

/// Numbers of the messages of `NETLINK_ROUTE` come in fours: new, delete, get, set.
const KIND_GET: u16 = 2;
const FIRST_MESSAGE: u16 = 16;
/// Messages below are the protocol's own.
const HEADER_BYTES: usize = 16;

/// A socket call on a descriptor that is not dmt's.
///
/// # Safety
/// As the system call.
pub unsafe fn on_descriptor(number: i64, a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise: the program's buffers.
    unsafe {
        let changes = match number {
            libc::SYS_sendto => is_change(a[1], a[2]),
            libc::SYS_sendmsg => changes_something(a[1] as *const libc::msghdr),
            libc::SYS_sendmmsg => {
                let all = a[1] as *const libc::mmsghdr;
                (0..a[2]).any(|at| changes_something(&raw const (*all.add(at)).msg_hdr))
            }
            _ => false,
        };
        if changes && is_netlink(a[0]) {
            let remedy = "a replica's network is fixed: change the host's, outside";
            return refuse::refuse_use(
                "a change of the network by netlink",
                Other::NetlinkWrite,
                libc::EPERM,
                remedy,
            );
        }
        gate::syscall(number, a)
    }
}

unsafe fn changes_something(message: *const libc::msghdr) -> bool {
    // SAFETY: the program's message.
    unsafe {
        let message = &*message;
        let pieces = message.msg_iovlen;
        !message.msg_iov.is_null()
            && (0..pieces).any(|at| {
                let piece = &*message.msg_iov.add(at);
                is_change(piece.iov_base as usize, piece.iov_len)
            })
    }
}

/// Whether a buffer starts with a message that is not a question.
unsafe fn is_change(at: usize, bytes: usize) -> bool {
    if bytes < HEADER_BYTES {
        return false;
    }
    // SAFETY: the program's buffer, which holds a header.
    let kind = unsafe { ((at + 4) as *const u16).read_unaligned() };
    kind >= FIRST_MESSAGE && (kind - FIRST_MESSAGE) % 4 != KIND_GET
}

fn is_netlink(fd: usize) -> bool {
    let mut family: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: reads into our own variables.
    let result = unsafe {
        raw!(libc::SYS_getsockopt, fd, libc::SOL_SOCKET, libc::SO_DOMAIN, &raw mut family, &raw mut len)
    };
    result == 0 && family == libc::AF_NETLINK
}
