//! The commands beside `brolga run`, as a person uses them on a running cluster.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use brolga_tests::cluster::{self, Cluster, Plan};
use brolga_tests::resp::Redis;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn redis(cluster: &Cluster) -> Redis {
    until("redis answers", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        redis.call(&["PING"]).ok().map(|_| redis)
    })
}

fn start(label: &str) -> Cluster {
    let command = ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"];
    let mut cluster = Plan::new(&command).port(6379).start(label);
    cluster.await_complete();
    cluster
}

#[test]
fn kill_keeps_a_replica_down_until_start() {
    let _turn = serial::turn();
    let mut cluster = start("killed");
    for leader in [true, false] {
        let victim = if leader { cluster.leader() } else { cluster.follower() };
        let id = victim.to_string();
        assert!(cluster.call(&["kill", "--replica", &id]).status.success());
        let again = cluster.call(&["kill", "--replica", &id]);
        assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("already"));
        redis(&cluster).must(&["INCR", "counter"]);
        let table = text(&cluster.call(&["status"]));
        let row = table.lines().find(|line| line.starts_with(&id)).expect("a row of the replica");
        assert!(row.contains("stopped"), "{table}");
        assert!(cluster.call(&["start", "--replica", &id]).status.success());
        cluster.await_complete();
    }
    assert_eq!(redis(&cluster).must(&["GET", "counter"]).bytes(), b"2");
    cluster.await_level();
    let missing = cluster.call(&["kill", "--replica", "9"]);
    assert!(
        !missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("they are 1, 2, 3")
    );
    assert!(cluster.call(&["stop"]).status.success());
    assert!(cluster.await_end().success());
    cluster.assert_nothing_left();
}

#[test]
fn exec_looks_inside_and_changes_nothing() {
    let _turn = serial::turn();
    let mut cluster = start("looked-at");
    let exec = |cluster: &Cluster, script: &str| {
        cluster.brolga(&["exec"]).args(["--replica", "2", "sh", "-c", script]).output().expect("run brolga")
    };
    assert_eq!(text(&exec(&cluster, "hostname")).trim(), "brolga");
    // Tools want /proc/self, and it must not be the replica's own /proc that is changed for them.
    assert!(exec(&cluster, "test -r /proc/self/status").status.success());
    assert_eq!(exec(&cluster, "exit 7").status.code(), Some(7));
    redis(&cluster).must(&["SAVE"]);
    // A follower is behind what its leader has answered.
    cluster.await_level();
    assert!(exec(&cluster, "test -s dump.rdb").status.success(), "{}", text(&exec(&cluster, "ls -la")));
    assert!(!cluster.data().join("dump.rdb").exists(), "the replica's file is in its layer only");
    let logs = text(&cluster.call(&["logs", "--replica", "3"]));
    assert!(logs.contains("Ready to accept connections"), "{logs}");
    cluster.stop();
}

#[test]
fn completions_are_scripts_and_every_command_has_its_page() {
    let brolga = |words: &[&str]| Command::new(cluster::brolga()).args(words).output().expect("run brolga");
    let script = text(&brolga(&["completions", "bash"]));
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("run bash");
    bash.stdin.take().expect("its input").write_all(script.as_bytes()).expect("give it the script");
    assert!(bash.wait().expect("wait for bash").success(), "bash cannot read the script");
    for shell in ["zsh", "fish"] {
        let script = text(&brolga(&["completions", shell]));
        assert!(script.contains("brolga") && script.contains("durability"), "{shell}: {script}");
    }
    let help = text(&brolga(&["--help"]));
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|l| !l.is_empty());
    for command in listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        let page = text(&brolga(&["man", command]));
        assert!(page.contains(&format!(".TH brolga-{command} 1")), "{command}: {page}");
        assert!(brolga(&["help", command]).status.success(), "{command}");
    }
    assert!(!brolga(&["man", "no-such-command"]).status.success());
}
