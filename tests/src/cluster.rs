//! A cluster of a test's own: started by the real `brolga run`, looked at by `brolga status`, and checked to leave nothing
//! behind.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use coordinator::checkpoint::criu::CRIU_VARIABLE;

use crate::mounts;
use crate::process;
use crate::scratch::Scratch;
use crate::status::Status;
use crate::wait::{PATIENCE, poll, until};

/// Pause between two calls of `brolga status`, each of which is a process.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);
/// How long a cluster has to end before its processes are killed, when a test is over or has failed.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// Lines of each log that a failed test shows.
const TAIL_LINES: usize = 12;

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    command: Vec<String>,
    replicas: u8,
    options: Vec<String>,
    ports: Vec<u16>,
    open_files: Option<u64>,
    criu: Option<PathBuf>,
}

impl Plan {
    /// Three replicas of a command.
    pub fn new<S: AsRef<str>>(command: &[S]) -> Self {
        let command = command.iter().map(|word| word.as_ref().to_owned()).collect();
        Self { command, replicas: 3, options: Vec::new(), ports: Vec::new(), open_files: None, criu: None }
    }

    /// Another number of replicas.
    pub fn replicas(mut self, replicas: u8) -> Self {
        self.replicas = replicas;
        self
    }

    /// A port on which the server listens; the cluster publishes it on a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// The hard limit of open files under which it runs.
    pub fn open_files(mut self, limit: u64) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Another CRIU than the one that is found.
    pub fn criu(mut self, path: &Path) -> Self {
        self.criu = Some(path.to_owned());
        self
    }

    /// More options of `brolga run`.
    pub fn options<S: AsRef<str>>(mut self, options: &[S]) -> Self {
        self.options.extend(options.iter().map(|option| option.as_ref().to_owned()));
        self
    }

    /// Starts it in a directory of its own.
    pub fn start(self, label: &str) -> Cluster {
        self.start_in(Scratch::new(label))
    }

    /// Starts it in a given directory: `data` in it is where the server runs, `state` is the cluster's.
    pub fn start_in(self, scratch: Scratch) -> Cluster {
        std::fs::create_dir_all(scratch.path().join("data")).expect("make the server's directory");
        let published = self.ports.iter().map(|_| free_port()).collect();
        let mut cluster = Cluster { plan: self, published, run: None, expected: None, scratch };
        cluster.run();
        cluster
    }
}

/// A port that was free just now.
pub fn free_port() -> u16 {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind a free port");
    probe.local_addr().expect("a bound socket has an address").port()
}

/// The `brolga` program of this build, or the one that `BROLGA` names.
pub fn brolga() -> PathBuf {
    if let Some(path) = std::env::var_os("BROLGA") {
        return path.into();
    }
    // target/debug/deps/test-1234 or target/release/demo
    let own = std::env::current_exe().expect("own path");
    let near = own.ancestors().skip(1).take(2).map(|directory| directory.join("brolga"));
    near.clone().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("brolga is not beside {}: run `cargo build --workspace` first", own.display())
    })
}

/// A started cluster.
#[derive(Debug)]
pub struct Cluster {
    plan: Plan,
    published: Vec<u16>,
    run: Option<Child>,
    expected: Option<u8>,
    scratch: Scratch,
}

impl Cluster {
    /// Starts `brolga run` (again).
    pub fn run(&mut self) {
        assert!(self.run.is_none(), "the cluster runs already");
        let error =
            File::options().create(true).append(true).open(self.error_file()).expect("open the error file");
        let mut command = self.brolga(&["run"]);
        command.args(["-n", &self.plan.replicas.to_string()]);
        for (inner, outer) in self.plan.ports.iter().zip(&self.published) {
            command.args(["--publish", &format!("127.0.0.1:{outer}:{inner}")]);
        }
        command.args(&self.plan.options).arg("--").args(&self.plan.command);
        command.envs(self.plan.criu.iter().map(|path| (CRIU_VARIABLE, path)));
        command.stdin(Stdio::null()).stdout(error.try_clone().expect("share the error file")).stderr(error);
        // A driver that dies without a word (a panic that aborts, Ctrl-C) leaves no cluster behind.
        let files = self.plan.open_files.map(|limit| libc::rlimit { rlim_cur: limit, rlim_max: limit });
        // SAFETY: plain system calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                let limited =
                    files.is_none_or(|files| libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files) == 0);
                match limited && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) == 0 {
                    true => Ok(()),
                    false => Err(std::io::Error::last_os_error()),
                }
            });
        }
        self.run = Some(command.spawn().expect("start brolga"));
    }

    /// A command of `brolga` on this cluster, from the server's directory.
    pub fn brolga(&self, subcommand: &[&str]) -> Command {
        let mut command = Command::new(brolga());
        command.current_dir(self.data()).args(subcommand);
        command.arg("--state").arg(self.state()).args(["--name", self.scratch.name()]);
        command
    }

    /// Runs a command of `brolga` on this cluster to its end.
    pub fn call(&self, subcommand: &[&str]) -> Output {
        self.brolga(subcommand).stdin(Stdio::null()).output().expect("run brolga")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// The directory in which the server runs, as the host sees it: what the server writes is in the upper layers.
    pub fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// The scratch directory.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Number of replicas.
    pub fn replicas(&self) -> u8 {
        self.plan.replicas
    }

    /// The members have changed: so many are waited for from now on. Started again, it is asked for as many as at first.
    pub fn expect_replicas(&mut self, count: u8) {
        self.expected = Some(count);
    }

    fn expected(&self) -> u8 {
        self.expected.unwrap_or(self.plan.replicas)
    }

    /// The host's port of the first published one.
    pub fn port(&self) -> u16 {
        self.published[0]
    }

    /// The host's port of the published one with this number, from 0.
    pub fn published(&self, number: usize) -> u16 {
        self.published[number]
    }

    /// Process id of `brolga run`.
    pub fn pid(&self) -> i32 {
        let run = self.run.as_ref().expect("the cluster runs");
        i32::try_from(run.id()).expect("a process id")
    }

    fn error_file(&self) -> PathBuf {
        self.scratch.path().join("brolga.err")
    }

    /// The files of a replica's log of entries, the oldest first.
    pub fn log_segments(&self, id: u8) -> Vec<PathBuf> {
        let directory = self.state().join(format!("replica-{id}/log"));
        let files = std::fs::read_dir(directory).expect("list the log").flatten().map(|entry| entry.path());
        let mut segments: Vec<_> =
            files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
        segments.sort();
        segments
    }

    /// The lines of all replicas' logs with this text.
    pub fn logged(&self, text: &str) -> Vec<String> {
        let log = |id| self.state().join(format!("replica-{id}/coordinator.log"));
        let texts = (1..=self.plan.replicas).map(|id| std::fs::read_to_string(log(id)).unwrap_or_default());
        let lines = texts.flat_map(|log| log.lines().map(str::to_owned).collect::<Vec<_>>());
        lines.filter(|line| line.contains(text)).collect()
    }

    /// What `brolga run` printed so far.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.error_file()).unwrap_or_default()
    }

    /// The status, if the supervisor answers.
    pub fn status(&self) -> Option<Status> {
        let output = self.call(&["status", "--json"]);
        output.status.success().then(|| Status::parse(&String::from_utf8_lossy(&output.stdout))).flatten()
    }

    /// Waits until `probe` finds what it wants in a status. A replay takes as long as it takes: patience begins anew
    /// whenever the replica that is farthest behind comes closer to what was decided when the waiting began.
    pub fn await_status<T>(&mut self, what: &str, mut probe: impl FnMut(&Status) -> Option<T>) -> T {
        let (mut end, mut goal, mut closest) = (Instant::now() + PATIENCE, None, u64::MAX);
        loop {
            let status = self.status();
            if let Some(found) = status.as_ref().and_then(&mut probe) {
                return found;
            }
            goal = goal.or_else(|| status.as_ref()?.replicas.iter().map(|replica| replica.committed).max());
            let left = status.as_ref().zip(goal).and_then(|(status, goal)| status.replay_left(goal));
            if let Some(behind) = left.filter(|&left| left < closest) {
                (end, closest) = (Instant::now() + PATIENCE, behind);
            }
            if let Some(ended) = self.run.as_mut().and_then(|run| run.try_wait().ok().flatten()) {
                panic!("brolga run ended ({ended}) before {what}:\n{}", self.printed());
            }
            let raw = status.map(|status| status.raw.to_string()).unwrap_or_default();
            assert!(Instant::now() < end, "waited {PATIENCE:?} in vain: {what}\n{raw}\n{}", self.printed());
            std::thread::sleep(STATUS_INTERVAL);
        }
    }

    /// Kills leaders, which come back, until this replica leads.
    pub fn make_leader(&mut self, replica: u8) {
        while self.leader() != replica {
            let leader = self.leader();
            self.kill_replica(leader);
            self.await_complete();
        }
    }

    /// Waits until one replica leads, all others follow, and the server listens on the first published port.
    pub fn await_complete(&mut self) {
        let (count, ports) = (self.expected(), self.plan.ports.clone());
        self.await_status("all replicas run and the server listens", |status| {
            let leader = status.leader()?;
            let listens = ports.iter().all(|port| leader.listeners.iter().any(|l| l.port == *port && !l.udp));
            (status.complete(count) && listens).then_some(())
        });
        if !ports.is_empty() {
            let port = self.port();
            until("the published port answers", PATIENCE, || {
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
            });
        }
    }

    /// Waits until all replicas have applied all that is decided now, and their digests agree there.
    pub fn await_level(&mut self) -> Status {
        let count = self.expected();
        let now =
            self.await_status("a replica leads", |status| status.leader().map(|leader| leader.committed));
        self.await_status("all replicas are level and agree", |status| {
            (status.complete(count) && status.level_at(now)).then(|| status.clone())
        })
    }

    /// The same, but only for so long; says whether they are.
    pub fn level_within(&mut self, limit: Duration) -> bool {
        let (begin, count) = (Instant::now(), self.expected());
        let now =
            self.await_status("a replica leads", |status| status.leader().map(|leader| leader.committed));
        let level = || self.status().filter(|status| status.complete(count) && status.level_at(now));
        poll(limit.saturating_sub(begin.elapsed()), level).is_some()
    }

    /// The leader's id.
    pub fn leader(&mut self) -> u8 {
        self.await_status("a replica leads", |status| status.leader().map(|leader| leader.id))
    }

    /// Some follower's id.
    pub fn follower(&mut self) -> u8 {
        let leader = self.leader();
        self.await_status("a replica follows", |status| {
            let other = status.replicas.iter().find(|replica| replica.id != leader);
            other.map(|replica| replica.id)
        })
    }

    /// `kill -9` of a whole replica: its coordinator and its container. Returns when the signals were sent.
    pub fn kill_replica(&mut self, id: u8) -> Instant {
        let pids = self.await_status("the replica runs", |status| {
            let replica = status.replica(id)?;
            (replica.pid > 1).then_some([replica.pid, replica.container_pid])
        });
        for pid in pids.into_iter().filter(|&pid| pid > 1) {
            process::signal(pid, libc::SIGKILL);
        }
        let moment = Instant::now();
        until("the killed processes are gone", PATIENCE, || {
            (!pids.into_iter().any(process::alive)).then_some(())
        });
        moment
    }

    /// `kill -9` of `brolga run` itself.
    pub fn kill_launcher(&mut self) {
        let mut run = self.run.take().expect("the cluster runs");
        run.kill().expect("kill brolga run");
        run.wait().expect("wait for brolga run");
    }

    /// `kill -9` of `brolga run`, all coordinators and all that they started, at once.
    pub fn kill_all(&mut self) {
        let pids: Vec<i32> = process::tree(self.pid()).iter().map(|process| process.pid).collect();
        pids.iter().for_each(|&pid| process::signal(pid, libc::SIGKILL));
        self.kill_launcher();
        until("the killed processes are gone", PATIENCE, || {
            (!pids.iter().any(|&pid| process::alive(pid))).then_some(())
        });
    }

    /// Interrupts `brolga run` as Ctrl-C does, and checks that nothing stays but the state directory.
    pub fn stop(&mut self) {
        let pids: Vec<i32> = process::tree(self.pid()).iter().map(|process| process.pid).collect();
        process::signal(self.pid(), libc::SIGINT);
        let ended = self.await_end();
        assert!(ended.success(), "brolga run ended by Ctrl-C with {ended}:\n{}", self.printed());
        let left: Vec<_> = pids.into_iter().filter(|&pid| process::alive(pid)).collect();
        assert!(left.is_empty(), "processes left behind: {left:?}");
        self.assert_nothing_left();
    }

    /// Waits until `brolga run` has ended by itself.
    pub fn await_end(&mut self) -> std::process::ExitStatus {
        let mut run = self.run.take().expect("the cluster runs");
        until("brolga run ends", PATIENCE, || run.try_wait().expect("wait for brolga run"))
    }

    /// No process, no shared memory, no mount of this cluster.
    pub fn assert_nothing_left(&self) {
        let name = self.scratch.name();
        let state = self.state();
        let state = state.to_str().expect("a plain path");
        let own = |pid: i32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains(state) && process::alive(pid)
        };
        let left = || process::all().into_iter().map(|p| p.pid).filter(|&pid| own(pid)).collect::<Vec<_>>();
        until("no process is left behind", PATIENCE, || left().is_empty().then_some(()));
        // The scratch directory itself may be there, see `scratch`.
        let scratch = self.scratch.path().file_name().unwrap_or_default();
        let shared =
            std::fs::read_dir("/dev/shm").expect("list /dev/shm").flatten().map(|entry| entry.file_name());
        let shared: Vec<_> = shared.filter(|n| n.to_string_lossy().contains(name) && n != scratch).collect();
        assert!(shared.is_empty(), "left in /dev/shm: {shared:?}");
        let mounts = mounts::seen();
        assert!(!mounts.contains(&format!("{state}/")), "mounts left behind:\n{mounts}");
    }
}

/// The last lines of a file.
fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("---- brolga run printed:\n{}", self.printed());
            for id in 1..=self.plan.replicas {
                let replica = self.state().join(format!("replica-{id}"));
                for file in ["coordinator.log", "output/stdout", "output/stderr"] {
                    println!("---- replica {id}, end of {file}:\n{}", tail(&replica.join(file)));
                }
            }
        }
        let Some(mut run) = self.run.take() else { return };
        let pids: Vec<i32> =
            process::tree(i32::try_from(run.id()).unwrap_or(0)).iter().map(|p| p.pid).collect();
        if let Ok(pid) = i32::try_from(run.id()) {
            process::signal(pid, libc::SIGTERM);
        }
        let _ = poll(END_PATIENCE, || run.try_wait().ok().flatten());
        // What did not end by itself is ended here, so that one failed test does not disturb the next.
        let _ = run.kill();
        let _ = run.wait();
        for pid in pids {
            if process::alive(pid) {
                process::signal(pid, libc::SIGKILL);
            }
        }
    }
}
