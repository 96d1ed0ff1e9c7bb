//! The command line: each command and what it calls.
#![expect(clippy::disallowed_methods, reason = "what takes long is told, and given up after a time")]

mod args;
mod checkpoint;
mod coordinator;
mod explain;
mod inspect;
mod manual;
mod member;
mod replaced;
mod replay;
mod replay_args;
mod restore;
mod server_args;
mod show;
mod signal;
mod tuning_args;
mod usage;
mod verify;

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::launcher::cluster_file::ClusterFile;
use crate::launcher::control::{Reply, Request, ask};
use crate::launcher::init::InitOptions;
use crate::launcher::machine::{MachineOptions, run_machine};
use crate::launcher::state::{StateDirectory, default_path};
use crate::launcher::{LauncherError, RunOptions};
use crate::replica::config::{Admission, Durability};
pub use args::Cli;
use args::{Command, Which};
use server_args::{DurabilityArg, InitArgs, RunArgs};
use tuning_args::AdmissionArg;

/// Runs the command line; returns the exit code.
pub fn main() -> i32 {
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) if is_wrong_use(&error) => {
            eprintln!("brolga: {}", usage::line(&error, &words));
            return error.exit_code();
        }
        Err(help) => help.exit(),
    };
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("brolga: {error}");
            1
        }
    }
}

/// A command without its subcommand asks for help, as `--help` does.
fn is_wrong_use(error: &clap::Error) -> bool {
    error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

fn dispatch(command: Command) -> Result<i32, LauncherError> {
    match command {
        Command::Run(args) => run(args),
        Command::Status { which, json, watch } => show::status(&which.state(), json, watch),
        Command::Exec { which, replica, command } => inspect::exec(&which.state(), replica, &command),
        Command::Checkpoint { which, replica } => checkpoint::take(&which.state(), replica),
        Command::Restore { which, replica, checkpoint, list } => {
            restore::restore(&which.state(), restore::Wanted { replica, entry: checkpoint, list })
        }
        Command::Kill { which, replica } => request(&which, &Request::Kill(replica)),
        Command::Signal { which, signal, replace } => {
            request(&which, &Request::Signal(signal, replaced::read(&replace)?))
        }
        Command::Start { which, replica, binary } => {
            let binary = binary.map(|path| path.canonicalize().unwrap_or(path));
            request(&which, &Request::Start(replica, binary))
        }
        Command::Member(command) => member::run(command),
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
        Command::Init(args) => init(args),
        Command::Replica(args) => run_machine(&MachineOptions {
            config: args.config,
            id: args.id,
            keys: args.keys,
            state: args.state,
            fresh: args.fresh,
            command: args.command,
        }),
        Command::Coordinator(args) => Ok(coordinator::run(args)),
    }
}

fn replayed(code: Result<i32, crate::replay::ReplayError>) -> Result<i32, LauncherError> {
    code.map_err(|error| match error {
        crate::replay::ReplayError::Launcher(error) => error,
        error => LauncherError::Refused(error.to_string()),
    })
}

fn warn_of_two(replicas: usize) {
    if replicas == 2 {
        eprintln!("brolga: warning: two replicas tolerate no failure (a majority of 2 is 2); 3 tolerate one");
    }
}

fn run(args: RunArgs) -> Result<i32, LauncherError> {
    warn_of_two(args.replicas.into());
    let options = RunOptions {
        replicas: args.replicas,
        state: args.which.state(),
        name: args.which.name,
        publish: args.publish,
        allow_outbound: args.allow_outbound,
        durability: args.durability.into(),
        tuning: args.tuning.into(),
        fresh: args.fresh,
        command: args.command,
    };
    crate::launcher::run(&options)
}

fn init(args: InitArgs) -> Result<i32, LauncherError> {
    let count = args.member.len();
    warn_of_two(count);
    let options = InitOptions {
        name: args.name,
        output: args.output,
        members: args.member,
        publish: args.publish,
        allow_outbound: args.allow_outbound,
        files: args.file,
        durability: args.durability.into(),
        tuning: args.tuning.into(),
        command: args.command,
    };
    let path = crate::launcher::init::init(&options)?;
    let keys = ClusterFile::keys_beside(&path);
    println!("wrote {} and the keys of {count} replicas in {}", path.display(), keys.display());
    println!(
        "replica N's machine needs cluster.toml, {0}/authority.pem, {0}/replica-N.pem and {0}/replica-N.key (mode 0600)",
        keys.file_name().unwrap_or_default().to_string_lossy()
    );
    println!("then, on each machine: brolga replica --config cluster.toml --id N");
    Ok(0)
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

impl From<DurabilityArg> for Durability {
    fn from(arg: DurabilityArg) -> Self {
        match arg {
            DurabilityArg::Memory => Self::Memory,
            DurabilityArg::Disk => Self::Disk,
        }
    }
}

impl From<AdmissionArg> for Admission {
    fn from(arg: AdmissionArg) -> Self {
        match arg {
            AdmissionArg::Brolga => Self::Speculative,
            AdmissionArg::Crane => Self::Crane,
        }
    }
}
