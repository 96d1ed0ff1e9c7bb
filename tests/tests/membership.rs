//! Members come and go under load, replicas are restarted with another build of Brolga, and clusters of other sizes run.

use std::fs;
use std::process::{Child, Output, Stdio};

use brolga_tests::cluster::{Cluster, Plan, brolga};
use brolga_tests::journal::Writer;
use brolga_tests::layers;
use brolga_tests::process;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

/// Writing clients.
const CLIENTS: usize = 4;
/// Acknowledged writes between two events.
const WRITES_BETWEEN: u64 = 500;

fn redis() -> Plan {
    let command = ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"];
    Plan::new(&command).port(6379)
}

fn client(cluster: &Cluster) -> Redis {
    until("redis answers PING", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        (redis.call(&["PING"]).ok()? == Reply::Simple("PONG".into())).then_some(redis)
    })
}

fn progress(writer: &Writer) {
    let goal = writer.acknowledged() + WRITES_BETWEEN;
    until("writes are acknowledged", PATIENCE, || (writer.acknowledged() >= goal).then_some(()));
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// `brolga member ...`, which must succeed, perhaps after the leader that it asked has died.
fn member(cluster: &Cluster, arguments: &[&str]) -> String {
    until("the members change", PATIENCE, || {
        let output = cluster.call(&[&["member"], arguments].concat());
        let told = text(&output);
        assert!(output.status.success() || told.contains("try again"), "{arguments:?}: {told}");
        output.status.success().then_some(told)
    })
}

/// The same, but it must be refused with one line.
fn refused(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.call(&[&["member"], arguments].concat());
    let told = text(&output);
    assert!(!output.status.success() && told.trim_end().lines().count() == 1, "{arguments:?}: {told}");
    told
}

#[test]
fn members_come_and_go_and_nothing_acknowledged_is_lost() {
    let _turn = serial::turn();
    let mut cluster = redis().start("members");
    cluster.await_complete();
    drop(client(&cluster));
    let writer = Writer::start(cluster.port(), CLIENTS);
    progress(&writer);
    assert!(member(&cluster, &["add"]).contains("replica 4 votes"));
    assert!(member(&cluster, &["add"]).contains("replica 5 votes"));
    cluster.expect_replicas(5);
    progress(&writer);
    let old = cluster.leader();
    cluster.kill_replica(old);
    progress(&writer);
    member(&cluster, &["remove", &old.to_string()]);
    cluster.expect_replicas(4);
    assert!(refused(&cluster, &["remove", &old.to_string()]).contains(&format!("no member {old}")));
    assert!(!cluster.state().join(format!("replica-{old}")).exists(), "its files go with it");
    progress(&writer);

    // A follower's disk is lost. While it is down, no other voter can be spared.
    let lost = cluster.follower();
    assert!(cluster.call(&["kill", "--replica", &lost.to_string()]).status.success());
    fs::remove_dir_all(cluster.state().join(format!("replica-{lost}"))).expect("lose a replica's files");
    let told = member(&cluster, &["replace", &lost.to_string()]);
    assert!(told.contains(&format!("replica 6 votes in the place of {lost}")), "{told}");
    progress(&writer);
    writer.rest(true);
    cluster.await_complete();
    let verdict = writer.finish().compare(&mut client(&cluster)).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{verdict:?}");
    let status = cluster.await_level();
    assert!(status.replicas.iter().all(|replica| replica.members.list.len() == 4), "{}", status.raw);
    layers::assert_identical(&cluster.state(), 4);

    // The log says who takes part when the cluster is started again.
    let keys = client(&cluster).must(&["DBSIZE"]);
    cluster.stop();
    cluster.run();
    cluster.await_complete();
    assert_eq!(client(&cluster).must(&["DBSIZE"]), keys);
    assert!(text(&cluster.call(&["member", "list"])).contains("4 members, 4 of them vote"));
    cluster.stop();
}

#[test]
fn a_change_that_would_leave_no_majority_is_refused() {
    let _turn = serial::turn();
    let mut cluster = redis().start("members-refused");
    cluster.await_complete();
    let (leader, down) = (cluster.leader(), cluster.follower());
    let other = 6 - leader - down;
    assert!(cluster.call(&["kill", "--replica", &down.to_string()]).status.success());
    until("the leader misses it", PATIENCE, || {
        let output = cluster.call(&["member", "remove", &other.to_string()]);
        assert!(!output.status.success(), "{}", text(&output));
        text(&output).contains("only 1 of 2 members with a vote would be connected").then_some(())
    });
    assert!(refused(&cluster, &["remove", "77"]).contains("no member 77"));
    assert!(refused(&cluster, &["add", "--member", "10.0.0.9:1"]).contains("leave out --member"));
    // The one that is down can go, and then the last but one.
    member(&cluster, &["remove", &down.to_string()]);
    member(&cluster, &["remove", &other.to_string()]);
    assert!(refused(&cluster, &["remove", &leader.to_string()]).contains("the last one with a vote"));
    client(&cluster).must(&["SET", "alone", "yes"]);
    member(&cluster, &["add"]);
    cluster.expect_replicas(2);
    cluster.await_level();
    cluster.stop();
}

/// The coordinators of all but `leader` stand still, so that nothing is decided: whatever is asked for stays in the middle.
fn hold_followers(cluster: &mut Cluster, leader: u8) -> Vec<i32> {
    let pids = cluster.await_status("all replicas run", |status| {
        let others = status.replicas.iter().filter(|replica| replica.id != leader);
        Some(others.map(|replica| replica.pid).collect::<Vec<_>>()).filter(|pids| !pids.contains(&0))
    });
    pids.iter().for_each(|&pid| process::signal(pid, libc::SIGSTOP));
    pids
}

/// Asks for another member and waits for neither the leader's word nor the end; returns when the leader has made it an entry.
fn begin_to_add(cluster: &Cluster) -> Child {
    let log = |id| cluster.state().join(format!("replica-{id}/coordinator.log"));
    let text = |id: u8| fs::read_to_string(log(id)).unwrap_or_default();
    let made = || (1..=9).map(|id| text(id).matches("the members change to epoch").count()).sum::<usize>();
    let before = made();
    let mut asks = cluster.brolga(&["member", "add"]);
    let asks = asks.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    until("the leader begins the change", PATIENCE, || (made() > before).then_some(()));
    asks.expect("run brolga member")
}

#[test]
fn the_second_of_two_changes_is_refused_and_one_outlives_its_leader() {
    let _turn = serial::turn();
    let mut cluster = redis().start("members-two");
    cluster.await_complete();
    drop(client(&cluster));
    let writer = Writer::start(cluster.port(), CLIENTS);
    progress(&writer);
    let leader = cluster.leader();
    let held = hold_followers(&mut cluster, leader);
    let mut first = begin_to_add(&cluster);
    let told = refused(&cluster, &["add"]);
    held.iter().for_each(|&pid| process::signal(pid, libc::SIGCONT));
    assert!(told.contains("another change of the members is being made (epoch 1): one at a time"), "{told}");
    assert!(first.wait().expect("wait for the first").success(), "the first one is made");
    cluster.expect_replicas(4);
    progress(&writer);

    // The next change is in the leader's log, and perhaps on its way to others, when the leader dies.
    let leader = cluster.leader();
    let held = hold_followers(&mut cluster, leader);
    let mut asks = begin_to_add(&cluster);
    cluster.kill_replica(leader);
    held.iter().for_each(|&pid| process::signal(pid, libc::SIGCONT));
    progress(&writer);
    let count = cluster.await_status("the members agree", |status| {
        let lists: Vec<_> = status.replicas.iter().map(|replica| &replica.members).collect();
        let first = lists.first()?;
        let settled = first.list.iter().all(|member| member.voter) && first.list.len() == lists.len();
        (settled && lists.iter().all(|list| list == first)).then_some(lists.len() as u8)
    });
    assert!(count == 4 || count == 5, "{count} members");
    // If it was dropped, who asked would wait for it for long.
    let _ = asks.kill();
    asks.wait().expect("end who asked");
    cluster.expect_replicas(count + 1);
    member(&cluster, &["add"]);
    progress(&writer);
    writer.rest(true);
    cluster.await_complete();
    writer.finish().compare(&mut client(&cluster)).unwrap_or_else(|wrong| panic!("{wrong}"));
    cluster.await_level();
    println!(
        "the change that its leader did not live to see was {}",
        if count == 5 { "made" } else { "dropped" }
    );
    cluster.stop();
}

#[test]
fn replicas_are_restarted_with_another_build_one_after_the_other() {
    let _turn = serial::turn();
    let mut cluster = redis().start("upgrade");
    cluster.await_complete();
    drop(client(&cluster));
    let next = cluster.directory().join("next");
    fs::create_dir(&next).expect("make a directory");
    let own = brolga();
    let library = own.with_file_name("libbrolga_preload.so");
    for file in [&own, &library] {
        fs::copy(file, next.join(file.file_name().expect("a file"))).expect("install the next build");
    }
    let binary = next.join("brolga");
    let writer = Writer::start(cluster.port(), CLIENTS);
    for id in ["1", "2", "3"] {
        progress(&writer);
        assert!(cluster.call(&["kill", "--replica", id]).status.success());
        progress(&writer);
        let path = binary.to_str().expect("a plain path");
        let output = cluster.call(&["start", "--replica", id, "--binary", path]);
        assert!(output.status.success(), "{}", text(&output));
        writer.rest(true);
        cluster.await_complete();
        writer.rest(false);
    }
    let verdict = writer.finish().compare(&mut client(&cluster)).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{verdict:?}");
    let status = cluster.await_level();
    for replica in &status.replicas {
        let runs = fs::read_link(format!("/proc/{}/exe", replica.pid)).expect("the coordinator runs");
        assert_eq!(runs, binary, "replica {}", replica.id);
    }
    let told = text(&cluster.call(&["start", "--replica", "1", "--binary", "/bin/true"]));
    assert!(told.contains("does not have libbrolga_preload.so beside it"), "{told}");
    cluster.stop();
}

#[test]
fn seven_replicas_lose_their_leader_and_go_on() {
    let _turn = serial::turn();
    let mut cluster = redis().replicas(7).start("seven");
    cluster.await_complete();
    drop(client(&cluster));
    let writer = Writer::start(cluster.port(), CLIENTS);
    progress(&writer);
    let leader = cluster.leader();
    cluster.kill_replica(leader);
    progress(&writer);
    writer.rest(true);
    cluster.await_complete();
    writer.finish().compare(&mut client(&cluster)).unwrap_or_else(|wrong| panic!("{wrong}"));
    cluster.await_level();
    cluster.stop();
}
