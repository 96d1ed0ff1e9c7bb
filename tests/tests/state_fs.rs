//! `--state-fs`: the state directory is on a file system of its own, whose files can share blocks. Where the machine has no loop devices, it
//! is refused in one line.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use brolga_tests::checkpoints::{checkpoint, kill};
use brolga_tests::cluster::{Cluster, Plan, brolga, free_port};
use brolga_tests::layers;
use brolga_tests::mounts;
use brolga_tests::process;
use brolga_tests::resp::{Redis, Reply};
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::small_disk::SmallDisk;
use brolga_tests::wait::{PATIENCE, until};

const REDIS: [&str; 9] =
    ["redis-server", "--port", "6379", "--save", "", "--appendonly", "yes", "--protected-mode", "no"];
/// Bytes of a value; each value is one write to the log of every replica and to the server's file.
const VALUE_BYTES: usize = 1 << 20;
const VALUES: usize = 24;
/// User and group of nobody.
const NOBODY: u32 = 65_534;

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("start a command")
}

fn image_of(state: &Path) -> PathBuf {
    state.with_extension("xfs")
}

fn is_mounted(state: &Path) -> bool {
    let point = format!(" {} ", state.display());
    mounts::seen().lines().any(|line| line.contains(&point) && line.contains(" - xfs "))
}

/// True if this machine must be able to mount images. If not, `--state-fs` must work all the same, or say so, leave nothing and run nothing.
fn can_mount() -> bool {
    mounts::make_private();
    let known =
        fs::read_to_string("/proc/filesystems").expect("the kernel's file systems").contains("\txfs\n");
    if known && free_loop_device().is_ok() {
        return true;
    }
    let scratch = Scratch::new("state-fs-probe");
    let state = scratch.path().join("state");
    let mut run = Command::new(brolga());
    run.args(["run", "-n", "1", "--name", scratch.name(), "--state-fs", "512M", "--state"]).arg(&state);
    let ended = output(run.args(["--", "/bin/true"]));
    let disk = SmallDisk::mounted(&state);
    if ended.status.success() {
        return true;
    }
    drop(disk);
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(error.lines().count() == 1 && error.contains("--state-fs"), "{error}");
    assert!(fs::read_dir(&state).is_ok_and(|mut entries| entries.next().is_none()), "nothing was begun");
    println!("this machine mounts no images: {error}");
    false
}

fn free_loop_device() -> io::Result<fs::File> {
    const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
    let control = fs::File::open("/dev/loop-control")?;
    // SAFETY: the descriptor is open, and the call takes no pointer.
    match unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) } {
        number if number >= 0 => fs::File::options().write(true).open(format!("/dev/loop{number}")),
        _ => Err(io::Error::last_os_error()),
    }
}

fn client(port: u16) -> Redis {
    until("redis answers PING", PATIENCE, || {
        let mut redis = Redis::connect(port).ok()?;
        (redis.call(&["PING"]).ok()? == Reply::Simple("PONG".into())).then_some(redis)
    })
}

fn fill(redis: &mut Redis) {
    let value = "v".repeat(VALUE_BYTES);
    (0..VALUES).for_each(|number| _ = redis.must(&["SET", &format!("k{number}"), &value]));
}

#[test]
fn checkpoints_share_blocks_and_a_full_one_makes_clients_wait() {
    let _turn = serial::turn();
    if !can_mount() {
        return;
    }
    let mut cluster = Plan::new(&REDIS).port(6379).options(&["--state-fs", "1G"]).start("state-fs");
    let disk = SmallDisk::mounted(&cluster.state());
    cluster.await_complete();
    assert!(is_mounted(&cluster.state()) && image_of(&cluster.state()).is_file());
    fill(&mut client(cluster.port()));
    cluster.await_level();
    let victim = cluster.follower();
    let entry = checkpoint(&cluster, victim);
    let copied = shared_copy(&cluster, victim, entry);
    assert!(copied >= (VALUES * VALUE_BYTES) as u64, "{copied} bytes of redis's file are in the checkpoint");
    assert_eq!(kill(&mut cluster, victim).restored_from, Some(entry));
    fill_up(&mut cluster, &disk);
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    cluster.stop();
    // It stays, for `brolga logs` and its like; after a restart of the machine it is mounted again.
    assert!(is_mounted(&cluster.state()));
    let unmounted = output(Command::new("umount").arg(cluster.state()));
    assert!(unmounted.status.success(), "{unmounted:?}");
    let doctor = String::from_utf8_lossy(&cluster_doctor(&cluster).stdout).into_owned();
    assert!(doctor.contains("is not mounted"), "{doctor}");
    cluster.run();
    cluster.await_complete();
    assert!(is_mounted(&cluster.state()));
    assert_eq!(client(cluster.port()).must(&["STRLEN", "k0"]).number(), VALUE_BYTES as i64);
    let doctor = String::from_utf8_lossy(&cluster_doctor(&cluster).stdout).into_owned();
    assert!(doctor.contains("mounted on") && !doctor.contains("is not mounted"), "{doctor}");
    cluster.await_level();
    cluster.stop();
    drop(disk);
}

fn cluster_doctor(cluster: &Cluster) -> Output {
    output(Command::new(brolga()).arg("doctor").arg("--state").arg(cluster.state()))
}

/// Redis's file in a checkpoint shares all its blocks; returns how long it is.
fn shared_copy(cluster: &Cluster, replica: u8, entry: u64) -> u64 {
    let files = cluster.state().join(format!("replica-{replica}/checkpoints/{entry}/files"));
    let list = output(Command::new("find").arg(&files).args(["-name", "*.incr.aof"]));
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let copy = list.lines().next().expect("the append-only file is in the checkpoint");
    let extents = output(Command::new("filefrag").args(["-v", copy]));
    let extents = String::from_utf8_lossy(&extents.stdout).into_owned();
    let rows: Vec<&str> =
        extents.lines().filter(|line| line.trim_start().starts_with(char::is_numeric)).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.contains("shared")), "{extents}");
    fs::metadata(copy).expect("look at the copy").len()
}

/// What a full disk does anywhere: a write waits, the replica says why, and it is acknowledged once there is room.
fn fill_up(cluster: &mut Cluster, disk: &SmallDisk) {
    disk.fill();
    let port = cluster.port();
    let load = std::thread::spawn(move || fill(&mut client(port)));
    until("the log or a server finds the disk full", PATIENCE, || {
        let log =
            cluster.status().is_some_and(|status| status.replicas.iter().any(|replica| replica.disk_full));
        (log || !cluster.logged("the disk is full: the server waits").is_empty()).then_some(())
    });
    assert!(!load.is_finished(), "what no disk has room for is not acknowledged");
    disk.make_room();
    load.join().expect("the writes are acknowledged in the end");
    cluster.await_status("no disk is full any more", |status| {
        status.replicas.iter().all(|replica| !replica.disk_full).then_some(())
    });
}

/// A replica that runs on a mounted state directory; both end with it.
struct Running {
    child: Child,
    _disk: SmallDisk,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            process::signal(i32::try_from(self.child.id()).expect("a process id"), libc::SIGINT);
        }
        let _ = self.child.wait();
    }
}

#[test]
fn init_writes_it_down_and_the_replica_makes_it() {
    let _turn = serial::turn();
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new("state-fs-init");
    let (configuration, state) = (scratch.path().join("conf"), scratch.path().join("state"));
    let (peer, port) = (free_port(), free_port());
    let mut init = Command::new(brolga());
    init.args(["init", "--name", scratch.name(), "--member", &format!("127.0.0.1:{peer}")]);
    init.args(["--publish", &format!("{port}:6379"), "--state-fs", "600M", "--output"]).arg(&configuration);
    let made = output(init.current_dir(scratch.path()).arg("--").args(REDIS));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let replica = |state: &Path| {
        let mut command = Command::new(brolga());
        command.args(["replica", "--id", "1", "--config"]).arg(configuration.join("cluster.toml"));
        command.arg("--state").arg(state).stdin(Stdio::null());
        command
    };
    let taken = scratch.path().join("taken");
    fs::create_dir_all(taken.join("precious")).expect("make a directory with something in it");
    let error = String::from_utf8_lossy(&output(&mut replica(&taken)).stderr).into_owned();
    assert!(error.contains("has files already") && error.lines().count() == 1, "{error}");
    let child = replica(&state).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start it");
    let running = Running { child, _disk: SmallDisk::mounted(&state) };
    let mut redis = client(port);
    assert!(is_mounted(&state));
    assert_eq!(redis.must(&["INCR", "starts"]).number(), 1);
    drop(running);
    assert!(!is_mounted(&state));
    let child = replica(&state).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start it");
    let running = Running { child, _disk: SmallDisk::mounted(&state) };
    assert_eq!(client(port).must(&["INCR", "starts"]).number(), 2);
    drop(running);
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let scratch = Scratch::new("state-fs-refused");
    let state = scratch.path().join("state");
    for (size, part) in
        [("100M", "of 512M at least"), ("9999999T", "of 512M at least"), ("1000T", "there is no room for")]
    {
        let mut run = Command::new(brolga());
        run.args(["run", "--name", scratch.name(), "--state-fs", size, "--state"]).arg(&state);
        let refused = output(run.args(["--", "/bin/true"]));
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && error.contains("--state-fs"), "{error}");
        assert!(error.contains(part) || error.contains("loop devices") || error.contains("root"), "{error}");
        assert!(!image_of(&state).exists());
    }
}

/// Runs a shell's commands, in which `"$@"` is a `brolga run` with `--state-fs`, in mounts of their own, and returns what is said, which is
/// one line; it must fail.
fn refused(scratch: &Scratch, state: &Path, script: &str) -> String {
    let bin = scratch.path().join("bin");
    fs::create_dir_all(&bin).expect("make a directory for programs");
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("let anybody in");
    // Others may not be able to look where this was built; and a machine need not have XFS to get that far.
    for program in [brolga(), brolga().with_file_name("libbrolga_preload.so")] {
        fs::copy(&program, bin.join(program.file_name().expect("a file"))).expect("copy a program");
    }
    let mkfs = bin.join("mkfs.xfs");
    fs::write(&mkfs, "#!/bin/sh\n").expect("write a program");
    fs::set_permissions(&mkfs, fs::Permissions::from_mode(0o755)).expect("make it one");
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]).env("PATH", path);
    shell.arg(bin.join("brolga")).args(["run", "-n", "1", "--name", scratch.name(), "--state-fs", "512M"]);
    let ended = output(shell.arg("--state").arg(state).args(["--", "/bin/true"]));
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code().is_some_and(|code| code != 0), "{:?}: {error}", ended.status);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(ended.stdout.is_empty(), "{}", String::from_utf8_lossy(&ended.stdout));
    assert!(fs::read_dir(state).map_or(true, |mut entries| entries.next().is_none()), "nothing was begun");
    error
}

#[test]
fn who_is_not_root_is_told_so() {
    let scratch = Scratch::new("state-fs-user");
    let state = scratch.path().join("state");
    fs::create_dir_all(&state).expect("make the state directory");
    chown(&state, Some(NOBODY), Some(NOBODY)).expect("give it away");
    let script = format!(r#"exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "$@""#);
    let error = refused(&scratch, &state, &script);
    assert!(
        error.contains("--state-fs mounts a file system, which only root may: run it as root"),
        "{error}"
    );
    assert!(!image_of(&state).exists());
    // Nor is a directory made that was not there.
    let missing = state.join("missing");
    let error = refused(&scratch, &missing, &script);
    assert!(error.contains("which only root may"), "{error}");
    assert!(!missing.exists());
}

/// A /dev in which the commands that follow find what they need, and nothing of loop devices.
const BARE_DEV: &str =
    "mount -t tmpfs tmpfs /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9";

#[test]
fn a_machine_without_loop_devices_is_named() {
    let scratch = Scratch::new("state-fs-loop");
    let state = scratch.path().join("state");
    let error = refused(&scratch, &state, &format!(r#"{BARE_DEV}; exec "$@""#));
    assert!(
        error.contains("needs loop devices, and there is no /dev/loop-control: modprobe loop"),
        "{error}"
    );
    assert!(!image_of(&state).exists());
}

/// Who hands out devices is there, but no device is, or the kernel knows of none.
#[test]
fn a_machine_whose_loop_devices_cannot_be_opened_is_named() {
    let scratch = Scratch::new("state-fs-device");
    let state = scratch.path().join("state");
    let error =
        refused(&scratch, &state, &format!(r#"{BARE_DEV}; mknod /dev/loop-control c 10 237; exec "$@""#));
    assert!(
        error.contains("--state-fs cannot mount ") && error.contains("mend that (loop devices"),
        "{error}"
    );
}
