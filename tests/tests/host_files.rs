//! Files of the host that libraries read behind the server's back change (a package is installed, a user is added): a server that is
//! replayed afterwards finds them as they were.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::http::Http;
use brolga_tests::mounts;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

/// As much as some hundred more libraries bring.
const MORE_BYTES: usize = 100_000;

fn append(path: &str, bytes: &[u8]) {
    let file = File::options().append(true).open(path);
    file.and_then(|mut file| file.write_all(bytes)).unwrap_or_else(|error| panic!("{path}: {error}"));
}

fn seen(cluster: &Cluster, replica: u8, path: &str) -> Vec<u8> {
    let mut exec = cluster.brolga(&["exec", "--replica", &replica.to_string()]);
    let done = exec.args(["--", "cat", path]).output().expect("start brolga exec");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

#[test]
fn what_libraries_read_stays_as_it_was() {
    let _turn = serial::turn();
    let scratch = Scratch::new("host-files");
    mounts::make_own(Path::new("/etc"), &scratch.path().join("etc"));
    let program = scratch.path().join("redis");
    fs::copy("/usr/bin/redis-server", &program).expect("copy a program");
    let program = program.to_str().expect("a plain path");
    let command = [program, "--port", "6379", "--save", "", "--protected-mode", "no"];
    let mut cluster = Plan::new(&command).port(6379).start_in(scratch);
    cluster.await_complete();
    let mut redis = Redis::connect(cluster.port()).expect("connect");
    for number in 1..=100 {
        assert_eq!(redis.call(&["INCR", "counter"]).expect("an answer"), Reply::Integer(number));
    }
    let users = fs::read("/etc/passwd").expect("read the host's users");
    append("/etc/ld.so.cache", &[0; MORE_BYTES]);
    append("/etc/passwd", b"somebody:x:4242:4242::/:/bin/false\n");
    fs::remove_file("/etc/localtime").expect("lose the time zone");
    // The same bytes, but who knows that.
    fs::set_permissions(program, fs::metadata(program).expect("it is there").permissions())
        .expect("touch it");

    let (leader, follower) = (cluster.leader(), cluster.follower());
    for replica in [follower, leader] {
        cluster.kill_replica(replica);
        cluster.await_level();
        assert_eq!(seen(&cluster, replica, "/etc/passwd"), users);
        let told = cluster.logged("was changed on the host");
        assert!(told.iter().all(|line| line.contains(program)), "{told:?}");
        assert!(!told.is_empty(), "a program that was changed is told");
    }
    cluster.kill_all();
    cluster.run();
    let status = cluster.await_level();
    assert!(status.replicas.iter().all(|replica| replica.rebuilds == 0), "{}", status.raw);
    assert_eq!(cluster.logged("DIVERGED"), Vec::<String>::new());
    let mut redis = Redis::connect(cluster.port()).expect("connect");
    assert_eq!(redis.call(&["GET", "counter"]).expect("an answer"), Reply::Bulk(Some(b"100".to_vec())));
    cluster.stop();
    cluster.assert_nothing_left();
}

#[test]
fn a_file_that_was_changed_is_told() {
    let _turn = serial::turn();
    let scratch = Scratch::new("changed-files");
    let data = scratch.path().join("data");
    fs::create_dir(&data).expect("make the server's directory");
    fs::write(data.join("old"), b"as it was").expect("write a page");
    let mut cluster = Plan::new(&["python3", "-m", "http.server", "80"]).port(80).start_in(scratch);
    cluster.await_complete();
    let get = |cluster: &Cluster, path: &str| {
        until("the server answers", PATIENCE, || Http::connect(cluster.port()).ok()?.get(path).ok())
    };
    get(&cluster, "/old");
    cluster.await_level();
    let told = |cluster: &Cluster| cluster.logged("was changed on the host");
    assert_eq!(told(&cluster), Vec::<String>::new());
    fs::write(cluster.data().join("new"), b"as it is").expect("write a page");
    get(&cluster, "/new");
    get(&cluster, "/new");
    cluster.await_level();
    let lines = told(&cluster);
    assert_eq!(lines.len(), 3, "one of each replica: {lines:?}");
    assert!(lines.iter().all(|line| line.contains("data/new was changed")), "{lines:?}");
    cluster.stop();
    cluster.assert_nothing_left();
}

/// A server that tells where a file has data and where a hole, and whether it could share blocks with another.
const TELLER: &str = "
import fcntl, os, socket
server = socket.create_server(('', 7000))
file = os.open('sparse', os.O_CREAT | os.O_RDWR)
os.pwrite(file, b'end', 1 << 20)
copy = os.open('copy', os.O_CREAT | os.O_RDWR)
try:
    fcntl.ioctl(copy, 0x40049409, file)
    cloned = 'cloned'
except OSError as error:
    cloned = os.strerror(error.errno)
while True:
    client, _ = server.accept()
    told = os.lseek(file, 0, os.SEEK_DATA), os.lseek(file, 0, os.SEEK_HOLE)
    client.sendall(f'{told} {cloned}'.encode())
    client.close()
";

#[test]
fn where_a_disk_has_holes_is_not_told() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&["python3", "-c", TELLER]).port(7000).start("holes");
    cluster.await_complete();
    let mut told = String::new();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, cluster.port())).expect("connect");
    client.read_to_string(&mut told).expect("an answer");
    assert_eq!(told, "(0, 1048579) Operation not supported");
    cluster.stop();
    cluster.assert_nothing_left();
}
