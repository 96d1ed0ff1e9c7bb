//! `brolga init`: writes the cluster file and the keys of a cluster of several machines.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::cluster::Cluster;
use super::cluster_file::{ClusterFile, FILE_NAME, FORMAT, InterfaceEntry, KEYS_NAME, MemberEntry};
use super::cluster_file_error::ClusterFileError;
use super::{LauncherError, Tuning, environment, interfaces, keys, packages, program, state_fs};
use crate::container::Limits;
use crate::replica::config::Durability;
use crate::replica::schedule::Every;

/// A member as the command line gives it: `PEERADDRESS:PORT[,SERVICEADDRESS]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberAddresses {
    /// For the other replicas.
    pub peer: SocketAddr,
    /// For clients.
    pub service: IpAddr,
}

impl FromStr for MemberAddresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (peer, service) = text.split_once(',').map_or((text, None), |(peer, rest)| (peer, Some(rest)));
        let wrong = || {
            format!(
                "{text:?} is not PEERADDRESS:PORT[,SERVICEADDRESS], as 10.0.0.1:7400 or 10.0.0.1:7400,192.0.2.1"
            )
        };
        let peer: SocketAddr = peer.parse().map_err(|_| wrong())?;
        let service = service.map_or(Ok(peer.ip()), str::parse).map_err(|_| wrong())?;
        Ok(Self { peer, service })
    }
}

/// What `brolga init` was asked for.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Name of the cluster.
    pub name: String,
    /// Where the files go.
    pub output: PathBuf,
    /// The members, from id 1 on.
    pub members: Vec<MemberAddresses>,
    /// `PORT:SERVERPORT[/udp]`.
    pub publish: Vec<String>,
    /// `HOST:PORT`.
    pub allow_outbound: Vec<String>,
    /// Files to be compared at each start, besides the program's.
    pub files: Vec<PathBuf>,
    /// When an entry counts as kept.
    pub durability: Durability,
    /// What has good defaults.
    pub tuning: Tuning,
    /// The server's command.
    pub command: Vec<OsString>,
}

/// Writes both, or nothing; returns where.
pub fn init(options: &InitOptions) -> Result<PathBuf, LauncherError> {
    let path = options.output.join(FILE_NAME);
    let key_directory = options.output.join(KEYS_NAME);
    for path in [&path, &key_directory] {
        if path.exists() {
            return Err(ClusterFileError::Exists(path.clone()).into());
        }
    }
    if options.tuning.state_fs.is_some() {
        state_fs::check()?;
    }
    let text = describe(options)?.text()?;
    // What the command line gave is checked as if it came from the file.
    ClusterFile::parse(&text, &path)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| LauncherError::State { path, source }
    };
    fs::create_dir_all(&options.output).map_err(failed(&options.output))?;
    let ids: Vec<u8> = (1..=options.members.len() as u8).collect();
    keys::ensure(&key_directory, &ids, &options.name)?;
    write_new(&path, &text).map_err(failed(&path)).inspect_err(|_| {
        let _ = fs::remove_dir_all(&key_directory);
    })?;
    Ok(path)
}

fn describe(options: &InitOptions) -> Result<ClusterFile, LauncherError> {
    let directory = std::env::current_dir().map_err(LauncherError::system("find the working directory"))?;
    let command: Vec<String> = options.command.iter().map(|word| utf8(word)).collect::<Result<_, _>>()?;
    let search = std::env::var_os("PATH");
    let first = options.command.first().map_or(OsStr::new(""), OsString::as_os_str);
    let program = program::resolve(first, search.as_deref(), &directory)?;
    let environment: Result<BTreeMap<String, String>, ClusterFileError> =
        environment::for_server(std::env::vars_os(), options.tuning.elide_fsync)
            .into_iter()
            .map(|(name, value)| Ok((utf8(&name)?, utf8(&value)?)))
            .collect();
    let seen = interfaces::of_this_machine().map_err(LauncherError::system("list the network interfaces"))?;
    let id = Cluster::new_id().map_err(LauncherError::system("read /dev/urandom"))?;
    let members = options.members.iter().zip(1..);
    Ok(ClusterFile {
        format: FORMAT,
        brolga: env!("CARGO_PKG_VERSION").to_owned(),
        name: options.name.clone(),
        id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
        durability: options.durability,
        file: packages::collect(&program, &command, &directory, &options.files)?,
        command,
        program: utf8(program.as_os_str())?,
        working_directory: utf8(directory.as_os_str())?,
        root: nix::unistd::geteuid().is_root(),
        admission: options.tuning.admission,
        quantum: options.tuning.quantum,
        spin_limit_us: options.tuning.spin_limit_us,
        poll_us: options.tuning.poll_us,
        checkpoint_every: options.tuning.checkpoint_every.map(|every| match every {
            Every::Seconds(seconds) => format!("{seconds}s"),
            Every::Entries(entries) => entries.to_string(),
        }),
        state_fs: options.tuning.state_fs.map(|size| size.to_string()),
        publish: options.publish.clone(),
        allow_outbound: options.allow_outbound.clone(),
        member: members
            .map(|(m, id)| MemberEntry { id, peer: m.peer, service: m.service, added: false })
            .collect(),
        interface: seen.iter().map(InterfaceEntry::new).collect(),
        limits: Limits::of_this_process(),
        environment: environment?,
    })
}

fn utf8(text: &OsStr) -> Result<String, ClusterFileError> {
    text.to_str()
        .map(str::to_owned)
        .ok_or_else(|| ClusterFileError::NotText(text.to_string_lossy().into_owned()))
}

/// The file holds the server's environment, in which passwords may stand.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::MemberAddresses;

    #[test]
    fn members_have_one_address_or_two() {
        let read =
            |text: &str| text.parse::<MemberAddresses>().map(|m| (m.peer.to_string(), m.service.to_string()));
        assert_eq!(read("10.0.0.1:74"), Ok(("10.0.0.1:74".to_owned(), "10.0.0.1".to_owned())));
        assert_eq!(read("[fd00::1]:74,10.0.0.1"), Ok(("[fd00::1]:74".to_owned(), "10.0.0.1".to_owned())));
        assert!(read("10.0.0.1").is_err() && read("10.0.0.1:1,x").is_err());
    }
}
