//! ClamAV's daemon with signatures of our own: what its client asks for, by file and by stream, reloads, and dead replicas.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::layers;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

const PORT: u16 = 3310;
const CLEAN_FILES: usize = 60;
/// The test file that all scanners find, in two pieces so that none finds this source.
const EICAR: [&str; 2] = ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE!$H+H*"];
/// How long any client may take.
const CLIENT_LIMIT: &str = "30";

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn prepare(data: &Path) {
    for directory in ["db", "files", "tmp"] {
        fs::create_dir_all(data.join(directory)).expect("make a directory");
    }
    let write = |name: &str, text: String| fs::write(data.join(name), text).expect("write a file");
    write(
        "db/own.ndb",
        format!("Own.Eicar:0:*:{}\nOwn.Marker:0:*:{}\n", hex(&EICAR.concat()), hex("a marked file")),
    );
    write("files/eicar", EICAR.concat());
    write("files/marked", "this is a marked file\n".to_owned());
    for number in 0..CLEAN_FILES {
        write(&format!("files/clean{number}"), format!("clean {number}\n").repeat(500));
    }
    let place = data.display();
    write(
        "clamd.conf",
        format!(
            "Foreground yes\nDatabaseDirectory {place}/db\nTCPSocket {PORT}\nTCPAddr 0.0.0.0\n\
             LocalSocket {place}/clamd.sock\nLogFile {place}/clamd.log\nLogTime yes\nLogClean yes\n\
             PidFile {place}/clamd.pid\nTemporaryDirectory {place}/tmp\nMaxThreads 10\nUser root\nSelfCheck 600\n"
        ),
    );
}

fn start(replicas: u8) -> Cluster {
    let scratch = Scratch::new("clamd");
    let data = scratch.path().join("data");
    fs::create_dir_all(&data).expect("make the server's directory");
    prepare(&data);
    let conf = data.join("clamd.conf");
    let command = ["clamd", "-c", conf.to_str().expect("a plain path")];
    let mut cluster = Plan::new(&command).replicas(replicas).port(PORT).start_in(scratch);
    cluster.await_complete();
    let client = format!("TCPSocket {}\nTCPAddr 127.0.0.1\n", cluster.port());
    fs::write(cluster.directory().join("client.conf"), client).expect("write the client's configuration");
    cluster
}

/// clamdscan with these words; its exit code and what it said.
fn clamdscan(cluster: &Cluster, words: &[&str]) -> (Option<i32>, String) {
    let mut client = Command::new("timeout");
    client
        .args([CLIENT_LIMIT, "clamdscan", "--no-summary", "-c"])
        .arg(cluster.directory().join("client.conf"));
    let output = client.args(words).current_dir(cluster.data()).output().expect("run clamdscan");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

/// clamdscan's exit code if it found something.
const FOUND: Option<i32> = Some(1);

fn assert_finds_both(cluster: &Cluster, mode: &[&str]) {
    let directory = cluster.data().join("files");
    let (code, said) = clamdscan(cluster, &[mode, &[directory.to_str().expect("a plain path")]].concat());
    assert_eq!(code, FOUND, "{mode:?}: {said}");
    for (file, name) in [("eicar", "Own.Eicar"), ("marked", "Own.Marker")] {
        let found = said.lines().any(|l| l.contains(&format!("/{file}: {name}.UNOFFICIAL FOUND")));
        assert!(found, "{mode:?} did not find {name} in {file}:\n{said}");
    }
    assert_eq!(said.matches(" FOUND").count(), 2, "{said}");
}

/// A command of clamd's own protocol and its whole answer.
fn ask(cluster: &Cluster, command: &str, rest: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, cluster.port())).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(&[format!("z{command}\0").as_bytes(), rest].concat()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then(|| answer.trim_end_matches('\0').to_owned())
}

fn instream(cluster: &Cluster, text: &str) -> Option<String> {
    let length = u32::try_from(text.len()).expect("a short text").to_be_bytes();
    ask(cluster, "INSTREAM", &[&length[..], text.as_bytes(), &[0; 4]].concat())
}

fn serve(cluster: &Cluster) {
    until("clamd answers PING", PATIENCE, || (ask(cluster, "PING", &[])? == "PONG").then_some(()));
}

fn exercise(cluster: &Cluster) {
    serve(cluster);
    for mode in [&[][..], &["--multiscan"], &["--stream"]] {
        assert_finds_both(cluster, mode);
    }
    assert_eq!(instream(cluster, "nothing bad").as_deref(), Some("stream: OK"));
    let found = instream(cluster, &format!("before {} behind", EICAR.concat())).expect("an answer");
    assert_eq!(found, "stream: Own.Eicar.UNOFFICIAL FOUND");
    let (code, said) = clamdscan(cluster, &["--reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(ask(cluster, "VERSION", &[]).expect("an answer").starts_with("ClamAV"));
    assert!(ask(cluster, "STATS", &[]).expect("an answer").contains("THREADS"));
}

#[test]
fn scans_streams_and_reloads_work_and_any_replica_may_be_killed() {
    let _turn = serial::turn();
    let mut alone = start(1);
    exercise(&alone);
    alone.stop();

    let mut cluster = start(3);
    exercise(&cluster);
    for leader in [true, false] {
        let victim = if leader { cluster.leader() } else { cluster.follower() };
        cluster.kill_replica(victim);
        exercise(&cluster);
        cluster.await_complete();
    }
    exercise(&cluster);
    let status = cluster.await_level();
    assert!(status.replicas.iter().all(|replica| replica.rebuilds == 0), "rebuilt: {}", status.raw);
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    println!("entries {}, files {files}, bytes {bytes}", status.replicas[0].committed);
    cluster.stop();
}
