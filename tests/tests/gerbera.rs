//! Three replicas of an unmodified Gerbera, a UPnP media server: found by SSDP on a veth address, browsed by SOAP, looked at by
//! HTTP, while replicas are killed.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::layers;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, poll, until};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const PORT: u16 = 49_200;
const SSDP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 1900);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const CLIENTS: usize = 4;
const BROWSES_BETWEEN: u64 = 50;

/// A network of this test's own: the thread, its threads and its children are in it, and nobody else.
fn own_network() {
    // SAFETY: concerns this thread alone.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "a network namespace; this test needs root");
    for line in [
        "link set lo up",
        "link add upnp0 type veth peer name upnp1",
        "addr add 198.51.100.1/24 dev upnp0",
        "link set upnp0 up",
        "link set upnp1 up",
    ] {
        let done = Command::new("ip").args(line.split(' ')).status().expect("run ip");
        assert!(done.success(), "ip {line}");
    }
}

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

/// One request over a connection of its own; the body if it was answered with 200.
fn http(request: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((ADDRESS, PORT)), ANSWER_LIMIT).ok()?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

fn get(path: &str) -> Option<String> {
    http(&format!("GET {path} HTTP/1.1\r\nHost: {ADDRESS}:{PORT}\r\nConnection: close\r\n\r\n"))
}

/// What is in a container of the media server.
fn browse(object: &str) -> Option<String> {
    let service = "urn:schemas-upnp-org:service:ContentDirectory:1";
    let body = format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:Browse xmlns:u=\"{service}\">\
         <ObjectID>{object}</ObjectID><BrowseFlag>BrowseDirectChildren</BrowseFlag><Filter>*</Filter>\
         <StartingIndex>0</StartingIndex><RequestedCount>100</RequestedCount><SortCriteria></SortCriteria>\
         </u:Browse></s:Body></s:Envelope>"
    );
    http(&format!(
        "POST /upnp/control/cds HTTP/1.1\r\nHost: {ADDRESS}:{PORT}\r\nSOAPACTION: \"{service}#Browse\"\r\n\
         Content-Type: text/xml; charset=\"utf-8\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    ))
}

/// The first container's id in an answer to [`browse`].
fn container(answer: &str, title: &str) -> Option<String> {
    let before = &answer[..answer.find(&format!("&lt;dc:title&gt;{title}"))?];
    let id = before.rsplit_once("container id=&quot;")?.1;
    Some(id.split_once("&quot;")?.0.to_owned())
}

fn start() -> Cluster {
    let scratch = Scratch::new("gerbera");
    let data = scratch.path().join("data");
    fs::create_dir_all(data.join("home/cfg")).expect("make the home directory");
    fs::create_dir_all(data.join("media")).expect("make the media directory");
    for song in 0..5 {
        fs::write(data.join(format!("media/song-{song}.mp3")), vec![song; 20_000]).expect("write a file");
    }
    let path = |name: &str| data.join(name).to_str().expect("a plain path").to_owned();
    let (home, media, port) = (path("home"), path("media"), PORT.to_string());
    let command = ["gerbera", "--home", &home, "--cfgdir", "cfg", "--port", &port, "--interface", "upnp0"];
    let mut cluster = Plan::new(&[&command[..], &["--add", &media]].concat()).start_in(scratch);
    cluster.await_status("the media server listens", |status| {
        let leader = status.leader().filter(|_| status.complete(3))?;
        leader.listeners.iter().any(|listener| listener.port == PORT).then_some(())
    });
    cluster
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
    let mut cluster = start();
    // The address that it tells is that of the host: the server sees the host's interfaces.
    let place = until("an answer to the search", PATIENCE, search);
    assert_eq!(place, format!("http://{ADDRESS}:{PORT}/description.xml"));
    let description = until("the description", PATIENCE, || get("/description.xml"));
    assert!(description.contains("urn:schemas-upnp-org:device:MediaServer:1"), "{description}");
    let page = until("the page for people", PATIENCE, || get("/"));
    assert!(page.to_lowercase().contains("<html"), "{page}");
    let root = until("the root's containers", PATIENCE, || browse("0"));
    let files = container(&root, "PC Directory").unwrap_or_else(|| panic!("no directory in {root}"));
    until("the files have been added", PATIENCE, || browse(&files).filter(|a| a.contains("&lt;container")));
    let count = kill_while_browsing(&mut cluster, &files);
    let again = until("an answer to the search", PATIENCE, search);
    assert_eq!(again, place, "another leader answers the same");
    cluster.await_level();
    let (compared, bytes) = layers::assert_identical(&cluster.state(), 3);
    println!("{count} browses answered; {compared} files, {bytes} bytes are the same");
    cluster.stop();
}
