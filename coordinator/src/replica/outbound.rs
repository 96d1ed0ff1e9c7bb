//! Where the server may connect and send: what `--allow-outbound` says, as an event carries it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use dmt::bounds::MAX_OUTBOUND_RULES;
use dmt::entry::{OutboundHead, OutboundRule};
use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::datagrams::mapped;

/// A destination that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The host; `None` = any but this machine's loopback.
    pub address: Option<IpAddr>,
    /// The port; 0 = any.
    pub port: u16,
}

/// The payload of an `Outbound` event. `own`: the addresses that the server sees as its own.
pub fn payload(own: &[IpAddr], rules: &[Rule]) -> Arc<[u8]> {
    let none = Ipv6Addr::UNSPECIFIED.octets();
    let first = |v4: bool| own.iter().find(|ip| ip.is_ipv4() == v4).map_or(none, |ip| mapped(*ip));
    let rules = &rules[..rules.len().min(MAX_OUTBOUND_RULES)];
    let head = OutboundHead {
        own_v4: first(true),
        own_v6: first(false),
        rules: U32::new(rules.len() as u32),
        reserved: U32::new(0),
    };
    let rules: Vec<OutboundRule> = rules
        .iter()
        .map(|rule| OutboundRule {
            address: rule.address.map_or(none, mapped),
            port: U16::new(rule.port),
            reserved: U16::new(0),
        })
        .collect();
    [head.as_bytes(), rules.as_bytes()].concat().into()
}
