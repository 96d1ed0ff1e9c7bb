//! Three machines with a replica each: network namespaces on a switch, whose links are cut while clients on a fourth one write.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brolga_tests::clients::Clients;
use brolga_tests::cluster::brolga;
use brolga_tests::machines::enter_network;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::serial;
use brolga_tests::trio::{PEER_PORT, Trio, assert_nothing_left};
use brolga_tests::wait::{PATIENCE, until};

const REDIS: [&str; 7] = ["redis-server", "--port", "7000", "--save", "", "--protected-mode", "no"];
const PORT: u16 = 7000;
/// Acknowledged writes between two failures.
const WRITES_BETWEEN: u64 = 300;
/// What a test on a loaded machine may see; the figure to reach is 300 ms, and what was measured is printed.
const GAP_LIMIT: Duration = Duration::from_secs(5);
/// A failure has begun to show after so long.
const LEAST_FAILURE: Duration = Duration::from_millis(100);
/// How long a client waits for a connection, and for an answer: those of a machine that is cut off try another then.
const CONNECT_LIMIT: Duration = Duration::from_millis(300);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A write, and when it was acknowledged.
type Note = (String, Instant);

/// Clients on the fourth machine, one at each replica's address. One that gets no connection there tries the next.
struct Writers {
    clients: Clients<Vec<Note>>,
}

impl Writers {
    fn start(trio: &Trio) -> Self {
        let addresses = [1, 2, 3].map(|id| trio.machines.port(id, PORT));
        let machines = std::sync::Arc::new(trio.machines.network(trio.machines.clients()));
        let work = move |number: usize, control: &brolga_tests::clients::Control| {
            enter_network(&machines).expect("enter the clients' network");
            let (mut notes, mut connection, mut at, mut count) = (Vec::new(), None, number, 0_u64);
            while control.goes_on() {
                let address = addresses[at % addresses.len()];
                let connect = || Redis::connect_to(address, CONNECT_LIMIT, ANSWER_LIMIT);
                let Some(redis) = control.connected(&mut connection, connect) else {
                    at += 1;
                    continue;
                };
                let name = format!("client-{number}:{count}");
                count += 1;
                match redis.call(&["SET", &name, "here"]) {
                    Ok(Reply::Simple(_)) => {
                        notes.push((name, Instant::now()));
                        control.acknowledge();
                    }
                    Ok(other) => panic!("SET {name}: {other:?}"),
                    // Back to the own address, so that never all are at one that is cut off.
                    Err(_) => (connection, at) = (None, number),
                }
            }
            notes
        };
        Self { clients: Clients::start(3, work) }
    }

    fn await_more(&self, count: u64) {
        let goal = self.clients.acknowledged() + count;
        until("clients go on", PATIENCE, || (self.clients.acknowledged() >= goal).then_some(()));
    }

    /// Waits until a failure that began at `since` is over.
    fn await_recovery(&self, since: Instant) {
        // Answers that were on their way still come.
        until("the failure shows", PATIENCE, || (since.elapsed() > LEAST_FAILURE).then_some(()));
        self.await_more(WRITES_BETWEEN);
    }
}

/// The longest time without any acknowledged write that began with or soon after a failure.
fn stall(notes: &[Note], since: Instant) -> Duration {
    let mut moments: Vec<Instant> = notes.iter().map(|(_, moment)| *moment).collect();
    moments.sort();
    let near = moments.windows(2).filter(|pair| pair[1] > since && pair[0] < since + LEAST_FAILURE);
    near.map(|pair| pair[1] - pair[0]).max().expect("writes before and after")
}

/// All that was acknowledged is there.
fn assert_kept(trio: &Trio, notes: &[Note]) {
    let network = trio.machines.network(trio.machines.clients());
    let address = trio.machines.port(1, PORT);
    let names: Vec<String> = notes.iter().map(|(name, _)| name.clone()).collect();
    let look = move || {
        enter_network(&network).expect("enter the clients' network");
        let mut redis = Redis::connect_to(address, PATIENCE, PATIENCE).expect("connect");
        names.into_iter().filter(|name| redis.must(&["GET", name]) == Reply::Bulk(None)).collect::<Vec<_>>()
    };
    let lost = std::thread::spawn(look).join().expect("look at what was written");
    assert!(lost.is_empty(), "acknowledged and missing: {lost:?}");
}

#[test]
fn a_cluster_of_three_machines_outlives_any_one_of_them_and_any_one_link() {
    let _turn = serial::turn();
    let mut trio = Trio::new("machines", &REDIS);
    (1..=3).for_each(|id| trio.start(id));
    trio.await_status(2, "all replicas run and the server listens", |status| {
        (status.complete(3) && !status.leader()?.listeners.is_empty()).then_some(())
    });
    let writers = Writers::start(&trio);
    writers.await_more(WRITES_BETWEEN);
    commands_work_on_each_machine(&trio);

    let old = trio.leader(1);
    let killed = trio.kill(old);
    writers.await_recovery(killed);
    trio.start(old);
    trio.await_level(old);

    let old = trio.leader(1);
    let other = if old == 1 { 2 } else { 1 };
    trio.machines.set_link(old, false);
    let cut = Instant::now();
    writers.await_recovery(cut);
    trio.machines.set_link(old, true);
    trio.await_level(other);

    // The leader's packets do not reach the others, but theirs reach it.
    let old = trio.leader(1);
    let others: Vec<u8> = (1..=3).filter(|id| *id != old).collect();
    trio.machines.deafen(old, &others);
    let deaf = Instant::now();
    writers.await_recovery(deaf);
    trio.machines.hear_again(&others);
    trio.await_level(others[0]);

    let notes: Vec<Note> = writers.clients.finish().into_iter().flatten().collect();
    assert_kept(&trio, &notes);
    println!("{} acknowledged writes, all kept", notes.len());
    let failures =
        [("kill -9 of the leader's machine", killed), ("its link cut", cut), ("it is not heard", deaf)];
    for (failure, moment) in failures {
        let stall = stall(&notes, moment);
        println!("{failure}: no acknowledged write for {stall:?}");
        assert!(stall < GAP_LIMIT, "{failure}");
    }
    (1..=3).for_each(|id| trio.await_level(id));
    trio.stop();
}

/// `signal`, `exec`, `kill`, `start`, `logs` on the own machine; those of other machines are refused.
/// Asks a machine for a change; returns who asks when the replica there has made it an entry, or `None` if it did not.
fn begin_to_remove(trio: &Trio, at: u8, id: u8) -> Option<Child> {
    let made = || trio.log(at).iter().filter(|line| line.contains("the members change to epoch")).count();
    let before = made();
    let mut asks = Command::new(brolga());
    asks.args(["member", "remove", &id.to_string()]).arg("--state").arg(trio.path(&format!("state-{at}")));
    let asks = asks.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut asks = asks.expect("run brolga member");
    let begun = until("the change is begun or refused", PATIENCE, || match made() > before {
        true => Some(true),
        false => asks.try_wait().expect("wait for who asks").map(|_| false),
    });
    begun.then_some(asks)
}

/// The members in the eyes of a machine, when all of `ids` see the same ones.
fn await_same_members(trio: &Trio, by: u8, ids: &[u8]) -> (u64, Vec<u8>) {
    trio.await_status(by, "they agree who takes part", |status| {
        let one = &status.replica(by)?.members;
        let same = ids.iter().all(|&id| status.replica(id).is_some_and(|replica| replica.members == *one));
        same.then(|| (one.epoch, one.list.iter().map(|member| member.id).collect()))
    })
}

#[test]
fn a_change_of_members_that_a_cut_off_leader_began_is_dropped() {
    let _turn = serial::turn();
    let mut trio = Trio::new("machines-change", &REDIS);
    (1..=3).for_each(|id| trio.start(id));
    trio.await_status(2, "all replicas run and the server listens", |status| {
        (status.complete(3) && !status.leader()?.listeners.is_empty()).then_some(())
    });
    let writers = Writers::start(&trio);
    writers.await_more(WRITES_BETWEEN);

    // The leader's cable is out already when it is asked, and it does not know yet. If it is asked too late, it leads no more.
    let (old, others, cut, mut asks) = loop {
        let old = trio.leader(1);
        let others: Vec<u8> = (1..=3).filter(|id| *id != old).collect();
        trio.machines.set_link(old, false);
        let cut = Instant::now();
        if let Some(asks) = begin_to_remove(&trio, old, others[0]) {
            break (old, others, cut, asks);
        }
        trio.machines.set_link(old, true);
        trio.await_level(others[0]);
    };
    writers.await_recovery(cut);
    let seen = await_same_members(&trio, others[0], &others);
    assert_eq!(seen, (0, vec![1, 2, 3]), "nobody else heard of the change");
    trio.machines.set_link(old, true);
    trio.await_level(others[0]);
    asks.kill().and_then(|()| asks.wait()).expect("end who asked");
    assert_eq!(await_same_members(&trio, old, &[1, 2, 3]), (0, vec![1, 2, 3]), "it was dropped");

    let notes: Vec<Note> = writers.clients.finish().into_iter().flatten().collect();
    assert_kept(&trio, &notes);
    println!("{} acknowledged writes, all kept", notes.len());
    trio.stop();
}

fn commands_work_on_each_machine(trio: &Trio) {
    let follower = if trio.leader(1) == 1 { 2 } else { 1 };
    let other = if follower == 1 { "2" } else { "1" };
    let own = follower.to_string();
    let call = |words: &[&str]| {
        let done = trio.call(follower, words);
        let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        (done.status.success(), text)
    };
    assert_eq!(call(&["signal", "WINCH"]), (true, String::new()), "a follower passes it on");
    let (done, text) = call(&["logs"]);
    assert!(done && text.contains("Ready to accept connections"), "{text}");
    let mut exec = Command::new(brolga());
    exec.arg("exec").arg("--state").arg(trio.path(&format!("state-{follower}")));
    let host = exec.args(["-r", &own, "--", "hostname"]).output().expect("run brolga exec");
    assert_eq!(String::from_utf8_lossy(&host.stdout), "brolga\n");
    let (done, text) = call(&["kill", "-r", other]);
    assert!(!done && text.contains("runs on another machine"), "{text}");
    assert!(call(&["kill", "-r", &own]).0);
    trio.await_status(other.parse().expect("an id"), "its death is seen elsewhere", |status| {
        status.raw["replicas"].as_array()?.iter().any(|r| r["process"] == "unreachable").then_some(())
    });
    assert!(call(&["start", "-r", &own]).0);
    trio.await_level(follower);
}

/// What redis answers a client on the fourth machine that asks it at the address of machine `id`.
fn ask(trio: &Trio, id: u8, words: &[&str]) -> Option<Reply> {
    let network = trio.machines.network(trio.machines.clients());
    let address = trio.machines.port(id, PORT);
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    let asked = std::thread::spawn(move || {
        enter_network(&network).expect("enter the clients' network");
        Redis::connect_to(address, CONNECT_LIMIT, ANSWER_LIMIT).ok()?.call(&words).ok()
    });
    asked.join().expect("ask redis")
}

/// A second of the server's time passes: a key that lives so long goes.
fn assert_time_passes(trio: &Trio, id: u8, what: &str) {
    let set = until("redis answers", PATIENCE, || ask(trio, id, &["SET", "brief", "here", "PX", "1000"]));
    assert_eq!(set, Reply::Simple("OK".to_owned()), "{what}");
    until(what, PATIENCE, || (ask(trio, id, &["GET", "brief"])? == Reply::Bulk(None)).then_some(()));
}

#[test]
fn time_goes_on_behind_a_clock_that_was_ahead_and_one_that_is_set_back() {
    let _turn = serial::turn();
    const SECOND: i64 = 1_000_000_000;
    let seconds = |time: Option<Reply>| {
        let first = time?.items().into_iter().next()?;
        String::from_utf8_lossy(&first.bytes()).parse::<i64>().ok()
    };
    let mut trio = Trio::new("clocks", &REDIS);
    (1..=3).for_each(|id| trio.start(id));
    trio.await_level(1);
    let old = trio.leader(1);
    let other = if old == 1 { 2 } else { 1 };
    let before = until("redis tells the time", PATIENCE, || seconds(ask(&trio, other, &["TIME"])));
    trio.shift_clock(old, 86_400 * SECOND);
    let ahead = || seconds(ask(&trio, other, &["TIME"])).filter(|now| *now >= before + 86_400);
    let ahead = until("the leader's clock is a day ahead", PATIENCE, ahead);
    assert_time_passes(&trio, other, "time passes under a leader that is ahead");
    trio.kill(old);
    let after = until("another one leads", PATIENCE, || seconds(ask(&trio, other, &["TIME"])));
    assert!(after >= ahead, "time went back from {ahead} to {after}");
    assert_time_passes(&trio, other, "time passes under a leader that is a day behind");
    let now = trio.leader(other);
    trio.shift_clock(now, -3600 * SECOND);
    assert_time_passes(&trio, other, "time passes when the leader's clock is set back");
    trio.start(old);
    trio.await_level(old);
    trio.stop();
}

/// It ends with an error, says all of `parts` in its one line, and leaves nothing.
fn assert_refused(trio: &Trio, mut command: Command, parts: &[&str]) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start brolga");
    until("brolga replica ends", PATIENCE, || child.try_wait().expect("wait for brolga"));
    let output = child.wait_with_output().expect("the output of brolga");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{parts:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
    assert_nothing_left(trio.scratch());
    assert!(!trio.path("state-2").exists(), "a state directory was made: {error}");
    print!("{error}");
}

#[test]
fn bad_files_keys_and_machines_are_refused_in_one_line() {
    let _turn = serial::turn();
    let trio = Trio::new("bad-machines", &REDIS);
    let good = fs::read_to_string(trio.path("conf/cluster.toml")).expect("read the cluster file");
    let config = trio.path("bad.toml");
    let keys = trio.path("conf/keys");
    let start = |text: &str, id: &str, words: &[&str]| {
        fs::write(&config, text).expect("write a cluster file");
        let mut all = vec!["--config", config.to_str().expect("a plain path"), "--id", id];
        let keys = keys.to_str().expect("a plain path");
        if !words.contains(&"--keys") {
            all.extend(["--keys", keys]);
        }
        let mut command = trio.replica(2, &all);
        command.args(words);
        command
    };
    let edited = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is not in\n{good}");
        good.replacen(from, to, 1)
    };
    let refused = |text: &str, parts: &[&str]| assert_refused(&trio, start(text, "2", &[]), parts);
    refused(&edited("quantum", "quantom"), &["bad.toml line", "unknown field `quantom`"]);
    refused(&edited("format = 1", "format = 2"), &["format 2", "knows format 1 only"]);
    refused(&edited("format = 1", ""), &["says no format"]);
    refused(&edited("[[member]]", "[[member"), &["bad.toml line"]);
    refused(&edited("brolga = \"", "brolga = \"9."), &["version 9.", "same version"]);
    refused(&edited("10.77.0.1:7400", "10.77.0.2:7400"), &["members 1 and 2", "same peer address"]);
    refused(
        &edited("peer = \"10.77.0.2:", "peer = \"10.77.0.9:"),
        &["peer address 10.77.0.9", "no address of this machine"],
    );
    refused(&edited("service = \"10.77.0.2\"", "service = \"10.77.0.9\""), &["service address 10.77.0.9"]);
    refused(&edited("root = true", "root = false"), &["another user than root"]);
    let digest = good.split("sha256 = \"").nth(1).expect("a digest").split('"').next().expect("its text");
    refused(&edited(digest, &"0".repeat(64)), &["not the file of the cluster", "same packages"]);
    assert_refused(&trio, start(&good, "4", &[]), &["no member 4", "1 to 3"]);
    assert_refused(&trio, start(&good, "1", &[]), &["member 1", "no address of this machine"]);
    assert_refused(&trio, start(&good, "2", &["--", "redis-server"]), &["not the cluster's", "--port 7000"]);
    bad_keys(&trio, &keys, &|words| start(&good, "2", words));
    let busy = trio.machines.port(2, PEER_PORT);
    let network = trio.machines.network(2);
    let listen = move || {
        enter_network(&network).expect("enter the machine's network");
        std::net::TcpListener::bind(busy).expect("bind the peer address")
    };
    let _taken = std::thread::spawn(listen).join().expect("listen on the peer address");
    refused(&good, &["cannot listen for peers on 10.77.0.2:7400", "in use"]);
    let again = trio.init(&trio.path("conf"), &REDIS);
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists"), "{again:?}");
    let wrong = trio.init(&trio.path("nowhere"), &["no-such-server"]);
    assert!(!wrong.status.success() && !trio.path("nowhere").exists(), "{wrong:?}");
}

fn bad_keys(trio: &Trio, keys: &Path, start: &dyn Fn(&[&str]) -> Command) {
    let other = trio.path("other");
    assert!(trio.init(&other, &REDIS).status.success(), "make keys of another cluster");
    let place = |name: &str, from: [&Path; 3], mode: u32| {
        let directory = trio.path(name);
        fs::create_dir_all(&directory).expect("make a directory");
        for (file, from) in ["authority.pem", "replica-2.pem", "replica-2.key"].into_iter().zip(from) {
            fs::copy(from, directory.join(file)).expect("copy a key");
        }
        let key = directory.join("replica-2.key");
        fs::set_permissions(key, fs::Permissions::from_mode(mode)).expect("set the key's mode");
        directory.to_str().expect("a plain path").to_owned()
    };
    let own = |file: &str| keys.join(file);
    let (authority, certificate, key) = (own("authority.pem"), own("replica-2.pem"), own("replica-2.key"));
    let open = place("open", [&authority, &certificate, &key], 0o644);
    assert_refused(trio, start(&["--keys", &open]), &["has mode 0644", "chmod 600"]);
    let third = place("third", [&authority, &own("replica-3.pem"), &own("replica-3.key")], 0o600);
    assert_refused(trio, start(&["--keys", &third]), &["not those of member 2", "another replica's"]);
    let mixed = place("mixed", [&authority, &certificate, &own("replica-3.key")], 0o600);
    assert_refused(trio, start(&["--keys", &mixed]), &["not those of member 2"]);
    let foreign = other.join("keys");
    let foreign = [foreign.join("replica-2.pem"), foreign.join("replica-2.key")];
    let foreign = place("foreign", [&authority, &foreign[0], &foreign[1]], 0o600);
    assert_refused(trio, start(&["--keys", &foreign]), &["authority did not sign"]);
    assert_refused(
        trio,
        start(&["--keys", "/nonexistent"]),
        &["cannot read the key file", "copy authority.pem"],
    );
}
