//! The network interfaces of this machine as the server is to see them: the same names and addresses in each replica, so
//! that what a server says about where it can be reached is true.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

pub use crate::container::Interface;

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(v4.ip().into());
    }
    address.as_sockaddr_in6().map(|v6| v6.ip().into())
}

fn prefix(mask: IpAddr) -> u8 {
    match mask {
        IpAddr::V4(mask) => u32::from(mask).leading_ones() as u8,
        IpAddr::V6(mask) => u128::from(mask).leading_ones() as u8,
    }
}

/// Link-local addresses say nothing without their interface.
fn is_of_use(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

/// The interfaces that are up and have an address, without loopback.
pub fn of_this_machine() -> nix::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    let all: Vec<_> = getifaddrs()?.collect();
    for one in &all {
        let up =
            one.flags.contains(InterfaceFlags::IFF_UP) && !one.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let (Some(address), Some(mask)) =
            (one.address.as_ref().and_then(ip), one.netmask.as_ref().and_then(ip))
        else {
            continue;
        };
        if !up || !is_of_use(address) {
            continue;
        }
        let entry = (address, prefix(mask));
        match found.iter_mut().find(|interface| interface.name == one.interface_name) {
            Some(interface) => interface.addresses.push(entry),
            None => {
                let link = all.iter().filter(|other| other.interface_name == one.interface_name);
                let hardware = link.filter_map(|other| other.address.as_ref()?.as_link_addr()?.addr()).next();
                found.push(Interface {
                    name: one.interface_name.clone(),
                    hardware: hardware.unwrap_or_default(),
                    addresses: vec![entry],
                });
            }
        }
    }
    Ok(found)
}

/// One address of each interface, IPv4 if it has one, in order.
pub fn addresses(interfaces: &[Interface]) -> Vec<IpAddr> {
    let mut own: Vec<IpAddr> = Vec::new();
    for interface in interfaces {
        let v4 = interface.addresses.iter().find(|(address, _)| address.is_ipv4());
        own.extend(v4.or(interface.addresses.first()).map(|(address, _)| *address));
    }
    let v6 = interfaces.iter().flat_map(|i| &i.addresses).map(|(address, _)| *address);
    own.extend(v6.filter(IpAddr::is_ipv6).take(1).filter(|v6| !own.contains(v6)).collect::<Vec<_>>());
    own
}
