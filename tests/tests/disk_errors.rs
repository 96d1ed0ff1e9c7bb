//! A disk that fails under one replica: the server does not hear of it, the replica says what failed, the others go on, and it is
//! rebuilt when the disk is well again.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use brolga_tests::cluster::{Cluster, Plan};
use brolga_tests::layers;
use brolga_tests::resp::Redis;
use brolga_tests::scratch::Scratch;
use brolga_tests::serial;
use brolga_tests::wait::{PATIENCE, poll, until};

/// Room for a replica's log and layers.
const DISK_BYTES: u64 = 700 << 20;
/// `EXT4_IOC_SHUTDOWN`: from now on the file system answers everything with EIO, as with a disk that is gone.
const SHUT_DOWN: libc::Ioctl = 0x8004_587d;
/// What was written stays in the journal.
const FLUSH_LOG: u32 = 1;

/// A file system of its own, unmounted at the end.
struct Disk<'a> {
    image: &'a Path,
    directory: &'a Path,
}

fn run(command: &mut Command) {
    let output = command.output().expect("run a command");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl<'a> Disk<'a> {
    fn make(image: &'a Path, directory: &'a Path) -> Self {
        fs::create_dir_all(directory).expect("make the mount point");
        File::create(image).and_then(|file| file.set_len(DISK_BYTES)).expect("make the image");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image));
        let disk = Self { image, directory };
        disk.mount();
        disk
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image).arg(self.directory));
    }

    fn fail(&self) {
        let directory = File::open(self.directory).expect("open the file system");
        let how = FLUSH_LOG;
        // SAFETY: the request takes one number.
        let failed = unsafe { libc::ioctl(directory.as_raw_fd(), SHUT_DOWN, &raw const how) };
        assert_eq!(failed, 0, "shut the file system down: {}", std::io::Error::last_os_error());
    }

    fn mend(&self) {
        // Until the last process of the replica is gone, it is in use.
        let unmounted = || Command::new("umount").arg(self.directory).status().expect("run umount").success();
        until("the failed file system is free", PATIENCE, || unmounted().then_some(()));
        // The other replicas' mount namespaces hold the failed file system, and with it its device: this is a new disk with what
        // the failed one had.
        run(Command::new("cp").arg("--sparse=always").arg(self.image).arg(self.image.with_extension("new")));
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(self.image.with_extension("new"))
            .arg(self.directory));
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.directory).status();
    }
}

/// Has ext4 find an error, for which it was told to make the file system read-only.
fn make_read_only(disk: &Disk<'_>) {
    run(Command::new("mount").args(["-o", "remount,errors=remount-ro"]).arg(disk.directory));
    let mounted = Command::new("findmnt").args(["-nro", "SOURCE"]).arg(disk.directory).output();
    let device = String::from_utf8(mounted.expect("run findmnt").stdout).expect("a device");
    let device = Path::new(device.trim()).file_name().expect("a name").to_owned();
    let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
    fs::write(&trigger, "an error of a test").unwrap_or_else(|e| panic!("{}: {e}", trigger.display()));
    let options = fs::read_to_string("/proc/self/mounts").expect("read the mounts");
    let line = options.lines().find(|line| line.contains(&*disk.directory.to_string_lossy()));
    // Newer kernels leave the mount as it is, and refuse to write.
    assert!(line.is_some_and(|line| line.contains(" ro,") || line.contains("emergency_ro")), "{line:?}");
}

fn redis(cluster: &Cluster) -> Redis {
    until("redis answers", PATIENCE, || {
        let mut redis = Redis::connect(cluster.port()).ok()?;
        redis.call(&["PING"]).ok().map(|_| redis)
    })
}

/// A cluster of redis whose replica 2 has a disk of its own.
fn start(scratch: Scratch, options: &[&str]) -> Cluster {
    let data = scratch.path().join("data");
    fs::create_dir_all(&data).expect("make the server's directory");
    let data = data.to_str().expect("a plain path").to_owned();
    let command = ["redis-server", "--port", "6379", "--appendonly", "yes", "--dir", &data];
    let mut cluster = Plan::new(&command).port(6379).options(options).start_in(scratch);
    cluster.await_complete();
    redis(&cluster).must(&["SET", "before", "yes"]);
    cluster
}

/// Writes until the supervisor says `text`.
fn write_until_told(cluster: &Cluster, text: &str) {
    ask_until_told(cluster, &["INCR", "during"], text);
}

/// Asks redis for something again and again until the supervisor says `text`.
fn ask_until_told(cluster: &Cluster, command: &[&str], text: &str) {
    let told = poll(PATIENCE, || {
        let _ = redis(cluster).call(command);
        cluster.printed().contains(text).then_some(())
    });
    assert!(told.is_some(), "{}", cluster.printed());
}

#[test]
fn a_server_does_not_hear_of_its_failed_disk_and_its_replica_says_what_failed() {
    let _turn = serial::turn();
    let scratch = Scratch::new("disk-error");
    let (image, directory) = (scratch.path().join("image"), scratch.path().join("state/replica-2"));
    let disk = Disk::make(&image, &directory);
    let cluster = start(scratch, &[]);
    disk.fail();
    // Natively redis would end at its first write.
    write_until_told(&cluster, "the disk failed here: write of");
    write_until_told(&cluster, "tried again until its disk is well");
    assert_eq!(redis(&cluster).must(&["GET", "before"]).bytes(), b"yes");
    // An orderly end would look for mounts that are left, and find the disk of this test.
    drop(cluster);
}

#[test]
fn a_replica_comes_back_when_its_disk_is_well_again() {
    let _turn = serial::turn();
    let scratch = Scratch::new("disk-mended");
    let (image, directory) = (scratch.path().join("image"), scratch.path().join("state/replica-2"));
    let disk = Disk::make(&image, &directory);
    // Its log is on the disk, too, and may have lost what it promised without having it there.
    let mut cluster = start(scratch, &["--durability", "disk"]);
    disk.fail();
    write_until_told(&cluster, "tried again until its disk is well");
    let before = redis(&cluster).must(&["INCR", "during"]).number();
    disk.mend();
    cluster.await_complete();
    let mut client = redis(&cluster);
    assert_eq!(client.must(&["GET", "before"]).bytes(), b"yes");
    assert_eq!(client.must(&["INCR", "during"]).number(), before + 1);
    cluster.await_level();
    layers::assert_identical(&cluster.state(), 3);
    drop(cluster);
}

#[test]
fn a_disk_that_became_read_only_is_one_that_failed() {
    let _turn = serial::turn();
    let scratch = Scratch::new("disk-read-only");
    let (image, directory) = (scratch.path().join("image"), scratch.path().join("state/replica-2"));
    let disk = Disk::make(&image, &directory);
    let cluster = start(scratch, &[]);
    make_read_only(&disk);
    // Natively redis would answer with an error.
    ask_until_told(&cluster, &["SAVE"], "gave EROFS: it is read-only");
    ask_until_told(&cluster, &["SAVE"], "tried again until its disk is well");
    assert_eq!(redis(&cluster).must(&["GET", "before"]).bytes(), b"yes");
    drop(cluster);
}
