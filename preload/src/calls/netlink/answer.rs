//! What differs between replicas in what the kernel tells of the network: what was counted, and since when something is there.
//! All of that is zero in a replica. Pure.

/// Bytes of a message's header, and of an attribute's.
const MESSAGE_BYTES: usize = 16;
const ATTRIBUTE_BYTES: usize = 4;
/// Of an attribute's type: the other bits are flags.
const TYPE_MASK: u16 = 0x3fff;

// `linux/rtnetlink.h`, `if_link.h`, `if_addr.h`, `neighbour.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const IFLA_STATS: u16 = 7;
const IFLA_STATS64: u16 = 23;
const IFLA_AF_SPEC: u16 = 26;
const AF_INET6: u16 = 10;
const IFLA_INET6_STATS: u16 = 3;
const IFLA_INET6_CACHEINFO: u16 = 5;
const IFLA_INET6_ICMP6STATS: u16 = 6;
const IFA_CACHEINFO: u16 = 6;
const RTA_CACHEINFO: u16 = 12;
const NDA_CACHEINFO: u16 = 3;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.first_chunk().map(|two| u16::from_ne_bytes(*two))
}

/// Levels the messages of a datagram.
pub fn level(mut datagram: &mut [u8]) {
    loop {
        let Some(length) = datagram.first_chunk().map(|four| u32::from_ne_bytes(*four) as usize) else {
            return;
        };
        let Some(kind) = u16_at(datagram, 4) else { return };
        if length < MESSAGE_BYTES || length > datagram.len() {
            return;
        }
        level_message(kind, &mut datagram[MESSAGE_BYTES..length]);
        let next = length.next_multiple_of(4).min(datagram.len());
        datagram = &mut core::mem::take(&mut datagram)[next..];
    }
}

/// What follows a message's header: a fixed part, then attributes.
fn level_message(kind: u16, body: &mut [u8]) {
    let fixed = match kind {
        RTM_NEWLINK => 16,
        RTM_NEWADDR => 8,
        RTM_NEWROUTE | RTM_NEWNEIGH => 12,
        _ => return,
    };
    let Some(attributes) = body.get_mut(fixed..) else { return };
    each(attributes, |attribute, value| match (kind, attribute) {
        (RTM_NEWLINK, IFLA_STATS | IFLA_STATS64) => value.fill(0),
        (RTM_NEWLINK, IFLA_AF_SPEC) => each(value, |family, value| {
            if family == AF_INET6 {
                each(value, |attribute, value| match attribute {
                    IFLA_INET6_STATS | IFLA_INET6_ICMP6STATS => value.fill(0),
                    // Behind the size of reassembled packets: a time, and how long neighbours are believed, which is random.
                    IFLA_INET6_CACHEINFO => value.iter_mut().skip(4).take(8).for_each(|byte| *byte = 0),
                    _ => {}
                });
            }
        }),
        // Behind how long the address is good.
        (RTM_NEWADDR, IFA_CACHEINFO) => value.iter_mut().skip(8).for_each(|byte| *byte = 0),
        (RTM_NEWROUTE, RTA_CACHEINFO) | (RTM_NEWNEIGH, NDA_CACHEINFO) => value.fill(0),
        _ => {}
    });
}

/// Calls `f` with each attribute's type and value.
fn each(mut attributes: &mut [u8], mut f: impl FnMut(u16, &mut [u8])) {
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length);
        if length < ATTRIBUTE_BYTES || length > attributes.len() {
            return;
        }
        f(kind & TYPE_MASK, &mut attributes[ATTRIBUTE_BYTES..length]);
        let next = length.next_multiple_of(4).min(attributes.len());
        attributes = &mut core::mem::take(&mut attributes)[next..];
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "tests run in a program of their own")]
mod tests {
    use std::vec::Vec;

    use super::{
        AF_INET6, IFA_CACHEINFO, IFLA_AF_SPEC, IFLA_INET6_CACHEINFO, IFLA_STATS64, RTM_NEWADDR, RTM_NEWLINK,
        level,
    };

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut all = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        all.extend(kind.to_ne_bytes());
        all.extend(value);
        all.resize(all.len().next_multiple_of(4), 0);
        all
    }

    fn message(kind: u16, fixed: usize, attributes: &[Vec<u8>]) -> Vec<u8> {
        let body: Vec<u8> = std::iter::repeat_n(9, fixed).chain(attributes.concat()).collect();
        let mut all = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        all.extend(kind.to_ne_bytes());
        all.resize(16, 0);
        all.extend(body);
        all
    }

    #[test]
    fn counts_and_times_are_zero_and_all_else_stays() {
        let cache =
            |times: u8| attribute(IFLA_INET6_CACHEINFO, &[[7; 4], [times; 4], [times; 4], [8; 4]].concat());
        let link = |counts: u8, times: u8| {
            let nested = attribute(IFLA_AF_SPEC, &attribute(AF_INET6 | 0x8000, &cache(times)));
            let attributes = [attribute(3, b"lo\0"), attribute(IFLA_STATS64, &[counts; 24]), nested];
            message(RTM_NEWLINK, 16, &attributes)
        };
        let address = |times: u8| {
            let cache = attribute(IFA_CACHEINFO, &[[5; 8], [times; 8]].concat());
            message(RTM_NEWADDR, 8, &[attribute(1, &[127, 0, 0, 1]), cache])
        };
        let mut all = [link(1, 2), address(3)].concat();
        level(&mut all);
        assert_eq!(all, [link(0, 0), address(0)].concat());
    }

    #[test]
    fn what_is_cut_off_or_nonsense_is_left_alone() {
        let whole = message(RTM_NEWLINK, 16, &[attribute(IFLA_STATS64, &[1; 24])]);
        for end in 0..whole.len() {
            let mut cut = whole[..end].to_vec();
            level(&mut cut);
            assert_eq!(cut, whole[..end]);
        }
        let mut long = whole.clone();
        long[32..34].copy_from_slice(&200u16.to_ne_bytes());
        let before = long.clone();
        level(&mut long);
        assert_eq!(long, before);
    }
}
