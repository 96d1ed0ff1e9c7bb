//! What can be wrong with `cluster.toml`, its keys and the machine that is to run one of its replicas.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::cluster_file::FORMAT;

/// Why a replica of a cluster of several machines does not start, or `brolga init` writes nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClusterFileError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}; `brolga init` makes it, and each machine needs a copy")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Not TOML, or a key that nobody knows.
    #[error("{path} line {line}: {why}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// The parser's reason.
        why: String,
    },
    /// Another version of Brolga wrote it.
    #[error(
        "{path} has format {format}, and this version of Brolga knows format {FORMAT} only; install the version that wrote it"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: i64,
    },
    /// It says no format.
    #[error("{0} says no format; it was not written by `brolga init`")]
    NoFormat(PathBuf),
    /// It makes no sense.
    #[error("{path}: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No such member.
    #[error("{path} has no member {id}; its members are 1 to {count}")]
    NoMember {
        /// The file.
        path: PathBuf,
        /// The id that was asked for.
        id: u8,
        /// Members.
        count: usize,
    },
    /// The address of that member is elsewhere.
    #[error(
        "member {id} has the {what} address {address}, which is no address of this machine; run it where it is, or correct cluster.toml on all machines"
    )]
    NotHere {
        /// The member.
        id: u8,
        /// Peer or service.
        what: &'static str,
        /// Which.
        address: IpAddr,
    },
    /// The peer port is taken.
    #[error("cannot listen for peers on {address}: {source}; is this replica running already?")]
    PeerPort {
        /// Where.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// Not the command of the cluster.
    #[error("the command is not the cluster's, which is: {0}")]
    OtherCommand(String),
    /// The file is for another version.
    #[error(
        "{path} is for version {wanted} of Brolga, and this is {found}; all machines need the same version"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The file's.
        wanted: String,
        /// The own one.
        found: &'static str,
    },
    /// Root or not.
    #[error("the cluster's replicas run {wanted}; run this one so, too")]
    OtherUser {
        /// As root, or not.
        wanted: &'static str,
    },
    /// A key is not there.
    #[error(
        "cannot read the key file {path}: {source}; copy authority.pem, replica-{id}.pem and replica-{id}.key from the machine where `brolga init` ran"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// The member.
        id: u8,
        /// The system's reason.
        source: io::Error,
    },
    /// Others can read the key.
    #[error(
        "the key file {path} has mode {mode:04o}: others can read it; `chmod 600 {path}`, and if somebody may have read it make new keys with `brolga init`"
    )]
    OpenKey {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is another replica's, or another cluster's.
    #[error(
        "the keys in {directory} are not those of member {id}: {why}; copy authority.pem, replica-{id}.pem and replica-{id}.key from the machine where `brolga init` ran"
    )]
    WrongKey {
        /// Where the keys are.
        directory: PathBuf,
        /// The member.
        id: u8,
        /// What does not fit.
        why: String,
    },
    /// Packages differ.
    #[error("{path} is not the file of the cluster ({why}); install the same packages on all machines")]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// How it differs.
        why: String,
    },
    /// `brolga init` does not overwrite.
    #[error("{0} exists; give another --output, or remove it with its keys")]
    Exists(PathBuf),
    /// A string that TOML cannot hold.
    #[error("{0} is not UTF-8, and cluster.toml can hold no other")]
    NotText(String),
    /// Cannot happen with good strings.
    #[error("cannot write the cluster file: {0}")]
    Write(toml::ser::Error),
    /// Cannot happen.
    #[error("cannot encode the cluster file: {0}")]
    Encode(String),
}
