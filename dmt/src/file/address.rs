//! Socket addresses: reading, making, comparing.

use crate::file::abi::{AF_INET, AF_INET6, AF_UNIX, EAFNOSUPPORT, EINVAL, SocketAddress};

/// An internet address; IPv4 addresses are IPv4-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inet {
    pub(crate) address: [u8; 16],
    pub(crate) port: u16,
    pub(crate) v6: bool,
}

/// Prefix of IPv4-mapped addresses.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

pub(crate) fn is_v6(domain: i32) -> bool {
    domain == AF_INET6
}

fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let mut address = [0; 16];
    address[..12].copy_from_slice(&MAPPED);
    address[12..].copy_from_slice(&v4);
    address
}

impl Inet {
    /// The wildcard address of IPv4 or IPv6.
    pub(crate) fn any(v6: bool, port: u16) -> Self {
        Self { address: if v6 { [0; 16] } else { mapped([0; 4]) }, port, v6 }
    }

    /// An IPv4 address.
    pub(crate) fn of_v4(v4: [u8; 4], port: u16) -> Self {
        Self { address: mapped(v4), port, v6: false }
    }

    /// The loopback address.
    pub(crate) fn loopback(v6: bool, port: u16) -> Self {
        let mut address = mapped([127, 0, 0, 1]);
        if v6 {
            address = [0; 16];
            address[15] = 1;
        }
        Self { address, port, v6 }
    }

    /// True for `0.0.0.0` and `::`.
    pub(crate) fn is_any(&self) -> bool {
        self.address == [0; 16] || self.address == mapped([0; 4])
    }

    /// True for `::`, which takes in IPv4 unless told otherwise.
    pub(crate) fn is_any_v6(&self) -> bool {
        self.address == [0; 16]
    }

    /// True for `127.0.0.0/8` and `::1`.
    pub(crate) fn is_loopback(&self) -> bool {
        (self.is_mapped() && self.address[12] == 127) || self.address == Self::loopback(true, 0).address
    }

    /// True for the address of a multicast group.
    pub(crate) fn is_multicast(&self) -> bool {
        if self.is_mapped() { self.address[12] & 0xf0 == 0xe0 } else { self.address[0] == 0xff }
    }

    /// True for an IPv4-mapped address.
    pub(crate) fn is_mapped(&self) -> bool {
        self.address[..12] == MAPPED
    }

    /// Reads a `struct sockaddr_in` or `_in6`, for a socket of `domain`.
    pub(crate) fn parse(domain: i32, bytes: &[u8]) -> Result<Self, i64> {
        let [family_low, family_high, port_high, port_low, rest @ ..] = bytes else { return Err(EINVAL) };
        let family = i32::from(u16::from_le_bytes([*family_low, *family_high]));
        let port = u16::from_be_bytes([*port_high, *port_low]);
        match family {
            AF_INET if domain == AF_INET => {
                let v4: [u8; 4] = rest.get(..4).and_then(|b| b.try_into().ok()).ok_or(EINVAL)?;
                Ok(Self { address: mapped(v4), port, v6: false })
            }
            AF_INET6 if domain == AF_INET6 => {
                let address = rest.get(4..20).and_then(|b| b.try_into().ok()).ok_or(EINVAL)?;
                Ok(Self { address, port, v6: true })
            }
            _ => Err(EAFNOSUPPORT),
        }
    }

    /// The address as the server sees it.
    pub(crate) fn to_socket(self) -> SocketAddress {
        inet_address(self.v6, &self.address, self.port)
    }
}

/// `struct sockaddr_in` (from an IPv4-mapped address) or `_in6`.
pub(crate) fn inet_address(v6: bool, address: &[u8; 16], port: u16) -> SocketAddress {
    let mut bytes = [0u8; 28];
    bytes[..2].copy_from_slice(&(if v6 { AF_INET6 } else { AF_INET } as u16).to_le_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    if v6 {
        bytes[8..24].copy_from_slice(address);
    } else {
        bytes[4..8].copy_from_slice(&address[12..]);
    }
    SocketAddress::new(&bytes[..if v6 { 28 } else { 16 }]).unwrap_or(SocketAddress::NONE)
}

/// The address of a unix socket without a name.
pub(crate) fn unnamed_unix() -> SocketAddress {
    SocketAddress::new(&(AF_UNIX as u16).to_le_bytes()).unwrap_or(SocketAddress::NONE)
}

/// Reads a `struct sockaddr_un` into the form in which names are compared and reported: a path ends with one NUL.
pub(crate) fn parse_unix(bytes: &[u8]) -> Result<SocketAddress, i64> {
    if bytes.len() < 2 || i32::from(u16::from_le_bytes([bytes[0], bytes[1]])) != AF_UNIX {
        return Err(EINVAL);
    }
    let name = &bytes[2..];
    if name.is_empty() || name[0] == 0 {
        return SocketAddress::new(bytes).ok_or(EINVAL);
    }
    let length = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    let mut normal = [0u8; crate::file::abi::MAX_ADDRESS_BYTES];
    let end = 2 + length;
    normal.get_mut(..end).ok_or(EINVAL)?.copy_from_slice(&bytes[..end]);
    SocketAddress::new(&normal[..(end + 1).min(normal.len())]).ok_or(EINVAL)
}

/// True for the address of a unix socket that has a name.
pub(crate) fn is_named_unix(address: &SocketAddress) -> bool {
    address.len > 2
}
