//! What `brolga` understands. The comments are the help texts, and the manual.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::manual::{
    ABOUT, EXEC, EXPLAIN, INIT, KILL, LOGS, MAN, MEMBER, REPLAY, REPLICA, RESTORE, RUN, SIGNAL, STATUS, STOP,
    VERIFY,
};
use super::member::MemberCommand;
use super::replay_args::{ExplainArgs, ReplayArgs, VerifyArgs};
use super::server_args::{CoordinatorArgs, InitArgs, ReplicaArgs, RunArgs};
use super::signal::signal_number;
use crate::launcher::state::default_path;

/// Replicates an unmodified server.
///
/// Brolga runs several copies of a server in deterministic lock step. Clients connect as they always did; any minority
/// of the copies can die at any moment, and no acknowledged request is lost. Nothing is recompiled or configured.
#[derive(Debug, Parser)]
#[command(name = "brolga", version, max_term_width = 100, arg_required_else_help = true, after_long_help = ABOUT)]
pub struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a server in replicas, in the foreground
    ///
    /// Starts N replicas on this machine, each in a container of its own: own process ids, own file system on top of
    /// this machine's (changes are kept in the replica's upper layer), own network. The ports that the server listens
    /// on are published on this machine under the same address and port, or where --publish says. Ctrl-C stops all.
    /// The replicas' logs stay; the same command run again replays them and goes on where it stopped.
    ///
    /// The server gets the caller's environment, without what differs from one login to the next, and /dev/null as its
    /// standard input. What it prints goes to files, see `brolga logs`. It must stay in the foreground.
    ///
    /// A replica that dies is started again and catches up; one that dies six times in a row without ever having served
    /// is given up, and the run ends when half of the replicas are.
    #[command(after_help = RUN)]
    Run(RunArgs),
    /// Show replicas, roles, progress and digests
    ///
    /// Two lines on the cluster, one for each published port, one for each replica, and what is wrong, if anything is.
    #[command(after_long_help = STATUS)]
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
    /// For root, /proc shows the processes of this machine, the server's among them; otherwise those of the command.
    /// The server's sockets are Brolga's and not the kernel's: connect to the replica's own address in `brolga status`.
    ///
    /// Look, do not change: files that you change here differ from the other replicas' files.
    ///
    /// The exit code is that of the command.
    #[command(after_help = EXEC)]
    Exec {
        #[command(flatten)]
        which: Which,
        /// The replica
        #[arg(long, short, value_name = "ID")]
        replica: u8,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<OsString>,
    },
    /// Kill a replica at once, and keep it down
    ///
    /// As if its machine had died: nothing is said to it, its connections break, and if it led, another one takes over.
    /// The others go on as long as they are a majority. `brolga start` brings it back.
    #[command(after_help = KILL)]
    Kill {
        #[command(flatten)]
        which: Which,
        /// The replica
        #[arg(long, short, value_name = "ID")]
        replica: u8,
    },
    /// Bring a replica back that was killed or given up
    ///
    /// Its server starts afresh and replays the log, before it follows again; `brolga status` shows how far it is.
    Start {
        #[command(flatten)]
        which: Which,
        /// The replica
        #[arg(long, short, value_name = "ID")]
        replica: u8,
        /// Run it with this build of brolga, and its libbrolga_preload.so, until the cluster is stopped
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
    },
    /// Show and change who takes part in a running cluster
    ///
    /// Changes go through the log, one at a time, while clients are served. A new replica learns the log first, and votes once it
    /// has caught up. No id is given twice: a replica that lost its disk comes back under a new one (`brolga member replace`).
    #[command(subcommand, after_help = MEMBER)]
    Member(MemberCommand),
    /// Print what the server wrote to its standard output and standard error
    ///
    /// All replicas write the same; the first is shown unless --replica chooses another. A replica that starts again
    /// begins anew, and repeats what it wrote as it replays the log. Works after the cluster was stopped, too.
    #[command(after_help = LOGS)]
    Logs {
        #[command(flatten)]
        which: Which,
        /// The replica [default: the first one on this machine]
        #[arg(long, short, value_name = "ID")]
        replica: Option<u8>,
        /// Go on as more is written, until Ctrl-C
        #[arg(long, short)]
        follow: bool,
        /// Print what Brolga says about this replica instead
        #[arg(long)]
        coordinator: bool,
    },
    /// Take a checkpoint of a replica, so that it need not replay its log from the beginning
    ///
    /// A follower's server stands still for a moment, with its clients connected, and is written to disk: processes, memory,
    /// files and connections. When the replica starts again, after a crash or a divergence, it restores its newest checkpoint
    /// and replays the log from there. The last two are kept. The leader and its clients do not notice; only where there is but one
    /// replica, its clients wait for as long as it takes, which the command says.
    ///
    /// Needs CRIU 4.2 or later (scripts/setup-criu, `brolga doctor`) and root. Without, the replica goes on as it was.
    /// `brolga status` shows the checkpoints, and why the last one failed.
    Checkpoint {
        #[command(flatten)]
        which: Which,
        /// The replica [default: a follower without a newer one than the others]
        #[arg(long, short, value_name = "ID")]
        replica: Option<u8>,
    },
    /// Restore a replica from a checkpoint of its own
    ///
    /// Compares the checkpoint with its sums, stops the replica, brings its server back from there and replays the log from that
    /// entry on. Returns when the replica is level with the others and its digest is theirs. The log decides what the
    /// server's state is, so nothing is undone by this: it is another way to the same state. If the replica leads, another
    /// one takes over and its clients' connections are reset.
    ///
    /// Replicas do this by themselves whenever they start, with their newest checkpoint. Use it to try a checkpoint out, or to
    /// choose an older one. Of a cluster that does not run, all replicas, or one, are told what to restore when it is
    /// started. A damaged checkpoint is refused, file by file, before anything is stopped.
    #[command(after_help = RESTORE)]
    Restore {
        #[command(flatten)]
        which: Which,
        /// The replica; may be left out if the cluster does not run
        #[arg(long, short, value_name = "ID")]
        replica: Option<u8>,
        /// The checkpoint at this entry of the log [default: the newest]
        #[arg(long, value_name = "ENTRY", conflicts_with = "list")]
        checkpoint: Option<u64>,
        /// Only print the checkpoints, and whether they are whole
        #[arg(long)]
        list: bool,
    },
    /// Send a signal to the server, on all replicas at the same logical time
    ///
    /// The signal goes to the server's main process, as an event in the log: each replica's server gets it at the same
    /// point of its execution, and again when the log is replayed. So `brolga signal HUP` makes nginx or Apache read
    /// their configuration again while clients are connected. What they read then are files: give these another content
    /// by --replace, and not on the host, or a replica that is rebuilt later reads them too early and diverges.
    ///
    /// Returns when the signal is decided; the server may still be busy with it. It takes effect once, also if the
    /// leader dies meanwhile. With no majority of replicas it waits for one.
    #[command(after_help = SIGNAL)]
    Signal {
        #[command(flatten)]
        which: Which,
        /// Its name, with or without SIG, or its number
        #[arg(value_name = "SIGNAL", value_parser = signal_number)]
        signal: i32,
        /// Give the file PATH of all replicas the content of FILE before the signal; may be repeated
        ///
        /// PATH is a file that the replicas have, FILE one of this machine. The content goes through the log, so a
        /// replica that is rebuilt has it at the same point. The host's own file at PATH must stay as it is.
        #[arg(long, value_name = "PATH=FILE", value_parser = super::replaced::pair)]
        replace: Vec<super::replaced::Pair>,
    },
    /// Stop a cluster
    ///
    /// Returns when all of it is gone. Also cleans up after a `brolga run` that was killed. The replicas' logs stay: the
    /// same `brolga run` goes on where it stopped.
    #[command(after_help = STOP)]
    Stop {
        #[command(flatten)]
        which: Which,
    },
    /// Run a server and its replay, and say whether both are the same
    ///
    /// Runs the server once, alone, under a load, and records what came in. Then runs it again on the recording, without
    /// clients, and compares all that the two did. A server that does the same again can be replicated; for one that does
    /// not, the operation at which the two part is shown, who called it, and what is likely behind it.
    ///
    /// Without --load, use the server yourself and end the recording with Ctrl-C. Only what the load makes the server do
    /// is verified.
    #[command(after_help = VERIFY)]
    Verify(VerifyArgs),
    /// Execute a replica's log again, alone
    ///
    /// Starts the replica's server in a container of its own, without network and clients, feeds it the inputs of the log
    /// at the logical times of the log, and compares the digests with those that the replica had. Nothing of the replica
    /// is changed; it may even run meanwhile (then the last entries may be such that are not decided yet).
    ///
    /// The server does exactly what it did, as often as one likes, under a debugger, too. With --gdb it stops before its
    /// first instruction: set breakpoints and `continue`. Addresses are the same in each replay, and the gdb command `tick`
    /// prints the logical time, `parked` the stacks of the threads that do not run: gdb knows the one that does.
    #[command(after_help = REPLAY)]
    Replay(ReplayArgs),
    /// Find the operation at which two executions part
    ///
    /// Compares what a replica kept of its divergence with a replay of its log; or, if it did not diverge, what it did with
    /// a replay; or two replicas (--with). The digests tell the entry, and replays that are traced around it the operation:
    /// logical time, process, thread, call with arguments and result on both sides, who called it, calls before it that
    /// gave something else, the last operations of the thread, and what is likely behind it.
    #[command(after_help = EXPLAIN)]
    Explain(ExplainArgs),
    /// Check whether this machine can run Brolga
    ///
    /// Lists every requirement with pass or fail, and what to do about a failure. The exit code is 1 if one fails.
    Doctor {
        /// The state directory to check [default: that of `brolga run`]
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  brolga completions bash > /etc/bash_completion.d/brolga\n  \
        brolga completions zsh > /usr/local/share/zsh/site-functions/_brolga\n  \
        brolga completions fish > ~/.config/fish/completions/brolga.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page, or write all of them
    #[command(after_help = MAN)]
    Man {
        /// Of which command; of brolga itself if none is given
        #[arg(conflicts_with = "output")]
        page: Option<String>,
        /// Write all pages into this directory
        #[arg(long, short, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Make the cluster file and the keys of a cluster of several machines
    ///
    /// Writes cluster.toml and a directory of keys. cluster.toml holds all that must be the same on the machines: members and
    /// their addresses, the command, the server's environment, working directory and resource limits, durability, the network
    /// interfaces that the server sees, and digests of the program, of its libraries and of the files that the command names. Each
    /// machine needs a copy of cluster.toml, of keys/authority.pem, and of the keys of its own replica and no other.
    ///
    /// Run it on one of the machines, with the packages, the environment and the working directory that the server is to
    /// have on all of them.
    #[command(after_help = INIT)]
    Init(InitArgs),
    /// Run this machine's replica of a cluster of several machines, in the foreground
    ///
    /// Starts the replica, starts it again if it dies, and takes clients at the member's service address: requests that come to
    /// a replica which does not lead are passed on to the one that does. Commands such as `brolga status` work as for
    /// `brolga run`, on the replica of this machine, and show the others.
    ///
    /// The machine must have what the cluster file says: the same version of Brolga, the same program and libraries. Files
    /// that the server reads besides, and users and groups, must be the same as well, which is not checked; name files that
    /// matter with `brolga init --file`.
    #[command(after_help = REPLICA)]
    Replica(ReplicaArgs),
    /// Internal: the coordinator of one replica
    #[command(hide = true)]
    Coordinator(CoordinatorArgs),
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
pub(super) struct Which {
    /// Name of the cluster
    #[arg(long, default_value = "default", value_parser = cluster_name)]
    pub name: String,
    /// Its state directory [default: /var/lib/brolga/NAME for root, else $XDG_STATE_HOME/brolga/NAME]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Which {
    pub fn state(&self) -> PathBuf {
        let path = self.state.clone().unwrap_or_else(|| default_path(&self.name));
        path.canonicalize().unwrap_or(path)
    }
}

/// The name becomes part of paths.
pub(super) fn cluster_name(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=32).contains(&text.len()) && text.chars().all(fine) {
        Ok(text.to_owned())
    } else {
        Err("a name has 1 to 32 letters, digits, - or _".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{Cli, cluster_name};
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
            "brolga run -n 12 -- x",
            "brolga run --frobnicate -- x",
            "brolga run --frobnicate x",
            "brolga run",
            "brolga run --publish 80 -- x",
            "brolga run --allow-outbound db.example -- x",
            "brolga run --name ../x -- x",
            "brolga init -- x",
            "brolga init --member 10.0.0.1 -- x",
            "brolga replica --id 2",
            "brolga status --json --watch",
            "brolga signal",
            "brolga signal FROBNICATE",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_become_parts_of_paths() {
        assert!(cluster_name("a-1").is_ok() && cluster_name("").is_err() && cluster_name("a/b").is_err());
    }
}
