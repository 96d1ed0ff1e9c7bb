//! Gerbera, a UPnP media server, in a network of its own, and what is asked of it over HTTP.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cluster::{Cluster, Plan};
use crate::scratch::Scratch;
use crate::wait::{PATIENCE, until};

/// The host's address in that network.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Where it answers.
pub const PORT: u16 = 49_200;
/// How long a client waits.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A network of the caller's own: this thread, its threads and its children are in it, and nobody else.
pub fn own_network() {
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
        // Nobody has to be asked whether an address is free; libupnp cannot bind one before that is known.
        let _ = fs::write("/proc/sys/net/ipv6/conf/upnp0/accept_dad", "0");
    }
    // Interface, address, and flags without that of a tentative address, of a kernel that has IPv6.
    let ready = |line: &str| line.ends_with("upnp0") && line.contains(" 80 ");
    until("upnp0 has its addresses", PATIENCE, || {
        let Ok(table) = fs::read_to_string("/proc/thread-self/net/if_inet6") else { return Some(()) };
        table.lines().any(ready).then_some(())
    });
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

/// Fetches a page.
pub fn get(path: &str) -> Option<String> {
    http(&format!("GET {path} HTTP/1.1\r\nHost: {ADDRESS}:{PORT}\r\nConnection: close\r\n\r\n"))
}

/// What is in a container of the media server.
pub fn browse(object: &str) -> Option<String> {
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
pub fn container(answer: &str, title: &str) -> Option<String> {
    let before = &answer[..answer.find(&format!("&lt;dc:title&gt;{title}"))?];
    let id = before.rsplit_once("container id=&quot;")?.1;
    Some(id.split_once("&quot;")?.0.to_owned())
}

/// Starts three replicas in which gerbera watches a directory. SIGUSR1 brings `second.mp3` there, SIGUSR2 takes `first.mp3` away.
pub fn start_scanning(label: &str) -> Cluster {
    let scratch = Scratch::new(label);
    let data = scratch.path().join("data");
    let (home, media) = (data.join("home"), data.join("media"));
    fs::create_dir_all(home.join("cfg")).expect("make the home directory");
    fs::create_dir_all(&media).expect("make the media directory");
    fs::write(media.join("first.mp3"), vec![0; 20_000]).expect("write a file");
    let (h, m) = (home.display(), media.display());
    let configuration = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<config version=\"2\" xmlns=\"http://mediatomb.cc/config/2\">\n\
         <server><ui enabled=\"yes\"/><name>G</name><udn>uuid:0d8a5b9c-0000-4000-8000-000000000001</udn>\
         <home>{h}/cfg</home><webroot>/usr/share/gerbera/web</webroot><storage><sqlite3 enabled=\"yes\">\
         <database-file>gerbera.db</database-file></sqlite3></storage></server>\n\
         <import hidden-files=\"no\"><autoscan use-inotify=\"yes\"><directory location=\"{m}\" mode=\"inotify\" \
         level=\"full\" recursive=\"yes\" hidden-files=\"no\"/></autoscan>\n\
         <scripting script-charset=\"UTF-8\"><virtual-layout type=\"builtin\"/></scripting>\n\
         <mappings><extension-mimetype ignore-unknown=\"no\"><map from=\"mp3\" to=\"audio/mpeg\"/>\
         </extension-mimetype></mappings></import></config>\n"
    );
    fs::write(home.join("cfg/config.xml"), configuration).expect("write the configuration");
    let script = format!(
        "trap 'cp {m}/first.mp3 {m}/second.mp3' USR1; trap 'rm {m}/first.mp3' USR2
         gerbera --home {h} --cfgdir cfg --port {PORT} --interface upnp0 &
         while kill -0 $!; do wait $!; done"
    );
    await_listening(Plan::new(&["bash", "-c", &script]).start_in(scratch))
}

fn await_listening(mut cluster: Cluster) -> Cluster {
    cluster.await_status("the media server listens", |status| {
        let leader = status.leader().filter(|_| status.complete(3))?;
        leader.listeners.iter().any(|listener| listener.port == PORT).then_some(())
    });
    cluster
}

/// A command line; also makes some songs, and what else it needs, in `data`.
pub fn command(data: &Path) -> Vec<String> {
    fs::create_dir_all(data.join("home/cfg")).expect("make the home directory");
    fs::create_dir_all(data.join("media")).expect("make the media directory");
    for song in 0..5 {
        fs::write(data.join(format!("media/song-{song}.mp3")), vec![song; 20_000]).expect("write a file");
    }
    let path = |name: &str| data.join(name).to_str().expect("a plain path").to_owned();
    let (home, media, port) = (path("home"), path("media"), PORT.to_string());
    let command = ["gerbera", "--home", &home, "--cfgdir", "cfg", "--port", &port, "--interface", "upnp0"];
    [&command[..], &["--add", &media]].concat().into_iter().map(str::to_owned).collect()
}

/// Starts three replicas with some songs.
pub fn start(label: &str) -> Cluster {
    let scratch = Scratch::new(label);
    let command = command(&scratch.path().join("data"));
    await_listening(Plan::new(&command).start_in(scratch))
}

/// Waits until the songs have been added; the container that holds their directory.
pub fn await_files() -> String {
    let root = until("the root's containers", PATIENCE, || browse("0"));
    let files = container(&root, "PC Directory").unwrap_or_else(|| panic!("no directory in {root}"));
    until("the files have been added", PATIENCE, || browse(&files).filter(|a| a.contains("&lt;container")));
    files
}
