//! `brolga replica` on three machines of a test, see [`crate::machines`], with disks whose power can be cut if wanted.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coordinator::clock::SHIFT_VARIABLE;
pub use coordinator::replica::status::Role;

use crate::cluster::brolga;
use crate::machines::Machines;
use crate::mounts;
use crate::power::Disk;
use crate::process;
use crate::scratch::Scratch;
use crate::status::Status;
use crate::wait::{PATIENCE, until};

/// Where replicas listen for each other.
pub const PEER_PORT: u16 = 7400;
/// Pause between two calls of `brolga status`, each of which is a process.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of each log that a failed test shows.
const TAIL_LINES: usize = 15;

/// Three machines, their cluster file, and `brolga replica` on each.
#[derive(Debug)]
pub struct Trio {
    /// The machines; those of the replicas have the replicas' numbers.
    pub machines: Machines,
    runs: [Option<Child>; 3],
    clocks: [Clock; 3],
    disks: [Option<Disk>; 3],
    /// Names of the devices' files that were used up.
    devices: u32,
    scratch: Scratch,
}

impl Trio {
    /// Makes them; nothing runs yet.
    pub fn new(label: &str, command: &[&str]) -> Self {
        Self::new_in(Scratch::new(label), command)
    }

    /// The same in a given directory.
    pub fn new_in(scratch: Scratch, command: &[&str]) -> Self {
        Self::on(scratch, command, || Machines::new(3))
    }

    /// The same, far from each other: see [`Machines::far_apart`].
    pub fn far_apart(label: &str, command: &[&str], delay: Duration) -> Self {
        Self::on(Scratch::new(label), command, || Machines::far_apart(3, delay))
    }

    fn on(scratch: Scratch, command: &[&str], machines: impl FnOnce() -> Machines) -> Self {
        let clocks = [1, 2, 3].map(|id| Clock::make(&scratch.path().join(format!("clock-{id}"))));
        mounts::make_private();
        let machines = machines();
        let trio = Self {
            machines,
            runs: [const { None }; 3],
            clocks,
            disks: [const { None }; 3],
            devices: 0,
            scratch,
        };
        fs::create_dir_all(trio.path("data")).expect("make the server's directory");
        let made = trio.init(&trio.path("conf"), command);
        assert!(made.status.success(), "brolga init: {}", String::from_utf8_lossy(&made.stderr));
        trio
    }

    /// The directory of all that belongs to them.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Gives each machine a disk of its own for its state, whose power can be cut.
    pub fn make_disks(&mut self) {
        for id in 1..=3_u8 {
            let spare = self.spare();
            self.disks[usize::from(id) - 1] = Some(Disk::make(&self.path(&format!("state-{id}")), &spare));
        }
    }

    fn spare(&mut self) -> PathBuf {
        self.devices += 1;
        self.path(&format!("device-{}", self.devices))
    }

    /// The disk of a machine.
    pub fn disk(&self, id: u8) -> &Disk {
        self.disks[usize::from(id) - 1].as_ref().expect("it has a disk of its own")
    }

    /// Sets a machine's clock off by so many nanoseconds.
    pub fn shift_clock(&self, id: u8, by: i64) {
        self.clocks[usize::from(id) - 1].0.store(by.cast_unsigned(), Ordering::Relaxed);
    }

    /// A machine loses its power: its processes end, and of what its disk was not made to keep only what `keep` says is left.
    pub fn cut_power(&mut self, id: u8, keep: impl FnMut() -> bool) -> Instant {
        let begun = Instant::now();
        let (left, _) = self.disk(id).cut(keep);
        self.kill(id);
        let spare = self.spare();
        self.disks[usize::from(id) - 1].as_mut().expect("it has a disk").restart(left, &spare);
        begun
    }

    /// A file in there.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// `brolga init` of a command.
    pub fn init(&self, output: &Path, command: &[&str]) -> Output {
        let mut init = Command::new(brolga());
        init.current_dir(self.path("data")).arg("init").arg("--output").arg(output);
        init.args(["--name", self.scratch.name()]);
        for id in 1..=3_u8 {
            init.args(["--member", &self.machines.port(id, PEER_PORT).to_string()]);
        }
        init.arg("--").args(command).output().expect("run brolga init")
    }

    /// `brolga replica` on a machine.
    pub fn replica(&self, machine: u8, words: &[&str]) -> Command {
        let mut command = self.machines.command(machine, brolga());
        command.arg("replica").args(words).arg("--state").arg(self.path(&format!("state-{machine}")));
        command.stdin(Stdio::null());
        command
    }

    /// Starts a machine's replica.
    pub fn start(&mut self, id: u8) {
        let log = self.path(&format!("replica-{id}.err"));
        let log = File::options().create(true).append(true).open(log).expect("open the error file");
        let config = self.path("conf/cluster.toml");
        let words = ["--config", config.to_str().expect("a plain path"), "--id", &id.to_string()];
        let mut command = self.replica(id, &words);
        command.stdout(Stdio::null()).stderr(log);
        command.env(SHIFT_VARIABLE, self.path(&format!("clock-{id}")));
        self.hide_disks(id, &mut command);
        self.runs[usize::from(id) - 1] = Some(command.spawn().expect("start brolga replica"));
    }

    /// A machine sees no disk but its own: else its containers would hold on to disks that lose their power.
    fn hide_disks(&self, id: u8, command: &mut Command) {
        let others = (1..=3).filter(|other| *other != id && self.disks[usize::from(*other) - 1].is_some());
        let hidden = others.map(|other| self.path(&format!("state-{other}")));
        let hidden = hidden.chain((1..=self.devices).map(|number| self.path(&format!("device-{number}"))));
        let hidden: Vec<_> = hidden
            .map(|path| CString::new(path.into_os_string().into_vec()).expect("a plain path"))
            .collect();
        if hidden.is_empty() {
            return;
        }
        // SAFETY: plain system calls between fork and exec, with strings that were made before.
        unsafe {
            command.pre_exec(move || {
                let flags = libc::MS_REC | libc::MS_PRIVATE;
                let done = libc::unshare(libc::CLONE_NEWNS) == 0
                    && libc::mount(c"".as_ptr(), c"/".as_ptr(), c"".as_ptr(), flags, std::ptr::null()) == 0;
                // Those that are gone already are no mounts any more.
                for path in &hidden {
                    libc::umount2(path.as_ptr(), libc::MNT_DETACH);
                }
                if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
            })
        };
    }

    /// What all of them printed.
    pub fn printed(&self) -> String {
        let text = |id| fs::read_to_string(self.path(&format!("replica-{id}.err"))).unwrap_or_default();
        (1..=3).map(text).collect()
    }

    /// A command of `brolga` for a machine's replica.
    pub fn call(&self, id: u8, words: &[&str]) -> Output {
        let mut command = Command::new(brolga());
        command.args(words).arg("--state").arg(self.path(&format!("state-{id}")));
        command.stdin(Stdio::null()).output().expect("run brolga")
    }

    /// What a machine knows, if its supervisor answers.
    pub fn status(&self, id: u8) -> Option<Status> {
        let output = self.call(id, &["status", "--json"]);
        output.status.success().then(|| Status::parse(&String::from_utf8_lossy(&output.stdout))).flatten()
    }

    /// What the machine of replica `id` knows.
    pub fn await_status<T>(&self, id: u8, what: &str, mut probe: impl FnMut(&Status) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status(id);
            if let Some(found) = status.as_ref().and_then(&mut probe) {
                return found;
            }
            let raw = status.map(|status| status.raw.to_string()).unwrap_or_default();
            assert!(Instant::now() < end, "waited in vain: {what}\n{raw}\n{}", self.printed());
            std::thread::sleep(STATUS_INTERVAL);
        }
    }

    /// All three are level and their digests agree, in the eyes of replica `id`'s machine.
    pub fn await_level(&self, id: u8) {
        let now = self.await_status(id, "a replica leads", |status| status.leader().map(|l| l.committed));
        self.await_status(id, "all replicas are level and agree", |status| {
            (status.complete(3) && status.level_at(now)).then_some(())
        });
    }

    /// The leader in the eyes of a machine.
    pub fn leader(&self, by: u8) -> u8 {
        self.await_status(by, "a replica leads", |status| status.leader().map(|leader| leader.id))
    }

    /// `kill -9` of all that runs on a machine, as if it lost its power.
    pub fn kill(&mut self, id: u8) -> Instant {
        let mut run = self.runs[usize::from(id) - 1].take().expect("the replica runs");
        let pids: Vec<i32> =
            process::tree(run.id() as i32).iter().map(|p| p.pid).filter(|&pid| process::alive(pid)).collect();
        pids.iter().for_each(|&pid| process::signal(pid, libc::SIGKILL));
        let moment = Instant::now();
        run.wait().expect("wait for brolga replica");
        until("the killed processes are gone", PATIENCE, || {
            (!pids.iter().any(|&pid| process::alive(pid))).then_some(())
        });
        moment
    }

    /// Stops all by `brolga stop` on each machine; each ends well and leaves nothing.
    pub fn stop(&mut self) {
        for id in 1..=3_u8 {
            let Some(mut run) = self.runs[usize::from(id) - 1].take() else { continue };
            let done = self.call(id, &["stop"]);
            assert!(done.status.success(), "brolga stop: {}", String::from_utf8_lossy(&done.stderr));
            let ended = until("brolga replica ends", PATIENCE, || run.try_wait().expect("wait for it"));
            assert!(ended.success(), "brolga replica {id} ended with {ended}:\n{}", self.printed());
        }
        self.disks = [const { None }; 3];
        assert_nothing_left(&self.scratch);
    }

    /// Waits until all have ended by themselves.
    pub fn await_end(&mut self) {
        for id in 1..=3_u8 {
            let Some(mut run) = self.runs[usize::from(id) - 1].take() else { continue };
            let ended = until("brolga replica ends", PATIENCE, || run.try_wait().expect("wait for it"));
            assert!(ended.success(), "brolga replica {id} ended with {ended}:\n{}", self.printed());
        }
    }

    /// The lines of a replica's log.
    pub fn log(&self, id: u8) -> Vec<String> {
        let log = self.path(&format!("state-{id}/replica-{id}/coordinator.log"));
        fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The lines of all replicas' logs with this text.
    pub fn logged(&self, text: &str) -> Vec<String> {
        let all = (1..=3).flat_map(|id| self.log(id));
        all.filter(|line| line.contains(text)).collect()
    }
}

/// A machine's clock: what it is off by, nanoseconds, in a file that its coordinator maps.
#[derive(Debug)]
struct Clock(&'static AtomicU64);

impl Clock {
    fn make(path: &Path) -> Self {
        let bytes = size_of::<u64>();
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.expect("make a clock");
        file.set_len(bytes as u64).expect("make a clock");
        let (shared, access) = (libc::MAP_SHARED, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new shared mapping of a file that is long enough.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, shared, file.as_raw_fd(), 0) };
        assert_ne!(map, libc::MAP_FAILED, "cannot map {}", path.display());
        // SAFETY: the mapping is never undone and begins at a page.
        Self(unsafe { AtomicU64::from_ptr(map.cast()) })
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        for run in self.runs.iter_mut().flatten() {
            process::signal(run.id() as i32, libc::SIGTERM);
            let _ = run.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.printed());
            for id in 1..=3_u8 {
                let lines = self.log(id);
                eprintln!("-- replica {id}\n{}", lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"));
                // A disk goes with its power.
                if self.disks[usize::from(id) - 1].is_some() {
                    let (from, to) = (self.path(&format!("state-{id}")), self.path(&format!("kept-{id}")));
                    let _ = Command::new("cp").arg("-a").args([from, to]).status();
                }
            }
        }
    }
}

/// No process, no mount, no shared memory.
pub fn assert_nothing_left(scratch: &Scratch) {
    let path = scratch.path().to_str().expect("a plain path");
    let mentions = |pid: i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(path) && process::alive(pid)
    };
    until("no process is left behind", PATIENCE, || {
        (!process::all().iter().any(|p| mentions(p.pid))).then_some(())
    });
    let mounts = mounts::seen();
    assert!(!mounts.contains(path), "mounts left behind:\n{mounts}");
    let shared = fs::read_dir("/dev/shm").expect("list /dev/shm").flatten().map(|entry| entry.file_name());
    let own = scratch.path().file_name().expect("a name");
    let shared: Vec<_> =
        shared.filter(|n| n.to_string_lossy().contains(scratch.name()) && n != own).collect();
    assert!(shared.is_empty(), "left in /dev/shm: {shared:?}");
}
