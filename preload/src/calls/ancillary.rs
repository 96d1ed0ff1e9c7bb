//! What `sendmsg` and `recvmsg` pass beside the bytes of unix sockets and of datagrams: the kernel's control messages on one
//! side, dmt's parcels on the other.

use core::ffi::c_int;

use dmt::bounds::MAX_MAILED_FILES;
use dmt::file::passed::{Credentials, Parcel};
use dmt::file::{FileId, FileKind};

use crate::calls::file::{install, is_open};
use crate::mailbox;
use crate::world::dmt;

/// Bytes of a control message's head: length, level, type.
const HEAD_BYTES: usize = 16;
const EINVAL: isize = -(libc::EINVAL as isize);
const TOO_MANY: isize = -(libc::ETOOMANYREFS as isize);

const fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(size_of::<usize>())
}

/// The letters of files of the kernel's that a message carries (see [`mailbox`]), held until it is sent.
pub struct Letters {
    count: usize,
    files: [FileId; MAX_MAILED_FILES],
}

impl Letters {
    /// None.
    pub const NONE: Self = Self { count: 0, files: [0; MAX_MAILED_FILES] };

    /// Puts `fd` into the box; what stands for it in the parcel.
    fn write(&mut self, fd: c_int) -> Result<FileId, isize> {
        let Some(place) = self.files.get_mut(self.count) else { return Err(TOO_MANY) };
        mailbox::clear();
        let letter = dmt(|call| call.write_letter()).map_err(|error| error as isize)?;
        if mailbox::put(letter, fd).is_err() {
            dmt(|call| {
                call.letter_taken(letter.file);
                call.discard(letter.file);
            });
            return Err(TOO_MANY);
        }
        *place = letter.file;
        self.count += 1;
        Ok(letter.file)
    }

    /// The message is sent, and holds its files by itself; or it is not, and nobody does.
    pub fn release(&self) {
        for &file in &self.files[..self.count] {
            dmt(|call| call.discard(file));
        }
    }
}

/// Reads the control messages of a message to be sent.
///
/// # Safety
/// The message's control buffer is the program's.
pub unsafe fn packed(
    message: &libc::msghdr,
    parcel: &mut Parcel,
    letters: &mut Letters,
) -> Result<(), isize> {
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
                    add(parcel, letters, unsafe { (data as *const c_int).add(i).read_unaligned() })?;
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if size == HEAD_BYTES + size_of::<libc::ucred>() => {
                // SAFETY: as above.
                let given = unsafe { (data as *const libc::ucred).read_unaligned() };
                parcel.credentials = Some(Credentials { pid: given.pid, uid: given.uid, gid: given.gid });
            }
            (libc::SOL_SOCKET, _) => return Err(EINVAL),
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if size == HEAD_BYTES + size_of::<libc::in_pktinfo>() => {
                // SAFETY: as above.
                let given = unsafe { (data as *const libc::in_pktinfo).read_unaligned() };
                parcel.local = Some(mapped(given.ipi_spec_dst));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                if size == HEAD_BYTES + size_of::<libc::in6_pktinfo>() =>
            {
                // SAFETY: as above.
                let given = unsafe { (data as *const libc::in6_pktinfo).read_unaligned() };
                parcel.local = Some(given.ipi6_addr.s6_addr);
            }
            // Other options for one internet packet: the way that it takes is the host's choice.
            _ => {}
        }
        at += aligned(size);
    }
    Ok(())
}

/// The IPv4-mapped address.
fn mapped(address: libc::in_addr) -> [u8; 16] {
    let [a, b, c, d] = address.s_addr.to_ne_bytes();
    core::net::Ipv4Addr::new(a, b, c, d).to_ipv6_mapped().octets()
}

fn add(parcel: &mut Parcel, letters: &mut Letters, fd: c_int) -> Result<(), isize> {
    let file = match dmt(|call| call.file_of(fd)) {
        Some(file) => file,
        None if is_open(fd) => letters.write(fd)?,
        None => return Err(-(libc::EBADF as isize)),
    };
    if parcel.add(file) { Ok(()) } else { Err(EINVAL) }
}

/// Where the next control message of a received message goes.
struct Room {
    at: usize,
    left: usize,
}

impl Room {
    /// Writes the head of a control message of which up to `bytes` of data follow; the place of the data, and how much fits.
    unsafe fn put(&mut self, (level, kind): (c_int, c_int), bytes: usize) -> Option<(usize, usize)> {
        let fits = self.left.checked_sub(HEAD_BYTES)?.min(bytes);
        let place = self.at + HEAD_BYTES;
        // SAFETY: the program's buffer has room for the head.
        unsafe {
            let head = self.at as *mut usize;
            *head = HEAD_BYTES + fits;
            *head.add(1).cast::<c_int>() = level;
            *head.add(1).cast::<c_int>().add(1) = kind;
        }
        let used = aligned(HEAD_BYTES + fits).min(self.left);
        (self.at, self.left) = (self.at + used, self.left - used);
        Some((place, fits))
    }

    /// Writes a control message; false if not all of it fits.
    unsafe fn put_whole(&mut self, kind: (c_int, c_int), bytes: &[u8]) -> bool {
        // SAFETY: forwarded promise; `put` says how much room there is.
        unsafe {
            let Some((place, fits)) = self.put(kind, bytes.len()) else { return false };
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), place as *mut u8, fits);
            fits == bytes.len()
        }
    }
}

/// `IP_PKTINFO` or `IPV6_PKTINFO` of a datagram that was sent to `local`: its control message's kind and data. What is not
/// for loopback counts as come over the first other interface.
fn packet_info(local: [u8; 16], is_v6: bool) -> ((c_int, c_int), [u8; 20], usize) {
    let address = core::net::Ipv6Addr::from(local);
    let loopback = address.to_ipv4_mapped().map_or(address.is_loopback(), |v4| v4.is_loopback());
    let interface: u32 = if loopback { 1 } else { 2 };
    let mut bytes = [0; 20];
    if is_v6 {
        bytes[..16].copy_from_slice(&local);
        bytes[16..].copy_from_slice(&interface.to_ne_bytes());
        return ((libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), bytes, 20);
    }
    bytes[..4].copy_from_slice(&interface.to_ne_bytes());
    bytes[4..8].copy_from_slice(&local[12..]);
    bytes[8..12].copy_from_slice(&local[12..]);
    ((libc::IPPROTO_IP, libc::IP_PKTINFO), bytes, 12)
}

/// Writes what came with a message into its control buffer, and gives the descriptors that came numbers here. `is_v6`: the
/// sender's address is IPv6, as all are that such a socket sees.
///
/// # Safety
/// The message's control buffer is the program's.
pub unsafe fn unpack(message: &mut libc::msghdr, parcel: &Parcel, flags: c_int, is_v6: bool) {
    let len = if message.msg_control.is_null() { 0 } else { message.msg_controllen };
    let mut room = Room { at: message.msg_control as usize, left: len };
    // SAFETY: forwarded promise.
    unsafe {
        if let Some(credentials) = parcel.credentials {
            let cut = !room.put_whole((libc::SOL_SOCKET, libc::SCM_CREDENTIALS), &credentials.to_bytes());
            message.msg_flags |= if cut { libc::MSG_CTRUNC } else { 0 };
        }
        if let Some(local) = parcel.local {
            let (kind, bytes, len) = packet_info(local, is_v6);
            let cut = !room.put_whole(kind, &bytes[..len]);
            message.msg_flags |= if cut { libc::MSG_CTRUNC } else { 0 };
        }
        if !parcel.files().is_empty() {
            unpack_files(message, parcel, flags, &mut room);
        }
    }
    message.msg_controllen = len - room.left;
}

/// A descriptor for a file that was passed. Takes the reference to it.
fn receive(file: FileId, close_on_exec: bool) -> isize {
    let Some((letter, keep)) = dmt(|call| call.letter_of(file)) else {
        let kind = dmt(|call| call.kind_of_file(file));
        let is_socket = matches!(kind, FileKind::Tcp | FileKind::Udp | FileKind::Unix);
        return install(i64::from(file), if close_on_exec { libc::O_CLOEXEC as usize } else { 0 }, is_socket);
    };
    let fd = mailbox::take(letter, keep, close_on_exec);
    dmt(|call| {
        if fd >= 0 && !keep {
            call.letter_taken(file);
        }
        call.discard(file);
    });
    fd
}

unsafe fn unpack_files(message: &mut libc::msghdr, parcel: &Parcel, flags: c_int, room: &mut Room) {
    let files = parcel.files();
    let wanted = files.len().min(room.left.saturating_sub(HEAD_BYTES) / size_of::<c_int>());
    let close_on_exec = flags & libc::MSG_CMSG_CLOEXEC != 0;
    let mut made = 0;
    for &file in &files[..wanted] {
        let fd = receive(file, close_on_exec);
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
    mailbox::clear();
    if made > 0 {
        // SAFETY: forwarded promise; the numbers are where the data belongs.
        unsafe { room.put((libc::SOL_SOCKET, libc::SCM_RIGHTS), made * size_of::<c_int>()) };
    }
    if made < files.len() {
        message.msg_flags |= libc::MSG_CTRUNC;
    }
}
