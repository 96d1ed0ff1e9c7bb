//! A control group of a test's own, in which processes and threads are few.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel's first version of them is mounted, and its second.
const FIRST: &str = "/sys/fs/cgroup/pids";
const SECOND: &str = "/sys/fs/cgroup";

/// See the module. Removed at the end, when nobody may be in it any more.
#[derive(Debug)]
pub struct ControlGroup(PathBuf);

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

impl ControlGroup {
    /// Makes it.
    pub fn new(name: &str) -> Self {
        let parent = Path::new(if Path::new(FIRST).is_dir() { FIRST } else { SECOND });
        if parent == Path::new(SECOND) {
            write(&parent.join("cgroup.subtree_control"), "+pids");
        }
        let path = parent.join(format!("brolga-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    /// Takes a process with all its threads in.
    pub fn take(&self, pid: i32) {
        write(&self.0.join("cgroup.procs"), &pid.to_string());
    }

    /// From now on nobody in it starts a process or a thread.
    pub fn close(&self) {
        write(&self.0.join("pids.max"), "0");
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
