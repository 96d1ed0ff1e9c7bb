//! What a user may do wrong: each is answered by a clear line and a failure, and leaves nothing behind.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use brolga_tests::cluster::{self, Cluster, Plan};
use brolga_tests::process;
use brolga_tests::resp::Redis;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};
use dmt::bounds::LAYOUT_MARK;

const REDIS: [&str; 7] = ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"];

/// Runs `brolga run` with these words to its end; panics if it does not end by itself.
fn run(scratch: &Scratch, words: &[&str]) -> Output {
    let child = Command::new(cluster::brolga())
        .args(["run", "--state"])
        .arg(scratch.path().join("state"))
        .args(["--name", scratch.name()])
        .args(words)
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("start brolga");
    if brolga_tests::wait::poll(PATIENCE, || child.try_wait().expect("wait for brolga")).is_none() {
        let _ = child.kill();
        panic!("brolga run {words:?} did not end");
    }
    child.wait_with_output().expect("the output of brolga")
}

/// It failed, said all of `parts` in one line and nothing else, and left nothing.
fn assert_refused(words: &[&str], parts: &[&str]) {
    let error = assert_failed(words, parts);
    assert_eq!(error.lines().count(), 1, "{words:?}: one line is enough:\n{error}");
    assert!(error.starts_with("brolga: "), "{error}");
}

/// It failed, said all of `parts` in one line of error, and left nothing; returns all that it said.
fn assert_failed(words: &[&str], parts: &[&str]) -> String {
    let scratch = Scratch::new("bad");
    let output = run(&scratch, words);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{words:?} succeeded: {error}");
    let told = error.lines().any(|line| parts.iter().all(|part| line.to_lowercase().contains(part)));
    assert!(told, "{words:?}: no line says {parts:?}:\n{error}");
    assert!(!error.contains("panicked"), "{error}");
    assert_clean(&scratch);
    println!("{words:?}: {}", error.lines().next().unwrap_or_default());
    error
}

fn assert_clean(scratch: &Scratch) {
    let path = scratch.path().to_str().expect("a plain path");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    assert!(!mounts.contains(path), "mounts left behind:\n{mounts}");
    let mentions = |pid: i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(path) && process::alive(pid)
    };
    until("no process is left behind", PATIENCE, || {
        (!process::all().iter().any(|p| mentions(p.pid))).then_some(())
    });
    let shared = fs::read_dir("/dev/shm").expect("list /dev/shm").flatten().map(|entry| entry.file_name());
    let own = scratch.path().file_name().expect("a name");
    let shared: Vec<_> =
        shared.filter(|n| n.to_string_lossy().contains(scratch.name()) && n != own).collect();
    assert!(shared.is_empty(), "left in /dev/shm: {shared:?}");
}

/// A server under it would wait for good.
#[test]
fn a_preload_library_of_another_build_is_refused() {
    let _turn = serial::turn();
    let scratch = Scratch::new("bad-library");
    let own = cluster::brolga().with_file_name("libbrolga_preload.so");
    let mut library = fs::read(own).expect("read the library");
    let windows = library.windows(LAYOUT_MARK.len()).enumerate();
    let places: Vec<usize> = windows.filter(|(_, bytes)| *bytes == LAYOUT_MARK).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "the library tells its layout");
    places.iter().for_each(|at| library[at + LAYOUT_MARK.len() - 1] ^= 1);
    let other = scratch.path().join("other.so");
    fs::write(&other, library).expect("write another library");
    let mut run = Command::new(cluster::brolga());
    run.args(["run", "-n", "1", "--name", scratch.name(), "--state"]).arg(scratch.path().join("state"));
    let output = run.args(["--", "sleep", "1"]).env("BROLGA_PRELOAD", &other).output().expect("run brolga");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.lines().count() == 1, "{error}");
    assert!(error.contains("other.so is of another build"), "{error}");
    assert_clean(&scratch);
}

#[test]
fn wrong_commands_are_refused() {
    let _turn = serial::turn();
    let help = "see brolga run --help";
    assert_refused(&["--no-such-option", "--", "true"], &["--no-such-option", help]);
    assert_refused(&["-n", "0", "--", "sleep", "1"], &["0", help]);
    assert_refused(&["-n"], &["--replicas", help]);
    assert_refused(&[], &["required", "command", help]);
    assert_refused(&["--durability", "tape", "--", "sleep", "1"], &["tape", "memory, disk", help]);
    assert_refused(&["--", "no-such-program-anywhere"], &["no-such-program-anywhere", "not"]);
    assert_refused(&["--", "/etc/hostname"], &["/etc/hostname"]);
}

#[test]
fn programs_that_cannot_be_replicated_are_refused() {
    let _turn = serial::turn();
    let scratch = Scratch::new("programs");
    let path = |name: &str| scratch.path().join(name);
    fs::write(path("main.c"), "int main(void) { return 0; }").expect("write a program");
    let compile = |name: &str, flags: &[&str]| {
        let built = Command::new("cc").args(flags).arg(path("main.c")).arg("-o").arg(path(name)).status();
        assert!(built.expect("run cc").success());
    };
    compile("static", &["-static"]);
    compile("bare", &["-nostdlib", "-pie", "-Wl,-e,main"]);
    compile("setuid", &[]);
    fs::set_permissions(path("setuid"), fs::Permissions::from_mode(0o4755)).expect("make it setuid");
    // The fifth byte of an ELF file says for how many bits it is.
    let mut program = fs::read(path("setuid")).expect("read the program");
    program[4] = 1;
    fs::write(path("narrow"), program).expect("write the program");
    fs::set_permissions(path("narrow"), fs::Permissions::from_mode(0o755)).expect("make it executable");
    let text = |name: &str| path(name).to_str().expect("a plain path").to_owned();
    assert_refused(&["--", &text("static")], &["static"]);
    assert_refused(&["--", &text("bare")], &["no libc", "CGO_ENABLED".to_lowercase().as_str()]);
    assert_refused(&["--", &text("setuid")], &["set", "uid"]);
    assert_refused(&["--", &text("narrow")], &["64-bit"]);
}

#[test]
fn a_server_that_ends_at_once_is_reported_with_what_it_said() {
    let _turn = serial::turn();
    assert_failed(&["--", "sh", "-c", "echo boom of the server >&2; exit 3"], &["boom of the server"]);
}

#[test]
fn a_port_in_use_is_refused() {
    let _turn = serial::turn();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let port = taken.local_addr().expect("an address").port();
    let publish = format!("127.0.0.1:{port}:6379");
    let words = [&["--publish", publish.as_str(), "--"], REDIS.as_slice()].concat();
    assert_refused(&words, &["in use", &port.to_string()]);
}

const ANY_PORT: &str = "import signal, socket
listener = socket.create_server(('127.0.0.1', 0))
signal.pause()";

#[test]
fn a_port_that_the_server_did_not_choose_may_be_in_use() {
    let _turn = serial::turn();
    let plan = || Plan::new(&["python3", "-c", ANY_PORT]);
    let mut cluster = plan().start("any-port");
    let published = until("the port is published", PATIENCE, || {
        let printed = cluster.printed();
        let (_, behind) = printed.split_once("clients of port ")?;
        Some(behind.split_once(' ')?.0.parse::<u16>().expect("a port"))
    });
    cluster.stop();
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, published)).expect("bind the port");
    let mut cluster = plan().start("any-port-taken");
    let told = format!("asked for any port and listens on 127.0.0.1:{published}, which another program");
    until("the port that it gets again is told to be taken", PATIENCE, || {
        cluster.printed().contains(&told).then_some(())
    });
    cluster.await_complete();
    cluster.stop();
}

#[test]
fn two_replicas_work_with_a_warning() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&REDIS).replicas(2).port(6379).start("two");
    cluster.await_complete();
    let printed = cluster.printed();
    assert!(printed.lines().any(|l| l.to_lowercase().contains("warning") && l.contains('2')), "{printed}");
    cluster.stop();
}

#[test]
fn a_server_that_never_listens_runs_and_status_says_so() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&["sleep", "1000"]).start("mute");
    cluster.await_complete();
    let output = cluster.call(&["status"]);
    let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
    assert!(text.contains("listen"), "{text}");
    cluster.stop();
}

fn redis(cluster: &Cluster) -> Redis {
    until("redis answers", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        redis.call(&["PING"]).ok().map(|_| redis)
    })
}

#[test]
fn a_state_directory_of_another_command_is_refused() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&REDIS).port(6379).start("other");
    cluster.await_complete();
    redis(&cluster).must(&["SET", "kept", "yes"]);
    cluster.stop();
    let output = cluster.brolga(&["run"]).args(["--", "sleep", "1000"]).output().expect("run brolga");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("command"), "{error}");
    cluster.assert_nothing_left();
    println!("{}", error.trim());
    // And what it holds is still there.
    cluster.run();
    cluster.await_complete();
    assert_eq!(redis(&cluster).must(&["GET", "kept"]).bytes(), b"yes");
    cluster.stop();
}

#[test]
fn what_a_killed_launcher_left_is_cleaned_by_stop_and_by_run() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&REDIS).port(6379).start("orphan");
    cluster.await_complete();
    redis(&cluster).must(&["SET", "kept", "yes"]);
    cluster.kill_launcher();
    let output = cluster.call(&["stop"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    cluster.assert_nothing_left();
    cluster.run();
    cluster.await_complete();
    cluster.kill_launcher();
    cluster.run();
    cluster.await_complete();
    assert_eq!(redis(&cluster).must(&["GET", "kept"]).bytes(), b"yes");
    cluster.stop();
}

#[test]
fn a_damaged_log_is_named_and_learned_anew_from_the_others() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&REDIS).port(6379).start("torn");
    cluster.await_complete();
    let mut client = redis(&cluster);
    for number in 0..200 {
        client.must(&["SET", &format!("k{number}"), "v"]);
    }
    // What is torn here was acknowledged: every other replica must have it.
    cluster.await_level();
    cluster.stop();
    let file = cluster.log_segments(1).pop().expect("a log");
    let mut bytes = fs::read(&file).expect("read the log");
    let used = bytes.iter().rposition(|&byte| byte != 0).expect("a log that is not empty");
    bytes[used] ^= 0xff;
    fs::write(&file, &bytes).expect("tear the log");
    cluster.run();
    cluster.await_complete();
    assert_eq!(redis(&cluster).must(&["DBSIZE"]).number(), 200);
    cluster.await_level();
    cluster.stop();

    let mut bytes = fs::read(&file).expect("read the log");
    let used = bytes.iter().rposition(|&byte| byte != 0).expect("a log that is not empty");
    bytes[used / 2] ^= 0xff;
    fs::write(&file, &bytes).expect("corrupt the log");
    cluster.run();
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    until("the corrupt file is named", PATIENCE, || cluster.printed().contains(&name).then_some(()));
    // The other two are a majority and serve, and the third learns everything anew from them.
    assert_eq!(redis(&cluster).must(&["DBSIZE"]).number(), 200);
    until("it votes again", PATIENCE, || cluster.printed().contains("whole again").then_some(()));
    cluster.await_level();
    assert!(file.with_extension("log.damaged").exists());
    // It counts: without another one, it is part of the only majority.
    let output = cluster.call(&["kill", "--replica", "2"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut client = redis(&cluster);
    client.must(&["SET", "with-the-mended-one", "v"]);
    assert_eq!(client.must(&["DBSIZE"]).number(), 201);
    cluster.stop();
}

/// `run` of a prepared cluster fails, and one line of what it says has all of `parts`.
fn assert_run_refused(cluster: &mut Cluster, parts: &[&str]) {
    let before = cluster.printed().len();
    cluster.run();
    let ended = cluster.await_end();
    let printed = cluster.printed()[before..].to_owned();
    assert!(!ended.success(), "{printed}");
    let told = printed.lines().find(|line| parts.iter().all(|part| line.contains(part)));
    println!("{}", told.unwrap_or_else(|| panic!("no line says {parts:?}:\n{printed}")));
    cluster.assert_nothing_left();
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).expect("read a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(file, bytes).expect("write it again");
}

#[test]
fn what_keeps_all_replicas_from_starting_is_told_once() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&REDIS).port(6379).start("once");
    cluster.await_complete();
    cluster.stop();
    let damage = [
        ("keys/authority.pem", ["cannot use the key file", "byte ", "brolga member replace"]),
        ("system/etc/passwd", ["passwd is damaged", ", found CRC ", "put a whole copy in its place"]),
    ];
    for (name, parts) in damage {
        let file = cluster.state().join(name);
        flip(&file);
        let before = cluster.printed().len();
        assert_run_refused(&mut cluster, &parts);
        let printed = cluster.printed()[before..].to_owned();
        assert_eq!(printed.matches(parts[0]).count(), 1, "{printed}");
        flip(&file);
    }
    cluster.run();
    cluster.await_complete();
    cluster.stop();
}

#[test]
fn a_state_directory_of_another_version_is_refused() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&REDIS).port(6379).start("version");
    cluster.await_complete();
    redis(&cluster).must(&["SET", "kept", "yes"]);
    cluster.stop();
    let file = cluster.state().join("cluster.json");
    let ours = fs::read_to_string(&file).expect("read cluster.json");
    let version = concat!("\"version\": \"", env!("CARGO_PKG_VERSION"), "\"");
    assert!(ours.contains(version), "{ours}");
    // Another version with the same layout may go on with the log: that is how a cluster is upgraded. One with another may have its
    // checksums elsewhere.
    let layout = format!("\"layout\": {}", dmt::bounds::LAYOUT_VERSION);
    assert!(ours.contains(&layout), "{ours}");
    let sums = ours.rfind(",\n  \"checksums\"").expect("it has checksums");
    let theirs = ours[..sums].replace(version, "\"version\": \"0.0.7\"").replace(&layout, "\"layout\": 0");
    fs::write(&file, theirs + "\n}\n").expect("write cluster.json");
    assert_run_refused(&mut cluster, &["version 0.0.7", "--fresh"]);
    // One changed letter in the command.
    fs::write(&file, ours.replacen("redis-server", "redis-serwer", 1)).expect("write cluster.json");
    assert_run_refused(
        &mut cluster,
        &["cluster.json is damaged", "line ", "byte ", "expected CRC", "found", "--fresh"],
    );
    fs::write(&file, ours).expect("write cluster.json");
    cluster.run();
    cluster.await_complete();
    assert_eq!(redis(&cluster).must(&["GET", "kept"]).bytes(), b"yes", "the refusal changed nothing");
    cluster.stop();
}

/// Where the format version stands in a log file, and the checksum of the header around it.
const VERSION_AT: usize = 8;
const CHECKSUM_AT: usize = 12;
const HEADER_BYTES: usize = 64;

#[test]
fn a_log_of_another_version_is_refused() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&REDIS).port(6379).start("format");
    cluster.await_complete();
    redis(&cluster).must(&["SET", "kept", "yes"]);
    cluster.stop();
    for id in 1..=3 {
        let file = cluster.state().join(format!("replica-{id}/log/0000000000000001.log"));
        let mut bytes = fs::read(&file).expect("read the log");
        bytes[VERSION_AT..CHECKSUM_AT].copy_from_slice(&9_u32.to_le_bytes());
        bytes[CHECKSUM_AT..CHECKSUM_AT + 4].fill(0);
        let checksum = crc32fast::hash(&bytes[..HEADER_BYTES]);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
        fs::write(&file, &bytes).expect("write the log");
    }
    assert_run_refused(&mut cluster, &["format version 9", "reads version 1", "--fresh"]);
}
