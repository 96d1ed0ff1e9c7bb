//! Descriptors and bytes: the calls that work on any descriptor, virtual or the kernel's.

use core::ffi::c_int;

use dmt::file::FileId;
use dmt::file::abi::IoVec;

use crate::calls::disk::{freed, holes, space, writing};
use crate::calls::{lock, netlink, stamp};
use crate::gate;
use crate::kernel;
use crate::mailbox;
use crate::own;
use crate::raw;
use crate::watches;
use crate::world::dmt;

const EBADF: isize = -(libc::EBADF as isize);
const EINVAL: isize = -(libc::EINVAL as isize);

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_read => read(a),
        libc::SYS_write => write(a),
        libc::SYS_close => close(a),
        libc::SYS_close_range => close_range(a),
        libc::SYS_dup => dup(a),
        libc::SYS_dup2 => dup2(a),
        libc::SYS_dup3 => dup3(a),
        libc::SYS_fcntl => fcntl(a),
        libc::SYS_flock => lock::flock(a),
        libc::SYS_ioctl => ioctl(a),
        libc::SYS_lseek => holes::lseek(a),
        libc::SYS_pipe => pipe2([a[0], 0, 0, 0, 0, 0]),
        libc::SYS_pipe2 => pipe2(a),
        libc::SYS_eventfd => eventfd2([a[0], 0, 0, 0, 0, 0]),
        libc::SYS_eventfd2 => eventfd2(a),
        libc::SYS_inotify_init => inotify_init1([0; 6]),
        libc::SYS_inotify_init1 => inotify_init1(a),
        libc::SYS_inotify_add_watch => watches::add(a),
        libc::SYS_inotify_rm_watch => watches::remove(a),
    }
}

/// Whether `fd` is a file of dmt's.
#[inline]
pub fn is_virtual(fd: usize) -> bool {
    dmt(|call| call.is_virtual(fd as c_int))
}

/// Whether the kernel knows `fd`.
pub fn is_open(fd: c_int) -> bool {
    // SAFETY: reads a flag.
    !own::is_own(fd) && unsafe { raw!(libc::SYS_fcntl, fd, libc::F_GETFD) } >= 0
}

/// Gives a new file of dmt's (or an error) a descriptor: a placeholder that holds the kernel's number.
pub fn install(file: i64, flags: usize, is_socket: bool) -> isize {
    if file < 0 {
        return file as isize;
    }
    let close_on_exec = flags as c_int & libc::O_CLOEXEC;
    // SAFETY: makes a descriptor that nobody uses as what it is.
    let fd = unsafe {
        match is_socket {
            true => raw!(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM | close_on_exec, 0),
            false => raw!(libc::SYS_eventfd2, 0, close_on_exec),
        }
    };
    settle(fd, file as FileId, close_on_exec != 0)
}

/// Makes `file` what the placeholder `fd` stands for, or discards it if there is none.
pub fn settle(fd: isize, file: FileId, close_on_exec: bool) -> isize {
    dmt(|call| match fd {
        0.. => call.install(fd as c_int, file, close_on_exec),
        _ => call.discard(file),
    });
    fd
}

/// Two files as two descriptors, like pipe and socketpair; the placeholders come from kernel call `number`.
pub fn install_pair(result: i64, files: [FileId; 2], flags: usize, number: i64, a: [usize; 6]) -> isize {
    if result < 0 {
        return result as isize;
    }
    let close_on_exec = flags as c_int & libc::O_CLOEXEC != 0;
    let fds = a[if number == libc::SYS_pipe2 { 0 } else { 3 }] as *const c_int;
    // SAFETY: the program's call with its own arguments; on success the kernel stored two descriptors.
    unsafe {
        let made = gate::syscall(number, a);
        for (i, &file) in files.iter().enumerate() {
            settle(if made == 0 { *fds.add(i) as isize } else { made }, file, close_on_exec);
        }
        made
    }
}

/// One piece of memory.
pub fn piece(base: usize, len: usize) -> [IoVec; 1] {
    [IoVec { base: base as *mut u8, len }]
}

/// `read`.
pub unsafe fn read(a: [usize; 6]) -> isize {
    if is_virtual(a[0]) {
        // SAFETY: the program's buffer.
        return dmt(|call| unsafe { call.read(a[0] as c_int, &piece(a[1], a[2])) }) as isize;
    }
    // SAFETY: forwarded promise.
    unsafe { kernel::call(libc::SYS_read, a) }
}

/// `write`.
pub unsafe fn write(a: [usize; 6]) -> isize {
    if is_virtual(a[0]) {
        // SAFETY: the program's buffer.
        let written = dmt(|call| unsafe { call.write(a[0] as c_int, &piece(a[1], a[2])) }) as isize;
        if written == -(libc::EDESTADDRREQ as isize) && netlink::is_netlink(a[0]) {
            // SAFETY: as above.
            return unsafe { netlink::ask(libc::SYS_sendto, [a[0], a[1], a[2], 0, 0, 0]) };
        }
        return written;
    }
    // SAFETY: forwarded promise; what is left of the buffer is a part of it.
    let write = |done| unsafe { kernel::call(libc::SYS_write, [a[0], a[1] + done, a[2] - done, 0, 0, 0]) };
    stamp::written(a[0], space::whole(a[0], || a[2], write))
}

/// `close`.
pub unsafe fn close(a: [usize; 6]) -> isize {
    let fd = a[0] as c_int;
    if own::is_own(fd) {
        return EBADF;
    }
    writing::closing(a[0]);
    let closed = is_virtual(a[0]).then(|| dmt(|call| call.close_fd(fd)) as isize);
    if closed.is_none() {
        freed::closing(fd);
    }
    // SAFETY: the program's descriptor, or the placeholder behind it.
    let real = watches::observed(|| unsafe { raw!(libc::SYS_close, fd) });
    mailbox::clear();
    closed.unwrap_or_else(|| {
        dmt(|call| call.kernel_file_closed());
        real
    })
}

/// `close_range`: around our own descriptors.
pub unsafe fn close_range(a: [usize; 6]) -> isize {
    let (first, last, flags) = (a[0] as u32, a[1] as u32, a[2]);
    if first > last {
        return EINVAL;
    }
    if flags as u32 & libc::CLOSE_RANGE_CLOEXEC == 0 {
        writing::closing_all(first as usize, last as usize);
        dmt(|call| call.close_range(first, last));
    }
    // SAFETY: closes what the program asked to close.
    let result = watches::observed(|| unsafe { own::close_range(first, last, flags) });
    dmt(|call| call.kernel_file_closed());
    mailbox::clear();
    result
}

/// Tells dmt of a duplicate that the kernel made.
pub fn duplicated(old: c_int, new: isize, close_on_exec: bool) -> isize {
    if new >= 0 {
        dmt(|call| {
            if call.is_virtual(old) {
                call.dup_fd(old, new as c_int, close_on_exec);
            } else if call.is_virtual(new as c_int) {
                call.close_fd(new as c_int);
            }
            // What `new` was before is closed.
            call.kernel_file_closed();
        });
    }
    new
}

/// `dup`.
pub unsafe fn dup(a: [usize; 6]) -> isize {
    if own::is_own(a[0] as c_int) {
        return EBADF;
    }
    // SAFETY: forwarded promise.
    duplicated(a[0] as c_int, unsafe { gate::syscall(libc::SYS_dup, a) }, false)
}

/// `dup2`.
pub unsafe fn dup2(a: [usize; 6]) -> isize {
    if a[0] as c_int == a[1] as c_int {
        return if is_open(a[0] as c_int) { a[0] as isize } else { EBADF };
    }
    // SAFETY: forwarded promise.
    unsafe { dup3([a[0], a[1], 0, 0, 0, 0]) }
}

/// `dup3`.
pub unsafe fn dup3(a: [usize; 6]) -> isize {
    if own::is_own(a[0] as c_int) || own::is_own(a[1] as c_int) {
        return EBADF;
    }
    if is_open(a[0] as c_int) {
        writing::closing(a[1]);
    }
    // SAFETY: forwarded promise.
    let new = watches::observed(|| unsafe { gate::syscall(libc::SYS_dup3, a) });
    duplicated(a[0] as c_int, new, a[2] as c_int & libc::O_CLOEXEC != 0)
}

/// `fcntl`.
pub unsafe fn fcntl(a: [usize; 6]) -> isize {
    let (fd, command, argument) = (a[0] as c_int, a[1] as c_int, a[2] as c_int);
    if own::is_own(fd) {
        return EBADF;
    }
    // SAFETY: forwarded promise.
    let real = || unsafe { gate::syscall(libc::SYS_fcntl, a) };
    if matches!(command, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) {
        return duplicated(fd, real(), command == libc::F_DUPFD_CLOEXEC);
    }
    if !is_virtual(a[0]) {
        // SAFETY: forwarded promise.
        return if lock::is_lock(command) { unsafe { lock::fcntl(a) } } else { real() };
    }
    dmt(|call| match command {
        libc::F_SETFD => {
            real();
            call.set_close_on_exec(fd, argument & libc::FD_CLOEXEC != 0)
        }
        libc::F_GETFL => call.status_flags(fd),
        libc::F_SETFL => call.set_status_flags(fd, argument),
        libc::F_GETOWN => call.owner(fd),
        libc::F_SETOWN => call.set_owner(fd, argument),
        _ => real() as i64,
    }) as isize
}

/// `ioctl`.
pub unsafe fn ioctl(a: [usize; 6]) -> isize {
    if own::is_own(a[0] as c_int) {
        return EBADF;
    }
    let (fd, request) = (a[0] as c_int, a[1] as u32);
    // SAFETY: forwarded promise.
    let real = || unsafe { gate::syscall(libc::SYS_ioctl, a) };
    if !is_virtual(a[0]) {
        return holes::io_control(request.into()).unwrap_or_else(real);
    }
    match u64::from(request) {
        libc::FIOCLEX | libc::FIONCLEX => {
            real();
            dmt(|call| call.set_close_on_exec(fd, u64::from(request) == libc::FIOCLEX)) as isize
        }
        _ if a[2] == 0 => -(libc::ENOTTY as isize),
        asked if INTERFACE_QUESTIONS.contains(&asked) => {
            // SAFETY: forwarded promise.
            unsafe { ask_kernel_socket(a) }
        }
        // SAFETY: the program's variable.
        _ => dmt(|call| call.io_control(fd, request, unsafe { &mut *(a[2] as *mut c_int) })) as isize,
    }
}

/// What programs ask about network interfaces, of which the replica has the same everywhere.
const INTERFACE_QUESTIONS: [u64; 9] = [
    libc::SIOCGIFNAME,
    libc::SIOCGIFCONF,
    libc::SIOCGIFFLAGS,
    libc::SIOCGIFADDR,
    libc::SIOCGIFBRDADDR,
    libc::SIOCGIFNETMASK,
    libc::SIOCGIFMTU,
    libc::SIOCGIFHWADDR,
    libc::SIOCGIFINDEX,
];

/// Asks a socket of the kernel instead of the placeholder, which is not an internet socket.
unsafe fn ask_kernel_socket(mut a: [usize; 6]) -> isize {
    // SAFETY: forwarded promise; the descriptor is ours until it is closed.
    unsafe {
        let socket = raw!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return socket;
        }
        a[0] = socket as usize;
        let result = gate::syscall(libc::SYS_ioctl, a);
        raw!(libc::SYS_close, socket);
        result
    }
}

/// `pipe2`.
pub unsafe fn pipe2(a: [usize; 6]) -> isize {
    let mut files = [0; 2];
    let result = dmt(|call| call.pipe(a[1] as c_int, &mut files));
    install_pair(result, files, a[1], libc::SYS_pipe2, a)
}

/// `eventfd2`.
pub unsafe fn eventfd2(a: [usize; 6]) -> isize {
    install(dmt(|call| call.eventfd(a[0] as u32, a[1] as c_int)), a[1], false)
}

/// `inotify_init1`.
pub unsafe fn inotify_init1(a: [usize; 6]) -> isize {
    install(dmt(|call| call.inotify(a[0] as c_int)), a[0], false)
}
