//! `brolga member`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::args::Which;
use crate::launcher::LauncherError;
use crate::launcher::cluster::Cluster;
use crate::launcher::cluster_file::FILE_NAME;
use crate::launcher::control::{ClusterStatus, Reply, Request, ask};
use crate::launcher::init::MemberAddresses;
use crate::launcher::join::Package;
use crate::paxos::{Change, Members};

/// Time between two looks at the status.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// A change that makes no progress for so long is not waited for any longer; it goes on all the same.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// Show the members, who of them votes, and how many changes there were (the epoch)
    List {
        #[command(flatten)]
        which: Which,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a replica: it learns the log, then it votes
    Add {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        machine: NewMachine,
    },
    /// Remove a replica; on one machine its files go with it
    ///
    /// Refused if the replicas that are left and connected would be no majority.
    Remove {
        #[command(flatten)]
        which: Which,
        /// The replica
        id: u8,
    },
    /// Put a new replica, with a new id, in the place of one
    ///
    /// For one that lost its disk: what it had promised is gone with it, so it must not come back under its id.
    Replace {
        #[command(flatten)]
        which: Which,
        /// The replica that goes
        id: u8,
        #[command(flatten)]
        machine: NewMachine,
    },
}

/// Where the new replica is, if the cluster has several machines.
#[derive(Debug, Args)]
pub(super) struct NewMachine {
    /// The new machine's addresses, as of `brolga init`; only for a cluster of several machines
    #[arg(long, value_name = "PEERADDRESS:PORT[,SERVICEADDRESS]")]
    member: Option<MemberAddresses>,
    /// The cluster file, with the directory of keys beside it that has the authority's key
    #[arg(long, value_name = "FILE", default_value = FILE_NAME)]
    config: PathBuf,
    /// Where the new machine's files are written [default: replica-ID]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Runs the command; returns the exit code.
pub(super) fn run(command: MemberCommand) -> Result<i32, LauncherError> {
    match command {
        MemberCommand::List { which, json } => list(&status(&which.state())?, json),
        MemberCommand::Add { which, machine } => add(&which.state(), 0, &machine),
        MemberCommand::Replace { which, id, machine } => add(&which.state(), id, &machine),
        MemberCommand::Remove { which, id } => {
            change(&which.state(), Change::Remove(id))?;
            await_status(&which.state(), |status| is_gone(status, id))?;
            println!("replica {id} is no member any more");
            Ok(0)
        }
    }
}

fn add(state: &Path, replaces: u8, machine: &NewMachine) -> Result<i32, LauncherError> {
    let refused = |text: &str| Err(LauncherError::Refused(text.to_owned()));
    let several = Cluster::load(state)?.is_some_and(|cluster| !cluster.machines.is_empty());
    let (peer, service) = match (several, machine.member) {
        (true, None) => {
            return refused("the cluster has several machines: name the new one's addresses with --member");
        }
        (false, Some(_)) => {
            return refused("all replicas of this cluster are on one machine: leave out --member");
        }
        (_, member) => (member.map(|member| member.peer), member.map(|member| member.service)),
    };
    // What would keep the files from being written is found before the members change.
    let package = several.then(|| Package::prepare(&machine.config, state)).transpose()?;
    let before = status(state)?.members;
    let epoch = change(state, Change::Add { replaces, peer, service })?;
    let members = await_status(state, |status| status.members.epoch >= epoch)?;
    let new = members.list.iter().map(|member| member.id).find(|id| *id > before.highest && !before.has(*id));
    let Some(id) = new else { return refused("another change came in between; see `brolga member list`") };
    if let Some(package) = package {
        let output = machine.output.clone().unwrap_or_else(|| PathBuf::from(format!("replica-{id}")));
        package.write(&output, id, &members)?;
        println!("replica {id} is a member without a vote, until it has caught up");
        println!("its machine needs what is in {}; then, on it:", output.display());
        println!("  brolga replica --config {}/{FILE_NAME} --id {id}", output.display());
        return Ok(0);
    }
    println!("replica {id} learns the log");
    await_status(state, |status| {
        status.members.is_voter(id) && (replaces == 0 || is_gone(status, replaces))
    })?;
    match replaces {
        0 => println!("replica {id} votes"),
        old => println!("replica {id} votes in the place of {old}, which is no member any more"),
    }
    Ok(0)
}

/// Asks the leader; returns the epoch of the change.
fn change(state: &Path, change: Change) -> Result<u64, LauncherError> {
    match ask(state, &Request::Change(change))? {
        Reply::Epoch(epoch) => Ok(epoch),
        _ => Err(LauncherError::NotRunning(state.to_owned())),
    }
}

/// Whether a replica is no member any more, and its files are cleared away, if they are here. One that has a machine for itself keeps
/// them, and its supervisor ends.
fn is_gone(status: &ClusterStatus, id: u8) -> bool {
    let is_alone = status.replicas.iter().all(|replica| replica.id == id);
    !status.members.has(id) && (is_alone || status.replicas.iter().all(|replica| replica.id != id))
}

/// Waits until the cluster is as wanted, as long as anything moves; returns its members.
fn await_status(state: &Path, wanted: impl Fn(&ClusterStatus) -> bool) -> Result<Members, LauncherError> {
    let (mut progress, mut since) = (0, Instant::now());
    loop {
        let status = status(state)?;
        if wanted(&status) {
            return Ok(status.members);
        }
        let learner = |id: u8| !status.members.is_voter(id);
        let learnt = status.replicas.iter().filter(|replica| learner(replica.id));
        let now: u64 = learnt.filter_map(|replica| Some(replica.status.as_ref()?.committed)).sum();
        if now + status.members.epoch > progress {
            (progress, since) = (now + status.members.epoch, Instant::now());
        }
        if since.elapsed() > PATIENCE {
            let seconds = PATIENCE.as_secs();
            return Err(LauncherError::Refused(format!(
                "the change makes no progress for {seconds} s, and goes on by itself when it can; see `brolga status`"
            )));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}

fn status(state: &Path) -> Result<ClusterStatus, LauncherError> {
    match ask(state, &Request::Status)? {
        Reply::Status(status) => Ok(*status),
        _ => Err(LauncherError::NotRunning(state.to_owned())),
    }
}

fn list(status: &ClusterStatus, json: bool) -> Result<i32, LauncherError> {
    if json {
        let text = serde_json::to_string_pretty(&status.members);
        println!("{}", text.map_err(LauncherError::system("write JSON"))?);
        return Ok(0);
    }
    let members = &status.members;
    println!(
        "epoch {}: {} members, {} of them vote",
        members.epoch,
        members.list.len(),
        members.voters().count()
    );
    for member in &members.list {
        let vote = if member.voter { "votes" } else { "learns" };
        let leads = if member.id == status.leader { ", leads" } else { "" };
        let replaces =
            if member.replaces == 0 { String::new() } else { format!(", to replace {}", member.replaces) };
        let at = member.peer.map_or(String::new(), |peer| format!(", at {peer}"));
        println!("replica {}: {vote}{leads}{replaces}{at}", member.id);
    }
    Ok(0)
}
