//! Arguments of `brolga run` and `brolga init` that have good defaults.

use clap::{Args, ValueEnum};

use super::manual::ELIDE_FSYNC;
use crate::launcher::Tuning;
use crate::launcher::state_fs::Size;
use crate::replica::polling::DEFAULT_POLL_US;
use crate::replica::schedule::Every;

/// See the module.
#[derive(Clone, Debug, Args)]
pub(super) struct TuningArgs {
    /// How inputs are ordered
    #[arg(long, value_enum, default_value_t = AdmissionArg::Brolga)]
    pub admission: AdmissionArg,
    /// The server's own fsync, fdatasync, msync, sync and O_SYNC cost nothing
    #[arg(long, value_name = "true|false", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = clap::ArgAction::Set, long_help = ELIDE_FSYNC)]
    pub elide_fsync: bool,
    /// Operations after which a thread passes the turn on
    #[arg(long, default_value_t = dmt::bounds::DEFAULT_QUANTUM_TICKS, value_name = "OPERATIONS",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub quantum: u32,
    /// CPU time without an operation after which a thread that keeps others waiting is preempted, unless its code shows that
    /// it only waits: then 10 ms. Higher = fewer divergences of programs with data races, longer waits for the others
    #[arg(long, default_value_t = dmt::bounds::DEFAULT_SPIN_LIMIT_US, value_name = "MICROSECONDS",
        value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    pub spin_limit: u32,
    /// How long a replica looks for the next news of its clients before it sleeps; 0 = not at all
    ///
    /// Waking it takes longer than most requests. It gives way to whoever else wants the processor, and stops looking where that
    /// does not pay; 0 saves the power.
    #[arg(long, default_value_t = DEFAULT_POLL_US, value_name = "MICROSECONDS",
        value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub poll: u32,
    /// How often one of the followers, in turn, takes a checkpoint: 60s, 5m, 1h, or a number of entries
    ///
    /// See `brolga checkpoint`. The replica whose turn it is lets it pass if it leads.
    #[arg(long, value_name = "TIME|ENTRIES")]
    pub checkpoint_every: Option<Every>,
    /// Give the state directory a file system of its own, of this size: 20G, 700M
    ///
    /// It is XFS in a file beside the state directory, NAME.xfs, made at the first start and mounted at each. The files of a
    /// checkpoint share their blocks with the server's there, and are no copies. Needs root, loop devices and mkfs.xfs. It stays
    /// mounted when the cluster has ended; later starts need not say it again, and the size counts only when it is made.
    #[arg(long, value_name = "SIZE")]
    pub state_fs: Option<Size>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum AdmissionArg {
    /// The leader runs ahead, and holds replies back until what they rest on is decided
    Brolga,
    /// Inputs are decided first and executed after, as CRANE does; a baseline to compare with
    Crane,
}

impl From<TuningArgs> for Tuning {
    fn from(args: TuningArgs) -> Self {
        Self {
            admission: args.admission.into(),
            elide_fsync: args.elide_fsync,
            quantum: args.quantum,
            spin_limit_us: args.spin_limit,
            poll_us: args.poll,
            checkpoint_every: args.checkpoint_every,
            state_fs: args.state_fs,
        }
    }
}
