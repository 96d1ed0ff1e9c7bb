//! `brolga replay`, `explain` and `verify` on real servers: a log executed again gives the digests of the run, a server
//! that is not deterministic is caught, and the place in it is named.

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use brolga_tests::cluster::{Cluster, Plan, brolga, free_port};
use brolga_tests::mariadb;
use brolga_tests::resp::Redis;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};
use coordinator::replica::digest_file;
use coordinator::replica::status::DigestState;

const REDIS: [&str; 7] = ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"];
/// Recordings of the program that looks at its stack.
const ATTEMPTS: usize = 4;
/// Exit code when two executions differ.
const DIFFERENT: i32 = 3;

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn client(cluster: &Cluster) -> Redis {
    until("redis answers", PATIENCE, || Redis::connect(cluster.port()).ok())
}

/// `brolga verify` with a load, in a scratch directory.
fn verify(scratch: &Scratch, port: u16, load: &str, options: &[&str], command: &[&str]) -> Output {
    let publish = format!("127.0.0.1:{}:{port}", free_port());
    let mut verify = Command::new(brolga());
    verify.arg("verify").arg("--state").arg(scratch.path().join("state")).args(["--publish", &publish]);
    verify.args(["--load", load]).args(options).arg("--").args(command);
    verify.current_dir(scratch.path()).stdin(Stdio::null()).output().expect("run brolga verify")
}

/// Builds one of the servers in `tests/servers`.
fn built(scratch: &Scratch, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("servers/{name}.c"));
    let binary = scratch.path().join(name);
    let built =
        Command::new("cc").args(["-g", "-O1", "-pthread"]).arg(source).arg("-o").arg(&binary).output();
    let built = built.expect("run cc");
    assert!(built.status.success(), "{}", text(&built));
    binary
}

/// A file of the host that somebody keeps changing.
struct Counter {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Counter {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let file = File::create(&path).expect("make the file");
        file.write_all_at(b"00000000", 0).expect("write the file");
        let stopped = stop.clone();
        let writer = std::thread::spawn(move || {
            for number in 1_u32.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                file.write_all_at(format!("{number:08}").as_bytes(), 0).expect("write the file");
                // A pace, not a wait: the file differs whenever somebody looks.
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { path, stop, writer: Some(writer) }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// A load of two connections with three lines each, in Python because every machine has it.
const LINES: &str = "python3 -c '
import socket
for _ in range(2):
    peer = socket.create_connection((\"127.0.0.1\", {port}), 10)
    answers = peer.makefile()
    for _ in range(3):
        peer.sendall(b\"x\\n\")
        assert answers.readline()
    peer.close()
'";

#[test]
fn redis_is_verified_as_deterministic() {
    let _turn = serial::turn();
    let scratch = Scratch::new("verify-redis");
    let load =
        "timeout 60 redis-benchmark -h 127.0.0.1 -p {port:6379} -n 2000 -c 8 -q -t set,lpush,incr >/dev/null";
    let output = verify(&scratch, 6379, load, &["--keep"], &REDIS);
    let said = text(&output);
    assert!(
        output.status.success() && said.contains("deterministic: the server did the same again"),
        "{said}"
    );
    let compared =
        said.lines().find_map(|line| line.strip_suffix(" digests compared with those of the run: all equal"));
    let compared: u32 = compared.expect("a number of digests").parse().expect("a number");
    assert!(compared > 50, "{compared} digests of a load of 6000 requests");
    tracing_changes_nothing(&scratch);
}

/// Traced replays have the digest that the run had.
fn tracing_changes_nothing(scratch: &Scratch) {
    let mut explain = Command::new(brolga());
    explain.arg("explain").arg("--state").arg(scratch.path().join("state")).args(["--entry", "40"]);
    let output = explain.stdin(Stdio::null()).output().expect("run brolga explain");
    let said = text(&output);
    assert!(output.status.success() && said.contains("nothing differs in entry 40"), "{said}");
    operations_are_the_same(scratch, 5000);
}

/// A traced replay does each operation as one does whose program is left alone, at the same addresses, and as the run.
fn operations_are_the_same(scratch: &Scratch, least: usize) {
    let mut replay = Command::new(brolga());
    replay.arg("replay").arg("--traced").arg("--state").arg(scratch.path().join("state"));
    let output = replay.stdin(Stdio::null()).output().expect("run brolga replay");
    let said = text(&output);
    println!("{said}");
    assert!(output.status.success() && said.contains("tracing changed nothing"), "{said}");
    let counts = said.lines().find(|line| line.contains("calls were traced")).expect("counts");
    let counts: Vec<usize> = counts.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(counts.len() == 2 && counts.iter().all(|&count| count > least), "{said}");
}

#[test]
fn a_program_that_looks_at_all_its_memory_does_not_see_that_it_is_traced() {
    let _turn = serial::turn();
    let scratch = Scratch::new("verify-places");
    let binary = built(&scratch, "places");
    let command = [binary.to_str().expect("a plain path"), "7000"];
    // On a busy machine what the processor notes of the use of vector registers may differ, traced or not; what tracing does, it
    // does each time.
    let same = (0..ATTEMPTS).any(|_| {
        let _ = std::fs::remove_dir_all(scratch.path().join("state"));
        let output = verify(&scratch, 7000, LINES, &["--keep"], &command);
        println!("{}", text(&output));
        output.status.success() && std::panic::catch_unwind(|| operations_are_the_same(&scratch, 500)).is_ok()
    });
    assert!(same, "no recording of {ATTEMPTS} was replayed and traced as it was made");
}

#[test]
fn mariadb_does_not_see_that_it_is_traced() {
    let _turn = serial::turn();
    let scratch = Scratch::new("verify-mariadb");
    let command = mariadb::prepare(&scratch, "root");
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let load = "timeout 100 mariadb-slap --host=127.0.0.1 --port={port:3306} --user=root --silent --concurrency=8 \
                --number-of-queries=400 --auto-generate-sql --auto-generate-sql-load-type=mixed";
    let output = verify(&scratch, 3306, load, &["--keep"], &command);
    assert!(output.status.success(), "{}", text(&output));
    operations_are_the_same(&scratch, 100_000);
}

#[test]
fn a_server_without_fault_is_deterministic_and_one_that_reads_a_changing_file_is_explained() {
    let _turn = serial::turn();
    let scratch = Scratch::new("verify-file");
    let binary = built(&scratch, "flawed");
    let binary = binary.to_str().expect("a plain path");
    let good = verify(&scratch, 7000, LINES, &[], &[binary, "7000", "none"]);
    assert!(good.status.success(), "{}", text(&good));
    assert!(!scratch.path().join("state").exists(), "the recording is not kept");

    // Of a load that failed or never began nothing is learnt.
    for (load, server, told) in [
        ("exit 3 # {port}", vec![binary, "7000", "none"], "the load failed"),
        (LINES, vec!["sh", "-c", "exit 3"], "before the load could begin"),
    ] {
        let failed = verify(&scratch, 7000, load, &[], &server);
        let said = text(&failed);
        assert_eq!(failed.status.code(), Some(1), "{said}");
        assert!(said.contains("UNKNOWN") && said.contains(told), "{said}");
    }

    let counter = Counter::start(scratch.path().join("counter"));
    let file = counter.path.to_str().expect("a plain path");
    let bad = verify(&scratch, 7000, LINES, &[], &[binary, "7000", "file", file]);
    let said = text(&bad);
    println!("{said}");
    assert_eq!(bad.status.code(), Some(DIFFERENT), "{said}");
    for part in [
        "NOT DETERMINISTIC",
        "process 1000, thread 1: Write",
        "in write(6, ",
        "called by answer (flawed.c:",
        "calls before it that gave something else",
        "/counter",
        "called by host_state (flawed.c:",
        "likely file-system input: read on /",
        "operations of thread 1 before it",
    ] {
        assert!(said.contains(part), "no «{part}»:\n{said}");
    }
    debugger_stops_where_it_should(&scratch);
}

/// The recording is kept; gdb stops in the function at its logical time, with the program's stack, and shows the other thread's.
fn debugger_stops_where_it_should(scratch: &Scratch) {
    let commands = ["break host_state", "continue", "tick", "backtrace", "parked", "frame"]
        .map(|command| ["-ex", command]);
    let mut replay = Command::new(brolga());
    replay.arg("replay").arg("--state").arg(scratch.path().join("state")).args(["--gdb", "--", "-batch"]);
    let output =
        replay.args(commands.as_flattened()).stdin(Stdio::null()).output().expect("run brolga replay --gdb");
    let said = text(&output);
    for part in ["Breakpoint 1, host_state (", "logical time ", "in answer (", "in main (", "in bystander ("]
    {
        assert!(said.contains(part), "no «{part}»:\n{said}");
    }
    let (_, last) = said.rsplit_once("in start_thread").expect("the other thread's stack to its beginning");
    assert!(last.contains("#0  host_state ("), "the registers are the running thread's again:\n{said}");
}

#[test]
fn a_replica_that_was_given_another_file_is_explained() {
    let _turn = serial::turn();
    let scratch = Scratch::new("explain-file");
    let binary = built(&scratch, "flawed");
    let counter = Counter::start(scratch.path().join("counter"));
    let file = counter.path.to_str().expect("a plain path").to_owned();
    let command = [binary.to_str().expect("a plain path").to_owned(), "7000".into(), "file".into(), file];
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut cluster = Plan::new(&command).port(7000).start_in(scratch);
    cluster.await_complete();
    let mut peer = TcpStream::connect(("127.0.0.1", cluster.port())).expect("connect");
    peer.write_all(b"x\n").expect("ask");
    let output = until("a divergence is explained", PATIENCE, || {
        let output = cluster.call(&["explain"]);
        text(&output).contains("diverged at entry").then_some(output)
    });
    let said = text(&output);
    println!("{said}");
    assert_eq!(output.status.code(), Some(DIFFERENT), "{said}");
    for part in [
        "process 1000, thread 1: Write",
        "called by answer (flawed.c:",
        "likely file-system input: read on /",
    ] {
        assert!(said.contains(part), "no «{part}»:\n{said}");
    }
    cluster.stop();
}

#[test]
fn a_server_that_asks_the_processor_for_randomness_is_explained() {
    let _turn = serial::turn();
    let flags = std::fs::read_to_string("/proc/cpuinfo").expect("read /proc/cpuinfo");
    if !flags.contains("rdrand") {
        println!("this processor has no RDRAND: nothing to test");
        return;
    }
    let scratch = Scratch::new("verify-rdrand");
    let binary = built(&scratch, "flawed");
    let command = [binary.to_str().expect("a plain path"), "7000", "rdrand"];
    let output = verify(&scratch, 7000, LINES, &[], &command);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(DIFFERENT), "{said}");
    assert!(said.contains("processor_random() contains RDRAND"), "{said}");
    assert!(said.contains("called by answer (flawed.c:"), "{said}");
}

#[test]
fn replays_of_all_replicas_give_the_digests_of_the_run_and_an_injected_byte_is_explained() {
    let _turn = serial::turn();
    let mut cluster = Plan::new(&REDIS).port(6379).start("replay");
    cluster.await_complete();
    let mut redis = client(&cluster);
    for number in 0..500 {
        redis.must(&["INCRBY", "sum", &number.to_string()]);
    }
    let victim = cluster.follower();
    let output = cluster.call(&["inject", "--replica", &victim.to_string()]);
    assert!(output.status.success(), "{}", text(&output));
    for number in 0..20 {
        redis.must(&["SET", &format!("key{number}"), "value"]);
    }
    cluster.await_status("the divergence is noticed", |status| {
        let replica = status.replica(victim)?;
        (matches!(replica.digests, DigestState::Diverged { .. }) || replica.rebuilds > 0).then_some(())
    });
    // While the cluster runs.
    let output = until("the last operations are kept", PATIENCE, || {
        let output = cluster.call(&["explain"]);
        text(&output).contains("diverged at entry").then_some(output)
    });
    let said = text(&output);
    println!("{said}");
    assert_eq!(output.status.code(), Some(DIFFERENT), "{said}");
    let own = format!("  replica {victim}: at logical time ");
    for part in [own.as_str(), "  replay: at logical time ", "process 1000, thread 1"] {
        assert!(said.contains(part), "no «{part}»:\n{said}");
    }
    cluster.await_level();
    cluster.stop();
    all_replays_agree(&cluster);
}

fn all_replays_agree(cluster: &Cluster) {
    let kept =
        |id: u8| digest_file::read(&cluster.state().join(format!("replica-{id}"))).expect("read the digests");
    let all: Vec<_> = (1..=3).map(kept).collect();
    let last = all.iter().map(|digests| digests.last().expect("digests").entry).min().expect("replicas");
    for (id, digests) in (1..=3_u8).zip(&all) {
        let recorded = digests.iter().find(|digest| digest.entry == last).expect("no row is missing");
        let entries = (last + 2).to_string();
        let output = cluster.call(&["replay", "--replica", &id.to_string(), "--entries", &entries]);
        let said = text(&output);
        assert!(output.status.success() && said.contains("all equal"), "{said}");
        let log = cluster.state().join(format!("replica-{id}/log"));
        let mut again = Command::new(brolga());
        again.arg("replay").arg(log).args(["--entries", &entries]).stdin(Stdio::null());
        let again = text(&again.output().expect("run brolga replay"));
        assert!(again.contains(&format!("of replica {id}: redis-server")), "{again}");
        let told = format!("entry {last}: logical time {}, digest {:016x}", recorded.tick, recorded.value);
        assert!(said.contains(&told), "no «{told}»:\n{said}");
    }
}

#[test]
fn what_cannot_be_replayed_is_told() {
    let scratch = Scratch::new("no-replay");
    let call = |words: &[&str]| {
        let mut command = Command::new(brolga());
        command.args(words).arg("--state").arg(scratch.path());
        command.stdin(Stdio::null()).output().expect("run brolga")
    };
    let nowhere = scratch.path().join("nowhere");
    let mut command = Command::new(brolga());
    let output = command.arg("replay").arg(&nowhere).output().expect("run brolga");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("nowhere: No such file"), "{}", text(&output));
    for words in [&["replay"][..], &["explain"], &["explain", "-r", "2"]] {
        let output = call(words);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(scratch.path().to_str().expect("a plain path")), "{}", text(&output));
    }
    let output =
        Command::new(brolga()).args(["verify", "--", "no-such-server"]).output().expect("run brolga");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("command not found: no-such-server"), "{}", text(&output));
}
