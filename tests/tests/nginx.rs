//! Three replicas of an unmodified nginx: static files, keep-alive, sendfile, big bodies, HTTPS with one worker; with a worker
//! for each CPU a thread pool, an upstream in the replica, reloads, and workers that are killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::h2load;
use brolga_tests::http::{Http, Https};
use brolga_tests::layers;
use brolga_tests::process;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::stores::Stores;
use brolga_tests::wait::{PATIENCE, until};
use brolga_tests::workload::{Failure, Workload};

const BIG_BYTES: usize = 100 << 20;
/// A coordinator's own memory at the most: its buffers and the in-memory tail of its log.
const COORDINATOR_BYTES: u64 = 128 << 20;

/// Clients over HTTP while replicas die, and as many over HTTPS.
const CLIENTS: usize = 4;
/// Files that each of them stores; then it only looks at them.
const FILES: u64 = 500;
/// Acknowledged requests of each kind before a failure, and after it.
const REQUESTS_BETWEEN: u64 = 300;
/// What a test on a loaded machine may see, TLS handshakes of all clients at once included.
const GAP_LIMIT: Duration = Duration::from_secs(5);

/// Bytes that do not repeat and are cheap to make.
fn pattern(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut words = Vec::with_capacity(bytes + 8);
    while words.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        words.extend(state.to_le_bytes());
    }
    words.truncate(bytes);
    words
}

fn configuration(data: &Path) -> String {
    let data = data.display();
    format!(
        "user www-data; worker_processes 1; pid {data}/nginx.pid; error_log {data}/error.log;
         events {{ worker_connections 1024; }}
         http {{
           access_log {data}/access.log; sendfile on; keepalive_requests 100000; client_max_body_size 2g;
           client_body_temp_path {data}/body; proxy_temp_path {data}/proxy; fastcgi_temp_path {data}/fastcgi;
           uwsgi_temp_path {data}/uwsgi; scgi_temp_path {data}/scgi;
           server {{ listen 80; root {data}/www; location /up/ {{ root {data}; dav_methods PUT DELETE; }} }}
           server {{ listen 443 ssl http2; root {data}/www;
                     ssl_certificate {data}/cert.pem; ssl_certificate_key {data}/key.pem;
                     ssl_protocols TLSv1.2 TLSv1.3;
                     location /up/ {{ root {data}/secure; dav_methods PUT DELETE; }} }}
         }}"
    )
}

fn start(label: &str) -> Cluster {
    let scratch = Scratch::new(label);
    let data = scratch.path().join("data");
    fs::create_dir_all(data.join("www")).expect("make the site");
    for up in ["up", "secure/up"] {
        fs::create_dir_all(data.join(up)).expect("make an upload directory");
        fs::set_permissions(data.join(up), fs::Permissions::from_mode(0o777))
            .expect("open an upload directory");
    }
    fs::write(data.join("www/index.html"), "<h1>Brolga</h1>").expect("write a page");
    fs::write(data.join("www/big"), pattern(BIG_BYTES)).expect("write a big file");
    fs::write(data.join("nginx.conf"), configuration(&data)).expect("write the configuration");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(&data)
        .output()
        .expect("run openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let conf = data.join("nginx.conf");
    let command = ["nginx", "-c", conf.to_str().expect("a plain path"), "-g", "daemon off;"];
    let mut cluster = Plan::new(&command).port(80).port(443).start_in(scratch);
    cluster.await_complete();
    cluster
}

fn client(cluster: &Cluster) -> Http {
    until("nginx answers", PATIENCE, || {
        let mut http = Http::connect(cluster.port()).ok()?;
        http.get("/").ok().map(|_| http)
    })
}

/// The most that one coordinator holds for itself now: its anonymous memory, not its mapped log and arena.
fn coordinator_memory(cluster: &Cluster) -> u64 {
    let Some(status) = cluster.status() else { return 0 };
    let of = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
    };
    status.replicas.iter().filter(|r| process::alive(r.pid)).filter_map(|r| of(r.pid)).max().unwrap_or(0)
}

#[test]
fn pages_big_bodies_and_https_work_and_any_replica_may_be_killed() {
    let _turn = serial::turn();
    let mut cluster = start("nginx");
    let mut http = client(&cluster);
    for _ in 0..500 {
        assert_eq!(http.get("/index.html").expect("a page").body, b"<h1>Brolga</h1>");
    }
    assert_eq!(http.get("/nothing").expect("an answer").code, 404);
    let url = format!("https://localhost:{}/index.html", cluster.published(1));
    let secure = Command::new("curl")
        .args(["-sSk", "--tls-max", "1.2", "--max-time", "30", &url])
        .output()
        .expect("run curl");
    assert_eq!(secure.stdout, b"<h1>Brolga</h1>", "{}", String::from_utf8_lossy(&secure.stderr));

    let big = pattern(BIG_BYTES);
    let begin = Instant::now();
    assert!(http.get("/big").expect("the big file").body == big, "the big file came changed");
    let down = begin.elapsed();
    let begin = Instant::now();
    let code = http.put("/up/big", &big).expect("an upload").code;
    assert!(code == 201 || code == 204, "upload: {code}");
    let up = begin.elapsed();
    // Its ETag is made of its modification time, also in the replicas that replay this below.
    assert!(http.get("/up/big").expect("the uploaded file").body == big, "the uploaded file came changed");
    assert!(
        coordinator_memory(&cluster) < COORDINATOR_BYTES,
        "a coordinator holds {}",
        coordinator_memory(&cluster)
    );
    println!("100 MB down {down:?}, up {up:?}; a coordinator holds {} bytes", coordinator_memory(&cluster));

    for leader in [true, false] {
        let victim = if leader { cluster.leader() } else { cluster.follower() };
        cluster.kill_replica(victim);
        let mut http = client(&cluster);
        assert_eq!(http.get("/index.html").expect("a page").body, b"<h1>Brolga</h1>");
        assert_eq!(h2load::run(cluster.published(1), "/index.html", 1000), Ok(1000));
        cluster.await_complete();
    }
    assert_eq!(client(&cluster).put("/up/small", b"after").expect("an upload").code, 201);
    let status = cluster.await_level();
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    println!("entries {}, files {files}, bytes {bytes}", status.replicas[0].committed);
    cluster.stop();
}

/// Waits until all of these clients have had so many more answers.
fn progress(loads: &mut [Box<dyn Workload>], more: u64) {
    let goals: Vec<_> = loads.iter_mut().map(|load| load.acknowledged() + more).collect();
    until("requests of both kinds are answered", PATIENCE, || {
        let done = loads.iter_mut().zip(&goals).all(|(load, goal)| load.acknowledged() >= *goal);
        done.then_some(())
    });
}

#[test]
fn kept_connections_lose_nothing_when_the_leader_and_a_follower_are_killed() {
    let _turn = serial::turn();
    let mut cluster = start("nginx-load");
    drop(client(&cluster));
    let mut secure = Https::connect_secure(cluster.published(1)).expect("connect");
    assert_eq!(secure.get("/index.html").expect("a page over TLS").body, b"<h1>Brolga</h1>");
    let mut loads: Vec<Box<dyn Workload>> = vec![
        Box::new(Stores::<Http>::start(cluster.port(), CLIENTS, FILES)),
        Box::new(Stores::<Https>::start(cluster.published(1), CLIENTS, FILES)),
    ];
    let mut failures = Vec::new();
    for leader in [true, false] {
        progress(&mut loads, REQUESTS_BETWEEN);
        let victim = if leader { cluster.leader() } else { cluster.follower() };
        let killed = cluster.kill_replica(victim);
        progress(&mut loads, REQUESTS_BETWEEN);
        failures.push(Failure::since(killed));
        loads.iter_mut().for_each(|load| load.rest(true));
        cluster.await_complete();
        loads.iter_mut().for_each(|load| load.rest(false));
    }
    for (load, kind) in loads.into_iter().zip(["HTTP", "HTTPS"]) {
        let (verdict, gaps) = load.finish(&failures).unwrap_or_else(|wrong| panic!("{kind}: {wrong}"));
        println!("{kind}: {verdict:?}; longest gaps, leader and follower killed: {gaps:?}");
        assert!(gaps.iter().all(|gap| *gap < GAP_LIMIT), "{kind}: {gaps:?} without an answer");
    }
    let status = cluster.await_level();
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    println!("entries {}, files {files}, bytes {bytes}", status.replicas[0].committed);
    cluster.stop();
}

/// Bytes that a coordinator holds while one client does not read the answer that it asked for, and another goes on.
fn beside_a_slow_reader(cluster: &Cluster) -> std::io::Result<u64> {
    let mut slow = client(cluster);
    slow.request("GET", "/big", &[])?;
    let mut other = client(cluster);
    let end = Instant::now() + Duration::from_secs(2);
    let mut most = 0;
    while Instant::now() < end {
        assert_eq!(other.get("/index.html")?.code, 200, "beside the slow reader");
        most = most.max(coordinator_memory(cluster));
    }
    assert!(slow.answer()?.body == pattern(BIG_BYTES), "the big file came changed");
    Ok(most)
}

fn ballot(cluster: &mut Cluster) -> u64 {
    cluster.await_status("a replica leads", |status| status.leader().map(|leader| leader.ballot))
}

#[test]
fn a_slow_reader_does_not_grow_memory() {
    let _turn = serial::turn();
    let mut cluster = start("nginx-slow");
    let mut before = ballot(&mut cluster);
    // A leader that a busy machine gives no time for a second or two loses the leadership, and its clients are reset.
    let most = until("a leadership lasts", PATIENCE, || {
        let seen = beside_a_slow_reader(&cluster);
        let error = seen.as_ref().err().map(ToString::to_string);
        let now = ballot(&mut cluster);
        assert!(error.is_none() || before != now, "under one leader: {error:?}");
        before = now;
        seen.ok()
    });
    assert!(most < COORDINATOR_BYTES, "a coordinator holds {most} bytes");
    println!("beside a reader that does not read, a coordinator holds {most} bytes");
    cluster.await_level();
    cluster.stop();
}

/// Several workers, one port with a listener for each of them and one that they share, and an upstream beside nginx.
fn start_workers(label: &str, workers: &str) -> Cluster {
    let scratch = Scratch::new(label);
    let data = scratch.path().join("data");
    fs::create_dir_all(data.join("www")).expect("make the site");
    fs::write(data.join("www/index.html"), "<h1>Brolga</h1>").expect("write a page");
    fs::write(data.join("www/big"), pattern(4 << 20)).expect("write a big file");
    let d = data.display();
    let conf = format!(
        "user www-data; worker_processes {workers}; pid {d}/nginx.pid; error_log {d}/error.log info;
         worker_shutdown_timeout 20s; thread_pool disk threads=4; events {{ worker_connections 1024; }}
         http {{
           access_log {d}/access.log; keepalive_requests 100000; client_body_temp_path {d}/body;
           proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/fastcgi; uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi;
           upstream back {{ server 127.0.0.1:8000; keepalive 4; }}
           limit_req_zone $binary_remote_addr zone=all:1m rate=100000r/s;
           server {{ listen 80 reuseport; listen 8080; root {d}/www; aio threads=disk; sendfile off;
                     limit_req zone=all burst=10000 nodelay;
                     location /up/ {{ proxy_pass http://back/; proxy_http_version 1.1; proxy_set_header Connection ''; }} }}
         }}"
    );
    fs::write(data.join("nginx.conf"), conf).expect("write the configuration");
    let upstream = "import itertools\nfrom http.server import ThreadingHTTPServer, BaseHTTPRequestHandler\n\
        count = itertools.count(1)\nclass Handler(BaseHTTPRequestHandler):\n    protocol_version = 'HTTP/1.1'\n    \
        def do_GET(self):\n        body = b'%d' % next(count)\n        self.send_response(200)\n        \
        self.send_header('Content-Length', str(len(body)))\n        self.end_headers()\n        \
        self.wfile.write(body)\n    def log_message(self, *a):\n        pass\n\
        ThreadingHTTPServer(('127.0.0.1', 8000), Handler).serve_forever()\n";
    fs::write(data.join("upstream.py"), upstream).expect("write the upstream");
    let both = data.join("both");
    fs::write(
        &both,
        format!("#!/bin/sh\npython3 {d}/upstream.py &\nexec nginx -c {d}/nginx.conf -g 'daemon off;'\n"),
    )
    .expect("write a script");
    fs::set_permissions(&both, fs::Permissions::from_mode(0o755)).expect("make it executable");
    let plan = Plan::new(&[both.to_str().expect("a plain path")]).port(80).port(8080).port(8000);
    let mut cluster = plan.start_in(scratch);
    cluster.await_complete();
    cluster
}

fn signal(cluster: &Cluster, name: &str) {
    let said = cluster.call(&["signal", name]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// A worker of one replica's nginx, as this machine numbers its processes.
fn worker(cluster: &mut Cluster, replica: u8) -> i32 {
    cluster.await_status("the replica has a worker", |status| {
        let tree = process::tree(status.replica(replica)?.container_pid);
        let master = tree.iter().find(|one| one.name == "nginx")?;
        tree.iter().find(|one| one.parent == master.pid).map(|one| one.pid)
    })
}

/// An answer of the upstream. A connection to a worker that is going, or to a replica that is gone, carries no request.
fn upstream(cluster: &Cluster) -> Vec<u8> {
    until("the upstream answers", PATIENCE, || {
        let answer = Http::connect(cluster.port()).ok()?.get("/up/").ok()?;
        (answer.code == 200).then_some(answer.body)
    })
}

#[test]
fn two_workers_share_ports_use_threads_and_an_upstream_and_reload() {
    let _turn = serial::turn();
    let mut cluster = start_workers("nginx-workers", "2");
    let mut http = client(&cluster);
    let big = pattern(4 << 20);
    for _ in 0..3 {
        assert!(http.get("/big").expect("the big file").body == big, "the thread pool read something else");
    }
    for port in [0, 1] {
        for _ in 0..20 {
            let mut one = Http::connect(cluster.published(port)).expect("connect");
            assert_eq!(one.get("/index.html").expect("a page").body, b"<h1>Brolga</h1>");
        }
    }
    for expected in 1..=50 {
        let answer = http.get("/up/").expect("an answer of the upstream");
        assert_eq!(String::from_utf8_lossy(&answer.body), expected.to_string());
    }
    // A worker that is told to go finishes what it is at.
    http.request("GET", "/big", &[]).expect("ask for a big file");
    for _ in 0..2 {
        signal(&cluster, "HUP");
    }
    assert!(http.answer().expect("the big file").body == big, "the big file came changed");
    assert_eq!(upstream(&cluster), b"51");
    signal(&cluster, "USR1");
    let victim = cluster.leader();
    cluster.kill_replica(victim);
    assert_eq!(upstream(&cluster), b"52");
    cluster.await_complete();
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}

#[test]
fn a_worker_that_is_killed_in_one_replica_alone_is_a_divergence() {
    let _turn = serial::turn();
    let mut cluster = start_workers("nginx-killed", "auto");
    for leader in [false, true] {
        let replica = if leader { cluster.leader() } else { cluster.follower() };
        let rebuilds =
            cluster.status().and_then(|status| Some(status.replica(replica)?.rebuilds)).unwrap_or(0);
        process::signal(worker(&mut cluster, replica), libc::SIGKILL);
        // Its death is seen when it is its turn.
        cluster.await_status("the replica is rebuilt", |status| {
            if let Ok(mut http) = Http::connect(status.own_port(replica)?) {
                let _ = http.get("/index.html");
            }
            (status.replica(replica)?.rebuilds > rebuilds).then_some(())
        });
        cluster.await_complete();
        assert_eq!(client(&cluster).get("/index.html").expect("a page").body, b"<h1>Brolga</h1>");
    }
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
}
