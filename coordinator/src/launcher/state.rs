//! The state directory: where it is, who has it, what is in it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::LauncherError;
use super::cluster::Cluster;
use crate::container::{SharedDirectory, remove_tree, system_files};
use crate::paxos::MAX_ID;
use crate::private::make_private;
use crate::replica::config::Durability;

/// Name of the file that the supervisor holds.
pub(super) const LOCK: &str = "lock";
const CONTROL: &str = "control.sock";
const KEYS: &str = "keys";
const SYSTEM: &str = "system";

/// A state directory that this process owns as its supervisor.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// Held as long as the supervisor lives; the kernel lets it go even after `kill -9`.
    _lock: Flock<File>,
}

/// Where the state of the cluster `name` is kept by default.
pub fn default_path(name: &str) -> PathBuf {
    if geteuid().is_root() {
        return Path::new("/var/lib/brolga").join(name);
    }
    let home =
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".local/state");
    std::env::var_os("XDG_STATE_HOME").map_or_else(home, PathBuf::from).join("brolga").join(name)
}

/// The control socket of a state directory.
pub fn control_socket(state: &Path) -> PathBuf {
    state.join(CONTROL)
}

/// The keys of a state directory.
pub fn keys_directory(state: &Path) -> PathBuf {
    state.join(KEYS)
}

/// The system files of a state directory's cluster, as its servers see them.
pub fn system_directory(state: &Path) -> PathBuf {
    state.join(SYSTEM)
}

/// The directory of replica `id`.
pub fn replica_directory(state: &Path, id: u8) -> PathBuf {
    state.join(format!("replica-{id}"))
}

/// What the coordinator of replica `id` says about itself.
pub fn coordinator_log(state: &Path, id: u8) -> PathBuf {
    replica_directory(state, id).join("coordinator.log")
}

/// Locks `<directory>/lock`, made if need be. With `wait` it waits until another holder is gone.
pub fn lock(directory: &Path, wait: bool) -> io::Result<Option<Flock<File>>> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(directory.join(LOCK))?;
    let how = if wait { FlockArg::LockExclusive } else { FlockArg::LockExclusiveNonblock };
    match Flock::lock(file, how) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

impl StateDirectory {
    /// Makes the directory if need be, and takes it.
    pub fn open(path: &Path) -> Result<Self, LauncherError> {
        let failed = |source| LauncherError::State { path: path.to_owned(), source };
        make_private(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        match lock(&path, false).map_err(failed)? {
            Some(lock) => Ok(Self { path, _lock: lock }),
            None => Err(LauncherError::Running(path)),
        }
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.path)
    }

    /// Keeps the host's system files for a cluster that is made here.
    pub fn keep_system_files(&self, durability: Durability) -> Result<(), LauncherError> {
        let path = system_directory(&self.path);
        system_files::keep(&path, durability == Durability::Disk)
            .map_err(|source| LauncherError::State { path, source })
    }

    /// The keys.
    pub fn keys(&self) -> PathBuf {
        keys_directory(&self.path)
    }

    /// Removes all that Brolga made in it, and nothing else: the directory may be an unlucky `--state`.
    pub fn wipe(&self) -> Result<(), LauncherError> {
        if let Ok(Some(cluster)) = Cluster::load(&self.path) {
            self.clear_leftovers(&cluster);
        }
        let replicas = (1..=MAX_ID).map(|id| replica_directory(&self.path, id));
        for path in replicas.chain([self.keys(), system_directory(&self.path)]) {
            if path.exists() {
                wait_for_owner(&path)
                    .map_err(|source| LauncherError::State { path: path.clone(), source })?;
            }
            remove_tree(&path).map_err(|source| LauncherError::State { path: path.clone(), source })?;
        }
        for file in [self.path.join("cluster.json"), system_files::sums_of(&system_directory(&self.path))] {
            let _ = fs::remove_file(file);
        }
        Ok(())
    }

    /// Removes what a supervisor that was killed could not: replicas end by themselves, these stay. True if there was
    /// something.
    pub fn clear_leftovers(&self, cluster: &Cluster) -> bool {
        let mut found = fs::remove_file(self.control_socket()).is_ok();
        // A replica without a directory here is another machine's, or another state directory's.
        for id in (1..=MAX_ID).filter(|id| replica_directory(&self.path, *id).exists()) {
            let _ = wait_for_owner(&replica_directory(&self.path, id));
            let shared = SharedDirectory::path_of(&cluster.tag(), u32::from(id));
            found |= shared.exists();
            let _ = remove_tree(&shared);
        }
        found
    }
}

/// Waits until the coordinator of an earlier run, which is about to end, has let its directory go.
fn wait_for_owner(directory: &Path) -> io::Result<()> {
    lock(directory, true).map(drop)
}

#[cfg(test)]
mod tests {
    use super::StateDirectory;
    use crate::launcher::LauncherError;
    use std::fs;

    #[test]
    fn one_supervisor_at_a_time_and_a_careful_wipe() {
        let path = std::env::temp_dir().join(format!("brolga-state-{}", std::process::id()));
        let state = StateDirectory::open(&path).unwrap();
        assert!(matches!(StateDirectory::open(&path), Err(LauncherError::Running(_))));
        fs::create_dir(path.join("replica-1")).unwrap();
        fs::write(path.join("mine"), "precious").unwrap();
        state.wipe().unwrap();
        assert!(path.join("mine").exists() && !path.join("replica-1").exists());
        drop(state);
        StateDirectory::open(&path).unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}
