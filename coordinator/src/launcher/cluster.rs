//! `cluster.json`: what a state directory belongs to. Its logs replay one command, one environment, one layout.
//!
//! Its last line has checksums of all others ([`crate::line_sums`]): a changed letter in it would be another history.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::LauncherError;
use super::interfaces::Interface;
use super::state::{keys_directory, replica_directory, system_directory};
use super::state_fs::image_of;
use crate::container::{ContainerSpec, Limits, SYNC_VARIABLE};
use crate::line_sums::{self, Damage};
use crate::paxos::{MAX_ID, Members};
use crate::replica::config::{Admission, Durability};
use crate::replica::outbound::Rule;
use crate::replica::schedule::Every;

/// Replicas of one cluster at the most.
pub const MAX_REPLICAS: u8 = 11;
const FILE: &str = "cluster.json";
/// What stands before the checksums, and behind them.
const SUMS: (&str, &str) = (",\n  \"checksums\": \"", "\"\n}\n");

/// What the logs in a state directory were made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Version of Brolga.
    pub version: String,
    /// `dmt::bounds::LAYOUT_VERSION`.
    pub layout: u32,
    /// Name of the cluster.
    pub name: String,
    /// Random, made with the directory; no two clusters share a log.
    pub id: [u8; 16],
    /// Replicas with which it was made; `members` came later.
    pub replicas: u8,
    /// Absolute path of the program.
    pub program: Text,
    /// The command as it was given.
    pub command: Vec<Text>,
    /// The server's environment.
    pub environment: Vec<(Text, Text)>,
    /// The server's limits; a cluster that an older version made has none.
    #[serde(default)]
    pub limits: Limits,
    /// The server's working directory.
    pub working_directory: Text,
    /// When an entry counts as kept.
    pub durability: Durability,
    /// Who orders inputs.
    pub admission: Admission,
    /// Operations after which a thread passes the turn on.
    pub quantum: u32,
    /// CPU time without an operation before a preemption, microseconds.
    pub spin_limit_us: u32,
    /// How long a replica looks for news before it sleeps, microseconds. It may change from run to run.
    pub poll_us: u32,
    /// How often one of the replicas takes a checkpoint. It may change from run to run.
    #[serde(default)]
    pub checkpoint_every: Option<Every>,
    /// Where the server may connect and send. It may change from run to run.
    pub outbound: Vec<Rule>,
    /// The network interfaces that the server sees.
    pub interfaces: Vec<Interface>,
    /// One replica each, if they are on several machines. Addresses may change from run to run.
    #[serde(default)]
    pub machines: Vec<Machine>,
    /// Who takes part, as far as this machine has heard, if that ever changed. The log says it; this is for a start, before
    /// there is anybody who has read it.
    #[serde(default)]
    pub members: Option<Members>,
}

/// Where a replica is that has a machine of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The replica.
    pub id: u8,
    /// Where the others connect to it.
    pub peer: SocketAddr,
    /// Where it takes clients.
    pub service: IpAddr,
    /// It was not among those with whom the cluster was made.
    #[serde(default)]
    pub added: bool,
}

/// A string of the operating system; JSON shows it as text, or as bytes if it is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// The usual case.
    Utf8(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl From<&OsStr> for Text {
    fn from(text: &OsStr) -> Self {
        text.to_str()
            .map_or_else(|| Self::Bytes(text.as_bytes().to_vec()), |text| Self::Utf8(text.to_owned()))
    }
}

impl From<&Text> for OsString {
    fn from(text: &Text) -> Self {
        match text {
            Text::Utf8(text) => text.into(),
            Text::Bytes(bytes) => Self::from_vec(bytes.clone()),
        }
    }
}

impl Cluster {
    /// What of Brolga's own in and beside a state directory the server must not see: it must see the same on every replica, and no keys.
    /// On several machines the replicas' directories have different names, and it sees none.
    pub fn hidden(&self, state: &Path) -> Vec<PathBuf> {
        let own: Vec<_> = match self.machines.is_empty() {
            true => (1..=MAX_ID).map(|id| replica_directory(state, id)).collect(),
            false => vec![state.to_owned()],
        };
        own.into_iter().chain([keys_directory(state), system_directory(state), image_of(state)]).collect()
    }

    /// The server in a container of its own: `directory` is the container's, and those in `hidden` look empty in it.
    pub fn server(&self, state: &Path, directory: PathBuf, hidden: Vec<PathBuf>) -> ContainerSpec {
        ContainerSpec {
            directory,
            hidden,
            system: Some(system_directory(state)),
            program: PathBuf::from(OsString::from(&self.program)),
            arguments: self.command.iter().map(OsString::from).collect(),
            environment: self.environment.iter().map(|(n, v)| (n.into(), v.into())).collect(),
            limits: self.limits.clone(),
            working_directory: PathBuf::from(OsString::from(&self.working_directory)),
            interfaces: self.interfaces.clone(),
            shared: None,
            init_program: "/proc/self/exe".into(),
        }
    }

    /// Ids of all replicas, as far as this machine has heard.
    pub fn ids(&self) -> Vec<u8> {
        match &self.members {
            Some(members) => members.list.iter().map(|member| member.id).collect(),
            None if self.machines.is_empty() => (1..=self.replicas).collect(),
            None => self.machines.iter().map(|machine| machine.id).collect(),
        }
    }

    /// With whom it was made.
    pub fn founders(&self) -> Vec<u8> {
        if self.machines.is_empty() {
            return (1..=self.replicas).collect();
        }
        self.machines.iter().filter(|machine| !machine.added).map(|machine| machine.id).collect()
    }

    /// A fresh random identity.
    pub fn new_id() -> io::Result<[u8; 16]> {
        let mut id = [0; 16];
        fs::File::open("/dev/urandom")?.read_exact(&mut id)?;
        Ok(id)
    }

    /// Name for things outside the state directory: no two clusters share it.
    pub fn tag(&self) -> String {
        let [a, b, c, d, ..] = self.id;
        format!("{}-{a:02x}{b:02x}{c:02x}{d:02x}", self.name)
    }

    /// Whether the server's own waiting for the disk costs nothing.
    pub fn elides_fsync(&self) -> bool {
        let name = Text::from(OsStr::new(SYNC_VARIABLE));
        !self.environment.iter().any(|(variable, _)| *variable == name)
    }

    /// The command for people.
    pub fn command_line(&self) -> String {
        let words = self.command.iter().map(|word| OsString::from(word).to_string_lossy().into_owned());
        words.collect::<Vec<_>>().join(" ")
    }

    /// Says that a state directory belongs to another cluster of machines, or to another edition of its file.
    pub fn other_file(&self, wanted: &Self) -> Option<String> {
        let same = self.id == wanted.id && !self.machines.is_empty();
        (!same)
            .then(|| format!("another cluster, or to this one ({}) before its file was changed", self.tag()))
    }

    /// The file that makes a directory a state directory.
    pub fn path(state: &Path) -> PathBuf {
        state.join(FILE)
    }

    /// Reads the file of a state directory, `None` if there is none.
    pub fn load(state: &Path) -> Result<Option<Self>, LauncherError> {
        let path = Self::path(state);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LauncherError::State { path, source }),
            Ok(bytes) => Self::parse(&bytes, state).map(Some),
        }
    }

    /// What the file of a state directory says.
    pub(crate) fn parse(bytes: &[u8], state: &Path) -> Result<Self, LauncherError> {
        let damaged = |why: String| LauncherError::Damaged { path: state.join(FILE), why };
        let version = || version_of(bytes).filter(|version| version != env!("CARGO_PKG_VERSION"));
        match (check(bytes), version()) {
            (Ok(()), _) => serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string())),
            // Most likely written by another version: say that, if it tells.
            (Err(None), Some(version)) => Err(LauncherError::Mismatch {
                state: state.to_owned(),
                what: format!("version {version} of Brolga"),
            }),
            (Err(None), None) => Err(damaged("its last line has no checksums of the others".to_owned())),
            (Err(Some(damage)), _) => Err(damaged(damage.to_string())),
        }
    }

    fn text(&self) -> serde_json::Result<String> {
        Ok(with_sums(&serde_json::to_string_pretty(self)?))
    }

    /// Writes the file, all or nothing.
    pub fn save(&self, state: &Path) -> Result<(), LauncherError> {
        let path: PathBuf = state.join(FILE);
        let new = state.join(format!("{FILE}.new"));
        let write = || -> io::Result<()> {
            let text = self.text().map_err(io::Error::other)?;
            // The server's environment may hold secrets.
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(state)?.sync_all()
        };
        write().map_err(|source| LauncherError::State { path: path.clone(), source })
    }

    /// Says what keeps `wanted` from running on this directory's logs. The environment is not compared: the stored one
    /// is used again, and so are the interfaces. Durability, polling, checkpoints and where it may connect may change from run to run.
    pub fn difference(&self, wanted: &Self) -> Option<String> {
        // Another version may go on where the layout, which stands for all that a log means, is the same.
        if self.layout != wanted.layout {
            return Some(format!("version {} of Brolga (this is {})", self.version, wanted.version));
        }
        if (&self.program, &self.command) != (&wanted.program, &wanted.command) {
            return Some(format!("another command: {}", self.command_line()));
        }
        if self.working_directory != wanted.working_directory {
            let directory = OsString::from(&self.working_directory);
            return Some(format!("another working directory: {}", directory.to_string_lossy()));
        }
        if self.replicas != wanted.replicas {
            return Some(format!("{} replicas, not {}", self.replicas, wanted.replicas));
        }
        if self.admission != wanted.admission {
            return Some("another --admission".to_owned());
        }
        if self.elides_fsync() != wanted.elides_fsync() {
            return Some(format!("--elide-fsync={}", self.elides_fsync()));
        }
        if (self.quantum, self.spin_limit_us) != (wanted.quantum, wanted.spin_limit_us) {
            return Some("another --quantum or --spin-limit".to_owned());
        }
        None
    }
}

/// The text of the file: JSON, and checksums of its lines as the last member.
pub(crate) fn with_sums(json: &str) -> String {
    let body = json.trim_end_matches("\n}");
    [body, SUMS.0, &line_sums::of(body.as_bytes()), SUMS.1].concat()
}

/// Compares a file with the checksums in it; `None` says that it has none.
fn check(bytes: &[u8]) -> Result<(), Option<Damage>> {
    let end = bytes.strip_suffix(SUMS.1.as_bytes()).ok_or(None)?;
    let at = end.windows(SUMS.0.len()).rposition(|part| part == SUMS.0.as_bytes()).ok_or(None)?;
    line_sums::check(&end[..at], 0, &end[at + SUMS.0.len()..]).map_err(Some)
}

fn version_of(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    Some(value.get("version")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Cluster, Text};
    use crate::container::Limits;
    use crate::launcher::LauncherError;
    use crate::replica::config::{Admission, Durability};
    use std::fs;

    fn cluster() -> Cluster {
        Cluster {
            version: "1".into(),
            layout: 1,
            name: "default".into(),
            id: [7; 16],
            replicas: 3,
            program: Text::Utf8("/bin/true".into()),
            command: vec![Text::Utf8("true".into()), Text::Bytes(vec![0xff])],
            environment: vec![(Text::Utf8("A".into()), Text::Utf8("b".into()))],
            limits: Limits::default(),
            working_directory: Text::Utf8("/".into()),
            durability: Durability::Memory,
            admission: Admission::Speculative,
            quantum: 1024,
            spin_limit_us: 2000,
            poll_us: 200,
            checkpoint_every: None,
            outbound: vec![],
            interfaces: vec![],
            machines: vec![],
            members: None,
        }
    }

    #[test]
    fn tells_what_differs() {
        let stored = cluster();
        assert_eq!(stored.difference(&Cluster { id: [1; 16], environment: vec![], ..cluster() }), None);
        assert_eq!(stored.difference(&Cluster { durability: Durability::Disk, ..cluster() }), None);
        let told = |wanted: Cluster| stored.difference(&wanted).unwrap();
        assert_eq!(told(Cluster { replicas: 5, ..cluster() }), "3 replicas, not 5");
        assert_eq!(stored.difference(&Cluster { version: "2".into(), ..cluster() }), None);
        let other = Cluster { version: "2".into(), layout: 2, ..cluster() };
        assert_eq!(told(other), "version 1 of Brolga (this is 2)");
        assert!(told(Cluster { command: vec![], ..cluster() }).starts_with("another command: true"));
    }

    #[test]
    fn survives_the_disk_and_refuses_damage() {
        let state = std::env::temp_dir().join(format!("brolga-cluster-{}", std::process::id()));
        fs::create_dir_all(&state).unwrap();
        assert_eq!(Cluster::load(&state).unwrap(), None);
        cluster().save(&state).unwrap();
        assert_eq!(Cluster::load(&state).unwrap(), Some(cluster()));
        fs::write(state.join("cluster.json"), "{\"version\": \"0.0.9\"}").unwrap();
        let Err(LauncherError::Mismatch { what, .. }) = Cluster::load(&state) else { panic!() };
        assert_eq!(what, "version 0.0.9 of Brolga");
        fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn each_flipped_bit_is_noticed_and_told_with_its_line() {
        // Of this version: what another one wrote may have its checksums elsewhere.
        let own = Cluster { version: env!("CARGO_PKG_VERSION").into(), ..cluster() };
        let (good, state) = (own.text().unwrap().into_bytes(), std::path::Path::new("/s"));
        assert_eq!(Cluster::parse(&good, state).unwrap(), own);
        let sums = good.windows(11).rposition(|part| part == b"\"checksums\"").unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let error = Cluster::parse(&bad, state).unwrap_err().to_string();
            assert!(error.contains("cluster.json"), "bit {bit}: {error}");
            // Before the comma at the end of the last line that has a sum.
            if bit / 8 < sums - 4 {
                assert!(error.contains("line ") && error.contains("expected CRC"), "bit {bit}: {error}");
            }
        }
        assert!(Cluster::parse(&good[..good.len() - 1], state).is_err(), "a shorter file");
    }
}
