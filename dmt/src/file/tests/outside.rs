//! The world outside the replica: datagrams, groups, connections that the server makes.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use crate::bounds::{DATAGRAM_QUEUE_BYTES, MAX_OUTBOUND};
use crate::entry::{
    ConnectInfo, EventKind, OUTBOUND_CONNECTION, OutboundHead, OutboundRule, datagram_stream,
};
use crate::file::abi::*;
use crate::file::passed::Parcel;
use crate::file::tests::{Coordinator, Seen, World, inet};
use crate::upcall::UpcallKind;

const IP_ADD_MEMBERSHIP: i32 = 35;
const IP_PKTINFO: i32 = 8;
const OWN: [u8; 4] = [192, 0, 2, 2];
const FAR: [u8; 4] = [203, 0, 113, 7];
const GROUP: [u8; 4] = [239, 255, 255, 250];

fn at(ip: [u8; 4], port: u16) -> [u8; 16] {
    let mut address = inet(port);
    address[4..8].copy_from_slice(&ip);
    address
}

fn mapped(ip: [u8; 4]) -> [u8; 16] {
    let mut address = [0; 16];
    address[10..12].fill(0xff);
    address[12..].copy_from_slice(&ip);
    address
}

fn info(peer: ([u8; 4], u16), local: ([u8; 4], u16)) -> ConnectInfo {
    ConnectInfo {
        peer_address: mapped(peer.0),
        local_address: mapped(local.0),
        peer_port: U16::new(peer.1),
        local_port: U16::new(local.1),
        reserved: U32::new(0),
    }
}

impl Coordinator {
    /// The first event of a leadership.
    fn renew(&self, rules: &[([u8; 4], u16)]) {
        let head = OutboundHead {
            own_v4: mapped(OWN),
            rules: U32::new(rules.len() as u32),
            ..OutboundHead::default()
        };
        let rules: Vec<_> = rules
            .iter()
            .map(|&(ip, port)| OutboundRule {
                address: if ip == [0; 4] { [0; 16] } else { mapped(ip) },
                port: U16::new(port),
                reserved: U16::new(0),
            })
            .collect();
        let payload = [head.as_bytes(), rules.as_bytes()].concat();
        self.numbered_event(EventKind::Outbound, 0, 0, 1, &payload);
    }

    fn datagram(&self, number: u64, peer: ([u8; 4], u16), local: ([u8; 4], u16), bytes: &[u8]) {
        let payload = [info(peer, local).as_bytes(), bytes].concat();
        self.numbered_event(EventKind::Datagram, datagram_stream(1), number, 0, &payload);
    }

    fn connected(&self, connection: u64) {
        self.event(EventKind::Connected, connection, 0, info((FAR, 80), (OWN, 4711)).as_bytes());
    }
}

/// A datagram, its sender, and where it was sent to if the server wants to know.
type Came = (Vec<u8>, Vec<u8>, Option<[u8; 16]>);

impl World {
    fn udp(&self, fd: i32, port: u16) -> Vec<Seen> {
        self.install(fd, self.call().socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
        assert_eq!(self.call().bind(fd, &at([0; 4], port)), 0);
        self.upcalls()
    }

    fn send_to(&self, fd: i32, to: &[u8], bytes: &[u8]) -> i64 {
        let iov = [IoVec { base: bytes.as_ptr().cast_mut(), len: bytes.len() }];
        let message = crate::file::io::Message {
            flags: 0,
            to,
            place: crate::file::abi::Place::NONE,
            parcel: &Parcel::EMPTY,
        };
        // SAFETY: the bytes are borrowed for the call, which only reads them.
        unsafe { self.call().send(fd, &iov, &message) }
    }

    fn receive_from(&self, fd: i32) -> Result<Came, i64> {
        let (mut bytes, mut from, mut parcel) = (vec![0; 1000], SocketAddress::NONE, Parcel::EMPTY);
        let iov = [IoVec { base: bytes.as_mut_ptr(), len: bytes.len() }];
        // SAFETY: the bytes are this function's own.
        let got = unsafe { self.call().receive(fd, &iov, 0, &mut from, &mut 0, Some(&mut parcel)) };
        if got < 0 {
            return Err(-got);
        }
        bytes.truncate(got as usize);
        Ok((bytes, from.bytes().to_vec(), parcel.local))
    }

    fn dials(&self) -> Vec<u64> {
        self.upcalls().iter().filter(|s| s.kind == UpcallKind::Dial).map(|s| s.words[0]).collect()
    }
}

#[test]
fn a_client_asks_and_is_answered() {
    let world = World::new();
    let listen = &world.udp(3, 53)[0];
    assert_eq!((listen.kind, listen.words[1]), (UpcallKind::Listen, 53));
    let socket = listen.words[0];
    world.coordinator.renew(&[]);
    world.coordinator.datagram(0, (FAR, 4000), (OWN, 53), b"query");
    world.settle();
    assert_eq!(world.receive_from(3).unwrap(), (b"query".to_vec(), at(FAR, 4000).to_vec(), None));
    assert_eq!(world.send_to(3, &at(FAR, 4000), b"answer"), 6);
    let sent = world.upcalls();
    let payload = [info((FAR, 4000), (OWN, 53)).as_bytes(), b"answer"].concat();
    assert_eq!(sent, [Seen { kind: UpcallKind::Datagram, words: [socket, 0, 0], payload }]);
    world.end(&[3]);
    assert_eq!(world.upcalls()[0].words[0], socket, "the coordinator forgets the socket");
}

#[test]
fn a_datagram_is_applied_once_and_the_queue_is_bounded() {
    let world = World::new();
    world.udp(3, 53);
    for number in [0, 0, 1, 0, 5, 3] {
        world.coordinator.datagram(number, (FAR, 4000), (OWN, 53), &[number as u8]);
    }
    world.settle();
    let mut got = Vec::new();
    while let Ok((bytes, ..)) = world.receive_from(3) {
        got.extend(bytes);
    }
    assert_eq!(got, [0, 1, 5], "again and too late are nothing; some may be lost");
    for number in 6..406 {
        world.coordinator.datagram(number, (FAR, 4000), (OWN, 53), &[7; 1000]);
        world.settle();
    }
    let mut count = 0;
    while world.receive_from(3).is_ok() {
        count += 1;
    }
    assert!((200..=DATAGRAM_QUEUE_BYTES / 1000).contains(&count), "{count}");
    world.end(&[3]);
}

#[test]
fn a_server_learns_where_a_datagram_was_sent_to() {
    let world = World::new();
    world.udp(3, 53);
    let call = world.call();
    assert_eq!(call.set_socket_option(3, IPPROTO_IP, IP_PKTINFO, &1i32.to_le_bytes()), 0);
    world.coordinator.datagram(0, (FAR, 4000), (OWN, 53), b"x");
    world.settle();
    assert_eq!(world.receive_from(3).unwrap().2, Some(mapped(OWN)));
    // At an address that only the host knows it is for the service of that port all the same.
    assert_eq!(call.close_fd(3), 0);
    world.install(3, call.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    assert_eq!(call.bind(3, &at(OWN, 53)), 0);
    world.coordinator.datagram(1, (FAR, 4000), ([10, 9, 8, 7], 53), b"y");
    world.settle();
    assert_eq!(world.receive_from(3).unwrap().0, b"y");
    world.end(&[3]);
}

#[test]
fn who_has_asked_may_be_answered_by_any_socket_and_others_only_if_allowed() {
    let world = World::new();
    world.udp(3, 1900);
    let call = world.call();
    world.install(4, call.socket(AF_INET, SOCK_DGRAM, 0));
    world.coordinator.renew(&[]);
    world.settle();
    assert_eq!(world.send_to(4, &at(FAR, 4000), b"x"), -ECONNREFUSED);
    let told = world.upcalls();
    let told: Vec<_> = told.iter().map(|seen| String::from_utf8_lossy(&seen.payload)).collect();
    assert!(told[0].contains("--allow-outbound 203.0.113.7:4000"), "{told:?}");
    assert_eq!(world.send_to(4, &at(FAR, 4000), b"x"), -ECONNREFUSED);
    assert!(world.upcalls().is_empty(), "it is told once");
    world.coordinator.datagram(0, (FAR, 4000), (OWN, 1900), b"search");
    world.settle();
    assert_eq!(world.send_to(4, &at(FAR, 4000), b"x"), 1);
    world.coordinator.renew(&[(FAR, 53)]);
    world.settle();
    assert_eq!(world.send_to(4, &at(FAR, 53), b"query"), 5);
    assert_eq!(world.upcalls().len(), 2);
    assert_eq!(world.send_to(4, &at([255; 4], 53), b"x"), -EACCES);
    world.end(&[3, 4]);
}

#[test]
fn groups_are_joined_and_all_members_hear() {
    let world = World::new();
    let listen = world.udp(3, 1900);
    let call = world.call();
    let request = [GROUP, OWN].concat();
    assert_eq!(call.set_socket_option(3, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request), 0);
    assert_eq!(call.set_socket_option(3, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request), -EADDRINUSE);
    let joined = &world.upcalls()[0];
    assert_eq!((joined.kind, joined.words), (UpcallKind::Membership, [listen[0].words[0], 1900, 1]));
    assert_eq!(joined.payload, [mapped(GROUP), mapped(OWN)].concat());
    for option in [2i32, 15] {
        assert_eq!(call.set_socket_option(3, SOL_SOCKET, option, &1i32.to_le_bytes()), 0);
    }
    world.coordinator.datagram(0, (FAR, 4000), (GROUP, 1900), b"search");
    world.settle();
    assert_eq!(world.receive_from(3).unwrap().0, b"search");
    // Its own announcements come back, and go out.
    assert_eq!(world.send_to(3, &at(GROUP, 1900), b"notify"), 6);
    assert_eq!(world.receive_from(3).unwrap().0, b"notify");
    assert_eq!(world.upcalls().iter().filter(|seen| seen.kind == UpcallKind::Datagram).count(), 1);
    world.end(&[3]);
}

#[test]
fn a_connection_outside_waits_for_what_the_coordinator_made_of_it() {
    let world = World::new();
    let call = world.call();
    world.coordinator.renew(&[(FAR, 80)]);
    world.settle();
    world.install(3, call.socket(AF_INET, SOCK_STREAM, 0));
    let connection = OUTBOUND_CONNECTION | 1;
    world.later(move |c| c.connected(connection));
    world.later(move |c| c.event(EventKind::Data, connection, 0, b"hello"));
    world.later(move |c| c.event(EventKind::PeerClosed, connection, 0, b""));
    assert_eq!(call.connect(3, &at(FAR, 80)), 0);
    assert_eq!(world.dials(), [connection]);
    let mut name = SocketAddress::NONE;
    assert_eq!((call.socket_name(3, &mut name), name.bytes()), (0, &at(OWN, 4711)[..]));
    assert_eq!((call.peer_name(3, &mut name), name.bytes()), (0, &at(FAR, 80)[..]));
    assert_eq!(world.read(3, 100).unwrap(), b"hello");
    assert_eq!(world.write(3, b"there"), 5);
    let output = Seen { kind: UpcallKind::Output, words: [connection, 0, 0], payload: b"there".to_vec() };
    assert_eq!(world.upcalls(), [output]);
    assert_eq!(world.read(3, 100).unwrap(), b"");
    world.end(&[3]);
}

#[test]
fn a_connection_that_does_not_block_is_told_of_later() {
    let world = World::new();
    let call = world.call();
    world.coordinator.renew(&[([0; 4], 80)]);
    world.settle();
    world.install(3, call.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    assert_eq!(call.connect(3, &at(FAR, 80)), -EINPROGRESS);
    assert_eq!(call.connect(3, &at(FAR, 80)), -EALREADY);
    let refused = OUTBOUND_CONNECTION | 1;
    let mut fds = [PollFd { fd: 3, events: POLLOUT as i16, revents: 0 }];
    assert_eq!(call.poll(&mut fds, Some(0), None), 0);
    world.later(move |c| c.event(EventKind::Refused, refused, ETIMEDOUT as u64, b""));
    assert_eq!(call.poll(&mut fds, None, None), 1);
    assert_eq!(call.connect(3, &at(FAR, 80)), -ETIMEDOUT);
    // The same socket may try again.
    assert_eq!(call.connect(3, &at(FAR, 80)), -EINPROGRESS);
    world.coordinator.connected(OUTBOUND_CONNECTION | 2);
    world.settle();
    assert_eq!(call.connect(3, &at(FAR, 80)), 0);
    assert_eq!(call.connect(3, &at(FAR, 80)), -EISCONN);
    assert_eq!(world.dials(), [refused, OUTBOUND_CONNECTION | 2]);
    world.end(&[3]);
}

#[test]
fn a_new_leadership_resets_all_connections_outside() {
    let world = World::new();
    let call = world.call();
    world.coordinator.renew(&[(FAR, 80)]);
    world.settle();
    for fd in 3..7 {
        world.install(fd, call.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        assert_eq!(call.connect(fd, &at(FAR, 80)), -EINPROGRESS);
    }
    for number in 1..3 {
        world.coordinator.connected(OUTBOUND_CONNECTION | number);
        world.coordinator.event(EventKind::Data, OUTBOUND_CONNECTION | number, 0, b"x");
    }
    world.coordinator.renew(&[]);
    world.coordinator.event(EventKind::Data, OUTBOUND_CONNECTION | 1, 0, b"late");
    world.settle();
    for fd in 3..5 {
        assert_eq!(world.read(fd, 10).unwrap(), b"x", "what was received stays");
        assert_eq!(world.read(fd, 10), Err(ECONNRESET));
        assert_eq!(world.read(fd, 10).unwrap(), b"");
    }
    for fd in 5..7 {
        assert_eq!(call.connect(fd, &at(FAR, 80)), -ECONNRESET, "those in the making, too");
        assert_eq!(call.connect(fd, &at(FAR, 80)), -ECONNREFUSED, "and the rules are the new ones");
    }
    world.end(&[3, 4, 5, 6]);
}

#[test]
fn connections_outside_are_bounded_and_closing_makes_room() {
    let world = World::new();
    let call = world.call();
    world.coordinator.renew(&[(FAR, 80)]);
    world.settle();
    let most = 3 + MAX_OUTBOUND as i32;
    for fd in 3..=most {
        world.install(fd, call.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        let expected = if fd < most { -EINPROGRESS } else { -EAGAIN };
        assert_eq!(call.connect(fd, &at(FAR, 80)), expected);
        world.commit();
        world.upcalls();
    }
    assert_eq!(call.close_fd(3), 0);
    assert_eq!(call.connect(most, &at(FAR, 80)), -EINPROGRESS);
    for fd in 4..=most {
        assert_eq!(call.close_fd(fd), 0);
        world.upcalls();
    }
    world.assert_empty();
}

#[test]
fn loopback_of_the_host_is_reached_only_by_name() {
    let world = World::new();
    let call = world.call();
    world.coordinator.renew(&[([0; 4], 0)]);
    world.settle();
    world.install(3, call.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    assert_eq!(call.connect(3, &inet(9000)), -ECONNREFUSED, "any host, but not this machine's own services");
    world.coordinator.renew(&[([127, 0, 0, 1], 9000)]);
    world.settle();
    assert_eq!(call.connect(3, &inet(9000)), -EINPROGRESS);
    world.end(&[3]);
}

#[test]
fn a_question_that_cannot_be_answered_any_more_is_told() {
    let world = World::new();
    let call = world.call();
    world.coordinator.renew(&[(FAR, 53)]);
    world.settle();
    world.install(3, call.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0));
    assert_eq!(call.connect(3, &at(FAR, 53)), 0);
    assert_eq!(world.write(3, b"query"), 5);
    world.coordinator.renew(&[(FAR, 53)]);
    world.settle();
    assert_eq!(world.read(3, 10), Err(ECONNRESET));
    assert_eq!(world.write(3, b"query"), 5);
    world.end(&[3]);
}
