//! UDP with the world outside the replica: datagrams that clients send, answers to them, and multicast groups.
//!
//! A socket that the server binds to a port of its choice is a *service*: the coordinator receives for it on the host, on the
//! host's loopback if it is bound to that. What it sends may go anywhere. Another socket may send to whom has asked something lately
//! (servers answer from fresh sockets, too), to a group that the server has joined, and where `--allow-outbound` says.

use zerocopy::{FromBytes, IntoBytes};

use crate::bounds::{MAX_ASKERS, MAX_MEMBERSHIPS};
use crate::digest::mix_bytes;
use crate::entry::{ConnectInfo, Event};
use crate::file::abi::{
    AF_INET, AF_INET6, EADDRINUSE, EADDRNOTAVAIL, ECONNREFUSED, EINVAL, ENOBUFS, IPPROTO_IP, IPPROTO_IPV6,
    IoVec,
};
use crate::file::address::Inet;
use crate::file::memory::UserMemory;
use crate::file::options::{SO_REUSEADDR, SO_REUSEPORT, V6ONLY};
use crate::file::outbound::info_of;
use crate::file::table::SERVICE;
use crate::file::{FileId, FileKind};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::upcall::{UpcallKind, listen};

/// Names of the options that join and leave groups.
const IP_ADD_MEMBERSHIP: i32 = 35;
const IP_DROP_MEMBERSHIP: i32 = 36;
const IPV6_ADD_MEMBERSHIP: i32 = 20;
const IPV6_DROP_MEMBERSHIP: i32 = 21;
const MCAST_JOIN_GROUP: i32 = 42;
const MCAST_LEAVE_GROUP: i32 = 45;

/// A socket is in a group.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Membership {
    file: FileId,
    /// Index of the interface, 0 = by its address.
    index: u32,
    group: [u8; 16],
    interface: [u8; 16],
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Asker {
    address: [u8; 16],
    port: u16,
}

/// See the module. All zeroes is the first state.
#[repr(C)]
pub(crate) struct Outside {
    /// Stream of the last datagram, and the number that follows in it.
    stream: u64,
    next: u64,
    /// Slots with file 0 are free.
    memberships: [Membership; MAX_MEMBERSHIPS],
    askers: [Asker; MAX_ASKERS],
}

fn asker_slot(address: &[u8; 16], port: u16) -> usize {
    (mix_bytes(u64::from(port), address) >> 32) as usize % MAX_ASKERS
}

impl Outside {
    fn remember(&mut self, from: &Inet) {
        let asker = Asker { address: from.address, port: from.port };
        self.askers[asker_slot(&asker.address, asker.port)] = asker;
    }

    /// Somebody in the replica has this address, and asks.
    pub(crate) fn forget(&mut self, from: &Inet) {
        if self.has_asked(from) {
            self.askers[asker_slot(&from.address, from.port)] = Asker { address: [0; 16], port: 0 };
        }
    }

    pub(crate) fn has_asked(&self, to: &Inet) -> bool {
        let asker = Asker { address: to.address, port: to.port };
        self.askers[asker_slot(&asker.address, asker.port)] == asker
    }

    fn has_joined(&self, to: &Inet) -> bool {
        self.memberships.iter().any(|m| m.file != 0 && m.group == to.address)
    }
}

impl Kernel {
    /// A datagram came from outside. Each is applied once: its number must be a new one. Some may be missing, because those
    /// that a server had not admitted when it was killed are lost.
    pub fn datagram_arrived(&mut self, shared: &Shared, event: &Event<'_>) {
        let (stream, number) = (event.header.connection.get(), event.header.sequence.get());
        let outside = &mut self.files.outside;
        if (stream, number) < (outside.stream, outside.next) {
            return;
        }
        (outside.stream, outside.next) = (stream, number + 1);
        let Ok((info, bytes)) = ConnectInfo::ref_from_prefix(event.payload) else {
            return self.diverge(shared, "a Datagram event carries no addresses");
        };
        self.digest = mix_bytes(self.digest, event.payload);
        let inet = |address: [u8; 16], port| {
            let inet = Inet { address, port, v6: false };
            Inet { v6: !inet.is_mapped(), ..inet }
        };
        let from = inet(info.peer_address, info.peer_port.get());
        let to = inet(info.local_address, info.local_port.get());
        self.files.outside.remember(&from);
        let piece = [IoVec { base: bytes.as_ptr().cast_mut(), len: bytes.len() }];
        // SAFETY: the entry's bytes outlive the cursor, which is only read from.
        let Some(mut source) = (unsafe { UserMemory::new(&piece) }) else { return };
        if !self.deliver_datagram(&from, &to, &mut source)
            && let Some(service) = self.service_at(to.port)
        {
            // It is published at an address of the host that the server does not know.
            self.queue_datagram(service, &from, &to, &mut source);
        }
    }

    fn service_at(&self, port: u16) -> Option<FileId> {
        let mut id = self.files.bound;
        while id != 0 {
            let file = self.files.get(id);
            if file.kind == FileKind::Udp
                && file.is_service()
                && !file.socket.is_connected()
                && self.inet_of(id).port == port
            {
                return Some(id);
            }
            id = file.socket.bound_next;
        }
        None
    }

    /// A UDP socket was bound to a port that the server chose: clients may send to it.
    pub(crate) fn open_service(&mut self, shared: &Shared, id: FileId) {
        let local = self.inet_of(id);
        let listener = self.name_datagram_socket(id);
        self.files.get_mut(id).state |= SERVICE;
        let v6_only = local.v6 && self.option(id, V6ONLY) != 0;
        let reuse = self.option(id, SO_REUSEADDR) != 0 || self.option(id, SO_REUSEPORT) != 0;
        let bits =
            listen::UDP | if v6_only { listen::V6_ONLY } else { 0 } | if reuse { listen::REUSE } else { 0 };
        let words = [listener, u64::from(local.port), 0, bits];
        self.upcall(shared, UpcallKind::Listen, words, 0, &[&local.address]);
        for at in 0..MAX_MEMBERSHIPS {
            let membership = self.files.outside.memberships[at];
            if membership.file == id {
                self.tell_membership(shared, &membership, true);
            }
        }
    }

    /// Gives a UDP socket a number for the coordinator, if it has none.
    fn name_datagram_socket(&mut self, id: FileId) -> u64 {
        if self.files.get(id).socket.listener == 0 {
            self.files.listeners += 1;
            let listener = u64::from(self.files.listeners) << 32 | u64::from(id);
            self.files.get_mut(id).socket.listener = listener;
        }
        self.files.get(id).socket.listener
    }

    /// The last reference to a UDP socket is gone.
    pub(crate) fn close_datagram_socket(&mut self, shared: &Shared, id: FileId) {
        self.unbind(id);
        for membership in &mut self.files.outside.memberships {
            if membership.file == id {
                membership.file = 0;
            }
        }
        let listener = self.files.get(id).socket.listener;
        if listener != 0 {
            self.upcall(shared, UpcallKind::Unlisten, [listener, 0, 0, 0], 0, &[]);
        }
    }

    /// Sends a datagram out of the replica. `fixed`: its sender's address was chosen by the server.
    pub(crate) fn send_outside(
        &mut self,
        shared: &Shared,
        id: FileId,
        (from, fixed): (&Inet, bool),
        to: &Inet,
        source: &mut UserMemory<'_>,
    ) -> Result<i64, i64> {
        let outside = &self.files.outside;
        let may = self.files.get(id).is_service()
            || outside.has_asked(to)
            || to.is_multicast() && outside.has_joined(to)
            || self.files.outbound.allows(to);
        if !may {
            self.tell_refused(shared, to, "datagram");
            return Err(ECONNREFUSED);
        }
        let socket = self.name_datagram_socket(id);
        let (length, info) = (source.left(), info_of(to, from));
        self.write_upcall(
            shared,
            (UpcallKind::Datagram, [socket, u64::from(fixed)]),
            info.as_bytes(),
            source,
            length,
        );
        Ok(length as i64)
    }

    /// `IP_ADD_MEMBERSHIP` and its kin; `None` if the option is none of these.
    pub(crate) fn set_membership(
        &mut self,
        shared: &Shared,
        id: FileId,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> Option<Result<i64, i64>> {
        let joins = match (level, name) {
            (IPPROTO_IP, IP_ADD_MEMBERSHIP) | (IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP) => true,
            (IPPROTO_IP | IPPROTO_IPV6, MCAST_JOIN_GROUP) => true,
            (IPPROTO_IP, IP_DROP_MEMBERSHIP) | (IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP) => false,
            (IPPROTO_IP | IPPROTO_IPV6, MCAST_LEAVE_GROUP) => false,
            _ => return None,
        };
        if self.files.get(id).kind != FileKind::Udp {
            return Some(Ok(0));
        }
        Some(read_membership(id, level, name, value).and_then(|membership| match joins {
            true => self.join(shared, membership),
            false => self.leave_group(shared, membership),
        }))
    }

    fn join(&mut self, shared: &Shared, new: Membership) -> Result<i64, i64> {
        let memberships = &mut self.files.outside.memberships;
        if memberships.contains(&new) {
            return Err(EADDRINUSE);
        }
        *memberships.iter_mut().find(|m| m.file == 0).ok_or(ENOBUFS)? = new;
        self.tell_membership(shared, &new, true);
        Ok(0)
    }

    fn leave_group(&mut self, shared: &Shared, old: Membership) -> Result<i64, i64> {
        // Linux is content with the group alone if no interface is named.
        let any = old.index == 0 && Inet { address: old.interface, port: 0, v6: false }.is_any();
        let same = |m: &Membership| *m == old || any && m.file == old.file && m.group == old.group;
        let memberships = &mut self.files.outside.memberships;
        let found = memberships.iter_mut().find(|m| same(m)).ok_or(EADDRNOTAVAIL)?;
        let gone = *found;
        found.file = 0;
        self.tell_membership(shared, &gone, false);
        Ok(0)
    }

    fn tell_membership(&mut self, shared: &Shared, membership: &Membership, joined: bool) {
        if !self.files.get(membership.file).is_service() {
            return;
        }
        let socket = self.files.get(membership.file).socket.listener;
        let port = u64::from(self.inet_of(membership.file).port);
        let words = [socket, port, u64::from(joined), u64::from(membership.index)];
        let parts: [&[u8]; 2] = [&membership.group, &membership.interface];
        self.upcall(shared, UpcallKind::Membership, words, 0, &parts);
    }
}

fn word(value: &[u8], at: usize) -> Result<u32, i64> {
    let bytes = value.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or(EINVAL)?;
    Ok(u32::from_le_bytes(bytes))
}

fn v4(value: &[u8], at: usize) -> Result<[u8; 16], i64> {
    let bytes: [u8; 4] = value.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or(EINVAL)?;
    Ok(Inet::of_v4(bytes, 0).address)
}

/// Reads `struct ip_mreq`, `ip_mreqn`, `ipv6_mreq` or `group_req`.
fn read_membership(file: FileId, level: i32, name: i32, value: &[u8]) -> Result<Membership, i64> {
    let none = Inet::any(false, 0).address;
    let (group, interface, index) = match (level, name) {
        (_, MCAST_JOIN_GROUP | MCAST_LEAVE_GROUP) => {
            let address = value.get(8..).ok_or(EINVAL)?;
            let domain = if level == IPPROTO_IP { AF_INET } else { AF_INET6 };
            (Inet::parse(domain, address)?.address, none, word(value, 0)?)
        }
        (IPPROTO_IPV6, _) => {
            let group = value.get(..16).and_then(|b| b.try_into().ok()).ok_or(EINVAL)?;
            (group, none, word(value, 16)?)
        }
        _ => (v4(value, 0)?, v4(value, 4)?, word(value, 8).unwrap_or(0)),
    };
    if !(Inet { address: group, port: 0, v6: false }).is_multicast() {
        return Err(EINVAL);
    }
    Ok(Membership { file, index, group, interface })
}
