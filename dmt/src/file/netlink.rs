//! Netlink sockets, by which programs ask about the configuration of the network.
//!
//! The kernel has its whole answer ready when the call that sends a question returns. Preload takes it all out of the kernel's
//! socket then, under the turn, and puts it into the queue of the emulated one, so that reading, waiting and polling are as
//! with any other socket that keeps messages apart. Nothing comes unasked: a replica's network does not change.

use crate::bounds::DATAGRAM_QUEUE_BYTES;
use crate::call::Call;
use crate::file::abi::{
    AF_NETLINK, EBADF, EINVAL, ENFILE, ENOBUFS, ESOCKTNOSUPPORT, IoVec, O_NONBLOCK, O_RDWR, POLLERR,
    SOCK_DGRAM, SOCK_RAW, SOCK_TYPE_MASK, SocketAddress,
};
use crate::file::memory::UserMemory;
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::op::Op;

/// `sockaddr_nl` of the kernel itself: port 0, no groups.
const KERNEL: [u8; 12] = [AF_NETLINK as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl Kernel {
    fn create_netlink(&mut self, kind: i32, protocol: i32) -> Result<FileId, i64> {
        if !matches!(kind & SOCK_TYPE_MASK, SOCK_DGRAM | SOCK_RAW) {
            return Err(ESOCKTNOSUPPORT);
        }
        let id = self.files.create(FileKind::Netlink, O_RDWR | kind & O_NONBLOCK).ok_or(ENFILE)?;
        let socket = &mut self.files.get_mut(id).socket;
        // Both types keep messages apart, and nothing else.
        (socket.domain, socket.kind, socket.protocol) = (AF_NETLINK, SOCK_DGRAM, protocol);
        Ok(id)
    }

    fn netlink_answered(&mut self, id: FileId, answer: &[u8]) -> i64 {
        let piece = [IoVec { base: answer.as_ptr().cast_mut(), len: answer.len() }];
        let from = SocketAddress::new(&KERNEL).unwrap_or(SocketAddress::NONE);
        let fits = self.files.get(id).input.len() + answer.len() as u64 <= DATAGRAM_QUEUE_BYTES;
        // SAFETY: the slice outlives the cursor, which is only read from.
        let source = unsafe { UserMemory::new(&piece) }.filter(|_| fits);
        let put = source.map_or(-ENOBUFS, |mut source| self.push_message(id, &from, &[], &mut source));
        if put == -ENOBUFS {
            self.netlink_lost(id);
        }
        put
    }

    fn netlink_lost(&mut self, id: FileId) {
        self.files.get_mut(id).error = ENOBUFS as i32;
        self.notify(id, POLLERR);
    }
}

impl Call<'_> {
    /// `socket` of the family `AF_NETLINK`: returns a file number. `kind` as for [`Call::socket`].
    pub fn netlink(&self, kind: i32, protocol: i32) -> i64 {
        self.quick(Op::Netlink, protocol as u64, |k, _| {
            k.create_netlink(kind, protocol).map_or_else(|errno| -errno, i64::from)
        })
    }

    /// One message that the kernel answered to what `fd` asked; `None` = one was lost. Beyond [`DATAGRAM_QUEUE_BYTES`] the
    /// next read that finds nothing says `ENOBUFS`, as that of the kernel's own socket.
    pub fn netlink_answered(&self, fd: i32, answer: Option<&[u8]>) -> i64 {
        // So that a network that differs is found where it is told.
        let sum =
            answer.unwrap_or_default().iter().fold(0u64, |sum, &byte| sum.rotate_left(5) ^ u64::from(byte));
        self.quick(Op::Netlink, sum, |k, me| match k.descriptor(me, fd) {
            Some(id) if k.files.get(id).kind != FileKind::Netlink => -EINVAL,
            None => -EBADF,
            Some(id) => match answer {
                Some(answer) => k.netlink_answered(id, answer),
                None => {
                    k.netlink_lost(id);
                    0
                }
            },
        })
    }
}
