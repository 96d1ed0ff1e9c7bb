//! What others on the machine and on the network cannot do: read what is not theirs, join as a peer, or wear a replica out as a
//! client. `docs/security.md` says what this rests on.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::process;
use brolga_tests::resp::Redis;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

const NOBODY: u32 = 65534;
/// What the coordinator has given up, as a mask: see `coordinator/src/privileges.rs`.
const NEVER_IN_THE_COORDINATOR: u64 = 1 << 16 | 1 << 17 | 1 << 22 | 1 << 33 | 1 << 34 | 1 << 39;
/// What the coordinator itself keeps, when another process starts its containers: see the same.
const COORDINATOR: u64 = 0x8128_041f;
/// What a server may have: see `preload/src/privileges.rs`.
const SERVER: u64 = 0x9084_c5ff;

fn redis_plan() -> Plan {
    let words = "redis-server --port 6379 --save --protected-mode no --maxclients 12000";
    let mut words: Vec<&str> = words.split(' ').collect();
    words.insert(4, "");
    Plan::new(&words).port(6379)
}

fn redis(cluster: &Cluster) -> Redis {
    until("redis answers", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        redis.call(&["PING"]).ok().map(|_| redis)
    })
}

fn mode(path: &Path) -> u32 {
    let data = fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    data.permissions().mode() & 0o777
}

/// The directories that the replicas share with their servers.
fn shared(cluster: &Cluster) -> Vec<PathBuf> {
    let name = cluster.state();
    let name = name.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let entries = fs::read_dir("/dev/shm").expect("list /dev/shm").flatten();
    let own = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{name}-")));
    own.map(|entry| entry.path()).collect()
}

fn capabilities(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let mask = status.lines().find_map(|line| line.strip_prefix(field)).expect("a line of capabilities");
    u64::from_str_radix(mask.trim(), 16).expect("a mask")
}

#[test]
fn files_sockets_and_memory_are_their_owners_alone_and_privileges_few() {
    let _turn = serial::turn();
    let mut cluster = redis_plan().start("private");
    cluster.await_complete();
    let state = cluster.state();
    for directory in ["", "keys", "replica-1", "replica-2", "replica-3"] {
        assert_eq!(mode(&state.join(directory)), 0o700, "{directory}");
    }
    for file in
        ["control.sock", "cluster.json", "keys/authority.pem", "keys/replica-1.key", "keys/replica-3.pem"]
    {
        assert_eq!(mode(&state.join(file)), 0o600, "{file}");
    }
    let shared = shared(&cluster);
    assert_eq!(shared.len(), 3, "{shared:?}");
    for outer in &shared {
        assert_eq!(mode(outer), 0o700, "{}", outer.display());
        let read = Command::new("cat")
            .arg(outer.join("in/arena"))
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .expect("run cat");
        assert!(!read.status.success() && read.stdout.is_empty(), "another user reads the arena");
    }
    let status = cluster.await_level();
    for replica in &status.replicas {
        let held = capabilities(replica.pid, "CapEff:") | capabilities(replica.pid, "CapBnd:");
        assert_eq!(held & NEVER_IN_THE_COORDINATOR, 0, "replica {}: {held:x}", replica.id);
        assert_eq!(held & !COORDINATOR, 0, "replica {}: {held:x}", replica.id);
        // Every thread has the filter, and what it starts is started by a process that hears nobody else.
        for thread in fs::read_dir(format!("/proc/{}/task", replica.pid)).expect("threads").flatten() {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            assert!(status.is_empty() || status.contains("\nSeccomp:\t2\n"), "{status}");
        }
        let starter = process::tree(replica.pid).into_iter().find(|child| child.name == "brolga-starter");
        let starter = starter.expect("the starter of containers");
        let open = fs::read_dir(format!("/proc/{}/fd", starter.pid)).expect("its descriptors").flatten();
        let sockets = open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.starts_with("socket:")));
        let sockets: Vec<_> = sockets.map(|fd| fd.file_name()).collect();
        assert!(sockets.len() <= 1, "{sockets:?}");
        let servers = until("the replica has a server", PATIENCE, || {
            let mut all = process::tree(replica.container_pid);
            all.retain(|process| process.pid != replica.container_pid);
            (!all.is_empty()).then_some(all)
        });
        for server in servers {
            let held = ["CapEff:", "CapPrm:", "CapBnd:"].map(|field| capabilities(server.pid, field));
            assert!(held.iter().all(|held| held & !SERVER == 0), "{}: {held:x?}", server.name);
        }
    }
    cluster.stop();
}

#[test]
fn a_replica_reaches_nobody_outside() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&["sleep", "1000"]).start("inside");
    cluster.await_complete();
    let outside = TcpListener::bind(("0.0.0.0", 0)).expect("listen");
    outside.set_nonblocking(true).expect("set up the listener");
    let port = outside.local_addr().expect("an address").port();
    let own =
        Command::new("hostname").arg("-I").output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    let own = own.unwrap_or_default();
    let addresses = ["127.0.0.1"].into_iter().chain(own.split_whitespace().filter(|a| a.contains('.')));
    for address in addresses {
        let script = format!("exec 3<>/dev/tcp/{address}/{port}");
        let tried = cluster.call(&["exec", "--replica", "2", "--", "timeout", "2", "bash", "-c", &script]);
        assert!(!tried.status.success(), "a replica connected to {address}:{port}");
    }
    assert!(outside.accept().is_err(), "somebody came out of a replica");
    cluster.stop();
}

/// Where replica `id` listens for its peers.
fn peer_address(cluster: &mut Cluster, id: u8) -> SocketAddr {
    let pid = cluster.await_status("a replica runs", |status| Some(status.replica(id)?.pid));
    let line = fs::read(format!("/proc/{pid}/cmdline")).expect("a command line");
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    let own = words.iter().find_map(|word| word.strip_prefix(&format!("{id}=")));
    own.and_then(|address| address.parse().ok())
        .unwrap_or_else(|| panic!("no address of replica {id}: {words:?}"))
}

/// What a TLS client with these files hears of a replica: whether data would flow, and all that openssl says.
fn tls(address: SocketAddr, files: &[(&str, &Path)]) -> String {
    let mut command = Command::new("timeout");
    command.args(["5", "openssl", "s_client", "-connect", &address.to_string(), "-ign_eof"]);
    for (option, file) in files {
        command.arg(option).arg(file);
    }
    // A frame that no replica sends: whoever takes it says so in its log.
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run openssl");
    let _ = child.stdin.take().expect("its input").write_all(&[0, 0, 0, 0, 9]);
    let said = child.wait_with_output().expect("what openssl says");
    format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
}

#[test]
fn only_members_with_keys_of_the_clusters_authority_are_peers() {
    let _turn = serial::turn();
    let mut cluster = redis_plan().start("peers");
    cluster.await_complete();
    let mut stranger = Plan::new(&["sleep", "1000"]).start("stranger");
    stranger.await_complete();
    stranger.stop();
    redis(&cluster).must(&["SET", "kept", "yes"]);
    let status = cluster.await_level();
    let (leader, ballot) = (cluster.leader(), status.leader().map(|leader| leader.ballot));
    let address = peer_address(&mut cluster, leader);
    // Not TLS at all: nonsense, a hundred silent ones, and one that leaves in the midst of a record.
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &[0x16, 3, 1, 0xff, 0xff, 1, 2], &[0xff; 70000]]
    {
        let mut socket = TcpStream::connect(address).expect("the port is open");
        let _ = socket.write_all(garbage);
        let _ = socket.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = socket.set_read_timeout(Some(PATIENCE));
        let _ = socket.read_to_end(&mut answer);
        assert!(
            answer.len() < 100,
            "{} bytes came back for {} bytes of nonsense",
            answer.len(),
            garbage.len()
        );
    }
    let keys = |cluster: &Cluster, file: &str| cluster.state().join("keys").join(file);
    let (certificate, key) = (keys(&stranger, "replica-2.pem"), keys(&stranger, "replica-2.key"));
    let none = tls(address, &[]);
    let wrong = tls(address, &[("-cert", &certificate), ("-key", &key)]);
    for said in [&none, &wrong] {
        assert!(said.contains("alert"), "no alert was sent: {said}");
    }
    // The same with a member's keys gets as far as the frame: so the others were refused for their keys.
    let third = if leader == 3 { 2 } else { 3 };
    let files =
        (keys(&cluster, &format!("replica-{third}.pem")), keys(&cluster, &format!("replica-{third}.key")));
    let member = tls(address, &[("-cert", &files.0), ("-key", &files.1)]);
    assert!(!member.contains("alert certificate") && !member.contains("alert unknown ca"), "{member}");
    let refused = cluster.logged("refused the peer connection");
    assert!(refused.len() >= 6, "{refused:#?}");
    assert_eq!(cluster.logged("cannot be read").len(), 1, "the frame of the one with a member's keys");
    // And as many as the port takes at a time, and more, that say nothing.
    let silent: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(address).expect("the port is open")).collect();
    redis(&cluster).must(&["SET", "kept", "still"]);
    let now = cluster.await_level();
    assert_eq!(now.leader().map(|leader| leader.ballot), ballot, "the leader was not left alone");
    drop(silent);
    cluster.stop();
}

/// Silent connections to a peer port at a time; far more than it takes.
const SILENT: usize = 300;
/// Refusals that one replica's log may tell of one by one while the flood lasts.
const MOST_TOLD: usize = 100;

#[test]
fn strangers_at_the_peer_port_neither_keep_peers_out_nor_fill_the_log() {
    let _turn = serial::turn();
    let mut cluster = redis_plan().start("strangers");
    cluster.await_complete();
    // The replica with the higher id dials, so the third comes back through this port.
    let address = peer_address(&mut cluster, 1);
    let (stop, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut silent = VecDeque::new();
            while !stop.load(Ordering::Relaxed) {
                if silent.len() >= SILENT {
                    silent.pop_front();
                }
                silent.extend(TcpStream::connect(address));
                opened.fetch_add(1, Ordering::Relaxed);
            }
        });
        let more = |count: usize| {
            let goal = opened.load(Ordering::Relaxed) + count;
            until("connections are opened", PATIENCE, || {
                (opened.load(Ordering::Relaxed) >= goal).then_some(())
            });
        };
        let play = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            more(2 * SILENT);
            cluster.kill_replica(3);
            more(SILENT);
            redis(&cluster).must(&["SET", "served", "meanwhile"]);
            cluster.await_complete();
            cluster.await_level();
            more(SILENT);
        }));
        stop.store(true, Ordering::Relaxed);
        play.unwrap_or_else(|reason| std::panic::resume_unwind(reason));
    });
    let told = cluster.logged("refused the peer connection").len();
    let opened = opened.into_inner();
    println!("{opened} silent connections, {told} lines");
    assert!(told < MOST_TOLD && opened > 10 * told, "{told} lines of {opened} connections");
    until("what was not told is counted", PATIENCE, || {
        (!cluster.logged("more peer connections in").is_empty()).then_some(())
    });
    cluster.stop();
}

/// Idle clients, and what each may cost, bytes.
const IDLE: usize = 10_000;
const IN_COORDINATOR: u64 = 16 << 10;
const IN_ARENA: u64 = 1 << 10;

fn own_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

fn arena_memory(cluster: &Cluster) -> u64 {
    let of = |outer: &PathBuf| fs::metadata(outer.join("in/arena")).map_or(0, |data| data.blocks() * 512);
    shared(cluster).iter().map(of).max().unwrap_or(0)
}

fn clients(redis: &mut Redis) -> usize {
    let info = String::from_utf8_lossy(&redis.must(&["INFO", "clients"]).bytes()).into_owned();
    let line = info.lines().find_map(|line| line.strip_prefix("connected_clients:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("{info}"))
}

fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid structure, for both calls.
    let done = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    assert!(done == 0 && limit.rlim_cur as usize > IDLE + 100, "{} open files are too few", limit.rlim_cur);
}

#[test]
fn ten_thousand_idle_clients_cost_little() {
    let _turn = serial::turn();
    raise_file_limit();
    let mut cluster = redis_plan().start("idle");
    cluster.await_complete();
    let mut first = redis(&cluster);
    let leader = cluster.leader();
    let pid = cluster.await_status("the leader's process", |status| Some(status.replica(leader)?.pid));
    let before = (own_memory(pid), arena_memory(&cluster));
    let idle: Vec<TcpStream> =
        (0..IDLE).map(|_| TcpStream::connect(("127.0.0.1", cluster.port())).expect("connect")).collect();
    until("the server has all of them", PATIENCE, || (clients(&mut first) > IDLE).then_some(()));
    let each = |after: u64, before: u64| after.saturating_sub(before) / IDLE as u64;
    let (own, arena) = (each(own_memory(pid), before.0), each(arena_memory(&cluster), before.1));
    println!("{IDLE} idle clients: {own} bytes each in the leader's coordinator, {arena} in the arena");
    assert_eq!(first.must(&["SET", "served", "yes"]).bytes(), b"OK");
    assert!(own <= IN_COORDINATOR && arena <= IN_ARENA, "{own} and {arena} bytes for each client");
    drop(idle);
    until("all of them are gone", PATIENCE, || (clients(&mut first) == 1).then_some(()));
    assert_eq!(cluster.leader(), leader);
    cluster.await_level();
    cluster.stop();
}

/// Clients of each bad kind.
const BAD: usize = 200;
const RESETS: usize = 1000;

fn set(socket: &TcpStream, level: i32, name: i32, value: &[i32]) {
    let bytes = libc::socklen_t::try_from(size_of_val(value)).expect("a few bytes");
    // SAFETY: the descriptor is open, and the value has as many bytes as the call is told.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), bytes) };
    assert_eq!(done, 0, "setsockopt: {}", std::io::Error::last_os_error());
}

#[test]
fn clients_that_reset_vanish_or_dawdle_harm_nobody() {
    let _turn = serial::turn();
    let mut cluster = redis_plan().start("bad-clients");
    cluster.await_complete();
    let mut good = redis(&cluster);
    let (leader, port) = (cluster.leader(), cluster.port());
    let connect = || TcpStream::connect(("127.0.0.1", port)).expect("connect");
    // They say a little, and wait with the rest.
    let mut slow: Vec<TcpStream> = (0..BAD).map(|_| connect()).collect();
    slow.iter_mut().for_each(|socket| socket.write_all(b"*1\r\n$4\r\nPI").expect("send"));
    // A storm of resets: at once, in the midst of a command, and with an answer that nobody reads.
    for number in 0..RESETS {
        let mut socket = connect();
        let words: &[u8] = [&b""[..], b"*2\r\n$3\r\nGE", b"*1\r\n$4\r\nPING\r\n"][number % 3];
        let _ = socket.write_all(words);
        set(&socket, libc::SOL_SOCKET, libc::SO_LINGER, &[1, 0]);
    }
    // They wait for news, and vanish without a word: the kernel forgets the socket and sends nothing.
    for _ in 0..BAD {
        let mut socket = connect();
        socket.write_all(b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n").expect("send");
        let mut answer = [0; 16];
        socket.read_exact(&mut answer).expect("the server's word");
        const TCP_REPAIR: i32 = 19;
        set(&socket, libc::IPPROTO_TCP, TCP_REPAIR, &[1]);
    }
    assert!(clients(&mut good) > 2 * BAD, "those who vanished are still there for the server");
    // They close their side, and still get what they asked for.
    for _ in 0..BAD {
        let mut socket = connect();
        socket.write_all(b"*1\r\n$4\r\nPING\r\n").expect("send");
        socket.shutdown(Shutdown::Write).expect("close one side");
        let mut answer = String::new();
        socket.set_read_timeout(Some(PATIENCE)).expect("set a limit");
        socket.read_to_string(&mut answer).expect("an answer, and the end");
        assert_eq!(answer, "+PONG\r\n");
    }
    // News: now the server's machine hears that nobody is there.
    good.must(&["PUBLISH", "news", "hello"]);
    until("only the slow ones and this one are left", PATIENCE, || {
        (clients(&mut good) == BAD + 1).then_some(())
    });
    for socket in &mut slow {
        let mut answer = [0; 7];
        socket.write_all(b"NG\r\n").expect("send the rest");
        socket.set_read_timeout(Some(PATIENCE)).expect("set a limit");
        socket.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"+PONG\r\n");
    }
    drop(slow);
    assert_eq!(cluster.leader(), leader);
    cluster.await_level();
    let status = cluster.status().expect("a status");
    assert!(status.replicas.iter().all(|replica| replica.rebuilds == 0));
    cluster.stop();
}
