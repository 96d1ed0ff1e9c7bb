//! `readlink`: the names of open files in /proc. Those of pipes and sockets tell the numbers that the kernel gave to placeholders, and all
//! others what the placeholder is.

use core::ffi::{CStr, c_char, c_int};
use core::fmt::Write;

use dmt::file::FileKind;

use super::stat::VIRTUAL_INODES;
use super::{MAX_PATH_BYTES, path_of};
use crate::fatal::Line;
use crate::gate;
use crate::raw;
use crate::world::{apart, dmt};

crate::family! {
    /// The calls of this family.
    pub unsafe fn call(number, a) {
        libc::SYS_readlink => read(number, a, libc::AT_FDCWD as usize, a[0], 1),
        libc::SYS_readlinkat => read(number, a, a[0], a[1], 2),
    }
}

/// What the kernel calls files that have no place in any directory, up to the number.
const WITHOUT_PLACE: [&[u8]; 3] = [b"pipe:[", b"socket:[", b"anon_inode:"];

/// The call; `out` is the number of the argument with the room, before that of its size.
unsafe fn read(number: i64, a: [usize; 6], directory: usize, path: usize, out: usize) -> isize {
    // What the kernel says may be each replica's own.
    apart(|| {
        let (mut b, mut room) = (a, [0; MAX_PATH_BYTES]);
        (b[out], b[out + 1]) = (room.as_mut_ptr() as usize, a[out + 1].min(room.len()));
        // SAFETY: the program's path, and room of our own. A size that is none is the kernel's to refuse.
        let len = unsafe { gate::syscall(number, if (a[out + 1] as c_int) < 1 { a } else { b }) };
        let Some(found) = room.get(..len.max(0) as usize).filter(|found| !found.is_empty()) else {
            return len;
        };
        let mut line = Line::new();
        // SAFETY: the kernel has read the path, so it is a C string.
        let shown =
            match WITHOUT_PLACE.iter().find(|&&kind| kind.starts_with(found) || found.starts_with(kind)) {
                // SAFETY: as above.
                Some(kind) => unsafe { without_place(found, kind, directory, path, &mut line) },
                None => found,
            };
        let len = shown.len().min(b[out + 1]);
        // SAFETY: the program's room of at least that size.
        unsafe { core::ptr::copy_nonoverlapping(shown.as_ptr(), a[out] as *mut u8, len) };
        len as isize
    })
}

/// What the program sees instead of `found`, which begins as `kind` says.
unsafe fn without_place<'a>(
    found: &'a [u8],
    kind: &[u8],
    directory: usize,
    path: usize,
    line: &'a mut Line,
) -> &'a [u8] {
    // SAFETY: forwarded promise.
    let file = unsafe { own_descriptor(directory, path) }
        .and_then(|fd| dmt(|call| Some((call.file_of(fd)?, call.file_kind(fd)?, call.random_device(fd)))));
    let Some((id, is, device)) = file else {
        // Of another process, or none of dmt's.
        if !kind.ends_with(b"[") {
            return found;
        }
        let _ = write!(line, "{}0]", core::str::from_utf8(kind).unwrap_or("["));
        return line.bytes();
    };
    let inode = VIRTUAL_INODES + u64::from(id);
    let _ = match is {
        FileKind::Tcp | FileKind::Udp | FileKind::Unix | FileKind::Netlink => {
            write!(line, "socket:[{inode}]")
        }
        FileKind::PipeRead | FileKind::PipeWrite => write!(line, "pipe:[{inode}]"),
        FileKind::EventFd => write!(line, "anon_inode:[eventfd]"),
        FileKind::TimerFd => write!(line, "anon_inode:[timerfd]"),
        FileKind::SignalFd => write!(line, "anon_inode:[signalfd]"),
        FileKind::Epoll => write!(line, "anon_inode:[eventpoll]"),
        FileKind::Inotify => write!(line, "anon_inode:inotify"),
        FileKind::Random if device == Some(libc::makedev(1, 8)) => write!(line, "/dev/random"),
        FileKind::Random => write!(line, "/dev/urandom"),
        FileKind::MessageQueue => write!(line, "/mqueue"),
        FileKind::Free | FileKind::Mailed | FileKind::Fifo => return found,
    };
    line.bytes()
}

/// The descriptor of this process that a link in /proc is about, by its name and that of its directory.
unsafe fn own_descriptor(directory: usize, path: usize) -> Option<c_int> {
    // SAFETY: forwarded promise.
    let path = unsafe { CStr::from_ptr(path as *const c_char) }.to_bytes();
    let slash = path.iter().rposition(|&byte| byte == b'/');
    let (place, name) = path.split_at(slash.map_or(0, |at| at + 1));
    let fd = match path {
        b"/dev/stdin" => return Some(0),
        b"/dev/stdout" => return Some(1),
        b"/dev/stderr" => return Some(2),
        _ => core::str::from_utf8(name).ok()?.parse().ok()?,
    };
    let mut of = Line::new();
    let _ =
        write!(of, "{}\0", core::str::from_utf8(place).ok().filter(|place| !place.is_empty()).unwrap_or("."));
    let mut room = [0; MAX_PATH_BYTES];
    let mut own = Line::new();
    // SAFETY: no arguments; a C string of ours; the descriptor is ours until it is closed.
    let found = unsafe {
        let _ = write!(own, "/proc/{}/", raw!(libc::SYS_getpid));
        let place = CStr::from_bytes_until_nul(of.bytes()).ok()?;
        let there = raw!(libc::SYS_openat, directory, place.as_ptr(), libc::O_PATH | libc::O_CLOEXEC, 0);
        let there = usize::try_from(there).ok()?;
        let found = path_of(there, &mut room);
        raw!(libc::SYS_close, there);
        found
    };
    (found.starts_with(own.bytes()) && found.ends_with(b"/fd")).then_some(fd)
}
