//! Runs a server of `tests/servers` that keeps a ledger over HTTP: alone, then as three replicas under load, while the leader
//! and then a follower is killed and comes back. Every acknowledged entry must be in its place at the end, none twice.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::clients::{Clients, Control};
use crate::cluster::{Cluster, Plan, brolga};
use crate::http::Http;
use crate::layers;
use crate::scratch::Scratch;
use crate::wait::{PATIENCE, poll, until};
use crate::workload::{Failure, Verdict, Workload, gaps};

/// Clients at once.
const CLIENTS: usize = 8;
/// Acknowledged entries between two failures.
const ENTRIES_BETWEEN: u64 = 250;
/// Port of the server inside.
const PORT: u16 = 80;
/// Of so many requests of a client one asks for what would differ between two copies.
const CHANCE_EVERY: u64 = 7;
/// Of so many requests of a client one makes the server compute.
const WORK_EVERY: u64 = 25;

/// The directory of the servers' sources.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("servers")
}

/// Runs a compiler to its end.
pub fn compile(compiler: &mut Command) {
    let built = compiler.output().unwrap_or_else(|e| panic!("cannot run {compiler:?}: {e}"));
    assert!(built.status.success(), "{compiler:?}: {}", String::from_utf8_lossy(&built.stderr));
}

/// Builds a C program of [`sources`] into `binary`.
pub fn compile_c(source: &str, binary: &Path, libraries: &[&str]) {
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu2x", "-O1", "-g", "-pthread"]).arg(sources().join(source)).arg("-o").arg(binary);
    compile(cc.args(libraries));
}

/// Builds a Go program; `with_libc` is what `go build` does by itself where a C compiler is there.
pub fn compile_go(source: &Path, binary: &Path, with_libc: bool) {
    let mut go = Command::new("go");
    go.arg("build").arg("-o").arg(binary).arg(source).env("GO111MODULE", "off");
    go.env("CGO_ENABLED", if with_libc { "1" } else { "0" });
    // The compiler's cache outlives the test, for it takes long to fill.
    compile(go.env("GOCACHE", std::env::temp_dir().join("brolga-go-cache")));
}

/// The servers that keep a ledger, see `tests/servers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// `ThreadingHTTPServer`.
    Python,
    /// A C program with civetweb.
    Civetweb,
    /// A C program with libmicrohttpd.
    Microhttpd,
    /// A Rust program on tokio.
    Tokio,
    /// `com.sun.net.httpserver`.
    Java,
    /// `net/http`, built with libc.
    Go,
}

impl Server {
    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Civetweb => "civetweb",
            Self::Microhttpd => "microhttpd",
            Self::Tokio => "tokio",
            Self::Java => "java",
            Self::Go => "go",
        }
    }

    /// Builds it in `scratch`. `PORT` in the command line stands for its port.
    pub fn command(self, scratch: &Path) -> Vec<String> {
        let own = |path: PathBuf| path.to_str().expect("a plain path").to_owned();
        let mut command = match self {
            Self::Python => vec!["python3".to_owned(), own(sources().join("ledger.py"))],
            Self::Civetweb | Self::Microhttpd => {
                let binary = scratch.join(self.name());
                let library = if self == Self::Civetweb { "-lcivetweb" } else { "-lmicrohttpd" };
                compile_c(&format!("{}.c", self.name()), &binary, &[library]);
                vec![own(binary)]
            }
            Self::Tokio => vec![own(brolga().with_file_name("tokio-ledger"))],
            Self::Java => {
                let classes = scratch.join("classes");
                compile(Command::new("javac").arg("-d").arg(&classes).arg(sources().join("Ledger.java")));
                // The JVM counts ticks of its clock in a shared file 20 times a second, for ever: followers, a moment behind,
                // would hardly ever have the same file as the leader.
                let options =
                    ["-XX:+UseSerialGC", "-Xmx64m", "-XX:+PerfDisableSharedMem", "-cp"].map(str::to_owned);
                [&["java".to_owned()][..], &options, &[own(classes), "Ledger".to_owned()]].concat()
            }
            Self::Go => {
                let binary = scratch.join("go-ledger");
                compile_go(&sources().join("ledger.go"), &binary, true);
                vec![own(binary)]
            }
        };
        command.push("PORT".to_owned());
        command
    }
}

/// Starts `command`, made by `prepare` in the server's directory; `PORT` in it is the server's port.
pub fn start(label: &str, options: &[&str], replicas: u8, prepare: impl Fn(&Path) -> Vec<String>) -> Cluster {
    let scratch = Scratch::new(label);
    let data = scratch.path().join("data");
    std::fs::create_dir_all(&data).expect("make the server's directory");
    let mut command = prepare(scratch.path());
    command.iter_mut().filter(|word| *word == "PORT").for_each(|word| *word = PORT.to_string());
    let plan = Plan::new(&command).options(options).replicas(replicas).port(PORT);
    let mut cluster = plan.start_in(scratch);
    cluster.await_complete();
    cluster
}

/// Runs `command`, made by `prepare`, through everything.
pub fn run(label: &str, options: &[&str], prepare: impl Fn(&Path) -> Vec<String>) {
    let mut one = start(label, options, 1, &prepare);
    alone(&one);
    one.stop();
    let mut cluster = start(label, options, 3, &prepare);
    let answer = python_client(&cluster, 4, 25);
    assert!(answer.starts_with("100 entries"), "{answer}");
    three(&mut cluster);
    cluster.stop();
}

fn alone(cluster: &Cluster) {
    let mut http = connect(cluster.port());
    assert_eq!(http.put("/add", b"first").expect("an answer").body, b"1");
    for path in ["/chance", "/work"] {
        assert_eq!(http.get(path).expect("an answer").code, 200, "{path}");
    }
    assert_eq!(http.get("/list").expect("the list").body, b"first\n");
}

fn three(cluster: &mut Cluster) {
    let entries = Entries::start(cluster.port());
    let mut goes_on = entries.progress();
    for leader in [true, false] {
        let victim = if leader { cluster.leader() } else { cluster.follower() };
        cluster.kill_replica(victim);
        goes_on &= entries.progress();
        cluster.await_complete();
    }
    let (verdict, _) = Box::new(entries).finish(&[]).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(goes_on, "only {} entries were acknowledged", verdict.acknowledged);
    let status = cluster.await_level();
    let (files, bytes) = layers::assert_identical(&cluster.state(), 3);
    let preemptions: u64 = status.replicas.iter().map(|replica| replica.preemptions).sum();
    assert!(status.replicas.iter().all(|replica| replica.rebuilds == 0), "rebuilt: {}", status.raw);
    println!(
        "acknowledged {}, entries {}, preemptions {preemptions}, files {files}, bytes {bytes}",
        verdict.acknowledged, status.replicas[0].committed
    );
}

/// One client's entries that were acknowledged, with place and time, and how many were not.
#[derive(Debug, Default)]
struct Notes {
    acknowledged: Vec<(usize, String, Instant)>,
    unknown: usize,
}

/// Running clients, which add entries.
#[derive(Debug)]
pub struct Entries {
    port: u16,
    clients: Clients<Notes>,
}

impl Entries {
    /// Starts them.
    pub fn start(port: u16) -> Self {
        Self { port, clients: Clients::start(CLIENTS, move |own, control| write(port, own, control)) }
    }

    fn progress(&self) -> bool {
        let goal = self.clients.acknowledged() + ENTRIES_BETWEEN;
        poll(PATIENCE, || (self.clients.acknowledged() >= goal).then_some(())).is_some()
    }
}

impl Workload for Entries {
    fn acknowledged(&mut self) -> u64 {
        self.clients.acknowledged()
    }

    fn rest(&mut self, rests: bool) {
        self.clients.rest(rests);
    }

    fn finish(self: Box<Self>, failures: &[Failure]) -> Result<(Verdict, Vec<Duration>), String> {
        let notes = self.clients.finish();
        let acknowledged: Vec<_> = notes.iter().flat_map(|notes| &notes.acknowledged).collect();
        let list = list(self.port);
        check(&list, &acknowledged)?;
        let unknown: usize = notes.iter().map(|notes| notes.unknown).sum();
        let own = list.iter().filter(|text| text.starts_with("client ")).count();
        let unknown_done = own - acknowledged.len();
        let unknown_lost =
            unknown.checked_sub(unknown_done).ok_or("there are more entries than were sent")?;
        let ends = acknowledged.iter().map(|(_, _, moment)| *moment).collect();
        let verdict = Verdict { acknowledged: acknowledged.len(), unknown_done, unknown_lost, undecided: 0 };
        Ok((verdict, gaps(ends, failures)))
    }
}

fn connect(port: u16) -> Http {
    until("the server answers", PATIENCE, || {
        let mut http = Http::connect(port).ok()?;
        http.get("/chance").ok().map(|_| http)
    })
}

/// Adds entries until told to stop.
fn write(port: u16, own: usize, control: &Control) -> Notes {
    let mut notes = Notes::default();
    let mut connection = None;
    for number in 0.. {
        if !control.goes_on() {
            break;
        }
        let http = connection.get_or_insert_with(|| connect(port));
        let text = format!("client {own} entry {number}");
        let added = http.put("/add", text.as_bytes()).ok().filter(|answer| answer.code == 200);
        let Some(added) = added else {
            connection = None;
            notes.unknown += 1;
            continue;
        };
        let place = String::from_utf8_lossy(&added.body).trim().parse().expect("a number");
        notes.acknowledged.push((place, text, Instant::now()));
        control.acknowledge();
        let extra = [(CHANCE_EVERY, "/chance"), (WORK_EVERY, "/work")];
        let due = extra.iter().filter(|(every, _)| number % every == every - 1);
        if !due.fold(true, |fine, (_, path)| fine && http.get(path).is_ok()) {
            connection = None;
        }
        control.pace();
    }
    notes
}

fn list(port: u16) -> Vec<String> {
    let body = until("the list", PATIENCE, || connect(port).get("/list").ok()).body;
    String::from_utf8(body).expect("text").lines().map(str::to_owned).collect()
}

fn check(list: &[String], acknowledged: &[&(usize, String, Instant)]) -> Result<(), String> {
    for (place, text, _) in acknowledged {
        let found = place.checked_sub(1).and_then(|at| list.get(at));
        if found != Some(text) {
            return Err(format!("{text:?} was acknowledged as entry {place}, where {found:?} is"));
        }
    }
    let different: HashSet<_> = list.iter().collect();
    match list.len() - different.len() {
        0 => Ok(()),
        twice => Err(format!("{twice} entries are there twice")),
    }
}

/// Runs the client of Python's own `http.client` against a server.
fn python_client(cluster: &Cluster, threads: u32, each: u32) -> String {
    let mut client = Command::new("python3");
    client.arg(sources().join("client.py")).arg(cluster.port().to_string());
    let output = client.args([threads.to_string(), each.to_string()]).output().expect("run python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
