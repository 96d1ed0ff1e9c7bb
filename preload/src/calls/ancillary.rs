//! What `sendmsg` and `recvmsg` pass beside the bytes of unix sockets: the kernel's control messages on one side, dmt's
//! parcels on the other.

use core::ffi::c_int;
use core::fmt::Write;

use dmt::file::FileKind;
use dmt::file::passed::{Credentials, Parcel};

use crate::calls::file::{install, is_open};
use crate::calls::refuse;
use crate::fatal::Line;
use crate::world::dmt;

/// Bytes of a control message's head: length, level, type.
const HEAD_BYTES: usize = 16;
const EINVAL: isize = -(libc::EINVAL as isize);

const fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(size_of::<usize>())
}

/// Reads the control messages of a message to be sent.
///
/// # Safety
/// The message's control buffer is the program's.
pub unsafe fn packed(message: &libc::msghdr, parcel: &mut Parcel) -> Result<(), isize> {
    let (base, len) = (message.msg_control as usize, message.msg_controllen);
    let mut at = 0;
    while base != 0 && at + HEAD_BYTES <= len {
        // SAFETY: inside the program's buffer, for all reads below.
        let (size, level, kind) = unsafe {
            let head = (base + at) as *const usize;
            (*head, *head.add(1).cast::<c_int>(), *head.add(1).cast::<c_int>().add(1))
        };
        if size < HEAD_BYTES || size > len - at {
            return Err(EINVAL);
        }
        let data = base + at + HEAD_BYTES;
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for i in 0..(size - HEAD_BYTES) / size_of::<c_int>() {
                    // SAFETY: as above.
                    add(parcel, unsafe { (data as *const c_int).add(i).read_unaligned() })?;
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if size == HEAD_BYTES + size_of::<libc::ucred>() => {
                // SAFETY: as above.
                let given = unsafe { (data as *const libc::ucred).read_unaligned() };
                parcel.credentials = Some(Credentials { pid: given.pid, uid: given.uid, gid: given.gid });
            }
            (libc::SOL_SOCKET, _) => return Err(EINVAL),
            // Options for one internet packet: there is one network, and it has none.
            _ => {}
        }
        at += aligned(size);
    }
    Ok(())
}

fn add(parcel: &mut Parcel, fd: c_int) -> Result<(), isize> {
    let Some(file) = dmt(|call| call.file_of(fd)) else {
        if !is_open(fd) {
            return Err(-(libc::EBADF as isize));
        }
        let mut line = Line::new();
        let _ =
            write!(line, "refused to pass descriptor {fd} over a unix socket: it is a file of the kernel's");
        refuse::log(&line);
        return Err(EINVAL);
    };
    if parcel.add(file) { Ok(()) } else { Err(EINVAL) }
}

/// Where the next control message of a received message goes.
struct Room {
    at: usize,
    left: usize,
}

impl Room {
    /// Writes a control message of which up to `bytes` of data follow; the place of the data, and how much fits.
    unsafe fn put(&mut self, kind: c_int, bytes: usize) -> Option<(usize, usize)> {
        let fits = self.left.checked_sub(HEAD_BYTES)?.min(bytes);
        let place = self.at + HEAD_BYTES;
        // SAFETY: the program's buffer has room for the head.
        unsafe {
            let head = self.at as *mut usize;
            *head = HEAD_BYTES + fits;
            *head.add(1).cast::<c_int>() = libc::SOL_SOCKET;
            *head.add(1).cast::<c_int>().add(1) = kind;
        }
        let used = aligned(HEAD_BYTES + fits).min(self.left);
        (self.at, self.left) = (self.at + used, self.left - used);
        Some((place, fits))
    }
}

/// Writes what came with a message into its control buffer, and gives the descriptors that came numbers here.
///
/// # Safety
/// The message's control buffer is the program's.
pub unsafe fn unpack(message: &mut libc::msghdr, parcel: &Parcel, flags: c_int) {
    let len = if message.msg_control.is_null() { 0 } else { message.msg_controllen };
    let mut room = Room { at: message.msg_control as usize, left: len };
    // SAFETY: forwarded promise.
    unsafe {
        if let Some(credentials) = parcel.credentials {
            let bytes = credentials.to_bytes();
            match room.put(libc::SCM_CREDENTIALS, bytes.len()) {
                Some((place, fits)) => {
                    core::ptr::copy_nonoverlapping(bytes.as_ptr(), place as *mut u8, fits);
                    message.msg_flags |= if fits < bytes.len() { libc::MSG_CTRUNC } else { 0 };
                }
                None => message.msg_flags |= libc::MSG_CTRUNC,
            }
        }
        if !parcel.files().is_empty() {
            unpack_files(message, parcel, flags, &mut room);
        }
    }
    message.msg_controllen = len - room.left;
}

unsafe fn unpack_files(message: &mut libc::msghdr, parcel: &Parcel, flags: c_int, room: &mut Room) {
    let files = parcel.files();
    let wanted = files.len().min(room.left.saturating_sub(HEAD_BYTES) / size_of::<c_int>());
    let close_on_exec = if flags & libc::MSG_CMSG_CLOEXEC != 0 { libc::O_CLOEXEC as usize } else { 0 };
    let mut made = 0;
    for &file in &files[..wanted] {
        let kind = dmt(|call| call.kind_of_file(file));
        let is_socket = matches!(kind, FileKind::Tcp | FileKind::Udp | FileKind::Unix);
        let fd = install(i64::from(file), close_on_exec, is_socket);
        if fd < 0 {
            break;
        }
        let place = room.at + HEAD_BYTES + made * size_of::<c_int>();
        // SAFETY: there is room for as many as are wanted.
        unsafe { *(place as *mut c_int) = fd as c_int };
        made += 1;
    }
    // A descriptor that could not be made has taken its file along.
    let gone = if made < wanted { made + 1 } else { made };
    for &file in &files[gone..] {
        dmt(|call| call.discard(file));
    }
    if made > 0 {
        // SAFETY: forwarded promise; the numbers are where the data belongs.
        unsafe { room.put(libc::SCM_RIGHTS, made * size_of::<c_int>()) };
    }
    if made < files.len() {
        message.msg_flags |= libc::MSG_CTRUNC;
    }
}
