//! Locks on files of the kernel's: record locks and `flock`. dmt waits, see `dmt/src/file/lock.rs`.

use core::ffi::c_int;

use dmt::file::lock::Answer;

use crate::gate;
use crate::raw;
use crate::world::dmt;

const EAGAIN: i64 = -(libc::EAGAIN as i64);
const EACCES: i64 = -(libc::EACCES as i64);

/// Whether `command` of `fcntl` is about a lock.
pub fn is_lock(command: c_int) -> bool {
    matches!(command, libc::F_SETLK | libc::F_SETLKW | libc::F_OFD_SETLK | libc::F_OFD_SETLKW)
}

/// Whether `command` of `fcntl` waits for a lock.
pub fn waits(command: c_int) -> bool {
    matches!(command, libc::F_SETLKW | libc::F_OFD_SETLKW)
}

/// `fcntl` with a command of [`is_lock`].
pub unsafe fn fcntl(a: [usize; 6]) -> isize {
    let (fd, command) = (a[0] as c_int, a[1] as c_int);
    let wait = waits(command);
    let asks = if wait { command - 1 } else { command };
    let ask = || {
        // SAFETY: the program's own call, in its form that does not wait.
        match unsafe { raw!(libc::SYS_fcntl, fd, asks, a[2]) } as i64 {
            EAGAIN | EACCES if asks == libc::F_SETLK => Answer::Taken(holder(fd, a[2])),
            EAGAIN | EACCES => Answer::Taken(0),
            result => Answer::Done(result),
        }
    };
    dmt(|call| call.file_lock(fd, wait, EAGAIN, ask)) as isize
}

/// The process that has a lock which the program's structure conflicts with.
fn holder(fd: c_int, wanted: usize) -> c_int {
    // SAFETY: the program's structure, copied; the kernel answers in the copy.
    unsafe {
        let mut lock = *(wanted as *const libc::flock);
        match raw!(libc::SYS_fcntl, fd, libc::F_GETLK, &raw mut lock) {
            0 if c_int::from(lock.l_type) != libc::F_UNLCK => lock.l_pid.max(0),
            _ => 0,
        }
    }
}

/// `flock`.
pub unsafe fn flock(a: [usize; 6]) -> isize {
    let (fd, operation) = (a[0] as c_int, a[1] as c_int);
    let ask = || {
        // SAFETY: as above.
        match unsafe {
            gate::syscall(libc::SYS_flock, [a[0], (operation | libc::LOCK_NB) as usize, 0, 0, 0, 0])
        } as i64
        {
            EAGAIN => Answer::Taken(0),
            result => Answer::Done(result),
        }
    };
    dmt(|call| call.file_lock(fd, operation & libc::LOCK_NB == 0, EAGAIN, ask)) as isize
}
