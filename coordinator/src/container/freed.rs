//! Deleted files whose last descriptor the server gives away before it closes it: a thread of init takes each and closes it, so that
//! the server need not wait while the kernel frees the file's blocks.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dmt::bounds::FREED_FD;
use dmt::control::{Control, freeing};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::{ArenaMapping, SERVER_PID};
use crate::slices::modestly;
use crate::stderr::say;

const STACK_BYTES: usize = 64 * 1024;
/// Room for what comes beside a descriptor, bytes.
const LETTER_BYTES: usize = 64;

/// How long files gather after one that woke the thread.
const GATHERING: Duration = Duration::from_millis(2);

/// Starts the thread. It must run before the server does: a thread takes a process id.
pub(super) fn start(arena: ArenaMapping) -> io::Result<()> {
    let run = move || serve(&arena);
    std::thread::Builder::new().name("brolga-freed".to_owned()).stack_size(STACK_BYTES).spawn(run)?;
    Ok(())
}

fn serve(arena: &ArenaMapping) {
    // SAFETY: the control page stands at the start of the arena, is all atomics, and the mapping lives as long as this function.
    let word = unsafe { &(*arena.as_ptr::<Control>()).freeing };
    // The server does not wait for it any more.
    modestly();
    await_request(word);
    let error = take(SERVER_PID, FREED_FD).and_then(|socket| {
        word.store(freeing::READY, Ordering::SeqCst);
        while free_next(&socket, MsgFlags::empty())? {
            // To be woken for each costs the server more than to send it.
            std::thread::sleep(GATHERING);
            while free_next(&socket, MsgFlags::MSG_DONTWAIT)? {}
        }
        Ok(())
    });
    word.store(freeing::UNABLE, Ordering::SeqCst);
    if let Err(error) = error {
        say(&format!("the server's deleted files are freed while it waits: init cannot take them: {error}"));
    }
}

/// Until the server first deletes a file.
fn await_request(word: &AtomicU32) {
    loop {
        match word.load(Ordering::SeqCst) {
            freeing::ASKED => return,
            // SAFETY: the word is in the arena; there is no time-out.
            seen => unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, 0) },
        };
    }
}

/// A duplicate of descriptor `number` of process `pid`.
fn take(pid: i32, number: RawFd) -> io::Result<OwnedFd> {
    let made = |fd: libc::c_long| {
        let fd = RawFd::try_from(Errno::result(fd)?).map_err(io::Error::other)?;
        // SAFETY: the kernel has just made it for us.
        Ok::<_, io::Error>(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: no pointers.
    let process = made(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: as above.
    made(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// Takes the next descriptor, and closes it. False if nobody is left who could send one, or, with `MSG_DONTWAIT`, if there is none now.
fn free_next(socket: &OwnedFd, flags: MsgFlags) -> io::Result<bool> {
    let mut letter = [0; LETTER_BYTES];
    let mut room = nix::cmsg_space!(RawFd);
    let mut pieces = [IoSliceMut::new(&mut letter)];
    let got = match recvmsg::<()>(
        socket.as_raw_fd(),
        &mut pieces,
        Some(&mut room),
        flags | MsgFlags::MSG_CMSG_CLOEXEC,
    ) {
        Err(Errno::EINTR) => return Ok(true),
        Err(Errno::EAGAIN) => return Ok(false),
        got => got?,
    };
    for message in got.cmsgs()? {
        let ControlMessageOwned::ScmRights(fds) = message else { continue };
        for fd in fds {
            // SAFETY: the kernel has just made it for us.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Ok(got.bytes > 0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSlice, Read};

    use nix::sys::socket::{AddressFamily, ControlMessage, SockFlag, SockType, sendmsg, socketpair};

    use super::*;

    #[test]
    fn what_is_sent_is_closed_until_nobody_is_left_to_send() {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let theirs = take(std::process::id() as i32, theirs.as_raw_fd()).unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        let rights = [write.as_raw_fd()];
        let message = [ControlMessage::ScmRights(&rights)];
        let letter = [IoSlice::new(b"letter")];
        sendmsg::<()>(ours.as_raw_fd(), &letter, &message, MsgFlags::empty(), None).unwrap();
        drop(write);
        assert!(free_next(&theirs, MsgFlags::MSG_DONTWAIT).unwrap());
        assert!(!free_next(&theirs, MsgFlags::MSG_DONTWAIT).unwrap());
        let mut rest = Vec::new();
        File::from(read).read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "the other end of the pipe is closed");
        drop(ours);
        assert!(!free_next(&theirs, MsgFlags::empty()).unwrap());
    }
}
