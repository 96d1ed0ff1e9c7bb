//! Faults that are not a death: a full disk, a peer with a wrong key.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::journal::Writer;
use brolga_tests::layers;
use brolga_tests::process;
use brolga_tests::resp::Redis;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::small_disk::SmallDisk;
use brolga_tests::status::Status;
use brolga_tests::wait::{PATIENCE, until};

const REDIS: [&str; 7] = ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"];
/// Room for the logs of three replicas, and little more.
const SMALL_DISK: &str = "512m";
const BIG_VALUE_BYTES: usize = 256 << 10;

fn redis(cluster: &Cluster) -> Redis {
    until("redis answers", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        redis.call(&["PING"]).ok().map(|_| redis)
    })
}

/// How long a client asks for a small write in vain while no majority can write.
const STANDSTILL: Duration = Duration::from_secs(3);

#[test]
fn a_full_disk_stops_acknowledgements_until_there_is_space() {
    let _turn = serial::turn();
    let scratch = Scratch::new("full");
    let disk = SmallDisk::mount(&scratch.path().join("state"), SMALL_DISK);
    let mut cluster = Plan::new(&REDIS).port(6379).start_in(scratch);
    cluster.await_complete();
    redis(&cluster).must(&["SET", "before", "yes"]);
    disk.fill();
    // Big values use up what the open log files still hold.
    let pusher = Pusher::start(cluster.port());
    let full = |status: &Status| status.replicas.iter().filter(|replica| replica.disk_full).count();
    cluster.await_status("a majority tells that its disk is full", |status| {
        (full(status) * 2 > status.replicas.len()).then_some(())
    });
    let acknowledged = pusher.acknowledged();
    let text = cluster.call(&["status"]);
    let text = String::from_utf8_lossy(&text.stdout).to_lowercase();
    assert!(text.contains("full"), "{text}");
    let address = (Ipv4Addr::LOCALHOST, cluster.port()).into();
    let mut small = Redis::connect_to(address, PATIENCE, STANDSTILL).expect("connect");
    let answer = small.call(&["SET", "small", "value"]);
    assert!(answer.is_err(), "acknowledged on a full disk: {answer:?}");
    // The answer to one write may have been on its way.
    let since = pusher.acknowledged() - acknowledged;
    assert!(since <= 1, "{since} writes were acknowledged on a full disk");
    assert!(full(&cluster.status().expect("a status")) >= 2, "there was room in between");
    disk.make_room();
    let pushed = pusher.finish();
    cluster.await_status("no disk is full any more", |status| (full(status) == 0).then_some(()));
    let mut client = redis(&cluster);
    assert_eq!(client.must(&["GET", "before"]).bytes(), b"yes");
    // The write that was cut off may have happened.
    let stored = client.must(&["GET", "pushed"]).number();
    assert!(stored == pushed || stored == pushed + 1, "{pushed} acknowledged, {stored} stored");
    cluster.await_complete();
    println!(
        "{pushed} big values acknowledged across a full disk, where {since} writes were in {STANDSTILL:?}"
    );
    cluster.stop();
    drop(disk);
}

/// Writes big values, and the number of each behind it.
struct Pusher {
    thread: JoinHandle<i64>,
    /// Writes that were acknowledged, two for each number.
    acknowledged: Arc<AtomicI64>,
    last: Arc<AtomicBool>,
}

impl Pusher {
    fn start(port: u16) -> Self {
        let (acknowledged, last) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (acknowledged.clone(), last.clone());
        let thread = std::thread::spawn(move || push_big_values(port, &count, &end));
        Self { thread, acknowledged, last }
    }

    fn acknowledged(&self) -> i64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Ends it when one more is acknowledged; returns the number of the last acknowledged one.
    fn finish(self) -> i64 {
        self.last.store(true, Ordering::SeqCst);
        self.thread.join().expect("the client that pushes")
    }
}

fn push_big_values(port: u16, acknowledged: &AtomicI64, end: &AtomicBool) -> i64 {
    let value = "x".repeat(BIG_VALUE_BYTES);
    let limit = Instant::now() + Duration::from_secs(120);
    let mut client: Option<Redis> = None;
    let mut number = 1;
    loop {
        let last = end.load(Ordering::SeqCst);
        let mut set = |key, value: &str| {
            let done = client.as_mut().is_some_and(|redis| redis.call(&["SET", key, value]).is_ok());
            acknowledged.fetch_add(i64::from(done), Ordering::SeqCst);
            done
        };
        let done = set("big", &value) && set("pushed", &number.to_string());
        if done && last {
            return number;
        }
        if done {
            number += 1;
        } else {
            assert!(Instant::now() < limit, "nothing is acknowledged though there is room");
            client = Redis::connect(port).ok();
        }
    }
}

#[test]
fn a_peer_with_a_wrong_key_is_kept_out() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&REDIS).port(6379).start("key");
    cluster.await_complete();
    redis(&cluster).must(&["SET", "kept", "yes"]);
    cluster.stop();
    let mut stranger = Plan::new(&["sleep", "1000"]).start("stranger");
    stranger.await_complete();
    stranger.stop();
    // Replica 3 gets a stranger's keys: they are not signed by the authority that the others check against.
    for file in ["replica-3.pem", "replica-3.key"] {
        let (from, to) = (stranger.state().join("keys").join(file), cluster.state().join("keys").join(file));
        fs::copy(&from, &to).unwrap_or_else(|e| panic!("copy {}: {e}", from.display()));
    }
    cluster.run();
    cluster.await_status("replicas 1 and 2 serve without 3", |status| {
        let leader = status.leader()?;
        (leader.id != 3 && leader.peers_connected.len() == 1 && !leader.peers_connected.contains(&3))
            .then_some(())
    });
    assert_eq!(redis(&cluster).must(&["GET", "kept"]).bytes(), b"yes");
    let writer = Writer::start(cluster.port(), 2);
    until("writes are acknowledged", PATIENCE, || (writer.acknowledged() > 500).then_some(()));
    let status = cluster.status().expect("a status");
    assert!(!status.leader().is_some_and(|leader| leader.peers_connected.contains(&3)));
    let verdict = writer.finish().compare(&mut redis(&cluster)).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{verdict:?}");
    cluster.stop();
}

/// Room for one replica's log, bytes in words of `mount`.
const OWN_DISK: &str = "160m";

#[test]
fn a_leader_whose_own_disk_is_full_leaves_the_leadership_to_those_that_can_write() {
    let _turn = serial::turn();
    let scratch = Scratch::new("handover");
    let disk = |id: u8| {
        let disk = SmallDisk::mount(&scratch.path().join(format!("disk-{id}")), OWN_DISK);
        let replica = scratch.path().join(format!("state/replica-{id}"));
        fs::create_dir_all(&replica).expect("make the replica's directory");
        std::os::unix::fs::symlink(disk.path(), replica.join("log"))
            .expect("put its log on a disk of its own");
        disk
    };
    let disks: Vec<SmallDisk> = (1..=3).map(disk).collect();
    let mut cluster = Plan::new(&REDIS).port(6379).start_in(scratch);
    cluster.await_complete();
    redis(&cluster).must(&["SET", "before", "yes"]);
    let old = cluster.leader();
    disks[usize::from(old) - 1].fill();
    let pusher = Pusher::start(cluster.port());
    let new = cluster.await_status("another replica leads", |status| {
        let full = status.replica(old)?.disk_full;
        status.leader().map(|leader| leader.id).filter(|id| *id != old && full)
    });
    assert!(cluster.status().is_some_and(|status| status.replica(new).is_some_and(|r| !r.disk_full)));
    let pushed = pusher.finish();
    assert_eq!(redis(&cluster).must(&["GET", "before"]).bytes(), b"yes");
    disks[usize::from(old) - 1].make_room();
    cluster.await_status("no disk is full any more", |status| {
        status.replicas.iter().all(|replica| !replica.disk_full).then_some(())
    });
    let stored = redis(&cluster).must(&["GET", "pushed"]).number();
    assert!(stored == pushed || stored == pushed + 1, "{pushed} acknowledged, {stored} stored");
    cluster.await_level();
    println!("replica {old} left the leadership to {new}; {pushed} big values acknowledged");
    cluster.stop();
    drop(disks);
}

/// A server that writes 256 KiB for each client, twice, and says how much of it was written.
const WRITER: &str = "
import os, socket
server = socket.create_server(('', 7000))
file = os.open('written', os.O_CREAT | os.O_WRONLY)
while True:
    client, _ = server.accept()
    counts = os.write(file, b'x' * 262144), os.writev(file, [b'y' * 60000, b'z' * 202144])
    client.sendall(b'%d %d' % counts)
    client.close()
";
/// What is left of a disk, so that one of the two writes is cut short.
const ROOM_FOR_A_PART: [u64; 2] = [100 << 10, 300 << 10];

#[test]
fn a_server_whose_own_disk_is_full_waits_and_does_not_hear_how_much_had_room() {
    let _turn = serial::turn();
    let scratch = Scratch::new("layers");
    let disk = SmallDisk::mount(&scratch.path().join("state/replica-2"), SMALL_DISK);
    let mut cluster = Plan::new(&["python3", "-c", WRITER]).port(7000).start_in(scratch);
    cluster.await_complete();
    let says = |mut client: TcpStream| {
        let mut counts = String::new();
        client.read_to_string(&mut counts).map(|_| counts)
    };
    for (round, room) in ROOM_FOR_A_PART.into_iter().enumerate() {
        disk.leave(room);
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, cluster.port())).expect("connect");
        until("the server of the replica waits", PATIENCE, || {
            (cluster.logged("the disk is full: the server waits").len() > round).then_some(())
        });
        disk.make_room();
        assert_eq!(says(client).expect("an answer"), "262144 262144");
        cluster.await_level();
    }
    let diverged = cluster.logged("DIVERGED");
    assert!(diverged.is_empty(), "{}", diverged.join("\n"));
    layers::assert_identical(&cluster.state(), 3);
    let stopped = cluster.call(&["stop"]);
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    cluster.await_end();
    drop(disk);
}

/// A server that changes one file of the host for each client, which names it, and says how that went: the first change copies it.
const CHANGER: &str = "
import os, socket
server = socket.create_server(('', 7000))
changes = [
    lambda: os.close(os.open('host-0', os.O_RDWR)),
    lambda: os.chmod('host-1', 0o600),
    lambda: os.utime('host-2', (1, 1)),
    lambda: os.truncate('host-3', 5),
    lambda: os.setxattr('host-4', 'user.name', b'value'),
    lambda: os.rename('host-5', 'other-5'),
    lambda: os.link('host-6', 'other-6'),
]
while True:
    client, _ = server.accept()
    wanted = client.recv(1)
    try:
        if wanted:
            changes[int(wanted)]()
            client.sendall(b'done')
    except OSError as error:
        client.sendall(str(error).encode())
    client.close()
";
const CHANGES: usize = 7;
const HOST_FILE_BYTES: usize = 1 << 20;

#[test]
fn a_server_whose_own_disk_is_full_waits_with_all_that_copies_a_file_of_the_host() {
    let _turn = serial::turn();
    let scratch = Scratch::new("copies");
    let data = scratch.path().join("data");
    fs::create_dir(&data).expect("make the server's directory");
    for number in 0..CHANGES {
        fs::write(data.join(format!("host-{number}")), vec![b'h'; HOST_FILE_BYTES]).expect("write a file");
    }
    let disk = SmallDisk::mount(&scratch.path().join("state/replica-2"), SMALL_DISK);
    let mut cluster = Plan::new(&["python3", "-c", CHANGER]).port(7000).start_in(scratch);
    cluster.await_complete();
    for change in 0..CHANGES {
        disk.leave(ROOM_FOR_A_PART[0]);
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, cluster.port())).expect("connect");
        client.write_all(change.to_string().as_bytes()).expect("ask");
        until("the server of the replica waits", PATIENCE, || {
            (cluster.logged("the disk is full: the server waits").len() > change).then_some(())
        });
        disk.make_room();
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert_eq!((change, answer.as_str()), (change, "done"));
        cluster.await_level();
    }
    for word in ["DIVERGED", "was changed on the host"] {
        let told = cluster.logged(word);
        assert!(told.is_empty(), "{}", told.join("\n"));
    }
    layers::assert_identical(&cluster.state(), 3);
    let stopped = cluster.call(&["stop"]);
    assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
    cluster.await_end();
    drop(disk);
}

/// Descriptors that a coordinator may still open.
const FREE_DESCRIPTORS: usize = 8;
const CLIENTS: usize = 40;
/// How long the coordinator is watched, and how much of that it may compute: a loop that spins takes all it gets.
const WATCHED: Duration = Duration::from_secs(1);
const SPARE_TIME: Duration = Duration::from_millis(150);

fn limit_files(pid: i32, soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: no limit to read, and a valid place to write one.
    let got = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &mut limit) };
    limit.rlim_cur = soft;
    // SAFETY: a valid limit to read, and no place to write.
    let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
    assert_eq!((got, set), (0, 0), "prlimit: {}", std::io::Error::last_os_error());
}

#[test]
fn clients_beyond_the_limit_of_open_files_wait_and_cost_nothing() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&REDIS).port(6379).start("files");
    cluster.await_complete();
    let leader = cluster.leader();
    let pid = cluster.await_status("the leader's process", |status| Some(status.replica(leader)?.pid));
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let open: Vec<u64> = open.flatten().filter_map(|fd| fd.file_name().to_str()?.parse().ok()).collect();
    let free = |number: &u64| !open.contains(number);
    limit_files(pid, (0..).filter(free).nth(FREE_DESCRIPTORS).expect("a free number"));
    let mut clients: Vec<Redis> = (0..CLIENTS)
        .map(|_| Redis::connect(cluster.port()).expect("connect: the backlog has room"))
        .collect();
    let log = cluster.state().join(format!("replica-{leader}/coordinator.log"));
    let warnings =
        || fs::read_to_string(&log).unwrap_or_default().matches("cannot accept more clients").count();
    until("it says that it accepts no more", PATIENCE, || (warnings() > 0).then_some(()));
    let cpu = || process::look(pid).expect("the coordinator").cpu;
    let before = cpu();
    // Not a wait for anything: the measure is what the coordinator does in this time.
    std::thread::sleep(WATCHED);
    let spent = cpu() - before;
    assert!(spent < SPARE_TIME, "the loop spins: {spent:?} of CPU time in {WATCHED:?}");
    // Those in front are served, and as each ends, the next one is.
    while let Some(mut client) = (!clients.is_empty()).then(|| clients.remove(0)) {
        assert_eq!(client.must(&["PING"]).bytes(), b"PONG");
    }
    assert_eq!(warnings(), 1, "one warning is enough");
    assert_eq!(cluster.leader(), leader);
    println!("{CLIENTS} clients served one after the other; {spent:?} of CPU time in {WATCHED:?}");
    cluster.stop();
}
