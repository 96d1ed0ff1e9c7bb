//! The container's file system: an overlay over each of the host's, fresh `/proc`, `/dev` and `/sys`, the shared
//! directory, and `pivot_root` into all that. Runs in init, inside the new mount namespace.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use super::directory::{LAYERS_DIRECTORY, OUTPUT_DIRECTORY, ROOT_DIRECTORY, SYSTEM_DIRECTORY};
use super::marks::{self, Marks};
use super::system_files;
use super::{HOST_NAME, InitConfig, SHARED_MOUNT, SYNC_VARIABLE};

/// File systems of the host that have no files of their own for a server to use, or that the container has anew.
const SKIPPED_TYPES: &[&str] = &[
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "mqueue",
    "hugetlbfs",
    "debugfs",
    "tracefs",
    "securityfs",
    "pstore",
    "bpf",
    "configfs",
    "autofs",
    "fusectl",
    "binfmt_misc",
    "nsfs",
    "rpc_pipefs",
    "efivarfs",
    "rootfs",
];
const SKIPPED_ROOTS: &[&str] = &["/proc", "/sys", "/dev"];
/// Lists of the machine's disks in `/sys`, which are empty in the container: disks and loop devices come and go, and
/// another machine has others. InnoDB keeps the numbers of all that do not rotate.
const DISKS: &[&str] = &["block", "class/block", "dev/block"];
/// Addresses of hosts by name.
const HOSTS: &str = "/etc/hosts";
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Says what failed, on which path, and why.
pub(super) type Failure = String;

pub(super) fn because<T, E: std::fmt::Display>(
    result: Result<T, E>,
    what: &str,
    path: &Path,
) -> Result<T, Failure> {
    result.map_err(|error| format!("cannot {what} {}: {error}", path.display()))
}

/// Builds the container's root and makes it `/`.
pub(super) fn enter_root(config: &InitConfig) -> Result<(), Failure> {
    let directory = path(&config.directory);
    let none: Option<&Path> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    because(mount(none, "/", none, private, none), "make mounts private under", Path::new("/"))?;
    let root = directory.join(ROOT_DIRECTORY);
    let in_user_namespace = config.outer_ids.is_some();
    let syncs = config.environment.iter().any(|(name, _)| name == SYNC_VARIABLE.as_bytes());
    let system = system_files::layer(config.system.as_deref().map(path), &directory.join(SYSTEM_DIRECTORY))?;
    let kind = Kind { in_user_namespace, syncs, system: system.as_deref() };
    let mut others = Vec::new();
    if in_user_namespace {
        plant_root(&directory, &root, kind)?;
    } else {
        let layers = directory.join(LAYERS_DIRECTORY);
        overlay(Path::new("/"), &layers, &root, kind)?;
        let hidden: Vec<PathBuf> = config.hidden.iter().map(|hidden| path(hidden)).collect();
        others = other_file_systems(&directory, &hidden)?;
        for (number, source) in others.iter().enumerate() {
            let layers = layers.join("mounts").join(number.to_string());
            mirror(source, &layers, &inside(&root, source), kind)?;
        }
    }
    for hidden in &config.hidden {
        hide(&inside(&root, path(hidden)))?;
    }
    fresh_proc_and_sys(&root)?;
    fresh_dev(&root)?;
    share(config, &directory, &root)?;
    because(chdir(&root), "enter", &root)?;
    because(pivot_root(".", "."), "change the root to", &root)?;
    // The old root lies over the new one now; the lazy unmount takes it and all under it away.
    because(umount2(".", MntFlags::MNT_DETACH), "leave the old root of", &root)?;
    because(chdir("/"), "enter", Path::new("/"))?;
    let mut marks = Marks::new(config.restores);
    marks.directories(&others);
    if !config.restores && name_host() {
        marks.mark(Path::new(HOSTS));
    }
    if in_user_namespace && !config.restores {
        marks.tree(Path::new("/"));
    }
    if !marks::are_stored(Path::new("/")) {
        return Err("the file system of the state directory cannot store times beyond the year 2106, by which replicas \
                    tell files apart (XFS without bigtime, ext4 with inodes of 128 bytes): choose another by --state"
            .to_owned());
    }
    Ok(())
}

/// Gives the container's host name an address in [`HOSTS`], as a host's own name has: many servers ask for it at their start. True
/// if the file was changed; where the user may not, it stays as it is.
fn name_host() -> bool {
    let Ok(text) = fs::read(HOSTS) else { return false };
    let named = |line: &[u8]| {
        let plain = line.split(|&byte| byte == b'#').next().unwrap_or_default();
        plain.split(u8::is_ascii_whitespace).skip(1).any(|name| name == HOST_NAME.as_bytes())
    };
    if text.split(|&byte| byte == b'\n').any(named) {
        return false;
    }
    let begin = if text.is_empty() || text.ends_with(b"\n") { "" } else { "\n" };
    let line = format!("{begin}127.0.1.1 {HOST_NAME}\n");
    let file = fs::OpenOptions::new().append(true).open(HOSTS);
    file.and_then(|mut file| file.write_all(line.as_bytes())).is_ok()
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// Where an absolute path of the host appears under the new root.
fn inside(root: &Path, absolute: impl AsRef<Path>) -> PathBuf {
    root.join(absolute.as_ref().strip_prefix("/").unwrap_or(absolute.as_ref()))
}

/// Makes a directory, and those above it up to `base`, which must be there. A coordinator that is removed with its files may have died
/// just now, and what was removed must not come back.
fn make_directories(base: &Path, path: &Path) -> Result<(), Failure> {
    let missing: Vec<_> = path.ancestors().take_while(|above| *above != base).collect();
    missing.iter().rev().try_for_each(|directory| match fs::create_dir(directory) {
        Err(_) if directory.is_dir() => Ok(()),
        made => because(made, "make", directory),
    })
}

/// What all overlays of a container have in common.
#[derive(Clone, Copy)]
struct Kind<'a> {
    in_user_namespace: bool,
    /// What the server wants on the disk goes there.
    syncs: bool,
    /// Files that lie over the host's.
    system: Option<&'a Path>,
}

fn overlay(lower: &Path, layers: &Path, target: &Path, kind: Kind<'_>) -> Result<(), Failure> {
    let (upper, work) = (layers.join("upper"), layers.join("work"));
    let base = layers.parent().unwrap_or(layers);
    make_directories(base, &upper)?;
    make_directories(base, &work)?;
    own_as(lower, &upper);
    let mut options = b"lowerdir=".to_vec();
    if let Some(kept) = system_files::of(kind.system, lower) {
        options.extend(kept.as_os_str().as_bytes());
        options.push(b':');
    }
    for (name, value) in [("", lower), (",upperdir=", &upper), (",workdir=", &work)] {
        options.extend(name.as_bytes());
        options.extend(value.as_os_str().as_bytes());
    }
    // A replica's files are wiped and made anew from the log, which alone is kept safe: they need no way to the disk.
    options.extend(if kind.syncs { &b""[..] } else { b",volatile" });
    // Directory renames work as on a plain file system; that needs an extended attribute that only real root may set.
    options.extend(if kind.in_user_namespace {
        &b",userxattr"[..]
    } else {
        b",redirect_dir=on,index=off,metacopy=off,xino=on"
    });
    let mounted = mount(
        Some("overlay"),
        target,
        Some("overlay"),
        MsFlags::MS_NOATIME,
        Some(OsStr::from_bytes(&options)),
    );
    mounted.map_err(|error| {
        format!(
            "cannot mount an overlay of {} with its upper layer in {}: {error}; the state directory must be on a file \
             system that can hold one (ext4, xfs, btrfs, tmpfs; not overlay or NFS): choose another by --state",
            lower.display(),
            upper.display()
        )
    })
}

/// The root of an overlay shows mode and owner of its upper layer: make them those of the lower one.
fn own_as(lower: &Path, upper: &Path) {
    if let Ok(data) = fs::metadata(lower) {
        let _ = std::os::unix::fs::chown(upper, Some(data.uid()), Some(data.gid()));
        let _ = fs::set_permissions(upper, data.permissions());
    }
}

/// The root in a user namespace. There the kernel lets nobody look under the host's mounts, so a directory with a mount
/// point somewhere below it cannot be the lower layer of an overlay: such a directory is made anew, and what is in it
/// gets an overlay each.
fn plant_root(directory: &Path, root: &Path, kind: Kind<'_>) -> Result<(), Failure> {
    let mut points: Vec<PathBuf> = mount_table()?.into_iter().map(|(point, _)| point).collect();
    // The container's own are none of the host's.
    points.retain(|point| !point.starts_with(directory));
    tmpfs(root, MsFlags::empty(), "mode=755")?;
    plant(Path::new("/"), &points, (&directory.join(LAYERS_DIRECTORY), kind), root, &mut 0)
}

fn plant(
    source: &Path,
    points: &[PathBuf],
    (layers, overlays): (&Path, Kind<'_>),
    root: &Path,
    count: &mut u32,
) -> Result<(), Failure> {
    // What the caller may not read, the server could not either.
    let Ok(entries) = fs::read_dir(source) else { return Ok(()) };
    let mut names: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    names.sort();
    for path in names.iter().filter(|path| !SKIPPED_ROOTS.iter().any(|root| *path == Path::new(root))) {
        let target = inside(root, path);
        let Ok(kind) = fs::symlink_metadata(path).map(|data| data.file_type()) else { continue };
        if kind.is_symlink() {
            let link = because(fs::read_link(path), "read the link", path)?;
            because(symlink(link, &target), "make", &target)?;
        } else if !kind.is_dir() {
            because(fs::write(&target, b""), "make", &target)?;
            mirror(path, layers, &target, overlays)?;
        } else {
            make_directories(root, &target)?;
            if points.iter().any(|point| point != path && point.starts_with(path)) {
                plant(path, points, (layers, overlays), root, count)?;
            } else {
                *count += 1;
                mirror(path, &layers.join("mounts").join(count.to_string()), &target, overlays)?;
            }
        }
    }
    Ok(())
}

/// Mount points of the host, other than `/`, that hold files and are not to be hidden.
fn other_file_systems(directory: &Path, hidden: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found: Vec<PathBuf> = Vec::new();
    for (point, kind) in mount_table()? {
        let skipped = SKIPPED_TYPES.iter().any(|skipped| skipped.as_bytes() == kind.as_slice())
            || SKIPPED_ROOTS.iter().any(|root| point.starts_with(root))
            || point == Path::new("/")
            || point.starts_with(directory)
            || hidden.iter().any(|hidden| point.starts_with(hidden))
            || found.contains(&point)
            // Only what a path reaches: a mount point that a later mount covers is not a directory any more.
            || fs::metadata(&point).is_err();
        if !skipped {
            found.push(point);
        }
    }
    found.sort();
    Ok(found)
}

/// Mount points and types of all mounts, in the order in which they were made.
fn mount_table() -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
    let path = Path::new("/proc/self/mountinfo");
    let table = because(fs::read(path), "read", path)?;
    let lines = table.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.filter_map(parse_mount).map(|(point, kind)| (point, kind.to_vec())).collect())
}

/// Mount point and type of one line of `mountinfo`.
fn parse_mount(line: &[u8]) -> Option<(PathBuf, &[u8])> {
    let mut fields = line.split(|&byte| byte == b' ');
    let point = unescape(fields.nth(4)?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some((PathBuf::from(OsStr::from_bytes(&point)), kind))
}

/// `\040` and its like stand for blanks in `mountinfo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = (first == b'\\').then(|| tail.get(..3)).flatten();
        let code = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        out.push(code.unwrap_or(first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    out
}

/// Shows another file system of the host: an overlay if it can be one, else a read-only view.
fn mirror(source: &Path, layers: &Path, target: &Path, kind: Kind<'_>) -> Result<(), Failure> {
    if !target.exists() {
        return Ok(());
    }
    let is_directory = source.is_dir();
    if is_directory && overlay(source, layers, target, kind).is_ok() {
        return Ok(());
    }
    bind(system_files::of(kind.system, source).as_deref().unwrap_or(source), target)?;
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let none: Option<&Path> = None;
    if mount(none, target, none, read_only, none).is_err() {
        // A view that a server could write would be shared by the replicas; rather none.
        because(umount2(target, MntFlags::MNT_DETACH), "unmount", target)?;
    }
    Ok(())
}

fn bind(source: &Path, target: &Path) -> Result<(), Failure> {
    let none: Option<&Path> = None;
    because(mount(Some(source), target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none), "bind-mount", source)
}

pub(super) fn tmpfs(target: &Path, flags: MsFlags, options: &str) -> Result<(), Failure> {
    let flags = flags | MsFlags::MS_NOATIME;
    because(mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options)), "mount a tmpfs on", target)
}

fn hide(target: &Path) -> Result<(), Failure> {
    match fs::symlink_metadata(target) {
        Ok(data) if data.is_dir() => tmpfs(target, MsFlags::MS_RDONLY, "mode=000,size=4k"),
        Ok(data) if data.is_file() => bind(Path::new("/dev/null"), target),
        _ => Ok(()),
    }
}

fn fresh_proc_and_sys(root: &Path) -> Result<(), Failure> {
    let none: Option<&Path> = None;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let (proc, sys) = (root.join("proc"), root.join("sys"));
    make_directories(root, &proc)?;
    make_directories(root, &sys)?;
    because(mount(Some("proc"), &proc, Some("proc"), flags, none), "mount proc on", &proc)?;
    let read_only = flags | MsFlags::MS_RDONLY;
    if mount(Some("sysfs"), &sys, Some("sysfs"), read_only, none).is_err() {
        tmpfs(&sys, read_only, "mode=555,size=4k")?;
    }
    for list in DISKS {
        let list = sys.join(list);
        if list.is_dir() {
            tmpfs(&list, read_only, "mode=555,size=4k")?;
        }
    }
    Ok(())
}

fn fresh_dev(root: &Path) -> Result<(), Failure> {
    let dev = root.join("dev");
    make_directories(root, &dev)?;
    tmpfs(&dev, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "mode=755,size=64k")?;
    for name in DEVICES {
        let target = dev.join(name);
        because(fs::write(&target, b""), "make", &target)?;
        bind(&Path::new("/dev").join(name), &target)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        because(symlink(target, dev.join(name)), "make", &dev.join(name))?;
    }
    let (shm, pts) = (dev.join("shm"), dev.join("pts"));
    make_directories(root, &shm)?;
    tmpfs(&shm, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777")?;
    make_directories(root, &pts)?;
    let options = Some("newinstance,ptmxmode=0666,mode=620");
    because(mount(Some("devpts"), &pts, Some("devpts"), MsFlags::MS_NOSUID, options), "mount devpts on", &pts)
}

/// `/run/brolga`: the shared directory, or an empty one, with the output directory in it.
fn share(config: &InitConfig, directory: &Path, root: &Path) -> Result<(), Failure> {
    let target = inside(root, SHARED_MOUNT);
    make_directories(root, &target)?;
    match &config.shared {
        Some(shared) => {
            bind(&path(shared), &target)?;
            // Some hosts mount /dev/shm noexec, but the preload library must be executable.
            let executable = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            let none: Option<&Path> = None;
            let _ = mount(none, &target, none, executable, none);
        }
        None => tmpfs(&target, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=755")?,
    }
    let output = target.join(OUTPUT_DIRECTORY);
    make_directories(root, &output)?;
    bind(&directory.join(OUTPUT_DIRECTORY), &output)
}

#[cfg(test)]
mod tests {
    use super::{make_directories, parse_mount};
    use std::path::Path;

    #[test]
    fn what_was_removed_does_not_come_back() {
        let base = std::env::temp_dir().join(format!("brolga-base-{}", std::process::id()));
        std::fs::create_dir(&base).unwrap();
        let path = base.join("mounts/3/upper");
        make_directories(&base, &path).unwrap();
        make_directories(&base, &path).expect("again");
        assert!(path.is_dir());
        std::fs::remove_dir_all(&base).unwrap();
        assert!(make_directories(&base, &path).unwrap_err().contains("brolga-base"));
        assert!(!base.exists());
    }

    #[test]
    fn reads_a_line_of_mountinfo() {
        let line = b"36 35 98:0 /mnt1 /a\\040b rw,noatime master:1 shared:2 - ext3 /dev/root rw";
        let (point, kind) = parse_mount(line).unwrap();
        assert_eq!((point.as_path(), kind), (Path::new("/a b"), &b"ext3"[..]));
    }
}
