//! What `brolga replay`, `explain` and `verify` understand.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::args::Which;
use crate::launcher::Publication;
use crate::launcher::cluster::Cluster;
use crate::replay::ReplayError;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The log: a state directory, a replica's directory in one, or its `log` [default: as --state and --replica say]
    #[arg(value_name = "LOG", conflicts_with_all = ["name", "state", "replica"])]
    pub log: Option<PathBuf>,
    #[command(flatten)]
    pub which: Which,
    /// The replica whose log is replayed
    #[arg(long, short, default_value_t = 1, value_name = "ID")]
    pub replica: u8,
    /// Stop after so many entries
    #[arg(long, value_name = "N")]
    pub entries: Option<u64>,
    /// Run it under gdb, which is attached before the server's first instruction
    #[arg(long)]
    pub gdb: bool,
    /// Replay it twice, the second time tracing every call as `brolga explain` does, and compare each operation: tracing
    /// must change nothing
    #[arg(long, conflicts_with = "gdb")]
    pub traced: bool,
    /// Arguments for gdb
    #[arg(last = true, requires = "gdb", value_name = "ARGUMENTS")]
    pub gdb_arguments: Vec<OsString>,
}

impl ReplayArgs {
    /// The state directory, and the replica.
    pub fn place(&self) -> Result<(PathBuf, u8), ReplayError> {
        let Some(log) = &self.log else { return Ok((self.which.state(), self.replica)) };
        let found = log.canonicalize();
        let full = found
            .map_err(|error| ReplayError::Refused(format!("cannot replay {}: {error}", log.display())))?;
        let state = full.ancestors().find(|directory| Cluster::path(directory).is_file());
        let state = state.ok_or_else(|| ReplayError::NoCluster(full.clone()))?;
        let within = full.strip_prefix(state).ok().and_then(|within| within.iter().next());
        let id = within.and_then(|name| name.to_str()?.strip_prefix("replica-")?.parse().ok());
        Ok((state.to_owned(), id.unwrap_or(self.replica)))
    }
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    pub which: Which,
    /// The replica [default: one that diverged, else 1]
    #[arg(long, short, value_name = "ID")]
    pub replica: Option<u8>,
    /// Compare it with this replica instead of with a replay of its own log
    #[arg(long, value_name = "ID")]
    pub with: Option<u8>,
    /// Look at this entry, and do not search for the first that differs
    #[arg(long, value_name = "N")]
    pub entry: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// A shell command that uses the server as its clients do; {port} is where clients connect, {port:N} where those of
    /// the server's port N do
    #[arg(long, value_name = "COMMAND")]
    pub load: Option<String>,
    /// Record for so long, or so much longer than the load [default: until the load ends, or Ctrl-C]
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "SECONDS")]
    pub seconds: u64,
    /// Replays to compare with the run; what comes seldom may need more
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub replays: u32,
    /// Publish a port of the server elsewhere, as with `brolga run`
    // The brackets of an IPv6 address are no link, so this is no documentation.
    #[arg(long, value_name = "[ADDRESS:]PORT:SERVERPORT", value_parser = publication)]
    pub publish: Vec<String>,
    /// Where the recording is kept while it is needed [default: beside the clusters' state directories]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Keep the recording
    #[arg(long)]
    pub keep: bool,
    /// The server's command; all that follows it belongs to it
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Checks what `brolga run` will be given.
fn publication(text: &str) -> Result<String, String> {
    text.parse::<Publication>().map(|_| text.to_owned())
}
