//! Clients that speak UDP: to an unmodified memcached, and to a small server that uses what such servers use: addresses of
//! packets, many packets in one call, groups.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::layers;
use brolga_tests::memcache::Memcache;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, poll, until};

const CLIENTS: usize = 4;
const ANSWERS_BETWEEN: u64 = 1000;
/// How long a client waits for an answer before it asks again, as any UDP client must.
const ANSWER_LIMIT: Duration = Duration::from_millis(200);

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A UDP port that was free just now.
fn free_port() -> u16 {
    UdpSocket::bind(local(0)).and_then(|socket| socket.local_addr()).expect("bind a free port").port()
}

fn client(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(local(0)).expect("bind a client");
    socket.connect(local(port)).expect("choose the server");
    socket.set_read_timeout(Some(ANSWER_LIMIT)).expect("set a time-out");
    socket
}

/// Sends one packet and waits for one answer; `None` = nobody answered in time.
fn ask(socket: &UdpSocket, question: &[u8]) -> Option<Vec<u8>> {
    socket.send(question).expect("send");
    let mut answer = vec![0; 70_000];
    match socket.recv(&mut answer) {
        Ok(count) => {
            answer.truncate(count);
            Some(answer)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => None,
        Err(error) => panic!("recv: {error}"),
    }
}

/// A command to memcached over UDP: request id, packet 0 of 1. Answers to requests that were given up are passed over.
fn command(socket: &UdpSocket, id: u16, text: &str) -> Option<String> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend([0, 0, 0, 1, 0, 0]);
    packet.extend(text.as_bytes());
    let mut answer = ask(socket, &packet)?;
    while answer.get(..2) != Some(&id.to_be_bytes()) {
        let mut next = vec![0; 2000];
        let count = socket.recv(&mut next).ok()?;
        answer = next[..count].to_vec();
    }
    Some(String::from_utf8_lossy(&answer[8..]).into_owned())
}

/// Counts up until told to stop; returns how many increments were sent, and how many were answered.
fn count_up(port: u16, stop: &AtomicBool, answered: &AtomicU64) -> (u64, u64) {
    let socket = client(port);
    let (mut sent, mut own, mut last) = (0, 0, 0);
    while !stop.load(Ordering::Relaxed) {
        sent += 1;
        if let Some(answer) = command(&socket, sent as u16, "incr counter 1\r\n") {
            let value: u64 = answer.trim().parse().unwrap_or_else(|_| panic!("an odd answer: {answer:?}"));
            assert!(value > last, "the counter went back from {last} to {value}");
            (last, own) = (value, own + 1);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    (sent, own)
}

fn kill_under_load(cluster: &mut Cluster, udp: u16) -> (u64, u64) {
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| count_up(udp, &stop, &answered))).collect();
        let progress = || {
            let goal = answered.load(Ordering::Relaxed) + ANSWERS_BETWEEN;
            poll(PATIENCE, || (answered.load(Ordering::Relaxed) >= goal).then_some(())).is_some()
        };
        let mut went_on = progress();
        for leader in [true, false] {
            let victim = if leader { cluster.leader() } else { cluster.follower() };
            cluster.kill_replica(victim);
            went_on &= progress();
            cluster.await_complete();
        }
        stop.store(true, Ordering::Relaxed);
        let counts = clients.into_iter().map(|client| client.join().expect("a client failed"));
        let totals = counts.fold((0, 0), |total, one| (total.0 + one.0, total.1 + one.1));
        assert!(went_on, "answers did not go on after a failure");
        totals
    })
}

#[test]
fn memcached_over_udp_loses_no_answered_increment() {
    let _turn = serial::turn();
    let udp = free_port();
    let publish = format!("127.0.0.1:{udp}:11211/udp");
    let command_line = ["memcached", "-t", "4", "-p", "11211", "-U", "11211", "-u", "root", "-m", "64"];
    let mut cluster =
        Plan::new(&command_line).port(11211).options(&["--publish", &publish]).start("memcached-udp");
    cluster.await_complete();
    let mut memcache = until("memcached answers", PATIENCE, || Memcache::connect(cluster.port()).ok());
    memcache.set("counter", b"0").expect("store");
    let (sent, answered) = kill_under_load(&mut cluster, udp);
    let mut memcache = until("memcached answers", PATIENCE, || Memcache::connect(cluster.port()).ok());
    let counter = memcache.get("counter").expect("fetch").expect("the counter is there");
    let counter: u64 = String::from_utf8_lossy(&counter).trim().parse().expect("a number");
    assert!(
        (answered..=sent).contains(&counter),
        "{answered} answered, {sent} sent, the counter is {counter}"
    );
    let over_udp = until("an answer over UDP", PATIENCE, || command(&client(udp), 7, "get counter\r\n"));
    assert!(over_udp.contains(&counter.to_string()), "{over_udp:?}");
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    println!("{sent} increments sent, {answered} answered, the counter is {counter}");
    cluster.stop();
}

/// Answers each packet with its number, the address that it was sent to, and its length; joins a group.
const SERVER: &str = r#"
import socket, struct
group = '239.255.7.9'
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IP, 8, 1)
s.bind(('0.0.0.0', 5300))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton('127.0.0.1'))
number = 0
while True:
    data, control, flags, peer = s.recvmsg(70000, 256)
    number += 1
    to = [socket.inet_ntoa(c[2][8:12]) for c in control if c[:2] == (socket.IPPROTO_IP, 8)]
    answer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM) if data == b'search' else s
    answer.sendto(b'%d %s %d' % (number, to[0].encode(), len(data)), peer)
"#;

fn small_server(label: &str, udp: u16) -> Cluster {
    let scratch = Scratch::new(label);
    let program = scratch.path().join("server.py");
    fs::write(&program, SERVER).expect("write the server");
    let publish = format!("{udp}:5300/udp");
    let command = ["python3", program.to_str().expect("a plain path")];
    let mut cluster = Plan::new(&command).options(&["--publish", &publish]).start_in(scratch);
    cluster.await_status("the server has bound its port", |status| {
        let leader = status.leader().filter(|_| status.complete(3))?;
        leader.listeners.iter().any(|listener| listener.port == 5300 && listener.udp).then_some(())
    });
    cluster
}

#[test]
fn packets_keep_their_addresses_and_groups_reach_the_leader() {
    let _turn = serial::turn();
    let udp = free_port();
    let mut cluster = small_server("small-udp", udp);
    let socket = client(udp);
    let number = |answer: &[u8]| -> u64 {
        let text = String::from_utf8_lossy(answer);
        text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    let first = until("an answer", PATIENCE, || ask(&socket, b"hello"));
    assert!(first.ends_with(b" 127.0.0.1 5"), "{:?}", String::from_utf8_lossy(&first));
    let long = until("an answer", PATIENCE, || ask(&socket, &[b'x'; 65_000]));
    assert!(long.ends_with(b" 65000"));
    for round in 0..2 {
        // Any number of packets at once, each answered once; UDP may lose some, and none comes twice.
        let before = number(&until("an answer", PATIENCE, || ask(&socket, b"before")));
        for _ in 0..50 {
            socket.send(b"many").expect("send");
        }
        let mut answers = Vec::new();
        let mut buffer = [0; 100];
        while answers.len() < 50 {
            let Ok(count) = socket.recv(&mut buffer) else { break };
            answers.push(number(&buffer[..count]));
        }
        let expected: Vec<u64> = (before + 1..=before + 50).collect();
        assert_eq!(answers, expected, "round {round}");
        if round == 0 {
            let leader = cluster.leader();
            cluster.kill_replica(leader);
            cluster.await_status("three replicas again", |status| status.complete(3).then_some(()));
        }
    }
    // The leader has joined the group on the host; the answer comes from a fresh socket.
    let asker = UdpSocket::bind(local(0)).expect("bind a client");
    asker.set_read_timeout(Some(ANSWER_LIMIT)).expect("set a time-out");
    // SAFETY: a plain option of an open socket.
    let chosen = unsafe {
        let address = libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&asker);
        libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, (&raw const address).cast(), 4)
    };
    assert_eq!(chosen, 0, "send to groups on loopback");
    let answer = until("an answer to the group", PATIENCE, || {
        asker.send_to(b"search", (Ipv4Addr::new(239, 255, 7, 9), udp)).expect("send to the group");
        let mut buffer = [0; 100];
        asker.recv(&mut buffer).ok().map(|count| buffer[..count].to_vec())
    });
    assert!(answer.ends_with(b" 239.255.7.9 6"), "{:?}", String::from_utf8_lossy(&answer));
    cluster.await_level();
    cluster.stop();
}
