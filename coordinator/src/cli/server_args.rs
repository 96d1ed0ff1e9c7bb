//! What `brolga run`, `init`, `replica` and the coordinator's own process are told about the server that they run.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::args::{Which, cluster_name};
use super::manual::{ALLOW_OUTBOUND, PUBLISH};
use super::tuning_args::TuningArgs;
use crate::launcher::cluster::MAX_REPLICAS;
use crate::launcher::init::MemberAddresses;
use crate::launcher::{Destination, Publication};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Replicas; 3 tolerate the loss of one, 5 of two
    #[arg(short = 'n', long = "replicas", default_value_t = 3, value_name = "N",
        value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_REPLICAS)))]
    pub replicas: u8,
    #[command(flatten)]
    pub which: Which,
    /// Publish a port of the server at an address of this machine; may be given several times
    ///
    // The brackets of an IPv6 address are no link, so this is no documentation.
    #[arg(long, value_name = "[ADDRESS:]PORT:SERVERPORT[/udp]", long_help = PUBLISH)]
    pub publish: Vec<Publication>,
    /// Let the server connect or send to another host; may be given several times
    #[arg(long, value_name = "HOST:PORT", long_help = ALLOW_OUTBOUND)]
    pub allow_outbound: Vec<Destination>,
    /// When a request counts as kept
    #[arg(long, value_enum, default_value_t = DurabilityArg::Memory)]
    pub durability: DurabilityArg,
    /// Discard the data of earlier runs of this cluster first
    #[arg(long)]
    pub fresh: bool,
    #[command(flatten)]
    pub tuning: TuningArgs,
    /// The server's command; all that follows it belongs to it
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum DurabilityArg {
    /// A majority has it in memory that survives the death of processes, but not of the machine
    Memory,
    /// A majority has it on disk (fdatasync)
    Disk,
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Name of the cluster, and of the state directory on each machine
    #[arg(long, default_value = "default", value_parser = cluster_name)]
    pub name: String,
    /// Where cluster.toml and keys/ are written
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// A replica: where the others connect to it, and where clients do if that is another address of its machine; ids go from 1
    /// on
    #[arg(long, required = true, value_name = "PEERADDRESS:PORT[,SERVICEADDRESS]")]
    pub member: Vec<MemberAddresses>,
    /// Take clients of a port of the server at another port; may be given several times
    ///
    // The brackets are no link, so this is no documentation.
    #[arg(long, value_name = "PORT:SERVERPORT[/udp]")]
    pub publish: Vec<String>,
    /// Let the server connect or send to another host; may be given several times
    #[arg(long, value_name = "HOST:PORT", long_help = ALLOW_OUTBOUND)]
    pub allow_outbound: Vec<String>,
    /// Refuse to start on a machine on which this file is another one; may be given several times
    #[arg(long, value_name = "PATH")]
    pub file: Vec<PathBuf>,
    /// When a request counts as kept; with `memory`, a machine that was booted anew cannot come back
    #[arg(long, value_enum, default_value_t = DurabilityArg::Disk)]
    pub durability: DurabilityArg,
    #[command(flatten)]
    pub tuning: TuningArgs,
    /// The server's command; all that follows it belongs to it
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct ReplicaArgs {
    /// The cluster file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Which member of it this machine is
    #[arg(long, value_name = "ID")]
    pub id: u8,
    /// The directory of keys [default: keys beside the cluster file]
    #[arg(long, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// The state directory, which the server does not see [default: /var/lib/brolga/NAME for root, else
    /// $XDG_STATE_HOME/brolga/NAME]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Discard the data of this replica first; only if all replicas of the cluster do so
    #[arg(long)]
    pub fresh: bool,
    /// The server's command, to be sure; it must be that of the cluster file
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What the supervisor tells a replica's process; its standard input is the channel.
#[derive(Debug, Args)]
pub(crate) struct CoordinatorArgs {
    /// State directory
    #[arg(long)]
    pub state: PathBuf,
    /// This replica
    #[arg(long)]
    pub id: u8,
    /// The preload library
    #[arg(long)]
    pub preload: PathBuf,
    /// The directory of keys
    #[arg(long)]
    pub keys: PathBuf,
    /// ID=ADDRESS of each replica
    #[arg(long = "peer", value_parser = peer)]
    pub peers: Vec<(u8, SocketAddr)>,
    /// Version of the messages to and from the supervisor
    #[arg(long)]
    pub channel: u32,
}

fn peer(text: &str) -> Result<(u8, SocketAddr), String> {
    let (id, address) = text.split_once('=').ok_or("not ID=ADDRESS")?;
    let id = id.parse().map_err(|_| "the id is no number")?;
    Ok((id, address.parse().map_err(|_| "no address behind the =")?))
}

#[cfg(test)]
mod tests {
    use super::peer;

    #[test]
    fn peers_have_an_id_and_an_address() {
        assert_eq!(peer("2=127.0.0.1:5").unwrap(), (2, "127.0.0.1:5".parse().unwrap()));
        assert!(peer("2").is_err() && peer("x=1.2.3.4:5").is_err());
    }
}
