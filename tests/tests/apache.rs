//! Three replicas of Debian's Apache, each of its process models: static files, CGI, PHP, HTTPS, reloads while clients
//! are connected, and workers that crash.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::h2load;
use brolga_tests::http::Http;
use brolga_tests::layers;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, poll, until};

const MODULES: &str = "/usr/lib/apache2/modules";
const BIG_BYTES: usize = 3 << 20;

/// What runs PHP.
#[derive(Clone, Copy, PartialEq)]
enum Php {
    None,
    /// Inside Apache's processes.
    Module,
    /// A second tree of processes in the same replica, over a unix socket.
    Fpm,
}

/// Which Apache.
#[derive(Clone, Copy)]
struct Kind {
    mpm: &'static str,
    php: Php,
    https: bool,
}

fn configuration(data: &Path, kind: Kind) -> String {
    let (d, mpm) = (data.display(), kind.mpm);
    let module = |name: &str| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n");
    let modules = ["authz_core", "mime", "dir", "alias", "status", "env"].map(module).concat();
    let cgi =
        if mpm == "prefork" { module("cgi") } else { module("cgid") + &format!("ScriptSock {d}/run/cgi\n") };
    let php = match kind.php {
        Php::None => String::new(),
        Php::Module => format!(
            "LoadModule php_module {MODULES}/libphp{}.so\n<FilesMatch \\.php$>\nSetHandler application/x-httpd-php\n</FilesMatch>\n",
            php_version()
        ),
        Php::Fpm => format!(
            "{}{}<FilesMatch \\.php$>\nSetHandler \"proxy:unix:{d}/run/php.sock|fcgi://localhost/\"\n</FilesMatch>\n",
            module("proxy"),
            module("proxy_fcgi")
        ),
    };
    let https = if kind.https {
        format!(
            "{}{}{}{}{}Protocols h2 http/1.1\nDavLockDB {d}/run/locks\nAlias /dav {d}/dav\n\
             <Directory {d}/dav>\nDav On\n</Directory>\nListen 443\n<VirtualHost *:443>\nSSLEngine on\nSSLCertificateFile {d}/cert.pem\n\
             SSLCertificateKeyFile {d}/key.pem\n</VirtualHost>\n",
            module("socache_shmcb"),
            module("ssl"),
            module("http2"),
            module("dav"),
            module("dav_fs")
        )
    } else {
        String::new()
    };
    format!(
        "ServerRoot {d}\nServerName localhost\nPidFile {d}/run/pid\nDefaultRuntimeDir {d}/run\nUser www-data\n\
         Group www-data\nListen 80\nLoadModule mpm_{mpm}_module {MODULES}/mod_mpm_{mpm}.so\n{modules}{cgi}\
         TypesConfig /etc/mime.types\nDocumentRoot {d}/www\nDirectoryIndex index.html\nErrorLog {d}/run/error.log\n\
         LogLevel info\nLogFormat \"%t \\\"%r\\\" %>s %b %D %P\" own\nCustomLog {d}/run/access.log own\n\
         MaxKeepAliveRequests 0\nScriptAlias /cgi/ {d}/cgi/\n<Directory {d}>\nRequire all granted\n</Directory>\n\
         <Location /status>\nSetHandler server-status\n</Location>\n{php}{https}"
    )
}

/// The version of PHP that is installed, as in the names of its files: 8.2, for example.
fn php_version() -> String {
    let said = Command::new("php").args(["-r", "echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION;"]).output();
    String::from_utf8(said.expect("run php").stdout).expect("a version")
}

fn script(path: PathBuf, text: &str) {
    fs::write(&path, text).expect("write a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
}

fn site(data: &Path, kind: Kind) {
    for directory in ["www", "cgi", "run", "dav"] {
        fs::create_dir_all(data.join(directory)).expect("make a directory");
    }
    for directory in ["run", "dav"] {
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(data.join(directory), open).expect("open the directory");
    }
    fs::write(data.join("www/index.html"), "<h1>Brolga</h1>").expect("write a page");
    fs::write(data.join("www/big"), vec![b'b'; BIG_BYTES]).expect("write a big file");
    fs::write(
        data.join("www/page.php"),
        "<?php echo 'php ', $_GET['x'] ?? '-', ' ', php_sapi_name(), ' ', random_int(0, PHP_INT_MAX), ' ', getmypid();",
    )
    .expect("write a page");
    let head = "echo 'Content-Type: text/plain'\necho\n";
    script(
        data.join("cgi/shell"),
        &format!("#!/bin/sh\n{head}echo \"shell $QUERY_STRING $(cat) $$ $(date +%s%N)\"\n"),
    );
    script(
        data.join("cgi/python"),
        "#!/usr/bin/env python3\nimport os, sys, random\nprint('Content-Type: text/plain\\n')\n\
         print('python', os.environ['QUERY_STRING'], sys.stdin.read(), os.getpid(), random.random())\n",
    );
    // The process that was started last is mostly a worker.
    script(
        data.join("cgi/crash"),
        &format!(
            "#!/bin/sh\n{head}kill -$QUERY_STRING $(ps -o pid= -C apache2 | sort -n | tail -n 1)\necho sent\n"
        ),
    );
    fs::write(data.join("httpd.conf"), configuration(data, kind)).expect("write the configuration");
    if kind.https {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(data)
            .output()
            .expect("run openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

/// A script that starts PHP's own server first, and becomes Apache.
fn both(data: &Path) -> String {
    let d = data.display();
    fs::write(
        data.join("fpm.conf"),
        format!(
            "[global]\nerror_log = {d}/run/fpm.log\npid = {d}/run/fpm.pid\ndaemonize = no\n[www]\nuser = www-data\n\
             group = www-data\nlisten = {d}/run/php.sock\nlisten.owner = www-data\npm = static\npm.max_children = 2\n"
        ),
    )
    .expect("write the configuration of PHP");
    let path = data.join("both");
    let fpm = format!("php-fpm{}", php_version());
    script(
        path.clone(),
        &format!("#!/bin/sh\n{fpm} -n -y {d}/fpm.conf &\nexec apache2 -f {d}/httpd.conf -DFOREGROUND\n"),
    );
    path.to_str().expect("a plain path").to_owned()
}

fn start(label: &str, kind: Kind) -> Cluster {
    let scratch = Scratch::new(label);
    let data = scratch.path().join("data");
    fs::create_dir_all(&data).expect("make the directory");
    site(&data, kind);
    let conf = data.join("httpd.conf").to_str().expect("a plain path").to_owned();
    let command = match kind.php {
        Php::Fpm => vec![both(&data)],
        _ => ["apache2", "-f", &conf, "-DFOREGROUND"].map(str::to_owned).to_vec(),
    };
    let plan = Plan::new(&command).port(80);
    let mut cluster = if kind.https { plan.port(443) } else { plan }.start_in(scratch);
    cluster.await_complete();
    cluster
}

/// What an unmodified client gets.
fn curl(cluster: &Cluster, path: &str, more: &[&str]) -> String {
    let url = match path.strip_prefix("https:") {
        Some(path) => format!("https://localhost:{}{path}", cluster.published(1)),
        None => format!("http://127.0.0.1:{}{path}", cluster.port()),
    };
    let mut command = Command::new("curl");
    command.args(["-sSk", "--fail-with-body", "--max-time", "30"]).args(more).arg(&url);
    let got = command.output().expect("run curl");
    assert!(got.status.success(), "{url}: {}", String::from_utf8_lossy(&got.stderr));
    String::from_utf8_lossy(&got.stdout).into_owned()
}

fn client(cluster: &Cluster) -> Http {
    until("Apache answers", PATIENCE, || {
        let mut http = Http::connect(cluster.port()).ok()?;
        http.get("/").ok().filter(|answer| answer.code == 200).map(|_| http)
    })
}

/// The load that its authors test Apache with, in the background.
fn load(cluster: &Cluster, requests: u32, path: &str) -> Child {
    let url = format!("http://127.0.0.1:{}{path}", cluster.port());
    Command::new("ab")
        // Without -l it counts each answer as failed that is not as long as the first, which a failure may have cut off.
        .args(["-q", "-r", "-k", "-l", "-s", "30", "-c", "8", "-n", &requests.to_string(), &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("run ab")
}

/// Requests that `ab` finished, and those that failed.
fn finished(load: Child) -> (u32, u32) {
    let said = String::from_utf8_lossy(&load.wait_with_output().expect("wait for ab").stdout).into_owned();
    let number = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().last()?.parse().ok()).unwrap_or_else(|| panic!("{said}"))
    };
    (number("Complete requests:"), number("Failed requests:"))
}

fn pages(cluster: &Cluster) {
    let mut http = client(cluster);
    for _ in 0..50 {
        assert_eq!(http.get("/index.html").expect("a page").body, b"<h1>Brolga</h1>");
    }
    assert_eq!(http.get("/nothing").expect("an answer").code, 404);
    assert!(http.get("/big").expect("the big file").body.iter().all(|&byte| byte == b'b'));
    let shell = curl(cluster, "/cgi/shell?a=1", &["--data", "posted"]);
    assert!(shell.starts_with("shell a=1 posted "), "{shell}");
    let python = curl(cluster, "/cgi/python?b=2", &["--data", "posted"]);
    assert!(python.starts_with("python b=2 posted "), "{python}");
    assert!(curl(cluster, "/status?auto", &[]).contains("ServerUptime"));
}

/// Kills the leader and a follower, each under load; what the clients got meanwhile is theirs, and all comes together again.
fn failovers(cluster: &mut Cluster, path: &str) {
    for leader in [true, false] {
        let victim = if leader { cluster.leader() } else { cluster.follower() };
        let load = load(cluster, 1500, path);
        cluster.kill_replica(victim);
        let (done, failed) = finished(load);
        assert!(done == 1500 && failed < 200, "{failed} of {done} failed as replica {victim} died");
        assert_eq!(client(cluster).get("/").expect("a page").code, 200);
        cluster.await_complete();
    }
}

/// The replicas are the same in all that they have done and written.
fn finish(mut cluster: Cluster) {
    let status = cluster.await_level();
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    println!("entries {}, files {files}, bytes {bytes}", status.replicas[0].committed);
    cluster.stop();
}

/// Lines of each replica's error log that contain `text`, once each has as many as the first.
fn logged(cluster: &Cluster, text: &str) -> usize {
    let path = cluster.data().join("run/error.log");
    let path = path.strip_prefix("/").expect("an absolute path");
    layers::of_state(&cluster.state())
        .iter()
        .map(|layers| {
            let log = layers::find(layers, path).and_then(|path| fs::read_to_string(path).ok());
            log.unwrap_or_default().lines().filter(|line| line.contains(text)).count()
        })
        .min()
        .unwrap_or(0)
}

#[test]
fn event_serves_files_scripts_php_and_https_and_any_replica_may_be_killed() {
    let _turn = serial::turn();
    let mut cluster = start("apache-event", Kind { mpm: "event", php: Php::Fpm, https: true });
    pages(&cluster);
    assert_eq!(curl(&cluster, "https:/index.html", &[]), "<h1>Brolga</h1>");
    let php = until("PHP answers", PATIENCE, || {
        let said = curl_if_ok(&cluster, "/page.php?x=5")?;
        said.starts_with("php 5 fpm-fcgi ").then_some(said)
    });
    assert_ne!(php, curl(&cluster, "/page.php?x=5", &[]), "random numbers are random");
    assert_eq!(
        curl(&cluster, "https:/index.html", &["--http2", "-w", " %{http_version}"]),
        "<h1>Brolga</h1> 2"
    );
    assert_eq!(h2load::run(cluster.published(1), "/index.html", 2000), Ok(2000));
    // Properties of files that the server wrote: times, sizes, the order of a directory.
    for name in ["one", "two", "three"] {
        curl(&cluster, &format!("/dav/{name}"), &["-X", "PUT", "--data", name]);
    }
    // The tag of a file that was changed within the last second is marked as weak.
    let list =
        |cluster: &Cluster| curl(cluster, "/dav/", &["-X", "PROPFIND", "-H", "Depth: 1"]).replace("W/", "");
    let all = list(&cluster);
    assert!(all.contains("/dav/two") && all.contains("getlastmodified"), "{all}");
    failovers(&mut cluster, "/index.html");
    assert_eq!(all, list(&cluster), "before and after failovers");
    assert_eq!(h2load::run(cluster.published(1), "/index.html", 1000), Ok(1000));
    assert!(curl(&cluster, "/page.php?x=6", &[]).starts_with("php 6 "));
    finish(cluster);
}

fn curl_if_ok(cluster: &Cluster, path: &str) -> Option<String> {
    let url = format!("http://127.0.0.1:{}{path}", cluster.port());
    let got = Command::new("curl").args(["-sS", "-f", "--max-time", "30", &url]).output().expect("run curl");
    got.status.success().then(|| String::from_utf8_lossy(&got.stdout).into_owned())
}

#[test]
fn worker_and_prefork_serve_files_and_scripts_and_php_as_a_module() {
    let _turn = serial::turn();
    let mut cluster = start("apache-worker", Kind { mpm: "worker", php: Php::None, https: false });
    pages(&cluster);
    failovers(&mut cluster, "/index.html");
    finish(cluster);
    let mut cluster = start("apache-prefork", Kind { mpm: "prefork", php: Php::Module, https: false });
    pages(&cluster);
    assert!(curl(&cluster, "/page.php?x=7", &[]).starts_with("php 7 apache2handler "));
    failovers(&mut cluster, "/index.html");
    finish(cluster);
}

#[test]
fn reloads_and_crashes_of_workers_are_the_same_event_everywhere() {
    let _turn = serial::turn();
    let mut cluster = start("apache-reload", Kind { mpm: "event", php: Php::None, https: false });
    let mut before = client(&cluster);
    let signal = |name: &str| {
        let said = cluster.call(&["signal", name]);
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    };
    let under_load = load(&cluster, 3000, "/index.html");
    // A connection that a request is being answered on outlives a graceful reload; one that is idle is closed.
    before.request("GET", "/big", &[]).expect("ask for a big file");
    signal("USR1");
    assert_eq!(before.answer().expect("the big file").body.len(), BIG_BYTES);
    assert_eq!(client(&cluster).get("/").expect("a page").code, 200);
    signal("HUP");
    assert_eq!(client(&cluster).get("/").expect("a page").code, 200);
    signal("USR1");
    let (done, failed) = finished(under_load);
    assert!(done == 3000 && failed < 300, "{failed} of {done} failed as Apache restarted");
    until("all replicas restarted gracefully", PATIENCE, || {
        (logged(&cluster, "SIGUSR1 received") == 2 && logged(&cluster, "SIGHUP received") == 1).then_some(())
    });
    for (name, how) in [("SEGV", "Segmentation fault"), ("ABRT", "Abort")] {
        // Until the parent looks, the dead worker is still the youngest process.
        let seen = || (logged(&cluster, &format!("exit signal {how}")) > 0).then_some(());
        let crash = || {
            // It may be the worker that waits for this very script which is killed.
            let _ = curl_if_ok(&cluster, &format!("/cgi/crash?{name}"));
            assert_eq!(client(&cluster).get("/").expect("a page").code, 200);
            poll(PATIENCE / 3, seen)
        };
        // One that was about to end anyway dies without a word, and a process that runs scripts with another.
        assert!((0..3).any(|_| crash().is_some()), "no parent has seen its worker die: {how}");
    }
    // What is replayed restarts and crashes again.
    let victim = cluster.leader();
    cluster.kill_replica(victim);
    cluster.await_complete();
    assert!(curl(&cluster, "/cgi/shell?after", &[]).starts_with("shell after"));
    finish(cluster);
}
