//! TCP: clients, windows, ends, resets, loopback.

use crate::bounds::SEND_WINDOW_BYTES;
use crate::entry::EventKind;
use crate::file::abi::*;
use crate::file::tests::{Seen, World, inet};
use crate::upcall::{CONSUMED_REPORT_BYTES, UpcallKind};

fn only(upcalls: &[Seen], kind: UpcallKind) -> Vec<&Seen> {
    upcalls.iter().filter(|seen| seen.kind == kind).collect()
}

#[test]
fn a_client_connects_talks_and_leaves() {
    let world = World::new();
    let listener = world.listener(3, 0);
    world.later(move |c| c.connect(7, listener));
    world.later(|c| c.event(EventKind::Data, 7, 0, b"hello"));
    world.later(|c| c.event(EventKind::PeerClosed, 7, 0, b""));
    let mut peer = SocketAddress::NONE;
    // Blocks until the coordinator brings a connection.
    let file = world.call().accept(3, 0, &mut peer);
    world.install(4, file);
    assert_eq!(peer.bytes()[..8], [2, 0, 0x15, 0xb3, 10, 0, 0, 9]);
    assert_eq!(world.read(4, 100).unwrap(), b"hello");
    assert_eq!(world.write(4, b"world"), 5);
    assert_eq!(world.read(4, 100).unwrap(), b"");
    let upcalls = world.upcalls();
    assert_eq!(upcalls, [Seen { kind: UpcallKind::Output, words: [7, 0, 0], payload: b"world".to_vec() }]);
    world.end(&[4, 3]);
    let kinds: Vec<_> = world.upcalls().iter().map(|seen| (seen.kind, seen.words)).collect();
    assert_eq!(
        kinds,
        [
            (UpcallKind::OutputEnd, [7, 5, 0]),
            (UpcallKind::Closed, [7, 0, 0]),
            (UpcallKind::Unlisten, [listener, 0, 0])
        ]
    );
}

#[test]
fn clients_that_wait_for_an_answer_are_counted() {
    let world = World::new();
    let listener = world.listener(3, 0);
    for (connection, descriptor) in [(1, 4), (2, 5), (3, 6)] {
        world.coordinator.connect(connection, listener);
        let file = world.call().accept(3, 0, &mut { SocketAddress::NONE });
        world.install(descriptor, file);
    }
    let asking = || world.call().with(|k| k.files.connections.asking);
    assert_eq!(asking(), 0, "they have said nothing");
    for connection in [1, 2, 3, 3] {
        world.coordinator.event(EventKind::Data, connection, 0, b"question");
    }
    world.settle();
    assert_eq!(asking(), 3);
    assert_eq!(world.write(4, b"answer"), 6);
    assert_eq!(world.write(4, b"more"), 4);
    assert_eq!(asking(), 2);
    world.coordinator.event(EventKind::PeerReset, 2, 0, b"");
    world.settle();
    assert_eq!(asking(), 1, "one is gone");
    world.end(&[6, 5, 4, 3]);
    assert_eq!(asking(), 0, "the server has nothing to say to the last one");
}

#[test]
fn nonblocking_calls_say_eagain() {
    let world = World::new();
    let listener = world.listener(3, O_NONBLOCK);
    assert_eq!(world.call().accept(3, 0, &mut { SocketAddress::NONE }), -EAGAIN);
    world.coordinator.connect(1, listener);
    world.settle();
    let file = world.call().accept(3, SOCK_NONBLOCK, &mut { SocketAddress::NONE });
    world.install(4, file);
    assert_eq!(world.read(4, 10), Err(EAGAIN));
    assert_eq!(world.call().status_flags(4), i64::from(O_RDWR | O_NONBLOCK));
    assert_eq!(world.call().set_status_flags(4, 0), 0);
    assert_eq!(world.receive(4, 10, MSG_DONTWAIT), Err(EAGAIN));
    world.end(&[4, 3]);
}

#[test]
fn the_send_window_fills_and_drained_opens_it() {
    let world = World::new();
    let listener = world.listener(3, 0);
    world.client(1, listener, 3, 4);
    let data = vec![b'x'; SEND_WINDOW_BYTES as usize + 1000];
    assert_eq!(world.call().set_status_flags(4, O_NONBLOCK), 0);
    assert_eq!(world.write(4, &data), SEND_WINDOW_BYTES as i64);
    assert_eq!(world.write(4, &data), -EAGAIN);
    assert_eq!(world.call().write_room(4), 0);
    let mut unsent = 0;
    assert_eq!(world.call().io_control(4, TIOCOUTQ, &mut unsent), 0);
    assert_eq!(unsent as u64, SEND_WINDOW_BYTES);
    let upcalls = world.upcalls();
    let sizes: Vec<_> = only(&upcalls, UpcallKind::Output).iter().map(|s| s.payload.len()).collect();
    assert_eq!(sizes, [65536; 4]);
    assert_eq!(only(&upcalls, UpcallKind::Output)[3].words[1], 3 * 65536);
    // A blocking write waits for the window, more than once.
    assert_eq!(world.call().set_status_flags(4, 0), 0);
    world.later(|c| c.event(EventKind::Drained, 1, 100_000, b""));
    world.later(|c| c.event(EventKind::Drained, 1, 300_000, b""));
    assert_eq!(world.write(4, &data[..150_000]), 150_000);
    let total: usize = only(&world.upcalls(), UpcallKind::Output).iter().map(|s| s.payload.len()).sum();
    assert_eq!(total, 150_000);
    world.end(&[4, 3]);
}

#[test]
fn a_blocked_write_times_out_with_what_it_wrote() {
    let world = World::new();
    let listener = world.listener(3, 0);
    world.client(1, listener, 3, 4);
    let mut timeout = [0; 16];
    timeout[0] = 2;
    assert_eq!(world.call().set_socket_option(4, SOL_SOCKET, 21, &timeout), 0);
    let data = vec![1; SEND_WINDOW_BYTES as usize + 1];
    assert_eq!(world.write(4, &data), SEND_WINDOW_BYTES as i64);
    assert_eq!(world.write(4, &data), -EAGAIN);
    assert_eq!(world.call().set_socket_option(4, SOL_SOCKET, 20, &timeout), 0);
    assert_eq!(world.read(4, 1), Err(EAGAIN));
    world.end(&[4, 3]);
}

#[test]
fn resets_report_once_and_break_writes() {
    let world = World::new();
    let listener = world.listener(3, 0);
    world.client(1, listener, 3, 4);
    world.coordinator.event(EventKind::Data, 1, 0, b"last words");
    world.coordinator.event(EventKind::PeerReset, 1, 0, b"");
    world.settle();
    assert_eq!(world.read(4, 4).unwrap(), b"last");
    assert_eq!(world.read(4, 100).unwrap(), b" words");
    assert_eq!(world.read(4, 100), Err(ECONNRESET));
    assert_eq!(world.read(4, 100).unwrap(), b"");
    assert_eq!(world.write(4, b"x"), -EPIPE);
    assert_eq!(world.call().peer_name(4, &mut { SocketAddress::NONE }), -ENOTCONN);
    world.end(&[4, 3]);
    assert_eq!(only(&world.upcalls(), UpcallKind::OutputEnd).len(), 0);
}

#[test]
fn closing_with_unread_input_resets() {
    let world = World::new();
    let listener = world.listener(3, 0);
    world.client(1, listener, 3, 4);
    world.client(2, listener, 3, 5);
    world.coordinator.event(EventKind::Data, 1, 0, b"unread");
    world.settle();
    let linger = [1, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(world.call().set_socket_option(5, SOL_SOCKET, 13, &linger), 0);
    world.end(&[4, 5, 3]);
    let upcalls = world.upcalls();
    let ends: Vec<_> = only(&upcalls, UpcallKind::OutputEnd).iter().map(|s| s.words).collect();
    assert_eq!(ends, [[1, 0, 1], [2, 0, 1]]);
}

#[test]
fn shutdown_ends_each_way_on_its_own() {
    let world = World::new();
    let listener = world.listener(3, 0);
    world.client(1, listener, 3, 4);
    assert_eq!(world.write(4, b"bye"), 3);
    assert_eq!(world.call().shutdown(4, SHUT_WR), 0);
    assert_eq!(world.write(4, b"more"), -EPIPE);
    assert_eq!(only(&world.upcalls(), UpcallKind::OutputEnd)[0].words, [1, 3, 0]);
    world.coordinator.event(EventKind::Data, 1, 0, b"late");
    world.settle();
    assert_eq!(world.read(4, 9).unwrap(), b"late");
    assert_eq!(world.call().shutdown(4, SHUT_RD), 0);
    assert_eq!(world.read(4, 9).unwrap(), b"");
    world.end(&[4, 3]);
    let upcalls = world.upcalls();
    assert_eq!(
        (only(&upcalls, UpcallKind::OutputEnd).len(), only(&upcalls, UpcallKind::Closed).len()),
        (0, 1)
    );
}

#[test]
fn repeated_events_are_ignored_and_a_gap_is_a_divergence() {
    let world = World::new();
    let listener = world.listener(3, 0);
    world.client(9, listener, 3, 4);
    world.coordinator.event(EventKind::Data, 9, 0, b"one");
    world.coordinator.numbered_event(EventKind::Data, 9, 1, 0, b"one");
    world.coordinator.event(EventKind::Data, 9, 0, b"two");
    world.coordinator.numbered_event(EventKind::PeerReset, 9, 2, 0, b"");
    // Events of a connection that does not exist, or not any more, are nobody's.
    world.coordinator.numbered_event(EventKind::Data, 12, 5, 0, b"ghost");
    world.settle();
    assert_eq!(world.read(4, 100).unwrap(), b"onetwo");
    assert_eq!(world.call().close_fd(4), 0);
    world.coordinator.sequences.borrow_mut().clear();
    world.coordinator.connect(9, listener);
    world.settle();
    assert_eq!(world.call().set_status_flags(3, O_NONBLOCK), 0);
    assert_eq!(world.call().accept(3, 0, &mut { SocketAddress::NONE }), -EAGAIN);
    assert_eq!(world.call().set_status_flags(3, 0), 0);
    world.client(10, listener, 3, 4);
    world.upcalls();
    assert_eq!(world.kernel(|k| k.files.get(k.descriptor(1, 4).unwrap()).socket.sequence), 1);
    // SAFETY: the arena lives as long as the World.
    let shared = unsafe { &(*world.arena).shared };
    let event = crate::entry::EventHeader {
        sequence: 3.into(),
        connection: 10.into(),
        kind: (EventKind::Data as u16).into(),
        len: 0.into(),
        arg: 0.into(),
        reserved: 0.into(),
    };
    world.kernel(|k| {
        k.apply_event(shared, crate::entry::Event { header: &event, kind: EventKind::Data, payload: b"" })
    });
    assert_eq!(only(&world.upcalls(), UpcallKind::Diverged).len(), 1);
}

#[test]
fn connections_to_a_closed_listener_are_refused() {
    let world = World::new();
    let listener = world.listener(3, 0);
    world.coordinator.connect(1, listener);
    world.settle();
    world.end(&[3]);
    world.coordinator.connect(2, listener);
    world.settle();
    let upcalls = world.upcalls();
    let closed: Vec<_> = only(&upcalls, UpcallKind::Closed).iter().map(|s| s.words[0]).collect();
    assert_eq!(closed, [1, 2]);
    world.assert_empty();
}

#[test]
fn reads_are_reported_at_the_latest_every_so_many_bytes() {
    let world = World::new();
    let listener = world.listener(3, 0);
    world.client(1, listener, 3, 4);
    let piece = vec![7; 50_000];
    for _ in 0..4 {
        world.coordinator.event(EventKind::Data, 1, 0, &piece);
    }
    world.settle();
    let mut read = 0;
    while read < 200_000 {
        read += world.read(4, 10_001).unwrap().len();
    }
    let upcalls = world.upcalls();
    let reports = only(&upcalls, UpcallKind::Consumed);
    assert_eq!(reports.len(), 2);
    assert!(reports[1].words[1] + CONSUMED_REPORT_BYTES > 200_000);
    world.end(&[4, 3]);
}

#[test]
fn peek_and_waitall() {
    let world = World::new();
    let listener = world.listener(3, 0);
    world.client(1, listener, 3, 4);
    world.coordinator.event(EventKind::Data, 1, 0, b"abc");
    world.settle();
    assert_eq!(world.receive(4, 10, MSG_PEEK).unwrap(), b"abc");
    assert_eq!(world.receive(4, 2, MSG_PEEK).unwrap(), b"ab");
    world.later(|c| c.event(EventKind::Data, 1, 0, b"def"));
    world.later(|c| c.event(EventKind::Data, 1, 0, b"gh"));
    assert_eq!(world.receive(4, 8, MSG_WAITALL).unwrap(), b"abcdefgh");
    let mut waiting = 0;
    assert_eq!(world.call().io_control(4, FIONREAD, &mut waiting), 0);
    assert_eq!(waiting, 0);
    world.end(&[4, 3]);
}

#[test]
fn the_server_connects_to_itself() {
    let world = World::new();
    world.listener(3, 0);
    world.install(4, world.call().socket(AF_INET, SOCK_STREAM, 0));
    assert_eq!(world.call().connect(4, &inet(6380)), -ECONNREFUSED);
    assert!(world.upcalls().iter().all(|seen| seen.kind == UpcallKind::Log), "a refusal is told, no more");
    assert_eq!(world.call().connect(4, &inet(6379)), 0);
    assert_eq!(world.call().connect(4, &inet(6379)), -EISCONN);
    let mut peer = SocketAddress::NONE;
    let file = world.call().accept(3, 0, &mut peer);
    world.install(5, file);
    let mut mine = SocketAddress::NONE;
    assert_eq!(world.call().socket_name(4, &mut mine), 0);
    assert_eq!(mine, peer);
    assert_eq!(world.call().peer_name(4, &mut mine), 0);
    assert_eq!(mine.bytes(), inet(6379));
    assert_eq!(world.write(4, b"ping"), 4);
    assert_eq!(world.read(5, 10).unwrap(), b"ping");
    assert_eq!(world.write(5, b"pong"), 4);
    assert_eq!(world.call().shutdown(4, SHUT_WR), 0);
    assert_eq!(world.read(5, 10).unwrap(), b"");
    assert_eq!(world.read(4, 10).unwrap(), b"pong");
    assert_eq!(world.write(5, b"unread"), 6);
    assert_eq!(world.call().close_fd(4), 0);
    assert_eq!(world.read(5, 10), Err(ECONNRESET));
    assert!(world.upcalls().is_empty(), "loopback is none of the coordinator's business");
    world.end(&[5, 3]);
}

#[test]
fn ports_conflict_as_they_should() {
    let world = World::new();
    world.listener(3, 0);
    let bind = |fd, reuse: bool, address: &[u8]| {
        world.install(fd, world.call().socket(AF_INET, SOCK_STREAM, 0));
        if reuse {
            assert_eq!(world.call().set_socket_option(fd, SOL_SOCKET, 2, &1i32.to_le_bytes()), 0);
        }
        world.call().bind(fd, address)
    };
    assert_eq!(bind(4, false, &inet(6379)), -EADDRINUSE);
    assert_eq!(bind(5, true, &inet(6379)), -EADDRINUSE);
    assert_eq!(bind(6, false, &inet(6380)), 0);
    let mut any = inet(0);
    any[4..8].fill(0);
    assert_eq!(bind(7, false, &any), 0);
    let mut name = SocketAddress::NONE;
    assert_eq!(world.call().socket_name(7, &mut name), 0);
    assert_eq!(name.bytes()[2..4], 61_000u16.to_be_bytes());
    assert_eq!(world.call().bind(7, &inet(1)), -EINVAL);
    world.end(&[3, 4, 5, 6, 7]);
}

#[test]
fn options_are_remembered() {
    let world = World::new();
    world.install(3, world.call().socket(AF_INET, SOCK_STREAM, 0));
    let call = world.call();
    let get = |level, name| {
        let mut value = [0; 4];
        let len = call.socket_option(3, level, name, &mut value);
        if len < 0 { len } else { i64::from(i32::from_le_bytes(value)) }
    };
    assert_eq!((get(SOL_SOCKET, 3), get(SOL_SOCKET, 39), get(SOL_SOCKET, 38)), (1, 2, 6));
    assert_eq!((get(IPPROTO_TCP, 4), get(SOL_SOCKET, 30), get(SOL_SOCKET, 4)), (7200, 0, 0));
    assert_eq!(call.set_socket_option(3, IPPROTO_TCP, 1, &1i32.to_le_bytes()), 0);
    assert_eq!(call.set_socket_option(3, SOL_SOCKET, 7, &10_000i32.to_le_bytes()), 0);
    assert_eq!((get(IPPROTO_TCP, 1), get(SOL_SOCKET, 7)), (1, 20_000));
    assert_eq!((get(IPPROTO_TCP, 99), get(SOL_SOCKET, 999)), (-ENOPROTOOPT, -ENOPROTOOPT));
    assert_eq!(call.set_socket_option(3, SOL_SOCKET, 3, &[0; 4]), -ENOPROTOOPT);
    assert_eq!(call.socket(10, 7, 0), -ESOCKTNOSUPPORT);
    assert_eq!(call.socket(16, 3, 0), -EAFNOSUPPORT);
    world.end(&[3]);
}
