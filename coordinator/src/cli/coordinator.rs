//! The hidden `coordinator` subcommand: turns the state directory into the configuration of one coordinator.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use super::server_args::CoordinatorArgs;
use crate::channel::Channel;
use crate::container::ContainerSpec;
use crate::launcher::cluster::Cluster;
use crate::launcher::{LauncherError, interfaces, keys, state};
use crate::process_name;
use crate::replica::config::{CHANNEL_VERSION, FromReplica, Member, ReplicaConfig};
use crate::replica::outbound;

/// Runs the coordinator; returns the exit code.
pub(super) fn run(args: CoordinatorArgs) -> i32 {
    process_name::set(process_name::REPLICA);
    let _ = tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_writer(io::stderr)
        // Standard error is the log: on a full disk a complaint about a line would be one more that cannot be written, and a panic.
        .log_internal_errors(false)
        .with_ansi(false)
        .try_init();
    let channel = take_channel().and_then(|channel| Ok((try_clone(&channel)?, channel)));
    let (complaints, channel) = match channel {
        Ok(pair) => pair,
        Err(error) => return fail(None, &LauncherError::system("take the channel to the supervisor")(error)),
    };
    // Two coordinators must never have the same log: wait for one of an earlier run that is about to end.
    let directory = state::replica_directory(&args.state, args.id);
    let lock = state::lock(&directory, true).map_err(LauncherError::system("lock the replica's directory"));
    match lock.and_then(|lock| Ok((lock, configure(args, channel)?))) {
        Ok((_lock, config)) => match crate::replica::run(config) {
            Ok(()) => 0,
            Err(error) => fail(Some(&complaints), &error),
        },
        Err(error) => fail(Some(&complaints), &error),
    }
}

/// Tells the log, and the supervisor if it still listens.
fn fail(supervisor: Option<&Channel>, error: &dyn std::error::Error) -> i32 {
    tracing::error!("{error}");
    if let Some(channel) = supervisor {
        let _ = channel.send(&FromReplica::Failed(error.to_string()));
    }
    1
}

fn configure(args: CoordinatorArgs, supervisor: Channel) -> Result<ReplicaConfig, LauncherError> {
    if args.channel != CHANNEL_VERSION {
        let (theirs, version) = (args.channel, env!("CARGO_PKG_VERSION"));
        return Err(LauncherError::Refused(format!(
            "the supervisor speaks version {theirs} of the protocol with its replicas, and this brolga ({version}) version \
             {CHANNEL_VERSION}: stop the cluster and start it with this brolga"
        )));
    }
    let Some(cluster) = Cluster::load(&args.state)? else {
        return Err(LauncherError::NotRunning(args.state));
    };
    let directory = state::replica_directory(&args.state, args.id);
    let own = interfaces::addresses(&cluster.interfaces);
    Ok(ReplicaConfig {
        id: args.id,
        cluster: cluster.tag(),
        founders: cluster.founders(),
        members: args.peers.iter().map(|&(id, peer_address)| Member { id, peer_address }).collect(),
        keys: keys::files(&args.keys, args.id),
        log_directory: directory.join("log"),
        fingerprint: cluster.id,
        durability: cluster.durability,
        admission: cluster.admission,
        quantum: cluster.quantum,
        spin_limit_us: cluster.spin_limit_us,
        poll_us: cluster.poll_us,
        checkpoint_every: cluster.checkpoint_every,
        apart: !cluster.machines.is_empty(),
        outbound: outbound::payload(&own, &cluster.outbound),
        own,
        server: server(&cluster, &args, directory),
        preload: args.preload,
        supervisor,
    })
}

fn server(cluster: &Cluster, args: &CoordinatorArgs, directory: PathBuf) -> ContainerSpec {
    let mut hidden = cluster.hidden(&args.state);
    hidden.push(args.keys.clone());
    cluster.server(&args.state, directory, hidden)
}

/// The channel comes as standard input; a server must never inherit it by that number.
fn take_channel() -> io::Result<Channel> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    nix::unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(Channel::from_socket(socket))
}

fn try_clone(channel: &Channel) -> io::Result<Channel> {
    Ok(Channel::from_socket(channel.as_fd().try_clone_to_owned()?))
}
