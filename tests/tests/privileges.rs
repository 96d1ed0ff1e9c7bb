//! Servers that are started as root and become another user: their processes, and the files that they write, are that
//! user's in every replica. Needs root, as such servers do; in a user namespace there is no other user to become.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::http::Http;
use brolga_tests::layers;
use brolga_tests::memcache::Memcache;
use brolga_tests::process;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, poll, until};

/// `UID:GID` of a user of this machine.
fn ids(user: &str) -> String {
    let number = |which: &str| {
        let output = Command::new("id").args([which, user]).output().expect("run id");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    format!("{}:{}", number("-u"), number("-g"))
}

/// `UID:GID` of a process, all four of each kind.
fn owner(pid: i32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let mut numbers = line.split_whitespace();
        let first = numbers.next()?;
        numbers.all(|number| number == first).then(|| first.to_owned())
    };
    Some(format!("{}:{}", of("Uid:")?, of("Gid:")?))
}

/// The owners of all processes of the server in each replica, in order of their ids.
fn owners(cluster: &Cluster) -> Vec<Vec<String>> {
    let Some(status) = cluster.status() else { return Vec::new() };
    let of = |container: i32| {
        let mut all = process::tree(container);
        all.retain(|process| process.pid != container && process.state != 'Z');
        all.sort_by_key(|process| process.pid);
        all.iter().filter_map(|process| owner(process.pid)).collect()
    };
    status.replicas.iter().map(|replica| of(replica.container_pid)).collect()
}

/// Waits until each replica's processes are theirs: a follower is a little behind, and one that comes back has to replay first.
fn await_owners(cluster: &Cluster, expected: &[String]) {
    let mut last = Vec::new();
    let all = poll(PATIENCE, || {
        last = owners(cluster);
        (last == vec![expected.to_vec(); 3]).then_some(())
    });
    assert!(all.is_some(), "owners of the processes: {last:?}, not {expected:?} in each");
}

#[test]
fn memcached_becomes_another_user() {
    let _turn = serial::turn();
    let command = ["memcached", "-t", "2", "-p", "11211", "-u", "nobody"];
    let mut cluster = Plan::new(&command).port(11211).start("nobody");
    cluster.await_complete();
    let mut memcache = Memcache::connect(cluster.port()).expect("connect");
    memcache.set("key", b"value").expect("store");
    cluster.await_level();
    await_owners(&cluster, &[ids("nobody")]);
    let victim = cluster.leader();
    cluster.kill_replica(victim);
    cluster.await_complete();
    let value = until("memcached answers", PATIENCE, || {
        Memcache::connect(cluster.port()).ok()?.get("key").ok().flatten()
    });
    assert_eq!(value, b"value");
    await_owners(&cluster, &[ids("nobody")]);
    cluster.stop();
}

#[test]
fn nginx_serves_as_another_user_whose_files_are_its_own() {
    let _turn = serial::turn();
    let scratch = Scratch::new("www-data");
    let data = scratch.path().join("data");
    fs::create_dir_all(data.join("up")).expect("make the upload directory");
    fs::set_permissions(data.join("up"), fs::Permissions::from_mode(0o777)).expect("open it to all");
    let place = data.display();
    let configuration = format!(
        "user www-data; worker_processes 1; pid {place}/nginx.pid; error_log {place}/error.log;
         events {{}}
         http {{
           access_log off; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;
           fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
           server {{ listen 80; root {place}; location /up/ {{ dav_methods PUT; }} }}
         }}"
    );
    fs::write(data.join("nginx.conf"), configuration).expect("write the configuration");
    let conf = data.join("nginx.conf");
    let command = ["nginx", "-c", conf.to_str().expect("a plain path"), "-g", "daemon off;"];
    let mut cluster = Plan::new(&command).port(80).start_in(scratch);
    cluster.await_complete();
    let mut http = Http::connect(cluster.port()).expect("connect");
    assert_eq!(http.put("/up/page", b"mine").expect("an upload").code, 201);

    // The master and its worker.
    let (root, user) = (ids("root"), ids("www-data"));
    await_owners(&cluster, &[root.clone(), user.clone()]);
    // The followers do what the leader has answered, and a little later.
    layers::assert_identical(&cluster.state(), 3);
    for layer in layers::of_state(&cluster.state()) {
        let picture = layers::picture(&layer);
        let owned_by = |name: &str, owner: &str| {
            let (path, (kind, _)) =
                picture.iter().find(|(path, _)| path.ends_with(name)).expect("a file that nginx wrote");
            assert!(kind.ends_with(&format!(" {owner}")), "{}: {kind}, not {owner}", path.display());
        };
        owned_by("up/page", &user);
        owned_by("nginx.pid", &root);
    }
    cluster.stop();
}
