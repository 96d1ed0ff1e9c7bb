//! `brolga restore`: a person chooses the checkpoint from which a replica comes back.

use std::path::Path;
use std::process::Output;

use brolga_tests::checkpoints::{checkpoint, of as checkpoints};
use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::resp::Redis;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, until};

fn redis(cluster: &Cluster) -> Redis {
    until("redis answers", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        redis.call(&["PING"]).ok().map(|_| redis)
    })
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn increments(cluster: &Cluster, times: usize) {
    let mut redis = redis(cluster);
    (0..times).for_each(|_| _ = redis.must(&["INCR", "counter"]));
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("read a file");
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("write it again");
}

#[test]
fn an_operator_chooses_a_checkpoint() {
    let _turn = serial::turn();
    let command = ["redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"];
    let mut cluster = Plan::new(&command).port(6379).start("restore");
    cluster.await_complete();
    increments(&cluster, 500);
    let victim = cluster.follower();
    let id = victim.to_string();
    let none = cluster.call(&["restore", "--replica", &id]);
    assert!(!none.status.success() && printed(&none).contains("has no checkpoint"), "{}", printed(&none));
    let first = checkpoint(&cluster, victim);
    increments(&cluster, 500);
    let second = checkpoint(&cluster, victim);
    increments(&cluster, 500);
    assert!(!cluster.call(&["restore"]).status.success(), "which one, of a running cluster?");
    let wrong = cluster.call(&["restore", "-r", &id, "--checkpoint", "1"]);
    let has = format!("has no checkpoint at entry 1, but those at {second}, {first}");
    assert!(!wrong.status.success() && printed(&wrong).contains(&has), "{}", printed(&wrong));
    // The older one, with clients at work.
    let restored = cluster.call(&["restore", "-r", &id, "--checkpoint", &first.to_string()]);
    let text = printed(&restored);
    println!("{text}");
    assert!(
        restored.status.success() && text.contains(&format!("from the checkpoint at entry {first},")),
        "{text}"
    );
    assert!(text.contains("its digests are the leader's"), "{text}");
    let status = cluster.await_level();
    assert_eq!(checkpoints(&status, victim).restored_from, Some(first));
    // A damaged one is refused before anything is stopped, whatever the place of the damage.
    let directory = cluster.state().join(format!("replica-{id}/checkpoints/{second}"));
    for name in ["arena", "images/pages-1.img", "images/core-1000.img"] {
        let path = directory.join(name);
        let length = std::fs::metadata(&path).expect("look at the file").len() as usize;
        for at in [0, length / 3, length - 1] {
            flip(&path, at);
            let before = status.replica(victim).map(|replica| replica.pid);
            let refused = cluster.call(&["restore", "-r", &id]);
            let text = printed(&refused);
            assert!(!refused.status.success() && text.contains(name) && text.contains("expected"), "{text}");
            let now = cluster.status().and_then(|s| s.replica(victim).map(|replica| replica.pid));
            assert_eq!(now, before, "it was stopped for the sake of a damaged checkpoint");
            flip(&path, at);
        }
    }
    // Both of several damaged files are named.
    flip(&directory.join("arena"), 9);
    flip(&directory.join("images/core-1000.img"), 9);
    let list = cluster.call(&["restore", "--list"]);
    let text = printed(&list);
    assert!(!list.status.success(), "{text}");
    assert!(text.contains(&format!("replica {id}: checkpoint at entry {first},")), "{text}");
    let damaged = text.lines().find(|line| line.contains("DAMAGED")).expect("the damage is told");
    assert!(damaged.contains("arena, bytes 0 to") && damaged.contains("core-1000.img"), "{damaged}");
    flip(&directory.join("arena"), 9);
    flip(&directory.join("images/core-1000.img"), 9);
    assert!(cluster.call(&["restore", "--list"]).status.success());
    // Of a cluster that does not run.
    cluster.stop();
    let prepared = cluster.call(&["restore", "--checkpoint", &first.to_string()]);
    let text = printed(&prepared);
    assert!(prepared.status.success() && text.contains(&format!("replica {id}: restores")), "{text}");
    assert!(text.contains("it starts as usual"), "the others have none: {text}");
    cluster.run();
    cluster.await_complete();
    let status = cluster.await_level();
    assert_eq!(checkpoints(&status, victim).restored_from, Some(first));
    assert_eq!(redis(&cluster).must(&["GET", "counter"]).bytes(), b"1500");
    cluster.stop();
}
