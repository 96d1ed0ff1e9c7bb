//! `cluster.toml`: all that must be the same on the machines of one cluster. `brolga init` writes it, and every machine has a
//! copy.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cluster::{Cluster, MAX_REPLICAS, Machine, Text};
use super::cluster_file_error::ClusterFileError;
use super::interfaces::Interface;
use super::packages::FileDigest;
use super::state_fs::Size;
use super::{Destination, Publication, outbound};
use crate::container::Limits;
use crate::replica::config::{Admission, Durability};
use crate::replica::schedule::Every;

/// Version of the format. A file of another one is refused.
pub const FORMAT: u32 = 1;
/// Name of the file that `brolga init` writes.
pub const FILE_NAME: &str = "cluster.toml";
/// Name of the directory of keys beside it.
pub const KEYS_NAME: &str = "keys";

const HEAD: &str = "# What all machines of this cluster have in common: the same file belongs on each of them. Before the\n\
# first start anything may be changed; later addresses, publish, allow_outbound, durability, poll_us\n\
# and checkpoint_every.\n\n";

/// The file. Plain values come first, as TOML wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of Brolga that wrote it and runs it.
    pub brolga: String,
    /// Name of the cluster.
    pub name: String,
    /// Random: no two clusters share it.
    pub id: String,
    /// When an entry counts as kept.
    pub durability: Durability,
    /// The server's command.
    pub command: Vec<String>,
    /// Absolute path of its program.
    pub program: String,
    /// The server's working directory.
    pub working_directory: String,
    /// Brolga runs as root on all machines, or on none.
    pub root: bool,
    /// Who orders inputs.
    pub admission: Admission,
    /// Operations after which a thread passes the turn on.
    pub quantum: u32,
    /// CPU time without an operation before a preemption, microseconds.
    pub spin_limit_us: u32,
    /// How long a replica looks for news before it sleeps, microseconds.
    pub poll_us: u32,
    /// How often one of the followers takes a checkpoint: a time as `60s`, or a number of entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<String>,
    /// Size, as `20G`, of a file system of its own for each member's state directory ([`super::state_fs`]), made at its first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_fs: Option<String>,
    /// `PORT:SERVERPORT`, with `/udp` behind it for UDP: ports at which a member publishes ports of the server.
    #[serde(default)]
    pub publish: Vec<String>,
    /// `HOST:PORT` to which the server may connect and send.
    #[serde(default)]
    pub allow_outbound: Vec<String>,
    /// One replica each.
    pub member: Vec<MemberEntry>,
    /// Network interfaces that the server sees.
    #[serde(default)]
    pub interface: Vec<InterfaceEntry>,
    /// Files that are the same on all machines: checked at each start.
    #[serde(default)]
    pub file: Vec<FileDigest>,
    /// The server's limits; a file that an older version wrote has none.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// The server's environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// One replica and its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberEntry {
    /// Id, from 1.
    pub id: u8,
    /// Where the other replicas connect to it.
    pub peer: SocketAddr,
    /// Where it takes clients; the ports are the server's, or those of `publish`.
    pub service: IpAddr,
    /// It was not among those with whom the cluster was made: `brolga member add` wrote it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub added: bool,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceEntry {
    /// Its name.
    pub name: String,
    /// Its hardware address, six hexadecimal bytes with colons.
    pub hardware: String,
    /// `ADDRESS/PREFIX`.
    pub addresses: Vec<String>,
}

/// What decides whether another version wrote the file, before anything else is looked at.
#[derive(Deserialize)]
struct Format {
    format: Option<i64>,
}

impl ClusterFile {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, ClusterFileError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ClusterFileError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads the text of the file at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ClusterFileError> {
        let wrong = |error: toml::de::Error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            // The parser's message may have lines of its own.
            let why = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            ClusterFileError::Syntax { path: path.to_owned(), line, why }
        };
        match toml::from_str::<Format>(text).map_err(wrong)?.format {
            Some(format) if format == i64::from(FORMAT) => {}
            Some(format) => return Err(ClusterFileError::Format { path: path.to_owned(), format }),
            None => return Err(ClusterFileError::NoFormat(path.to_owned())),
        }
        let file: Self = toml::from_str(text).map_err(wrong)?;
        file.check().map_err(|why| ClusterFileError::Content { path: path.to_owned(), why })?;
        Ok(file)
    }

    /// The text of the file.
    pub fn text(&self) -> Result<String, ClusterFileError> {
        Ok(HEAD.to_owned() + &toml::to_string_pretty(self).map_err(ClusterFileError::Write)?)
    }

    fn check(&self) -> Result<(), String> {
        let count = self.member.len();
        let founders = self.member.iter().filter(|member| !member.added).count();
        if !(1..=usize::from(MAX_REPLICAS)).contains(&founders) {
            return Err(format!("it has {count} members; 1 to {MAX_REPLICAS} can be"));
        }
        for (at, member) in self.member.iter().enumerate() {
            let id = member.id;
            if !member.added && usize::from(id) != at + 1 {
                return Err(format!("member {id} stands where member {} belongs: ids go from 1 on", at + 1));
            }
            if self.member[..at].iter().any(|before| before.id >= id) {
                return Err(format!("member {id} stands behind one with a higher id"));
            }
            // Whoever was removed may have left its address to a later one.
            let twin = self.member[..at].iter().find(|m| !member.added && m.peer == member.peer);
            if let Some(twin) = twin {
                return Err(format!(
                    "members {} and {id} have the same peer address {}",
                    twin.id, member.peer
                ));
            }
            if member.peer.port() == 0 || member.peer.ip().is_unspecified() || member.service.is_unspecified()
            {
                return Err(format!(
                    "member {id} needs a peer address and a service address that others can reach"
                ));
            }
        }
        if self.command.is_empty() {
            return Err("the command is empty".to_owned());
        }
        self.publications(1).map(drop)?;
        self.destinations().map(drop)?;
        self.every().map(drop)?;
        self.state_fs().map(drop)?;
        self.interface.iter().try_for_each(|entry| entry.interface().map(drop))?;
        self.id_bytes().map(drop)
    }

    /// The member with this id.
    pub fn member(&self, id: u8) -> Option<&MemberEntry> {
        self.member.iter().find(|member| member.id == id)
    }

    /// The ports that member `id` publishes elsewhere than where the server listens.
    pub fn publications(&self, id: u8) -> Result<Vec<Publication>, String> {
        let service = self.member(id).map(|member| member.service);
        let one = |text: &String| {
            let mut read: Publication = text.parse().map_err(|why| format!("publish: {why}"))?;
            if !read.address.ip().is_unspecified() {
                return Err(format!(
                    "publish: {text:?} names an address; it is PORT:SERVERPORT, at the service address of each member"
                ));
            }
            read.address.set_ip(service.unwrap_or(read.address.ip()));
            Ok(read)
        };
        self.publish.iter().map(one).collect()
    }

    fn destinations(&self) -> Result<Vec<Destination>, String> {
        self.allow_outbound
            .iter()
            .map(|text| text.parse().map_err(|why| format!("allow_outbound: {why}")))
            .collect()
    }

    fn every(&self) -> Result<Option<Every>, String> {
        let read = |text: &String| text.parse().map_err(|why| format!("checkpoint_every: {why}"));
        self.checkpoint_every.as_ref().map(read).transpose()
    }

    /// How large the file system of each state directory is.
    pub fn state_fs(&self) -> Result<Option<Size>, String> {
        let read = |text: &String| text.parse().map_err(|why| format!("state_fs: {why}"));
        self.state_fs.as_ref().map(read).transpose()
    }

    fn id_bytes(&self) -> Result<[u8; 16], String> {
        let wrong = || format!("the id {:?} is not 32 hexadecimal digits", self.id);
        if self.id.len() != 32 || !self.id.is_ascii() {
            return Err(wrong());
        }
        let mut id = [0; 16];
        for (at, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&self.id[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(id)
    }

    /// What the log belongs to: a digest of all that must not change once there is a log, on no machine.
    fn fingerprint(&self) -> Result<[u8; 16], ClusterFileError> {
        let founders = self.member.iter().filter(|member| !member.added);
        let members: Vec<u8> = founders.map(|member| member.id).collect();
        let fixed = (
            (FORMAT, dmt::bounds::LAYOUT_VERSION, &self.name, &self.id, members),
            (&self.command, &self.program, &self.working_directory, &self.environment, self.root),
            (self.admission, self.quantum, self.spin_limit_us, &self.interface, &self.file),
        );
        let failed = |error: postcard::Error| ClusterFileError::Encode(error.to_string());
        let mut bytes = postcard::to_stdvec(&fixed).map_err(failed)?;
        if !self.limits.is_empty() {
            bytes.extend(postcard::to_stdvec(&self.limits).map_err(failed)?);
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        Ok(std::array::from_fn(|at| digest.as_ref()[at]))
    }

    /// The cluster as a state directory knows it.
    pub fn cluster(&self, path: &Path) -> Result<Cluster, super::LauncherError> {
        let content = |why| ClusterFileError::Content { path: path.to_owned(), why };
        let interfaces: Result<Vec<Interface>, String> =
            self.interface.iter().map(InterfaceEntry::interface).collect();
        let text = |text: &String| Text::Utf8(text.clone());
        Ok(Cluster {
            version: self.brolga.clone(),
            layout: dmt::bounds::LAYOUT_VERSION,
            name: self.name.clone(),
            id: self.fingerprint()?,
            replicas: self.member.iter().filter(|member| !member.added).count() as u8,
            program: text(&self.program),
            command: self.command.iter().map(text).collect(),
            environment: self.environment.iter().map(|(name, value)| (text(name), text(value))).collect(),
            limits: self.limits.clone(),
            working_directory: text(&self.working_directory),
            durability: self.durability,
            admission: self.admission,
            quantum: self.quantum,
            spin_limit_us: self.spin_limit_us,
            poll_us: self.poll_us,
            checkpoint_every: self.every().map_err(content)?,
            outbound: outbound::resolve(&self.destinations().map_err(content)?)?,
            interfaces: interfaces.map_err(content)?,
            machines: self
                .member
                .iter()
                .map(|member| Machine {
                    id: member.id,
                    peer: member.peer,
                    service: member.service,
                    added: member.added,
                })
                .collect(),
            members: None,
        })
    }

    /// Whether this command is the cluster's.
    pub fn runs(&self, command: &[OsString]) -> bool {
        command.len() == self.command.len() && command.iter().zip(&self.command).all(|(a, b)| a == b.as_str())
    }

    /// The directory of keys that belongs to the file at `path`.
    pub fn keys_beside(path: &Path) -> PathBuf {
        path.parent().unwrap_or(Path::new("")).join(KEYS_NAME)
    }
}

impl InterfaceEntry {
    /// As the file shows it.
    pub fn new(interface: &Interface) -> Self {
        let hardware: Vec<_> = interface.hardware.iter().map(|byte| format!("{byte:02x}")).collect();
        let addresses = interface.addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}"));
        Self { name: interface.name.clone(), hardware: hardware.join(":"), addresses: addresses.collect() }
    }

    fn interface(&self) -> Result<Interface, String> {
        let bytes: Result<Vec<u8>, _> =
            self.hardware.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
        let hardware = bytes.ok().and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        let hardware = hardware.ok_or_else(|| {
            format!("the hardware address {:?} of interface {} is not six bytes", self.hardware, self.name)
        })?;
        let address = |text: &String| {
            let (address, prefix) = text.split_once('/')?;
            Some((address.parse().ok()?, prefix.parse().ok()?))
        };
        let one = |text: &String| {
            address(text).ok_or_else(|| format!("{text:?} of interface {} is not ADDRESS/PREFIX", self.name))
        };
        let addresses = self.addresses.iter().map(one).collect::<Result<_, _>>()?;
        Ok(Interface { name: self.name.clone(), hardware, addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::{ClusterFile, FORMAT};
    use crate::launcher::cluster_file_error::ClusterFileError;
    use std::path::Path;

    const TEXT: &str = r#"
format = 1
brolga = "0.1.0"
name = "x"
id = "000102030405060708090a0b0c0d0e0f"
durability = "disk"
command = ["redis-server"]
program = "/usr/bin/redis-server"
working_directory = "/"
root = true
admission = "speculative"
quantum = 1024
spin_limit_us = 1000000
poll_us = 200
publish = ["8080:80"]

[[member]]
id = 1
peer = "10.0.0.1:7400"
service = "10.0.0.1"

[[member]]
id = 2
peer = "10.0.0.2:7400"
service = "10.0.1.2"

[[interface]]
name = "eth0"
hardware = "02:00:00:00:00:01"
addresses = ["10.0.0.1/24"]

[limits]
nproc = "500:unlimited"

[environment]
HOME = "/root"
"#;

    fn parse(text: &str) -> Result<ClusterFile, String> {
        ClusterFile::parse(text, Path::new("cluster.toml"))
            .map_err(|error: ClusterFileError| error.to_string())
    }

    #[test]
    fn comes_back_as_it_was_written() {
        let file = parse(TEXT).unwrap();
        assert_eq!(parse(&file.text().unwrap()), Ok(file.clone()));
        assert_eq!(file.publications(2).unwrap()[0].address.to_string(), "10.0.1.2:8080");
        let cluster = file.cluster(Path::new("cluster.toml")).unwrap();
        assert_eq!((cluster.replicas, cluster.machines.len()), (2, 2));
    }

    #[test]
    fn what_may_change_leaves_the_fingerprint_and_nothing_else_does() {
        let id = |text: &str| parse(text).unwrap().fingerprint().unwrap();
        assert_eq!(id(TEXT), id(&TEXT.replace("10.0.1.2", "10.0.9.2").replace("disk", "memory")));
        for (from, to) in [
            ("/root", "/home"),
            ("10.0.0.1/24", "10.0.0.1/25"),
            ("1024", "1025"),
            ("500", "501"),
            ("0e0f", "0e0e"),
        ] {
            assert_ne!(id(TEXT), id(&TEXT.replace(from, to)), "{from}");
        }
    }

    #[test]
    fn nonsense_is_named_with_its_line() {
        let told = |from: &str, to: &str| {
            let error = parse(&TEXT.replacen(from, to, 1)).unwrap_err();
            assert!(!error.contains('\n'), "{error}");
            error
        };
        assert!(told("quantum", "quantumm").contains("line 12: unknown field `quantumm`"));
        assert!(told("format = 1", "format = 9").contains("format 9"));
        assert!(told("format = 1\n", "").contains("no format"));
        assert!(told("id = 2", "id = 3").contains("member 3 stands where member 2"));
        assert!(told("10.0.0.2:7400", "10.0.0.1:7400").contains("same peer address"));
        assert!(told("10.0.0.2:7400", "10.0.0.2").contains("line 24"));
        assert!(told("8080:80", "1.2.3.4:8080:80").contains("names an address"));
        assert!(told("0e0f", "0e0").contains("32 hexadecimal digits"));
        assert!(told("[[member]]", "[[member").contains("line 17"));
        assert_eq!(FORMAT, 1);
    }
}
