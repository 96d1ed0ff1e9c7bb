//! Where CRIU is, and whether it is one that works here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::container::probe::NOTES;
use crate::container::starter;

/// Environment variable that names CRIU's executable.
pub const CRIU_VARIABLE: &str = "BROLGA_CRIU";
/// Where `scripts/setup-criu` puts it.
pub const CRIU_PATH: &str = "/opt/brolga/criu/sbin/criu";
/// Older ones fail on sockets under new kernels.
pub const OLDEST_CRIU: (u32, u32) = (4, 2);

/// The executable: what [`CRIU_VARIABLE`] names, else [`CRIU_PATH`], else `criu` in the usual directories.
pub fn find() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(CRIU_VARIABLE) {
        let path = PathBuf::from(path);
        return match path.is_file() {
            true => Ok(path),
            false => Err(format!("{CRIU_VARIABLE} names {}, which is no file", path.display())),
        };
    }
    let usual = ["/usr/local/sbin/criu", "/usr/sbin/criu", "/usr/bin/criu"];
    let mut places = [CRIU_PATH].into_iter().chain(usual).map(PathBuf::from);
    places.find(|path| path.is_file()).ok_or_else(|| {
        format!("neither {CRIU_PATH} nor one in the usual directories; run scripts/setup-criu, or set {CRIU_VARIABLE}")
    })
}

/// Has CRIU look at the kernel, if it has left no notes of that in `shared`, the directory that a container sees as CRIU's run
/// directory. Without them it does so at its next dump, which then takes longer, or restore. That leaves a copy of /tmp among the
/// server's files, which other replicas have not.
pub fn look_ahead(shared: &Path) {
    let (Ok(criu), Some(starter)) = (find(), starter::of_process()) else { return };
    if shared.join(NOTES).exists() {
        return;
    }
    if let Err(error) = starter.probe(&criu, shared) {
        tracing::debug!("{} cannot look at the kernel ahead of a checkpoint: {error}", criu.display());
    }
}

/// The version of the executable at `path`, if it is new enough.
pub fn version(path: &Path) -> Result<String, String> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{} cannot be started: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let number = text.lines().find_map(|line| line.strip_prefix("Version: ")).unwrap_or_default().trim();
    let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < OLDEST_CRIU {
        let (major, minor) = OLDEST_CRIU;
        return Err(format!("{} is CRIU {number:?}, {major}.{minor} or later is needed", path.display()));
    }
    Ok(number.to_owned())
}

/// Whether it works on this kernel, by its own judgement.
pub fn check(path: &Path) -> Result<(), String> {
    let output = Command::new(path).arg("check").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{} cannot be started: {error}", path.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().rev().find(|line| line.contains("Error")).unwrap_or("it says nothing");
    Err(format!("{} check: {}", path.display(), line.trim()))
}
