//! `brolga replica`: this machine's replica of a cluster of several machines, with its supervisor.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::cluster::Cluster;
use super::cluster_file::ClusterFile;
use super::cluster_file_error::ClusterFileError;
use super::state::{StateDirectory, default_path};
use super::supervisor::{Seats, Supervisor};
use super::{LauncherError, find_preload, keys, packages, state_fs};
use crate::container::namespaces;
use crate::replica::tls;

/// Permissions that a private key must not have.
const OTHERS: u32 = 0o077;

/// What `brolga replica` was asked for.
#[derive(Clone, Debug)]
pub struct MachineOptions {
    /// The cluster file.
    pub config: PathBuf,
    /// Which member this machine is.
    pub id: u8,
    /// The directory of keys, if it is not beside the file.
    pub keys: Option<PathBuf>,
    /// The state directory, if it is not the usual one of the cluster's name.
    pub state: Option<PathBuf>,
    /// Discard the data of earlier runs.
    pub fresh: bool,
    /// The server's command, to be compared; empty = that of the file.
    pub command: Vec<OsString>,
}

/// Runs the replica in the foreground; returns the server's exit code, or 0 when it was stopped.
pub fn run_machine(options: &MachineOptions) -> Result<i32, LauncherError> {
    let path = options.config.canonicalize().unwrap_or_else(|_| options.config.clone());
    let file = ClusterFile::load(&path)?;
    check_file(&file, &path, options)?;
    let mut cluster = file.cluster(&path)?;
    packages::check(&file.file)?;
    let key_directory = options.keys.clone().unwrap_or_else(|| ClusterFile::keys_beside(&path));
    check_keys(&key_directory, options.id)?;
    check_address(options.id, "service", file.member(options.id).map(|member| member.service))?;
    check_address(options.id, "peer", file.member(options.id).map(|member| member.peer.ip()))?;
    let preload = find_preload()?;
    namespaces::check()?;
    let peers: Vec<(u8, SocketAddr)> = file.member.iter().map(|member| (member.id, member.peer)).collect();
    let seats = Seats::of_machine(options.id, peers, key_directory)?;
    let content = |why| ClusterFileError::Content { path: path.clone(), why };
    let publish = file.publications(options.id).map_err(content)?;
    let state = options.state.clone().unwrap_or_else(|| default_path(&cluster.name));
    state_fs::ensure(&state, file.state_fs().map_err(content)?)?;
    let state = StateDirectory::open(&state)?;
    if options.fresh {
        state.wipe()?;
    }
    match Cluster::load(state.path())? {
        None => state.keep_system_files(cluster.durability)?,
        Some(stored) => {
            if let Some(what) = stored.difference(&cluster).or_else(|| stored.other_file(&cluster)) {
                return Err(LauncherError::Mismatch { state: state.path().to_owned(), what });
            }
            cluster.members = stored.members;
        }
    }
    cluster.save(state.path())?;
    state.clear_leftovers(&cluster);
    Supervisor::new(cluster, state, preload, &publish, seats)?.run()
}

fn check_file(file: &ClusterFile, path: &Path, options: &MachineOptions) -> Result<(), ClusterFileError> {
    let path = || path.to_owned();
    if file.member(options.id).is_none() {
        return Err(ClusterFileError::NoMember { path: path(), id: options.id, count: file.member.len() });
    }
    let found = env!("CARGO_PKG_VERSION");
    if file.brolga != found {
        return Err(ClusterFileError::Version { path: path(), wanted: file.brolga.clone(), found });
    }
    if !options.command.is_empty() && !file.runs(&options.command) {
        return Err(ClusterFileError::OtherCommand(file.command.join(" ")));
    }
    if file.root != geteuid().is_root() {
        let wanted = if file.root { "as root" } else { "as another user than root" };
        return Err(ClusterFileError::OtherUser { wanted });
    }
    Ok(())
}

fn check_keys(directory: &Path, id: u8) -> Result<(), ClusterFileError> {
    let files = keys::files(directory, id);
    for path in [&files.authority, &files.certificate, &files.key] {
        fs::File::open(path).map_err(|source| ClusterFileError::Key { path: path.clone(), id, source })?;
    }
    let mode = fs::metadata(&files.key).map_or(0, |data| data.permissions().mode() & 0o777);
    if mode & OTHERS != 0 {
        return Err(ClusterFileError::OpenKey { path: files.key, mode });
    }
    tls::check(&files, id).map_err(|why| ClusterFileError::WrongKey {
        directory: directory.to_owned(),
        id,
        why,
    })
}

fn check_address(id: u8, what: &'static str, address: Option<IpAddr>) -> Result<(), ClusterFileError> {
    let Some(address) = address else { return Ok(()) };
    match TcpListener::bind((address, 0)) {
        Ok(_) => Ok(()),
        Err(_) => Err(ClusterFileError::NotHere { id, what, address }),
    }
}
