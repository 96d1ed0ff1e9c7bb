//! Who may not make namespaces is told so in one line, before anything is made; and `brolga doctor` says what is missing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use brolga_tests::cluster::{self, free_port};
use brolga_tests::process;
use brolga_tests::resp::Redis;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::status::Status;
use brolga_tests::wait::{PATIENCE, until};
use coordinator::checkpoint::criu::CRIU_VARIABLE;
use coordinator::container::PRELOAD_FILE;

/// `nobody`.
const USER: u32 = 65_534;
const REPLICAS: u8 = 3;

/// Brolga where everybody can execute it, and a directory of that user's.
struct Place {
    scratch: Scratch,
}

impl Place {
    fn new(label: &str) -> Self {
        let scratch = Scratch::new(label);
        for path in [cluster::brolga(), cluster::brolga().with_file_name(PRELOAD_FILE)] {
            let copy = scratch.path().join(path.file_name().expect("a name"));
            fs::copy(&path, &copy).unwrap_or_else(|e| panic!("copy {}: {e}", path.display()));
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("open it to all");
        }
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("open it to all");
        let own = scratch.path().join("own");
        fs::create_dir(&own).expect("make a directory");
        chown(&own, Some(USER), Some(USER)).expect("give it away");
        Self { scratch }
    }

    fn brolga(&self) -> PathBuf {
        self.scratch.path().join("brolga")
    }

    fn state(&self) -> PathBuf {
        self.scratch.path().join("own/state")
    }

    /// `wrapper brolga command --state ...`, in a directory that all may enter.
    fn command(&self, wrapper: &[&str], command: &str) -> Command {
        let brolga = self.brolga();
        let words = wrapper.iter().copied().chain(brolga.to_str());
        let mut words = words.collect::<Vec<_>>().into_iter();
        let mut start = Command::new(words.next().expect("brolga itself"));
        start.args(words).arg(command).current_dir("/").stdin(Stdio::null());
        start.arg("--state").arg(self.state());
        start
    }

    fn run(&self, wrapper: &[&str]) -> Command {
        let mut run = self.command(wrapper, "run");
        run.args(["--name", self.scratch.name(), "-n", &REPLICAS.to_string()]);
        run
    }

    /// A run of this user's fails with one line that has all of `parts`, and leaves nothing.
    fn assert_refused(&self, mut run: Command, parts: &[&str]) {
        let output = run.args(["--", "sleep", "1000"]).output().expect("run brolga");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.lines().count() == 1, "{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "no {parts:?} in: {error}");
        println!("{}", error.trim());
        assert!(!self.state().exists(), "a state directory was left");
        let shared =
            fs::read_dir("/dev/shm").expect("list /dev/shm").flatten().map(|entry| entry.file_name());
        let scratch = self.scratch.path().file_name().expect("a name");
        let shared: Vec<_> = shared
            .filter(|name| name != scratch && name.to_string_lossy().contains(self.scratch.name()))
            .collect();
        assert!(shared.is_empty(), "left in /dev/shm: {shared:?}");
    }
}

/// Starts it without the capability that namespaces need.
const NO_ADMIN: [&str; 5] = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"];

#[test]
fn root_without_the_capability_is_refused_before_anything_is_made() {
    let place = Place::new("no-admin");
    let parts = ["cannot make namespaces", "root has no CAP_SYS_ADMIN", "--cap-add SYS_ADMIN"];
    place.assert_refused(place.run(&NO_ADMIN), &parts);
}

/// A user namespace in which nobody may make another one, for a user that is not root in it.
const NO_NAMESPACES: [&str; 7] = [
    "unshare",
    "--user",
    "--map-user=1000",
    "--keep-caps",
    "sh",
    "-c",
    "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps -all \"$0\" \"$@\"",
];

#[test]
fn another_user_is_refused_where_the_kernel_gives_it_no_namespaces() {
    let place = Place::new("no-namespaces");
    let parts = ["cannot make namespaces", "run as root, or: sysctl -w", "max_user_namespaces"];
    let mut run = place.run(&NO_NAMESPACES);
    run.uid(USER).gid(USER);
    if user_namespaces_are_allowed() {
        place.assert_refused(run, &parts);
    } else {
        // The machine itself is such a place.
        let mut run = place.run(&[]);
        run.uid(USER).gid(USER);
        place.assert_refused(run, &parts);
    }
}

fn user_namespaces_are_allowed() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "true"]).uid(USER).gid(USER).current_dir("/");
    unshare.stderr(Stdio::null()).status().expect("run unshare").success()
}

/// Ended if the test fails.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn another_user_than_root_has_its_servers_replicated_where_the_kernel_allows_it() {
    if !user_namespaces_are_allowed() {
        println!("skipped: this machine gives other users than root no user namespaces");
        return;
    }
    let _turn = serial::turn();
    let (place, port) = (Place::new("user"), free_port());
    let mut run = place.run(&[]);
    run.args(["--publish", &format!("127.0.0.1:{port}:6379"), "--", "redis-server", "--port", "6379"]);
    run.args(["--save", "", "--protected-mode", "no"]).uid(USER).gid(USER);
    let errors = place.scratch.path().join("errors");
    run.stderr(fs::File::create(&errors).expect("make a file")).stdout(Stdio::null());
    let mut run = Run(run.spawn().expect("start brolga"));
    let status = || {
        let mut status = place.command(&[], "status");
        let output = status.arg("--json").uid(USER).gid(USER).output().expect("run brolga status");
        Status::parse(&String::from_utf8_lossy(&output.stdout))
    };
    let serving = until("all replicas serve", PATIENCE, || {
        let ended = run.0.try_wait().expect("wait for brolga");
        assert!(ended.is_none(), "{ended:?}: {}", fs::read_to_string(&errors).unwrap_or_default());
        status().filter(|status| status.complete(REPLICAS) && !status.raw["ports"][0].is_null())
    });
    assert!(serving.replicas.iter().all(|replica| owner(replica.pid) == USER), "{}", serving.raw);
    // A server may be rebuilt meanwhile, as that of a first leader which is one no more.
    until("coordinators and the containers' inits have their names", PATIENCE, || {
        let name = |pid| process::look(pid).map(|process| process.name).unwrap_or_default();
        let names = status()?.replicas.into_iter().map(|one| (name(one.pid), name(one.container_pid)));
        let mut names =
            names.map(|(coordinator, init)| coordinator == "brolga-replica" && init == "brolga-init");
        names.all(|named| named).then_some(())
    });
    let mut redis = until("redis answers", PATIENCE, || {
        let mut redis = Redis::connect(port).ok()?;
        redis.call(&["SET", "key", "value"]).ok().map(|_| redis)
    });
    assert_eq!(redis.must(&["GET", "key"]).bytes(), b"value");
    process::signal(i32::try_from(run.0.id()).expect("a process id"), libc::SIGINT);
    let ended = until("brolga run ends", PATIENCE, || run.0.try_wait().expect("wait for brolga"));
    assert!(ended.success(), "{}", fs::read_to_string(&errors).unwrap_or_default());
}

/// The user that a process acts as.
fn owner(pid: i32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("its user");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The line of this check, and the one below it, which says what to do.
fn check(said: &str, mark: &str, name: &str) -> (String, String) {
    let head = format!("{mark}  {name} ");
    let mut lines = said.lines().skip_while(|line| !line.starts_with(&head)).map(str::to_owned);
    let line = lines.next().unwrap_or_else(|| panic!("no line «{head}»:\n{said}"));
    (line, lines.next().unwrap_or_default())
}

fn assert_remedy(said: &str, name: &str, (what, remedy): (&str, &str)) {
    let (line, below) = check(said, "FAIL", name);
    assert!(line.contains(what), "no «{what}»: {line}");
    assert!(below.trim_start().starts_with("-> ") && below.contains(remedy), "no «{remedy}»: {below}");
    println!("{line}\n{below}");
}

#[test]
fn doctor_passes_here_and_leaves_nothing() {
    let place = Place::new("doctor");
    let output = place.command(&[], "doctor").output().expect("run brolga doctor");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.ends_with("this machine can run Brolga\n") && !said.contains("FAIL"), "{said}");
    for name in ["container", "preload library", "open files"] {
        check(&said, "pass", name);
    }
    let left = |path: &Path| fs::read_dir(path).expect("list").flatten().count();
    assert_eq!(left(&place.scratch.path().join("own")), 0, "something was left");
}

#[test]
fn doctor_says_what_is_missing_and_what_to_do() {
    let place = Place::new("lacking");
    let mut doctor = place.command(&NO_ADMIN, "doctor");
    let output = doctor.env("BROLGA_PRELOAD", "/nowhere").output().expect("run brolga doctor");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_remedy(&said, "container", ("cannot make namespaces", "--cap-add SYS_ADMIN"));
    assert_remedy(&said, "preload library", ("not found", "build it, or name it in BROLGA_PRELOAD"));
    assert!(said.ends_with("2 checks failed\n"), "{said}");

    // A program that it can do without.
    let mut doctor = place.command(&[], "doctor");
    let output = doctor.env(CRIU_VARIABLE, "/nowhere/criu").output().expect("run brolga doctor");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let (line, remedy) = check(&said, "warn", "CRIU");
    assert!(line.contains("no checkpoints") && line.contains("/nowhere/criu"), "{line}");
    assert!(remedy.contains("-> scripts/setup-criu"), "{remedy}");
}
