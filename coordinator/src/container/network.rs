//! The network interfaces of the container: loopback, and one for each of the host's, with the same name and addresses.
//!
//! No packet ever passes through them: the server's sockets are dmt's. They are there for servers that look for the
//! addresses under which they can be reached (and pass them on, as UPnP servers do): those must be the host's, where the
//! ports are published, and the same in all replicas.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use serde::{Deserialize, Serialize};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// As the host names it.
    pub name: String,
    /// Its hardware address.
    pub hardware: [u8; 6],
    /// Its addresses and the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// Interfaces of a container besides loopback; the host may have more.
const MAX_INTERFACES: usize = 16;
/// Index of the first one.
const FIRST_INDEX: u32 = 2;
/// Index of the first other end of a veth pair.
const FIRST_PEER_INDEX: u32 = 1000;

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_FLAGS: u16 = 8;
const IFLA_OPERSTATE: u16 = 16;
const IF_OPER_UP: u8 = 6;
/// Bytes of a netlink message's header with that of a link, and of the longest answer about a link.
const LINK_BYTES: usize = 32;
const ANSWER_BYTES: usize = 16 << 10;
/// How often the kernel is asked whether a link is up, and the time between two questions: it takes its time up to a second.
const UP_TRIES: u32 = 2000;
const UP_PAUSE: Duration = Duration::from_millis(1);

/// A netlink message in the making: attributes are nested by the place of their length.
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: i32, body: &[u8]) -> Self {
        let mut bytes = Vec::new();
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        Self { bytes }
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn begin(&mut self, kind: u16) -> usize {
        self.pad();
        let place = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        place
    }

    fn end(&mut self, place: usize) {
        let len = (self.bytes.len() - place) as u16;
        self.bytes[place..place + 2].copy_from_slice(&len.to_ne_bytes());
        self.pad();
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let place = self.begin(kind);
        self.bytes.extend_from_slice(value);
        self.end(place);
    }

    /// Sends it and waits for the kernel's word.
    fn send(mut self, netlink: &OwnedFd) -> io::Result<()> {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        send(netlink.as_raw_fd(), &self.bytes, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let count = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let error = answer.get(16..20).filter(|_| count >= 20).and_then(|error| error.try_into().ok());
        match error.map_or(-libc::EPROTO, i32::from_ne_bytes) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }
}

/// `struct ifinfomsg`.
fn link_message(index: u32, flags: i32, change: i32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&flags.to_ne_bytes());
    body.extend_from_slice(&change.to_ne_bytes());
    body
}

fn make(netlink: &OwnedFd, interface: &Interface, number: u32, kind: &str) -> io::Result<()> {
    let new = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = Request::new(libc::RTM_NEWLINK, new, &link_message(FIRST_INDEX + number, 0, 0));
    request.put(libc::IFLA_IFNAME, &[interface.name.as_bytes(), &[0]].concat());
    if interface.hardware != [0; 6] {
        request.put(libc::IFLA_ADDRESS, &interface.hardware);
    }
    let info = request.begin(libc::IFLA_LINKINFO);
    request.put(IFLA_INFO_KIND, kind.as_bytes());
    if kind == "veth" {
        let data = request.begin(IFLA_INFO_DATA);
        let peer = request.begin(VETH_INFO_PEER);
        request.bytes.extend_from_slice(&link_message(FIRST_PEER_INDEX + number, 0, 0));
        request.put(libc::IFLA_IFNAME, format!("brolga{number}\0").as_bytes());
        // The kernel's choice would be another one in each replica.
        request.put(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0xb0, number as u8]);
        request.end(peer);
        request.end(data);
    }
    request.end(info);
    request.send(netlink)
}

fn up(netlink: &OwnedFd, index: u32) -> io::Result<()> {
    Request::new(libc::RTM_NEWLINK, 0, &link_message(index, libc::IFF_UP, libc::IFF_UP)).send(netlink)
}

/// Waits until the kernel itself has noticed that both ends of a pair are up, which it does when it likes: a server that asked before
/// would see other flags, another state and another queue.
fn await_up(netlink: &OwnedFd, index: u32) -> io::Result<()> {
    for _ in 0..UP_TRIES {
        if is_up(netlink, index)? {
            return Ok(());
        }
        std::thread::sleep(UP_PAUSE);
    }
    Err(io::Error::from_raw_os_error(libc::ETIMEDOUT))
}

fn is_up(netlink: &OwnedFd, index: u32) -> io::Result<bool> {
    let mut question = Request::new(libc::RTM_GETLINK, 0, &link_message(index, 0, 0)).bytes;
    let len = question.len() as u32;
    question[..4].copy_from_slice(&len.to_ne_bytes());
    // The link is the answer; no other is wanted.
    question[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    send(netlink.as_raw_fd(), &question, MsgFlags::empty())?;
    let mut answer = vec![0; ANSWER_BYTES];
    let count = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let short = |bytes: &[u8]| u16::from_ne_bytes([bytes[0], bytes[1]]);
    if count < LINK_BYTES || short(&answer[4..6]) != libc::RTM_NEWLINK {
        return Err(io::Error::from_raw_os_error(libc::EPROTO));
    }
    let mut attributes = &answer[LINK_BYTES..count];
    while attributes.len() > 4 {
        let (length, kind) = (usize::from(short(attributes)), short(&attributes[2..]));
        if kind == IFLA_OPERSTATE {
            return Ok(attributes[4] == IF_OPER_UP);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn add_address(netlink: &OwnedFd, index: u32, (address, prefix): (IpAddr, u8)) -> io::Result<()> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut body = vec![family as u8, prefix, 0, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    let new = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = Request::new(libc::RTM_NEWADDR, new, &body);
    match address {
        IpAddr::V4(v4) => {
            request.put(libc::IFA_LOCAL, &v4.octets());
            request.put(libc::IFA_ADDRESS, &v4.octets());
            if prefix < 31 {
                let broadcast = u32::from(v4) | u32::MAX >> prefix;
                request.put(libc::IFA_BROADCAST, &broadcast.to_be_bytes());
            }
        }
        IpAddr::V6(v6) => {
            request.put(libc::IFA_ADDRESS, &v6.octets());
            // Nobody else is there who could have it.
            request.put(IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes());
        }
    }
    request.send(netlink)
}

/// No address of the kernel's making: it would appear when it likes.
fn make_no_address(name: &str) {
    for (file, value) in [("addr_gen_mode", "1"), ("accept_ra", "0"), ("accept_dad", "0")] {
        set_ipv6(name, file, value);
    }
}

fn set_ipv6(name: &str, file: &str, value: &str) {
    // A kernel without IPv6 has no such files.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{file}"), value);
}

fn build(netlink: &OwnedFd, interface: &Interface, number: u32) -> io::Result<()> {
    let mut peer = false;
    if let Err(error) = make(netlink, interface, number, "dummy") {
        // A kernel without dummy interfaces.
        if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
            return Err(error);
        }
        make(netlink, interface, number, "veth")?;
        peer = true;
    }
    make_no_address(&interface.name);
    if peer {
        let other_end = format!("brolga{number}");
        make_no_address(&other_end);
        // Which end is ready first, and has its route first, is the kernel's chance: this one gets none.
        set_ipv6(&other_end, "disable_ipv6", "1");
        up(netlink, FIRST_PEER_INDEX + number)?;
    }
    for address in &interface.addresses {
        add_address(netlink, FIRST_INDEX + number, *address)?;
    }
    up(netlink, FIRST_INDEX + number)?;
    if peer {
        await_up(netlink, FIRST_PEER_INDEX + number)?;
        await_up(netlink, FIRST_INDEX + number)?;
    }
    Ok(())
}

/// Brings loopback up and makes the interfaces. Without a kernel that can, the container has loopback alone, in all
/// replicas alike; returns why then.
pub(super) fn set_up(interfaces: &[Interface]) -> io::Result<Option<String>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    up(&netlink, 1)?;
    for (interface, number) in interfaces.iter().take(MAX_INTERFACES).zip(0..) {
        if let Err(error) = build(&netlink, interface, number) {
            return Ok(Some(format!("the server does not see interface {}: {error}", interface.name)));
        }
    }
    Ok(None)
}
