//! The box for files of the kernel's that are passed over unix sockets: a real socketpair that all processes of the replica
//! inherit. Who gets which file is dmt's affair (`dmt/src/file/mailed.rs`); here a file is put in with its letter and found again.
//!
//! Only the thread that has the turn works on the box. It may be restored from a checkpoint with letters in it.

use core::mem::offset_of;

use dmt::bounds::MAX_MAILED_FILES;
use dmt::file::mailed::Letter;

use crate::own::{BOX_IN, BOX_OUT};
use crate::raw;
use crate::world::dmt;

/// Letters that can be in the box: those on their way, and those that were lost since it was cleared.
const CAPACITY: usize = 2 * MAX_MAILED_FILES;

/// A control message with one descriptor.
#[repr(C)]
struct Rights {
    len: usize,
    level: i32,
    kind: i32,
    fd: i32,
    padding: i32,
}

/// A message of the box and what its header points to.
struct Envelope {
    letter: Letter,
    rights: Rights,
}

impl Envelope {
    fn new(letter: Letter, fd: i32) -> Self {
        let len = offset_of!(Rights, fd) + size_of::<i32>();
        let rights = Rights { len, level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS, fd, padding: 0 };
        Self { letter, rights }
    }

    /// Calls `sendmsg` or `recvmsg`.
    fn call(&mut self, number: libc::c_long, fd: i32, flags: i32) -> isize {
        let mut piece = libc::iovec { iov_base: (&raw mut self.letter).cast(), iov_len: size_of::<Letter>() };
        // SAFETY: all zeroes are a valid msghdr; what it points to outlives the call, and is as long as it says.
        unsafe {
            let mut header: libc::msghdr = core::mem::zeroed();
            header.msg_iov = &raw mut piece;
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.rights).cast();
            header.msg_controllen = size_of::<Rights>();
            let result = raw!(number, fd, &raw mut header, flags | libc::MSG_DONTWAIT);
            if header.msg_controllen == 0 {
                self.rights.fd = -1;
            }
            result
        }
    }
}

/// Makes the box, in the server's first process.
pub fn open() -> Result<(), isize> {
    make([BOX_IN, BOX_OUT])
}

/// Makes a box with these two descriptors.
pub fn make(own: [i32; 2]) -> Result<(), isize> {
    let mut ends = [0i32; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: descriptors that nobody else knows yet; those they become are ours by number.
    unsafe {
        let made = raw!(libc::SYS_socketpair, libc::AF_UNIX, kind, 0, ends.as_mut_ptr());
        if made < 0 {
            return Err(made);
        }
        for (end, own) in ends.into_iter().zip(own) {
            let placed = raw!(libc::SYS_dup3, end, own, 0);
            raw!(libc::SYS_close, end);
            if placed < 0 {
                return Err(placed);
            }
        }
    }
    Ok(())
}

/// Puts a reference to the open file of `fd` into the box; an error of the kernel's if it does not go in.
pub fn put(letter: Letter, fd: i32) -> Result<(), isize> {
    put_into(BOX_IN, letter, fd)
}

/// As [`put`], into the box with this descriptor.
pub fn put_into(box_in: i32, letter: Letter, fd: i32) -> Result<(), isize> {
    match Envelope::new(letter, fd).call(libc::SYS_sendmsg, box_in, libc::MSG_NOSIGNAL) {
        error @ ..0 => Err(error),
        _ => Ok(()),
    }
}

/// Takes the next letter out of the box; `None` also if this process has no number free for a descriptor, which would be lost.
fn next(close_on_exec: bool) -> Option<(Letter, i32)> {
    // SAFETY: makes a descriptor that nobody uses, and closes it.
    let free = unsafe { raw!(libc::SYS_fcntl, BOX_OUT, libc::F_DUPFD_CLOEXEC, 0) };
    if free < 0 {
        return None;
    }
    close(free as i32);
    let mut envelope = Envelope::new(Letter::default(), -1);
    let flags = if close_on_exec { libc::MSG_CMSG_CLOEXEC } else { 0 };
    let got = envelope.call(libc::SYS_recvmsg, BOX_OUT, flags);
    (got == size_of::<Letter>() as isize).then_some((envelope.letter, envelope.rights.fd))
}

fn close(fd: i32) {
    // SAFETY: a descriptor that came out of the box, which nobody else knows.
    unsafe { raw!(libc::SYS_close, fd) };
}

/// Takes the open file of `letter` out of the box, as the lowest free descriptor. With `keep` it stays in the box, too.
/// Negative: this process has no number left for it.
pub fn take(letter: Letter, keep: bool, close_on_exec: bool) -> isize {
    for _ in 0..CAPACITY {
        let Some((found, fd)) = next(close_on_exec) else { break };
        if found == letter {
            if fd >= 0 && keep {
                // There was room for it a moment ago.
                let _ = put(letter, fd);
            }
            return fd as isize;
        }
        put_back(found, fd);
    }
    -(libc::EMFILE as isize)
}

/// A letter that was taken out on the way to another one.
fn put_back(letter: Letter, fd: i32) {
    if fd < 0 {
        return;
    }
    if dmt(|call| call.is_letter_underway(letter)) {
        // There was room for it a moment ago.
        let _ = put(letter, fd);
    }
    close(fd);
}

/// Throws away letters that nobody will ask for. Their files may be closed by that, and locks be free.
#[inline]
pub fn clear() {
    if dmt(|call| call.take_lost_letters()) > 0 {
        sort();
    }
}

/// Every letter goes through [`put_back`] once.
#[cold]
fn sort() {
    let mut first = None;
    for _ in 0..CAPACITY {
        let Some((letter, fd)) = next(true) else { break };
        put_back(letter, fd);
        if Some(letter) == first {
            break;
        }
        if first.is_none() && dmt(|call| call.is_letter_underway(letter)) {
            first = Some(letter);
        }
    }
    dmt(|call| call.kernel_file_closed());
}
