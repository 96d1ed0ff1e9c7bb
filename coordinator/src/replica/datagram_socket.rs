//! A UDP socket of the host that says where each datagram was sent to.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn,
    SockaddrIn6, SockaddrStorage, bind, getsockname, recvmsg, sendmsg, setsockopt, socket, sockopt,
};

/// See the module.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: OwnedFd,
    v6: bool,
    port: u16,
}

/// A datagram that came.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Its bytes, at the beginning of the buffer.
    pub len: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// Where to.
    pub to: Option<IpAddr>,
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn inet(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    address.as_sockaddr_in6().map(|v6| SocketAddr::new(v6.ip().to_canonical(), v6.port()))
}

/// Binds a UDP socket that does not block. `reuse`: it shares its address with others that do.
pub fn bound(address: SocketAddr, v6_only: bool, reuse: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = socket(family, SockType::Datagram, flags, None)?;
    if reuse {
        setsockopt(&made, sockopt::ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        setsockopt(&made, sockopt::Ipv6V6Only, &v6_only)?;
    }
    bind(made.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(made)
}

impl DatagramSocket {
    /// Takes a bound socket.
    pub fn new(socket: OwnedFd, v6: bool) -> io::Result<Self> {
        if v6 {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            // For senders with IPv4 addresses; a socket that takes none says no.
            let _ = setsockopt(&socket, sockopt::Ipv4PacketInfo, &true);
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            // Only what was sent to groups that this very socket has joined.
            set_option(&socket, libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, &0_i32)?;
        }
        let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
        let port = inet(&address).map_or(0, |address| address.port());
        Ok(Self { socket, v6, port })
    }

    /// Binds a new one.
    pub fn bind(address: SocketAddr, reuse: bool) -> io::Result<Self> {
        Self::new(bound(address, true, reuse)?, address.is_ipv6())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// It speaks IPv6.
    pub fn is_v6(&self) -> bool {
        self.v6
    }

    /// Reads a datagram, if one has come.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
        let mut pieces = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let message =
            recvmsg::<SockaddrStorage>(fd, &mut pieces, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
        let from = message.address.as_ref().and_then(inet).ok_or(io::ErrorKind::InvalidData)?;
        let to = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(v4_address(info.ipi_addr).into()),
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).to_canonical())
            }
            _ => None,
        });
        Ok(Received { len: message.bytes, from, to })
    }

    /// Sends a datagram, from an address of this machine if one is given and is one.
    pub fn send(&self, from: Option<IpAddr>, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let sent = match (from, to) {
            (Some(IpAddr::V4(from)), SocketAddr::V4(to)) => {
                let spec = libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: spec,
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                self.send_with(&SockaddrIn::from(to), bytes, &[ControlMessage::Ipv4PacketInfo(&info)])
            }
            (Some(IpAddr::V6(from)), SocketAddr::V6(to)) => {
                let address = libc::in6_addr { s6_addr: from.octets() };
                let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 };
                self.send_with(&SockaddrIn6::from(to), bytes, &[ControlMessage::Ipv6PacketInfo(&info)])
            }
            _ => return self.send_plainly(to, bytes),
        };
        // The server's address may be one that is not published as such; the kernel chooses then.
        if sent.is_err() { self.send_plainly(to, bytes) } else { sent }
    }

    fn send_plainly(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        match to {
            SocketAddr::V4(v4) if self.v6 => {
                let to = SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port());
                self.send_with(&SockaddrStorage::from(to), bytes, &[])
            }
            _ => self.send_with(&SockaddrStorage::from(to), bytes, &[]),
        }
    }

    fn send_with<A: nix::sys::socket::SockaddrLike>(
        &self,
        to: &A,
        bytes: &[u8],
        control: &[ControlMessage<'_>],
    ) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        sendmsg(fd, &[IoSlice::new(bytes)], control, MsgFlags::MSG_DONTWAIT, Some(to))?;
        Ok(())
    }

    /// Joins a group on the interface with this address; that it has joined already is fine.
    pub fn join(&self, group: IpAddr, interface: IpAddr) -> io::Result<()> {
        let done = match (group, interface) {
            (IpAddr::V4(group), IpAddr::V4(interface)) => {
                let request = sockopt_v4(group, interface);
                set_option(&self.socket, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &request)
            }
            (IpAddr::V6(group), _) => {
                let request = libc::ipv6_mreq {
                    ipv6mr_multiaddr: libc::in6_addr { s6_addr: group.octets() },
                    ipv6mr_interface: 0,
                };
                set_option(&self.socket, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &request)
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        };
        match done {
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Ok(()),
            done => done,
        }
    }

    /// What it sends to groups leaves by the interface with this address, if there is one.
    pub fn multicast_from(&self, interface: Ipv4Addr) {
        let address = libc::in_addr { s_addr: u32::from_ne_bytes(interface.octets()) };
        let _ = set_option(&self.socket, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &address);
    }
}

fn v4_address(address: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(address.s_addr.to_ne_bytes())
}

fn sockopt_v4(group: Ipv4Addr, interface: Ipv4Addr) -> libc::ip_mreq {
    let address = |of: Ipv4Addr| libc::in_addr { s_addr: u32::from_ne_bytes(of.octets()) };
    libc::ip_mreq { imr_multiaddr: address(group), imr_interface: address(interface) }
}

fn set_option<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the value lives through the call, which reads as many bytes as it has.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
