//! Checkpoints of real servers with their clients connected: a replica that died comes back from one, and is in the state of the
//! others.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use brolga_tests::checkpoints::{
    checkpoint, checkpoint_of_follower, is_of_role, kill, of as checkpoints, restore_web_server,
};
use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::layers;
use brolga_tests::ledger::compile;
use brolga_tests::memcache::Memcache;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::small_disk::SmallDisk;
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::web_servers;
use coordinator::checkpoint::LOG_RESERVE_BYTES;

/// Keys before a checkpoint, and after it.
const KEYS: usize = 2000;
/// Checkpoints that may be taken before one is caught in the middle.
const MOST_MISSED: usize = 10;

fn redis() -> Plan {
    let command =
        ["redis-server", "--port", "6379", "--save", "", "--appendonly", "yes", "--protected-mode", "no"];
    Plan::new(&command).port(6379)
}

fn client(cluster: &Cluster) -> Redis {
    until("redis answers PING", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        (redis.call(&["PING"]).ok()? == Reply::Simple("PONG".into())).then_some(redis)
    })
}

fn fill(redis: &mut Redis, from: usize) {
    for number in from..from + KEYS {
        redis.send(&["SET", &format!("k{number}"), &number.to_string()]).expect("send");
    }
    for _ in 0..KEYS {
        assert_eq!(redis.receive().expect("an answer"), Reply::Simple("OK".into()));
    }
}

#[test]
fn redis_comes_back_from_a_checkpoint_that_was_taken_under_load() {
    let _turn = serial::turn();
    let mut cluster = redis().start("checkpoint-redis");
    cluster.await_complete();
    let mut redis = client(&cluster);
    let mut subscriber = client(&cluster);
    subscriber.must(&["SUBSCRIBE", "news"]);
    fill(&mut redis, 0);
    let victim = cluster.follower();
    let stop = AtomicBool::new(false);
    let (entry, increments) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut redis = client(&cluster);
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                done += 1;
                assert_eq!(redis.must(&["INCR", "counter"]).number(), done);
            }
            done
        });
        // The second one is of a server with the images of the first behind it, and replaces nothing of it.
        let first = checkpoint(&cluster, victim);
        let second = checkpoint(&cluster, victim);
        assert!(second > first, "entries went on between two checkpoints: {first}, {second}");
        stop.store(true, Ordering::Relaxed);
        (second, load.join().expect("the load failed"))
    });
    fill(&mut redis, KEYS);
    let restored = kill(&mut cluster, victim);
    assert_eq!((restored.restored_from, restored.restore_error), (Some(entry), None));
    // The clients' connections were those of the leader all the time.
    assert_eq!(redis.must(&["PUBLISH", "news", "hello"]), Reply::Integer(1));
    assert_eq!(subscriber.receive().expect("the message").items()[2].clone().bytes(), b"hello");
    fill(&mut redis, 2 * KEYS);
    cluster.await_level();
    // A checkpoint of a restored server is as good as any, and a restored server can lead.
    let entry = checkpoint(&cluster, victim);
    assert_eq!(kill(&mut cluster, victim).restored_from, Some(entry));
    cluster.await_level();
    cluster.make_leader(victim);
    let mut redis = client(&cluster);
    assert_eq!(redis.must(&["DBSIZE"]).number(), 3 * KEYS as i64 + 1);
    assert_eq!(redis.must(&["GET", "counter"]).bytes(), increments.to_string().into_bytes());
    redis.must(&["SET", "last", "word"]);
    cluster.await_level();
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    println!("files {files}, bytes {bytes}");
    cluster.stop();
}

#[test]
fn a_damaged_checkpoint_is_named_and_not_used() {
    let _turn = serial::turn();
    let mut cluster = redis().start("checkpoint-damaged");
    cluster.await_complete();
    fill(&mut client(&cluster), 0);
    let victim = cluster.follower();
    let entry = checkpoint(&cluster, victim);
    let directory = cluster.state().join(format!("replica-{victim}/checkpoints/{entry}"));
    let images = directory.join("images/pages-1.img");
    let mut bytes = std::fs::read(&images).expect("the image of the pages");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&images, bytes).expect("flip a bit");
    let status = kill(&mut cluster, victim);
    let error = status.restore_error.expect("the damage is told");
    assert!(
        error.contains("pages-1.img, bytes ")
            && error.contains("expected CRC")
            && error.contains("found CRC"),
        "{error}"
    );
    assert_eq!(status.restored_from, None, "the log was replayed from entry 0");
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}

/// CRIU needs descriptors above the server's.
#[test]
fn the_usual_limit_of_open_files_is_enough_for_a_restore() {
    let _turn = serial::turn();
    let mut cluster = redis().open_files(16_384).start("checkpoint-files");
    cluster.await_complete();
    fill(&mut client(&cluster), 0);
    let (victim, entry) = checkpoint_of_follower(&mut cluster);
    let restored = kill(&mut cluster, victim);
    assert_eq!((restored.restored_from, restored.restore_error), (Some(entry), None));
    cluster.await_level();
    cluster.stop();
}

#[test]
fn the_leader_takes_none_and_says_so() {
    let _turn = serial::turn();
    let mut cluster = redis().start("checkpoint-leader");
    cluster.await_complete();
    fill(&mut client(&cluster), 0);
    let leader = cluster.leader();
    let output = cluster.call(&["checkpoint", "--replica", &leader.to_string()]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("it leads"), "{error}");
    assert_eq!(cluster.leader(), leader, "nothing else came of it");
    cluster.await_level();
    cluster.stop();
}

/// With one replica the clients wait for the checkpoint, and nothing else happens to them.
#[test]
fn a_replica_without_others_takes_one_while_its_clients_wait() {
    let _turn = serial::turn();
    let mut cluster = redis().replicas(1).start("checkpoint-one");
    cluster.await_complete();
    let mut redis = client(&cluster);
    fill(&mut redis, 0);
    let stop = AtomicBool::new(false);
    let (entry, increments) = std::thread::scope(|scope| {
        let loads: Vec<_> = (0..4)
            .map(|number| {
                let (cluster, stop) = (&cluster, &stop);
                scope.spawn(move || {
                    let (mut redis, counter) = (client(cluster), format!("counter{number}"));
                    let mut done = 0;
                    while !stop.load(Ordering::Relaxed) {
                        done += 1;
                        assert_eq!(redis.must(&["INCR", &counter]).number(), done);
                    }
                    done
                })
            })
            .collect();
        checkpoint(&cluster, 1);
        let entry = checkpoint(&cluster, 1);
        stop.store(true, Ordering::Relaxed);
        (entry, loads.into_iter().map(|load| load.join().expect("the load failed")).collect::<Vec<_>>())
    });
    fill(&mut redis, KEYS);
    let restored = kill(&mut cluster, 1);
    assert_eq!((restored.restored_from, restored.restore_error), (Some(entry), None));
    let mut redis = client(&cluster);
    assert_eq!(redis.must(&["DBSIZE"]).number(), 2 * KEYS as i64 + 4);
    for (number, done) in increments.iter().enumerate() {
        assert_eq!(redis.must(&["GET", &format!("counter{number}")]).bytes(), done.to_string().into_bytes());
    }
    assert!(cluster.logged("DIVERGED").is_empty());
    // The log tells the same story to a server that was restored nowhere.
    cluster.stop();
    let replay = cluster.call(&["replay", "--replica", "1"]);
    assert!(replay.status.success(), "{}", String::from_utf8_lossy(&replay.stderr));
}

/// A checkpoint leaves the log its room.
#[test]
fn a_nearly_full_disk_keeps_its_room_for_the_log() {
    let _turn = serial::turn();
    let scratch = Scratch::new("checkpoint-full");
    let disk = SmallDisk::mount(&scratch.path().join("state"), "600m");
    let mut cluster = redis().start_in(scratch);
    cluster.await_complete();
    let mut redis = client(&cluster);
    fill(&mut redis, 0);
    let victim = cluster.follower();
    checkpoint(&cluster, victim);
    disk.leave(LOG_RESERVE_BYTES - 1);
    let output = cluster.call(&["checkpoint", "--replica", &victim.to_string()]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let reserve = format!("{} MB are left to the log", LOG_RESERVE_BYTES >> 20);
    assert!(!output.status.success() && error.contains(&reserve), "{error}");
    let status = checkpoints(&cluster.status().expect("a status"), victim);
    assert_eq!((status.kept.len(), status.failed), (1, 1), "the one that is there is kept");
    // The replicas go on.
    fill(&mut redis, KEYS);
    cluster.await_level();
    disk.make_room();
    checkpoint(&cluster, victim);
    cluster.await_level();
    cluster.stop();
    drop(disk);
}

#[test]
fn memcached_comes_back_with_its_threads() {
    let _turn = serial::turn();
    let command = ["memcached", "-t", "4", "-p", "11211", "-u", "nobody"];
    let mut cluster = Plan::new(&command).port(11211).start("checkpoint-memcached");
    cluster.await_complete();
    let mut memcache = until("memcached answers", PATIENCE, || {
        let mut memcache = Memcache::connect(cluster.port()).ok()?;
        memcache.get("nothing").ok().map(|_| memcache)
    });
    let fill = |memcache: &mut Memcache, from: usize| {
        (from..from + KEYS).for_each(|n| memcache.set(&n.to_string(), b"value").expect("it is stored"));
    };
    fill(&mut memcache, 0);
    let victim = cluster.follower();
    let entry = checkpoint(&cluster, victim);
    fill(&mut memcache, KEYS);
    assert_eq!(kill(&mut cluster, victim).restored_from, Some(entry));
    fill(&mut memcache, 2 * KEYS);
    cluster.await_level();
    assert_eq!(memcache.get("0").expect("an answer"), Some(b"value".to_vec()));
    cluster.stop();
}

/// Processes, with connections that are kept open over the checkpoint.
#[test]
fn nginx_comes_back_with_its_processes() {
    let _turn = serial::turn();
    restore_web_server(web_servers::nginx("checkpoint-nginx"), "/page");
}

/// The server of which CRIU was about to write an image is started anew, because CRIU's own code may be in it.
#[test]
fn a_replica_survives_the_death_of_criu() {
    let _turn = serial::turn();
    let mut cluster = redis().start("checkpoint-death");
    cluster.await_complete();
    let mut redis = client(&cluster);
    fill(&mut redis, 0);
    // On a busy machine CRIU may be done before anybody sees it, or when the signal comes, and leaders change: then it is asked for again.
    let caught = (0..MOST_MISSED).find_map(|_| kill_criu(&mut cluster));
    let (victim, kept) = caught.expect("CRIU was killed before it was done");
    cluster.await_status("the failure is told", |status| {
        let checkpoints = checkpoints(status, victim);
        (checkpoints.failed > 0 && checkpoints.kept.len() == kept).then_some(())
    });
    fill(&mut redis, KEYS);
    cluster.await_complete();
    cluster.await_level();
    assert!(cluster.logged("DIVERGED").is_empty(), "a server with CRIU's code in it ran on");
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}

/// Asks a follower for a checkpoint and kills the CRIU that takes it. Returns the follower, and how many it had before; `None` if that came
/// too late.
fn kill_criu(cluster: &mut Cluster) -> Option<(u8, usize)> {
    let victim = cluster.follower();
    let replica = cluster.status()?.replica(victim)?.clone();
    let own = namespace_of(&replica.container_pid.to_string())?;
    let mut asked = cluster.brolga(&["checkpoint", "--replica", &victim.to_string()]);
    let mut asked = asked.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("run brolga");
    let killed = until("CRIU works in the replica, or has ended", PATIENCE, || {
        if asked.try_wait().expect("look at the command").is_some() {
            return Some(false);
        }
        kill_process(criu_in(&own)?).map(|()| true)
    });
    let ended = asked.wait_with_output().expect("the command ends");
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    let failed = !ended.status.success();
    assert!(
        !failed || killed || is_of_role(&error),
        "no checkpoint was taken, though nobody killed CRIU: {error}"
    );
    (failed && killed).then_some((victim, replica.checkpoints.kept.len()))
}

/// CRIU looks at the kernel ahead of a checkpoint, in a process for which nobody waits any more when the replica has died.
#[test]
fn what_looks_at_the_kernel_ends_with_its_replica() {
    let _turn = serial::turn();
    let scratch = Scratch::new("checkpoint-endless");
    let (source, endless) = (scratch.path().join("endless.c"), scratch.path().join("endless"));
    std::fs::write(&source, "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n").expect("write it");
    compile(Command::new("cc").arg(&source).arg("-o").arg(&endless));
    let mut cluster = redis().criu(&endless).start("checkpoint-probe");
    cluster.await_complete();
    let victim = cluster.follower();
    let mut asked = cluster.brolga(&["checkpoint", "--replica", &victim.to_string()]);
    let asked = asked.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut asked = asked.spawn().expect("run brolga");
    until("CRIU looks at the kernel", PATIENCE, || runs(&endless).then_some(()));
    cluster.kill_replica(victim);
    until("it ends with its replica", PATIENCE, || (!runs(&endless)).then_some(()));
    assert!(!asked.wait().expect("the command ends").success());
    cluster.await_complete();
    cluster.stop();
}

/// Whether a process executes this file.
fn runs(program: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").expect("list /proc").flatten();
    processes
        .map(|entry| entry.path().join("exe"))
        .any(|exe| std::fs::read_link(exe).is_ok_and(|exe| exe == program))
}

fn namespace_of(pid: &str) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// CRIU's process in this namespace, if there is one.
fn criu_in(namespace: &Path) -> Option<i32> {
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().into_string().ok());
    // There are few of them, so this is looked at first.
    let mut works = pids.filter(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.windows(6).any(|word| word == b"\0swrk\0"))
    });
    works.find(|pid| namespace_of(pid).as_deref() == Some(namespace))?.parse().ok()
}

fn kill_process(pid: i32) -> Option<()> {
    // SAFETY: a plain system call; the process was found in the replica's own namespace.
    (unsafe { libc::kill(pid, libc::SIGKILL) } == 0).then_some(())
}

#[test]
fn followers_take_turns() {
    let _turn = serial::turn();
    let mut cluster = redis().options(&["--checkpoint-every", "1s"]).start("checkpoint-every");
    cluster.await_complete();
    let leader = cluster.leader();
    fill(&mut client(&cluster), 0);
    cluster.await_status("both followers have taken a checkpoint", |status| {
        let taken = |id| checkpoints(status, id).taken > 0;
        (1..=3).filter(|&id| id != leader).all(taken).then_some(())
    });
    assert_eq!(checkpoints(&cluster.status().expect("a status"), leader).taken, 0, "the leader takes none");
    cluster.await_level();
    cluster.stop();
}
