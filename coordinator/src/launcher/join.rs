//! What a machine needs that joins a cluster of several machines: the cluster file with its member in it, and its keys.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::LauncherError;
use super::cluster::Cluster;
use super::cluster_file::{ClusterFile, FILE_NAME, KEYS_NAME, MemberEntry};
use super::cluster_file_error::ClusterFileError;
use super::keys;
use crate::paxos::Members;
use crate::private::make_private;

/// All that is there before the new member has an id.
#[derive(Debug)]
pub struct Package {
    path: PathBuf,
    file: ClusterFile,
    keys: PathBuf,
}

impl Package {
    /// Reads the cluster file at `config`, which must be that of the cluster in `state`, and looks for the authority's key.
    pub fn prepare(config: &Path, state: &Path) -> Result<Self, LauncherError> {
        let path = config.canonicalize().unwrap_or_else(|_| config.to_owned());
        let file = ClusterFile::load(&path)?;
        if let Some(cluster) = Cluster::load(state)?
            && let Some(what) = cluster.other_file(&file.cluster(&path)?)
        {
            return Err(LauncherError::Mismatch { state: state.to_owned(), what });
        }
        let keys = ClusterFile::keys_beside(&path);
        let authority = keys::authority_key(&keys);
        fs::File::open(&authority)
            .map_err(|source| LauncherError::NoAuthority { path: authority, source })?;
        Ok(Self { path, file, keys })
    }

    /// Writes the files of replica `id` into `output`.
    pub fn write(mut self, output: &Path, id: u8, members: &Members) -> Result<(), LauncherError> {
        for member in &members.list {
            let (Some(peer), Some(service)) = (member.peer, member.service) else { continue };
            if self.file.member(member.id).is_none() {
                self.file.member.push(MemberEntry { id: member.id, peer, service, added: true });
            }
        }
        self.file.member.sort_by_key(|member| member.id);
        let text = self.file.text()?;
        ClusterFile::parse(&text, &self.path)?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LauncherError::State { path, source }
        };
        let key_directory = output.join(KEYS_NAME);
        make_private(&key_directory).map_err(failed(&key_directory))?;
        keys::add(&self.keys, &key_directory, id, &self.file.name)?;
        let (from, to) = (keys::files(&self.keys, id).authority, keys::files(&key_directory, id).authority);
        fs::copy(&from, &to).map_err(failed(&to))?;
        let path = output.join(FILE_NAME);
        if path.exists() {
            return Err(ClusterFileError::Exists(path).into());
        }
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(failed(&path))
    }
}
