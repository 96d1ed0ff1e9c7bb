//! The command line: what `brolga` understands, and the help that doubles as its manual.

mod inspect;
mod replica;
mod show;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::launcher::cluster::MAX_REPLICAS;
use crate::launcher::control::{Reply, Request, ask};
use crate::launcher::state::{StateDirectory, default_path};
use crate::launcher::{LauncherError, Publication, RunOptions};
use crate::replica::config::{Admission, Durability};

/// Replicates an unmodified server.
///
/// Brolga runs several copies of a server in deterministic lock step. Clients connect as they always did; any minority
/// of the copies can die at any moment, and no acknowledged request is lost. Nothing is recompiled or configured.
#[derive(Debug, Parser)]
#[command(name = "brolga", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server in replicas, in the foreground
    ///
    /// Starts N replicas on this machine, each in a container of its own: own process ids, own file system on top of
    /// this machine's (changes are kept in the replica's upper layer), own network. The ports that the server listens
    /// on are published on this machine under the same address and port, or where --publish says. Ctrl-C stops all.
    /// The replicas' logs stay; the same command run again replays them and goes on where it stopped.
    ///
    /// The exit code is the server's if it ends by itself, 0 after Ctrl-C, 1 if Brolga fails.
    #[command(after_help = "Examples:\n  brolga run -n 3 -- redis-server --port 7000\n  \
        brolga run -n 3 --publish 127.0.0.1:8080:80 -- nginx -g 'daemon off;'\n  \
        brolga run --name cache --durability disk -- memcached -t 4")]
    Run(RunArgs),
    /// Show replicas, roles, progress and digests
    ///
    /// One line a replica: process, role, ballot, committed and applied entries, logical time, lag, connections,
    /// entries a second, and whether its digest agrees with the leader's.
    Status {
        #[command(flatten)]
        which: Which,
        /// Print JSON, with everything that is known
        #[arg(long, conflicts_with = "watch")]
        json: bool,
        /// Print again every second until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Run a command in a replica's container, to look around
    ///
    /// The command gets the replica's file system, network, host name and IPC objects, but it is not part of the
    /// replica: it has a process id of the host, so that the process ids of the server stay the same on all replicas.
    /// Look, do not change: files that you change here differ from the other replicas' files.
    Exec {
        #[command(flatten)]
        which: Which,
        /// The replica
        #[arg(long, short)]
        replica: u8,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Kill a replica at once, and keep it down
    ///
    /// As if its machine had died. `brolga start` brings it back.
    Kill {
        #[command(flatten)]
        which: Which,
        /// The replica
        #[arg(long, short)]
        replica: u8,
    },
    /// Bring a replica back that was killed or given up
    Start {
        #[command(flatten)]
        which: Which,
        /// The replica
        #[arg(long, short)]
        replica: u8,
    },
    /// Print what the server wrote to its standard output and standard error
    ///
    /// All replicas write the same; replica 1 is shown unless --replica chooses another.
    Logs {
        #[command(flatten)]
        which: Which,
        /// The replica
        #[arg(long, short, default_value_t = 1)]
        replica: u8,
        /// Go on as more is written, until Ctrl-C
        #[arg(long, short)]
        follow: bool,
        /// Print what Brolga says about this replica instead
        #[arg(long)]
        coordinator: bool,
    },
    /// Stop a cluster
    ///
    /// Also cleans up after a `brolga run` that was killed. The replicas' logs stay.
    Stop {
        #[command(flatten)]
        which: Which,
    },
    /// Check whether this machine can run Brolga
    ///
    /// Lists every requirement with pass or fail, and what to do about a failure. The exit code is 1 if one fails.
    Doctor {
        /// The state directory to check [default: that of `brolga run`]
        #[arg(long)]
        state: Option<PathBuf>,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  brolga completions bash > /etc/bash_completion.d/brolga")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page in roff
    #[command(after_help = "Example:\n  brolga man | man -l -")]
    Man,
    /// Internal: the coordinator of one replica
    #[command(hide = true)]
    Replica(ReplicaArgs),
    /// Test: change one byte of the next input of a replica, to see that the divergence is noticed
    #[command(hide = true)]
    Inject {
        #[command(flatten)]
        which: Which,
        /// The replica
        #[arg(long, short)]
        replica: u8,
    },
}

/// Which cluster.
#[derive(Clone, Debug, Args)]
struct Which {
    /// Name of the cluster
    #[arg(long, default_value = "default", value_parser = cluster_name)]
    name: String,
    /// Its state directory [default: /var/lib/brolga/NAME for root, else $XDG_STATE_HOME/brolga/NAME]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Which {
    fn state(&self) -> PathBuf {
        let path = self.state.clone().unwrap_or_else(|| default_path(&self.name));
        path.canonicalize().unwrap_or(path)
    }
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Replicas; 3 tolerate the loss of one, 5 of two
    #[arg(short = 'n', long = "replicas", default_value_t = 3, value_name = "N",
        value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_REPLICAS)))]
    replicas: u8,
    #[command(flatten)]
    which: Which,
    /// Publish a port of the server at an address of this machine; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT:SERVERPORT")]
    publish: Vec<Publication>,
    /// When a request counts as kept: a majority has it in memory that survives the death of processes, or on disk
    #[arg(long, value_enum, default_value_t = DurabilityArg::Memory)]
    durability: DurabilityArg,
    /// How inputs are ordered: Brolga's speculative bubbles, or CRANE's order-first protocol (a baseline to compare with)
    #[arg(long, value_enum, default_value_t = AdmissionArg::Brolga)]
    admission: AdmissionArg,
    /// Discard the data of earlier runs of this cluster first
    #[arg(long)]
    fresh: bool,
    /// Operations after which a thread passes the turn on
    #[arg(long, default_value_t = dmt::bounds::DEFAULT_QUANTUM_TICKS, value_name = "OPERATIONS",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    quantum: u32,
    /// CPU time without an operation after which a thread that keeps others waiting is preempted
    #[arg(long, default_value_t = dmt::bounds::DEFAULT_SPIN_LIMIT_US, value_name = "MICROSECONDS",
        value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    spin_limit: u32,
    /// The server's command
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DurabilityArg {
    Memory,
    Disk,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AdmissionArg {
    Brolga,
    Crane,
}

/// What the supervisor tells a replica's process; its standard input is the channel.
#[derive(Debug, Args)]
pub(crate) struct ReplicaArgs {
    /// State directory
    #[arg(long)]
    state: PathBuf,
    /// This replica
    #[arg(long)]
    id: u8,
    /// The preload library
    #[arg(long)]
    preload: PathBuf,
    /// ID=ADDRESS of each replica
    #[arg(long = "peer", value_parser = peer)]
    peers: Vec<(u8, SocketAddr)>,
}

fn peer(text: &str) -> Result<(u8, SocketAddr), String> {
    let (id, address) = text.split_once('=').ok_or("not ID=ADDRESS")?;
    let id = id.parse().map_err(|_| "the id is no number")?;
    Ok((id, address.parse().map_err(|_| "no address behind the =")?))
}

/// The name becomes part of paths.
fn cluster_name(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=32).contains(&text.len()) && text.chars().all(fine) {
        Ok(text.to_owned())
    } else {
        Err("a name has 1 to 32 letters, digits, - or _".to_owned())
    }
}

/// Runs the command line; returns the exit code.
pub fn main() -> i32 {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("brolga: {error}");
            1
        }
    }
}

fn dispatch(command: Command) -> Result<i32, LauncherError> {
    match command {
        Command::Run(args) => run(args),
        Command::Status { which, json, watch } => show::status(&which.state(), json, watch),
        Command::Exec { which, replica, command } => inspect::exec(&which.state(), replica, &command),
        Command::Kill { which, replica } => request(&which, &Request::Kill(replica)),
        Command::Start { which, replica } => request(&which, &Request::Start(replica)),
        Command::Inject { which, replica } => request(&which, &Request::Corrupt(replica)),
        Command::Logs { which, replica, follow, coordinator } => {
            inspect::logs(&which.state(), replica, follow, coordinator)
        }
        Command::Stop { which } => stop(&which),
        Command::Doctor { state } => {
            Ok(crate::doctor::run(&state.unwrap_or_else(|| default_path("default"))))
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "brolga", &mut std::io::stdout());
            Ok(0)
        }
        Command::Man => {
            show::manual(Cli::command()).map_err(LauncherError::system("write the manual"))?;
            Ok(0)
        }
        Command::Replica(args) => Ok(replica::run(args)),
    }
}

fn run(args: RunArgs) -> Result<i32, LauncherError> {
    if args.replicas == 2 {
        eprintln!("brolga: warning: two replicas tolerate no failure (a majority of 2 is 2); 3 tolerate one");
    }
    let options = RunOptions {
        replicas: args.replicas,
        state: args.which.state(),
        name: args.which.name,
        publish: args.publish,
        durability: match args.durability {
            DurabilityArg::Memory => Durability::Memory,
            DurabilityArg::Disk => Durability::Disk,
        },
        admission: match args.admission {
            AdmissionArg::Brolga => Admission::Speculative,
            AdmissionArg::Crane => Admission::Crane,
        },
        quantum: args.quantum,
        spin_limit_us: args.spin_limit,
        fresh: args.fresh,
        command: args.command,
    };
    crate::launcher::run(&options)
}

fn request(which: &Which, request: &Request) -> Result<i32, LauncherError> {
    ask(&which.state(), request).map(|reply| i32::from(reply != Reply::Done))
}

fn stop(which: &Which) -> Result<i32, LauncherError> {
    let path = which.state();
    match ask(&path, &Request::Stop) {
        Err(LauncherError::NotRunning(path)) if path.is_dir() => {
            // Replicas whose supervisor was killed end by themselves; what they cannot remove is removed here.
            let state = StateDirectory::open(&path)?;
            if let Some(cluster) = crate::launcher::cluster::Cluster::load(state.path())? {
                state.clear_leftovers(&cluster);
            }
            eprintln!("brolga: no cluster was running on {}; leftovers are removed", path.display());
            Ok(0)
        }
        other => other.map(|_| 0),
    }
}

#[cfg(test)]
mod tests {
    use super::{Cli, cluster_name, peer};
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(drop);
        assert!(parse("brolga run -n 3 --publish 127.0.0.1:8080:80 -- nginx -g x").is_ok());
        for wrong in [
            "brolga run -n 0 -- x",
            "brolga run -n 8 -- x",
            "brolga run --frobnicate -- x",
            "brolga run",
            "brolga run --publish 80 -- x",
            "brolga run --name ../x -- x",
            "brolga status --json --watch",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_and_peers() {
        assert!(cluster_name("a-1").is_ok() && cluster_name("").is_err() && cluster_name("a/b").is_err());
        assert_eq!(peer("2=127.0.0.1:5").unwrap(), (2, "127.0.0.1:5".parse().unwrap()));
        assert!(peer("2").is_err() && peer("x=1.2.3.4:5").is_err());
    }
}
