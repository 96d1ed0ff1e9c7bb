//! Three replicas of an unmodified Gerbera, a UPnP media server: found by SSDP on a veth address, browsed by SOAP, looked at by
//! HTTP, while replicas are killed.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use brolga_tests::cluster::Cluster;
use brolga_tests::gerbera::{
    ADDRESS, ANSWER_LIMIT, PORT, await_files, browse, get, own_network, start, start_scanning,
};
use brolga_tests::layers;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, poll, until};

const SSDP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 1900);
const CLIENTS: usize = 4;
const BROWSES_BETWEEN: u64 = 50;

/// Looks for a media server as a television does; the place of its description.
fn search() -> Option<String> {
    let socket = UdpSocket::bind((ADDRESS, 0)).expect("bind a client");
    socket.set_read_timeout(Some(ANSWER_LIMIT)).expect("set a time-out");
    let address = libc::in_addr { s_addr: u32::from(ADDRESS).to_be() };
    // SAFETY: a plain option of an open socket.
    let chosen = unsafe {
        let (level, name) = (libc::IPPROTO_IP, libc::IP_MULTICAST_IF);
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const address).cast(), 4)
    };
    assert_eq!(chosen, 0, "choose the interface");
    let question = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
                    ST: urn:schemas-upnp-org:device:MediaServer:1\r\n\r\n";
    socket.send_to(question.as_bytes(), SSDP).expect("send to the group");
    let mut buffer = [0; 2000];
    let count = socket.recv(&mut buffer).ok()?;
    let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
    text.lines().find_map(|line| line.strip_prefix("LOCATION: ").map(str::to_owned))
}

fn browse_until(stop: &AtomicBool, answered: &AtomicU64, expected: &str, object: &str) {
    while !stop.load(Ordering::Relaxed) {
        // A failure cuts a connection off; a control point asks again.
        if let Some(answer) = browse(object) {
            assert_eq!(answer, expected, "the same question got another answer");
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn kill_while_browsing(cluster: &mut Cluster, object: &str) -> u64 {
    let expected = until("an answer", PATIENCE, || browse(object));
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| browse_until(&stop, &answered, &expected, object));
        }
        let progress = || {
            let goal = answered.load(Ordering::Relaxed) + BROWSES_BETWEEN;
            poll(PATIENCE, || (answered.load(Ordering::Relaxed) >= goal).then_some(())).is_some()
        };
        let mut went_on = progress();
        for leader in [true, false] {
            let victim = if leader { cluster.leader() } else { cluster.follower() };
            cluster.kill_replica(victim);
            went_on &= progress();
            cluster.await_status("three replicas again", |status| status.complete(3).then_some(()));
        }
        stop.store(true, Ordering::Relaxed);
        assert!(went_on, "answers did not go on after a failure");
    });
    answered.into_inner()
}

#[test]
fn a_media_server_is_found_and_browsed_while_replicas_die() {
    let _turn = serial::turn();
    own_network();
    let mut cluster = start("gerbera");
    // The address that it tells is that of the host: the server sees the host's interfaces.
    let place = until("an answer to the search", PATIENCE, search);
    assert_eq!(place, format!("http://{ADDRESS}:{PORT}/description.xml"));
    let description = until("the description", PATIENCE, || get("/description.xml"));
    assert!(description.contains("urn:schemas-upnp-org:device:MediaServer:1"), "{description}");
    let page = until("the page for people", PATIENCE, || get("/"));
    assert!(page.to_lowercase().contains("<html"), "{page}");
    let routes = cluster.call(&["exec", "--replica", "1", "--", "cat", "/proc/net/ipv6_route"]);
    let routes = String::from_utf8_lossy(&routes.stdout).into_owned();
    assert!(!routes.contains("brolga"), "the order of both ends' routes is the kernel's chance:\n{routes}");
    let files = await_files();
    let count = kill_while_browsing(&mut cluster, &files);
    let again = until("an answer to the search", PATIENCE, search);
    assert_eq!(again, place, "another leader answers the same");
    cluster.await_level();
    let (compared, bytes) = layers::assert_identical(&cluster.state(), 3);
    println!("{count} browses answered; {compared} files, {bytes} bytes are the same");
    cluster.stop();
}

/// Whether a file with this title is in a container of the media server or in one below.
fn is_listed(object: &str, title: &str) -> bool {
    let Some(answer) = browse(object) else { return false };
    let listed = answer.contains(&format!("&lt;dc:title&gt;{title}"));
    let ids = answer.split("container id=&quot;").skip(1).filter_map(|rest| rest.split_once("&quot;"));
    listed || ids.map(|(id, _)| id.to_owned()).any(|id| is_listed(&id, title))
}

/// Gerbera watches a directory by inotify; a process of the replica puts files there, and takes them away, when it gets a signal.
#[test]
fn a_watched_directory_is_scanned_when_files_come_and_go() {
    let _turn = serial::turn();
    own_network();
    let mut cluster = start_scanning("gerbera-scan");
    let listed = |title: &str, expected: bool| {
        let what = format!("{title} is listed: {expected}");
        until(&what, PATIENCE, || (browse("0").is_some() && is_listed("0", title) == expected).then_some(()));
    };
    let signal = |cluster: &Cluster, name: &str| {
        let done = cluster.call(&["signal", name]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    listed("first", true);
    listed("second", false);
    signal(&cluster, "USR1");
    listed("second", true);
    let old = cluster.leader();
    cluster.kill_replica(old);
    cluster.await_status("three replicas again", |status| status.complete(3).then_some(()));
    signal(&cluster, "USR2");
    listed("first", false);
    listed("second", true);
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    assert!(fs::exists(cluster.data().join("media/first.mp3")).expect("look"), "the host's file stays");
    cluster.stop();
}
