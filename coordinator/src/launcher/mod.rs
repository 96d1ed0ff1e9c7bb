//! The supervisor of the replicas on this machine, which are all of a cluster (`brolga run`) or one (`brolga replica`): cluster
//! file, state directory, keys, published ports, control socket.
#![expect(
    clippy::disallowed_methods,
    reason = "patience with processes and pauses before they are started again"
)]

pub mod cluster;
pub mod cluster_file;
pub mod cluster_file_error;
pub mod control;
mod ending;
pub mod environment;
mod error;
pub mod init;
pub mod interfaces;
pub mod join;
pub mod keys;
mod loop_device;
pub mod machine;
mod membership;
mod others;
mod outbound;
pub mod packages;
pub mod program;
mod publish;
mod publish_udp;
mod replica_process;
mod requests;
mod seats;
mod signals;
pub mod state;
pub mod state_fs;
mod supervisor;
mod telling;
mod tuning;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use dmt::bounds::LAYOUT_MARK;

pub use error::LauncherError;
pub use outbound::Destination;
pub use publish::Publication;
pub use supervisor::Supervisor;
pub use tuning::Tuning;

use crate::container::{Limits, PRELOAD_FILE, namespaces};
use crate::replica::config::Durability;
use cluster::{Cluster, Text};
use state::StateDirectory;
use supervisor::Seats;

/// What `brolga run` was asked for.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Replicas.
    pub replicas: u8,
    /// Name of the cluster.
    pub name: String,
    /// The state directory.
    pub state: PathBuf,
    /// Ports of the host chosen for ports of the server.
    pub publish: Vec<Publication>,
    /// Where the server may connect and send.
    pub allow_outbound: Vec<Destination>,
    /// When an entry counts as kept.
    pub durability: Durability,
    /// What has good defaults.
    pub tuning: Tuning,
    /// Discard the data of earlier runs.
    pub fresh: bool,
    /// The server's command.
    pub command: Vec<OsString>,
}

/// Runs a cluster in the foreground; returns the server's exit code, or 0 when it was stopped.
pub fn run(options: &RunOptions) -> Result<i32, LauncherError> {
    let wanted = describe(options)?;
    let preload = find_preload()?;
    namespaces::check()?;
    state_fs::ensure(&options.state, options.tuning.state_fs)?;
    let state = StateDirectory::open(&options.state)?;
    if options.fresh {
        state.wipe()?;
    }
    let cluster = match Cluster::load(state.path())? {
        None => {
            state.keep_system_files(wanted.durability)?;
            wanted
        }
        Some(stored) => match stored.difference(&wanted) {
            Some(what) => return Err(LauncherError::Mismatch { state: state.path().to_owned(), what }),
            None => {
                let (durability, poll_us, outbound) = (wanted.durability, wanted.poll_us, wanted.outbound);
                let (version, checkpoint_every) = (wanted.version, wanted.checkpoint_every);
                Cluster { version, durability, poll_us, outbound, checkpoint_every, ..stored }
            }
        },
    };
    cluster.save(state.path())?;
    state.clear_leftovers(&cluster);
    keys::ensure(&state.keys(), &cluster.ids(), &cluster.name)?;
    let published: Vec<u16> = options.publish.iter().map(|publication| publication.address.port()).collect();
    let seats = Seats::of_one_machine(&cluster.ids(), state.keys(), &published)?;
    Supervisor::new(cluster, state, preload, &options.publish, seats)?.run()
}

fn describe(options: &RunOptions) -> Result<Cluster, LauncherError> {
    let directory = std::env::current_dir().map_err(LauncherError::system("find the working directory"))?;
    let path = std::env::var_os("PATH");
    let command = options.command.first().map_or(OsStr::new(""), OsString::as_os_str);
    let program = program::resolve(command, path.as_deref(), &directory)?;
    let environment = environment::for_server(std::env::vars_os(), options.tuning.elide_fsync);
    Ok(Cluster {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        layout: dmt::bounds::LAYOUT_VERSION,
        name: options.name.clone(),
        id: Cluster::new_id().map_err(LauncherError::system("read /dev/urandom"))?,
        replicas: options.replicas,
        program: Text::from(program.as_os_str()),
        command: options.command.iter().map(|word| Text::from(word.as_os_str())).collect(),
        environment: environment.iter().map(|(n, v)| (n.as_os_str().into(), v.as_os_str().into())).collect(),
        limits: Limits::of_this_process(),
        working_directory: Text::from(directory.as_os_str()),
        durability: options.durability,
        admission: options.tuning.admission,
        quantum: options.tuning.quantum,
        spin_limit_us: options.tuning.spin_limit_us,
        poll_us: options.tuning.poll_us,
        checkpoint_every: options.tuning.checkpoint_every,
        outbound: outbound::resolve(&options.allow_outbound)?,
        interfaces: interfaces::of_this_machine()
            .map_err(LauncherError::system("list the network interfaces"))?,
        machines: vec![],
        members: None,
    })
}

/// Looks for the preload library: `$BROLGA_PRELOAD`, beside the executable, `../lib/brolga`. One of another layout is refused.
pub fn find_preload() -> Result<PathBuf, LauncherError> {
    let named = std::env::var_os("BROLGA_PRELOAD").map(PathBuf::from);
    let executable = std::env::current_exe().map_err(LauncherError::system("find the brolga executable"))?;
    let found = match named {
        Some(path) => path.is_file().then_some(path),
        None => find_preload_beside(&executable),
    };
    let path = found.ok_or(LauncherError::NoPreload)?;
    let library = std::fs::read(&path).map_err(LauncherError::system("read the preload library"))?;
    let fits = library.windows(LAYOUT_MARK.len()).any(|bytes| bytes == LAYOUT_MARK);
    if fits { Ok(path) } else { Err(LauncherError::OtherPreload { path }) }
}

/// The preload library that belongs to an executable.
fn find_preload_beside(executable: &Path) -> Option<PathBuf> {
    let beside = executable.parent().unwrap_or(Path::new("/"));
    let places = [beside.join(PRELOAD_FILE), beside.join("../lib/brolga").join(PRELOAD_FILE)];
    places.into_iter().find(|path| path.is_file())
}
