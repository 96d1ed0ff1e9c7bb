//! Netlink sockets, by which programs read the network's configuration. They may not change it.
//!
//! The placeholder of such a socket is one of the kernel's, which is asked what the program asks, and whose answer goes into the
//! queue of the emulated one at once ([`dmt::file`]'s `netlink.rs`). Nothing is told unasked.

mod answer;
mod port;

use core::ffi::c_int;

use dmt::file::FileKind;

use crate::calls::file::settle;
use crate::calls::refuse::{self, Other};
use crate::gate;

use crate::raw;
use crate::world::dmt;

/// Numbers of the messages of `NETLINK_ROUTE` come in fours: new, delete, get, set.
const KIND_GET: u16 = 2;
const FIRST_MESSAGE: u16 = 16;
/// Messages below are the protocol's own.
const HEADER_BYTES: usize = 16;
/// Bytes of the longest message of an answer: the kernel makes none that is longer than the room it was once asked with.
const ANSWER_BYTES: usize = 8192;
/// Messages of one answer.
const MAX_ANSWERS: usize = 4096;
/// Where `sockaddr_nl` has the groups, and the bytes of it.
const GROUPS_AT: usize = 8;
const ADDRESS_BYTES: usize = 12;

/// `socket`.
///
/// # Safety
/// As the system call.
pub unsafe fn socket(a: [usize; 6]) -> isize {
    let (kind, protocol) = (a[1] as c_int, a[2] as c_int);
    let file = dmt(|call| call.netlink(kind, protocol));
    if file < 0 {
        return file as isize;
    }
    // SAFETY: forwarded promise.
    let fd = unsafe { gate::syscall(libc::SYS_socket, a) };
    settle(fd, file as u32, kind & libc::SOCK_CLOEXEC != 0)
}

/// Whether `fd` is one.
pub fn is_netlink(fd: usize) -> bool {
    dmt(|call| call.file_kind(fd as c_int)) == Some(FileKind::Netlink)
}

/// A socket call that neither sends nor receives.
///
/// # Safety
/// As the system call.
pub unsafe fn on_socket(number: i64, a: [usize; 6]) -> isize {
    let (level, option) = (a[1] as c_int, a[2] as c_int);
    // SAFETY: forwarded promise.
    unsafe {
        match number {
            libc::SYS_bind if a[1] != 0 && a[2] >= ADDRESS_BYTES => {
                // Whoever is in a group is told of changes when they happen; here none does.
                let mut own = *(a[1] as *const [u8; ADDRESS_BYTES]);
                own[GROUPS_AT..].fill(0);
                if port::of(&own) == port::ANY && port::take(a[0]) {
                    return 0;
                }
                gate::syscall(number, [a[0], own.as_mut_ptr() as usize, ADDRESS_BYTES, 0, 0, 0])
            }
            libc::SYS_connect => {
                port::take(a[0]);
                gate::syscall(number, a)
            }
            libc::SYS_setsockopt if level == libc::SOL_NETLINK && is_membership(option) => 0,
            libc::SYS_setsockopt if level == libc::SOL_SOCKET && a[3] != 0 => {
                let value = core::slice::from_raw_parts(a[3] as *const u8, a[4] as u32 as usize);
                let set = dmt(|call| call.set_socket_option(a[0] as c_int, level, option, value));
                // What is not emulated the kernel's socket may know.
                if set < 0 { gate::syscall(number, a) } else { set as isize }
            }
            libc::SYS_listen | libc::SYS_accept | libc::SYS_accept4 | libc::SYS_shutdown => {
                -(libc::EOPNOTSUPP as isize)
            }
            _ => gate::syscall(number, a),
        }
    }
}

fn is_membership(option: c_int) -> bool {
    matches!(option, libc::NETLINK_ADD_MEMBERSHIP | libc::NETLINK_DROP_MEMBERSHIP)
}

/// A call that sends: `sendto`, `sendmsg`, `sendmmsg`.
///
/// # Safety
/// As the system call.
pub unsafe fn ask(number: i64, a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise: the program's buffers.
    unsafe {
        let changes = match number {
            libc::SYS_sendto => is_change(a[1], a[2]),
            libc::SYS_sendmsg => changes_something(a[1] as *const libc::msghdr),
            _ => {
                let all = a[1] as *const libc::mmsghdr;
                (0..a[2]).any(|at| changes_something(&raw const (*all.add(at)).msg_hdr))
            }
        };
        if changes {
            let remedy = "a replica's network is fixed: change the host's, outside";
            let what = "a change of the network by netlink";
            return refuse::refuse_use(what, Other::NetlinkWrite, libc::EPERM, remedy);
        }
        port::take(a[0]);
        let sent = gate::syscall(number, a);
        bring_answer(a[0]);
        sent
    }
}

/// Brings what the kernel has answered to the program's socket.
fn bring_answer(fd: usize) {
    let mut room = [0u8; ANSWER_BYTES];
    for _ in 0..MAX_ANSWERS {
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: reads into our own memory from the kernel's socket behind the program's.
        let got = unsafe { raw!(libc::SYS_recvfrom, fd, room.as_mut_ptr(), ANSWER_BYTES, flags, 0, 0) };
        match got {
            0.. => {
                let answer = room.get_mut(..got as usize);
                let answer = answer.map(|answer| {
                    answer::level(answer);
                    &*answer
                });
                dmt(|call| call.netlink_answered(fd as c_int, answer));
            }
            _ if got == -(libc::ENOBUFS as isize) => {
                dmt(|call| call.netlink_answered(fd as c_int, None));
            }
            _ => return,
        }
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
