//! The command line: each command and what it calls.

mod args;
mod checkpoint;
mod explain;
mod inspect;
mod manual;
mod replay;
mod replay_args;
mod replica;
mod show;
mod signal;
mod verify;

use std::path::Path;

use clap::{CommandFactory, Parser};

use crate::launcher::control::{Reply, Request, ask};
use crate::launcher::state::{StateDirectory, default_path};
use crate::launcher::{LauncherError, RunOptions};
use crate::replica::config::{Admission, Durability};
pub use args::Cli;
use args::{AdmissionArg, Command, DurabilityArg, RunArgs, Which};

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
        Command::Checkpoint { which, replica } => checkpoint::take(&which.state(), replica),
        Command::Kill { which, replica } => request(&which, &Request::Kill(replica)),
        Command::Signal { which, signal } => request(&which, &Request::Signal(signal)),
        Command::Start { which, replica } => request(&which, &Request::Start(replica)),
        Command::Inject { which, replica } => request(&which, &Request::Corrupt(replica)),
        Command::Logs { which, replica, follow, coordinator } => {
            inspect::logs(&which.state(), replica, follow, coordinator)
        }
        Command::Stop { which } => stop(&which),
        Command::Verify(args) => replayed(verify::verify(&args)),
        Command::Replay(args) => replayed(replay::replay(&args)),
        Command::Explain(args) => replayed(explain::explain(&args)),
        Command::Doctor { state } => {
            Ok(crate::doctor::run(&state.unwrap_or_else(|| default_path("default"))))
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "brolga", &mut std::io::stdout());
            Ok(0)
        }
        Command::Man { page, output } => man(page.as_deref(), output.as_deref()),
        Command::Replica(args) => Ok(replica::run(args)),
    }
}

fn replayed(code: Result<i32, crate::replay::ReplayError>) -> Result<i32, LauncherError> {
    code.map_err(|error| match error {
        crate::replay::ReplayError::Launcher(error) => error,
        error => LauncherError::Refused(error.to_string()),
    })
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
        allow_outbound: args.allow_outbound,
        durability: match args.durability {
            DurabilityArg::Memory => Durability::Memory,
            DurabilityArg::Disk => Durability::Disk,
        },
        elide_fsync: args.elide_fsync,
        admission: match args.admission {
            AdmissionArg::Brolga => Admission::Speculative,
            AdmissionArg::Crane => Admission::Crane,
        },
        quantum: args.quantum,
        spin_limit_us: args.spin_limit,
        poll_us: args.poll,
        checkpoint_every: args.checkpoint_every,
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
            let cluster = crate::launcher::cluster::Cluster::load(state.path())?;
            let what = if cluster.is_some_and(|cluster| state.clear_leftovers(&cluster)) {
                "what an earlier run left is removed"
            } else {
                "there was nothing to do"
            };
            eprintln!("brolga: no cluster was running on {}; {what}", path.display());
            Ok(0)
        }
        other => other.map(|_| 0),
    }
}

fn man(page: Option<&str>, output: Option<&Path>) -> Result<i32, LauncherError> {
    let failed = LauncherError::system("write the manual");
    if let Some(directory) = output {
        return manual::write_all(Cli::command(), directory)
            .map(|()| 0)
            .map_err(|source| LauncherError::State { path: directory.to_owned(), source });
    }
    if manual::print(Cli::command(), page).map_err(failed)? {
        return Ok(0);
    }
    Err(LauncherError::Refused(format!("there is no command {}", page.unwrap_or_default())))
}
