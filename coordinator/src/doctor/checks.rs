//! The checks themselves. Each leaves nothing behind.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;

use super::Outcome;
use crate::checkpoint::criu;
use crate::container::{Container, ContainerError, ContainerSpec, Limits, Report, namespaces, remove_tree};
use crate::launcher::{find_preload, state_fs};

/// `close_range` with close-on-exec (5.11) and overlays in user namespaces (5.11); what the tests run on is newer.
const OLDEST_KERNEL: (u32, u32) = (5, 11);
/// Bytes of `/dev/shm` for one replica: the arena, if every page of it were used.
const SHM_BYTES: u64 = dmt::arena::ARENA_BYTES as u64;

pub(super) fn all(state: &Path) -> Vec<(&'static str, Outcome)> {
    vec![
        ("architecture", architecture()),
        ("kernel", kernel()),
        ("user", user()),
        ("container", container(state)),
        ("seccomp filter", seccomp()),
        ("/dev/shm", shared_memory()),
        ("open files", open_files()),
        ("preload library", preload()),
        ("CPU time of threads", schedstat()),
        ("CRIU", checkpoints()),
        ("state file system", state_file_system(state)),
    ]
}

fn architecture() -> Outcome {
    match std::env::consts::ARCH {
        "x86_64" => Outcome::Pass("x86_64".into()),
        other => Outcome::fail(other, "use an x86-64 machine"),
    }
}

fn kernel() -> Outcome {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match version(release) {
        Some(version) if version >= OLDEST_KERNEL => Outcome::Pass(release.into()),
        _ => Outcome::fail(
            format!("{release} is too old"),
            format!("use Linux {}.{} or newer", OLDEST_KERNEL.0, OLDEST_KERNEL.1),
        ),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn user() -> Outcome {
    if geteuid().is_root() {
        return Outcome::Pass("root".into());
    }
    Outcome::warning(
        "not root: containers are made in a user namespace, and servers cannot change their user there",
        "start servers that drop privileges (as nginx with `user www-data`) with sudo",
    )
}

/// Starts `true` in a container: namespaces, overlay, mounts, fixed process ids in one go.
fn container(state: &Path) -> Outcome {
    let parent = existing(state);
    let directory = parent.join(format!(".brolga-doctor-{}", std::process::id()));
    let outcome = try_container(&directory);
    let _ = remove_tree(&directory);
    match outcome {
        Ok(()) => {
            Outcome::Pass(format!("namespaces, overlay (state in {}), mounts, process ids", state.display()))
        }
        Err(error) => {
            let remedy = match &error {
                ContainerError::Namespaces(source) => {
                    return Outcome::fail(
                        format!("cannot make namespaces: {source}"),
                        namespaces::remedy(source),
                    );
                }
                ContainerError::OpenFiles { .. } => "see `open files` below",
                ContainerError::Directory { .. } => {
                    "make the state directory writable, or choose another by --state"
                }
                _ => {
                    "the message above says what is refused; as a rule root outside of other containers works"
                }
            };
            Outcome::fail(error.to_string(), remedy)
        }
    }
}

fn try_container(directory: &Path) -> Result<(), ContainerError> {
    let program = PathBuf::from("/bin/true");
    let spec = ContainerSpec {
        directory: directory.to_owned(),
        hidden: vec![],
        system: None,
        program: program.clone(),
        arguments: vec![OsString::from("true")],
        environment: vec![],
        limits: Limits::default(),
        working_directory: "/".into(),
        interfaces: vec![],
        shared: None,
        init_program: "/proc/self/exe".into(),
    };
    let mut container = Container::start(&spec, None)?;
    while !matches!(container.report(), Ok(Some(Report::ServerExited(_))) | Err(_)) {
        let mut polled = [nix::poll::PollFd::new(container.report_fd(), nix::poll::PollFlags::POLLIN)];
        let _ = nix::poll::poll(&mut polled, nix::poll::PollTimeout::NONE);
    }
    Ok(())
}

fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/tmp")).to_owned()
}

fn seccomp() -> Outcome {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.split_whitespace().any(|action| action == "trap") {
        Outcome::Pass("RET_TRAP is available".into())
    } else {
        Outcome::fail("no seccomp filters", "use a kernel with CONFIG_SECCOMP_FILTER")
    }
}

fn shared_memory() -> Outcome {
    let remedy = "mount a tmpfs there (docker: --shm-size 2g)";
    let Ok(data) = statvfs("/dev/shm") else { return Outcome::fail("not there", remedy) };
    let free = data.blocks_available() * data.fragment_size();
    if data.flags().contains(FsFlags::ST_NOEXEC) && !geteuid().is_root() {
        return Outcome::fail("mounted noexec", "mount -o remount,exec /dev/shm");
    }
    let (free_mb, need_mb) = (free >> 20, (SHM_BYTES >> 20) + 1);
    if free < SHM_BYTES {
        return Outcome::warning(format!("{free_mb} MB free, a replica may need {need_mb}"), remedy);
    }
    Outcome::Pass(format!("{free_mb} MB free, a replica needs at most {need_mb}"))
}

fn open_files() -> Outcome {
    let need = dmt::bounds::MAX_FDS as u64;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard >= need => Outcome::Pass(format!("{hard} (needs {need})")),
        Ok((_, hard)) => {
            Outcome::fail(format!("{hard}, needs {need}"), format!("raise the hard limit: ulimit -Hn {need}"))
        }
        Err(error) => Outcome::fail(error.to_string(), "allow getrlimit"),
    }
}

fn preload() -> Outcome {
    match find_preload() {
        Ok(path) => Outcome::Pass(path.display().to_string()),
        Err(error) => Outcome::fail("not found", error.to_string()),
    }
}

/// Checkpoints are an extra: all else works without.
fn checkpoints() -> Outcome {
    let lost =
        |why: String| format!("no checkpoints, so a replica that starts again replays its whole log: {why}");
    let remedy = format!("scripts/setup-criu, or name one by {}=PATH", criu::CRIU_VARIABLE);
    if !geteuid().is_root() {
        return Outcome::warning(lost("CRIU needs root".to_owned()), "run as root");
    }
    let tried = criu::find().and_then(|path| {
        let version = criu::version(&path)?;
        criu::check(&path).map(|()| format!("{version} ({})", path.display()))
    });
    match tried {
        Ok(found) => Outcome::Pass(found),
        Err(error) => Outcome::warning(lost(error), remedy),
    }
}

/// `--state-fs` is an extra, too.
fn state_file_system(state: &Path) -> Outcome {
    let image = state_fs::image_of(state);
    let shown = image.display();
    match (image.exists(), state_fs::is_mounted(state), state_fs::check()) {
        (true, true, _) => Outcome::Pass(format!("{shown}, mounted on {}", state.display())),
        (true, false, Ok(())) => Outcome::warning(
            format!("{shown} is not mounted, so what is stored there is not seen"),
            "the next `brolga run` or `brolga replica` mounts it",
        ),
        (true, false, Err(error)) => {
            Outcome::fail(format!("{shown} cannot be mounted: {error}"), "see there")
        }
        (false, _, Ok(())) => Outcome::Pass(format!("can be made (--state-fs); none in {shown}")),
        (false, _, Err(error)) => Outcome::Pass(format!("none in {shown}, and none can be made: {error}")),
    }
}

fn schedstat() -> Outcome {
    if Path::new("/proc/self/schedstat").exists() {
        Outcome::Pass("/proc/PID/task/TID/schedstat".into())
    } else {
        Outcome::warning(
            "no schedstat: spinning threads cannot be noticed (redis with io-threads hangs)",
            "use a kernel with CONFIG_SCHED_INFO",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn reads_kernel_releases() {
        assert_eq!(version("6.18.44-fc-v445"), Some((6, 18)));
        assert_eq!(version("5.10-rc1"), Some((5, 10)));
        assert_eq!(version("x"), None);
    }
}
