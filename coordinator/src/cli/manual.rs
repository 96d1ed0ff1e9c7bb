//! What help and manual pages say beyond the options, and the pages themselves.

use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

/// The foot of each page.
const SOURCE: &str = concat!("brolga ", env!("CARGO_PKG_VERSION"));

/// After the help of `brolga` itself.
pub(super) const ABOUT: &str = "\
Examples:
  brolga doctor                                   what this machine lacks
  brolga run -n 3 redis-server --port 7000        three replicas; clients use port 7000
  brolga status --watch                           in a second terminal
  brolga kill -r 1                                lose one, and see that nothing is lost
  brolga stop

Files:
  /var/lib/brolga/NAME (root) or $XDG_STATE_HOME/brolga/NAME, the state directory of a cluster:
    cluster.json                     the command and the environment that its logs belong to
    keys/                            the keys with which its replicas know each other
    replica-N/log/                   the decided inputs
    replica-N/checkpoints/ENTRY/     checkpoints of its server
    replica-N/digests                a digest of what its server did, for each entry
    replica-N/layers/upper/          the files that the server wrote in replica N
    replica-N/output/                what the server printed
    replica-N/coordinator.log        what Brolga says about replica N
  /dev/shm/brolga-*                  shared memory of running replicas

Environment:
  BROLGA_PRELOAD                     path of libbrolga_preload.so, if it is not beside brolga
  RUST_LOG                           detail of coordinator.log, as in RUST_LOG=debug

Exit status:
  0 success, 1 Brolga failed or refused, 2 wrong usage; `run` and `exec` pass the command's on.

`brolga help COMMAND` explains a command, `brolga man COMMAND | man -l -` shows its page.";

/// After the help of `brolga run`.
pub(super) const RUN: &str = "\
Examples:
  brolga run -n 3 redis-server --port 7000
  brolga run -n 3 --publish 127.0.0.1:8080:80 nginx -g 'daemon off;'
  brolga run -n 3 --allow-outbound 192.0.2.7:6379 redis-server --replicaof 192.0.2.7 6379
  brolga run --name cache --durability disk -- memcached -t 4 -u nobody

Exit status:
  the server's if it ends by itself (128 + N if signal N killed it),
  0 after Ctrl-C or `brolga stop`, 1 if Brolga fails, 2 for wrong usage.";

/// The help of `--elide-fsync`.
pub(super) const ELIDE_FSYNC: &str = "\
The server's own fsync, fdatasync, msync, sync and O_SYNC cost nothing (the default)

A replica's files are made anew from the log whenever the replica starts, so what keeps an acknowledged request is the log: with \
--durability disk a majority has it on disk before the answer leaves, with --durability memory in memory that survives the \
death of processes. As long as a majority of the logs is intact, nothing is lost that would be kept otherwise. With =false the \
server waits for the disk as it does natively, for the sake of the files themselves (replica-N/layers), if they are to be of use \
to somebody after the logs are gone. A cluster's logs were made with one of the two, and go on with it.";

/// The help of `--publish`.
pub(super) const PUBLISH: &str = "\
Publish a port of the server at an address of this machine; may be given several times

127.0.0.1:8080:80 and [::1]:8080:80 name an address, 8080:80 means all IPv4 addresses, 5353:53/udp is a UDP port. A port \
that is not named here is published where the server listens.";

/// The help of `--allow-outbound`.
pub(super) const ALLOW_OUTBOUND: &str = "\
Let the server connect or send to another host; may be given several times

Without this the server reaches nobody but itself: connections are refused with ECONNREFUSED, and the replica's log says \
which. HOST is a name (resolved once, when the cluster is started), an address, [ADDRESS] for IPv6, or * for all but this \
machine's loopback; PORT is a number or *. It holds for TCP and UDP; a server that resolves names itself needs its name \
server, as in 192.0.2.53:53, too. 127.0.0.1:PORT lets it reach this machine's own services.

The leader's replica makes the connections; what comes back reaches all replicas. When the leader changes the server finds \
them reset.";

/// After the help of `brolga status`.
pub(super) const STATUS: &str = "\
Columns:
  replica     its id
  state       running, restarting, stopped (by `brolga kill`), given up (died too often)
  role        leader, follower, taking over (elected, not ready yet), recovering (replays the log)
  ballot      round and proposer of the newest leadership that it knows
  committed   entries that it knows to be decided
  applied     entries that its server has taken in
  tick        logical time of its server
  lag         decided entries that its server has not taken in yet
  conns       client connections that it serves, or passes on to the leader
  entries/s   entries decided a second, lately
  restarts    times that its process was started again after it died
  digest      equal < N: all before entry N went as on the leader; the leader shows its own

Examples:
  brolga status --watch
  brolga status --json | jq '.replicas[] | {id, process, lag: .status.lag}'

Exit status:
  0 if the cluster runs, 1 if not.";

/// After the help of `brolga exec`.
pub(super) const EXEC: &str = "\
Examples:
  brolga exec -r 2 sh
  brolga exec -r 2 -- ls -l /var/lib/redis";

/// After the help of `brolga kill`.
pub(super) const KILL: &str = "\
Examples:
  brolga kill -r 1
  brolga start -r 1";

/// After the help of `brolga member`.
pub(super) const MEMBER: &str = "\
Examples:
  brolga member list
  brolga member add                        one more replica on this machine, for a cluster of `brolga run`
  brolga member remove 1                   also the leader: another one takes over
  brolga member replace 3                  a new replica in the place of one that lost its disk
  brolga member add --member 10.0.0.4:7400 --config cluster.toml --output machine-4

For a cluster of several machines, `add` and `replace` want the addresses of the new machine, and write what it needs into a
directory: cluster.toml, its keys and the authority's certificate. They run where `brolga init` was run, because the
authority's key is there (keys/authority.key), and a replica of the cluster must run on the same machine. Then, on the new machine:

  brolga replica --config machine-4/cluster.toml --id 4";

/// After the help of `brolga logs`.
pub(super) const LOGS: &str = "\
Examples:
  brolga logs -f
  brolga logs -r 2 --coordinator";

/// After the help of `brolga restore`.
pub(super) const RESTORE: &str = "\
Examples:
  brolga restore --list
  brolga restore -r 2                      its newest checkpoint
  brolga restore -r 2 --checkpoint 4801
  brolga stop; brolga restore              all replicas, when they are started again

Exit status:
  0 if the replica is back, or told what to restore, or all checkpoints are whole; 1 if not.";

/// After the help of `brolga signal`.
pub(super) const SIGNAL: &str = "\
Examples:
  brolga signal HUP                 nginx and Apache read their configuration again
  brolga signal --name web USR1     Apache does so and lets requests finish, nginx opens its log files again
  brolga signal RTMIN+3
  brolga signal HUP --replace /etc/nginx/nginx.conf=./nginx.conf    with a changed configuration

Exit status:
  0 if the signal is decided, or the server ended; 1 if no cluster runs; 2 for a signal that cannot be sent.";

/// After the help of `brolga verify`.
pub(super) const VERIFY: &str = "\
Examples:
  brolga verify --load 'redis-benchmark -p {port} -n 10000 -q' -- redis-server --port 7000
  brolga verify --load './my-test http://127.0.0.1:{port}/' --replays 3 -- ./my-server
  brolga verify -- nginx -c /path/nginx.conf -g 'daemon off;'

Exit status:
  0 if the server did the same again, 3 if not, 1 if that could not be found out, 2 for wrong usage.";

/// After the help of `brolga replay`.
pub(super) const REPLAY: &str = "\
Examples:
  brolga replay                                  the log of replica 1 of the cluster `default`
  brolga replay --state /tmp/x -r 2 --entries 500
  brolga replay /tmp/x/replica-2/log --entries 500   the same
  brolga replay --gdb
  brolga replay --gdb -- -batch -ex 'break answer' -ex continue -ex tick -ex backtrace

Exit status:
  0 if the replay did what the run did, 3 if not, 1 if there is nothing to replay, 2 for wrong usage.";

/// After the help of `brolga explain`.
pub(super) const EXPLAIN: &str = "\
Examples:
  brolga explain                    a replica of the cluster `default` that diverged
  brolga explain -r 2 --with 3
  brolga explain --state /tmp/x --entry 17

Exit status:
  0 if nothing differs, 3 if something does, 1 if it could not be found out, 2 for wrong usage.";

/// After the help of `brolga stop`.
pub(super) const STOP: &str = "\
Exit status:
  0 if nothing runs any more, 1 if the state directory is not there or cannot be used.";

/// After the help of `brolga init`.
pub(super) const INIT: &str = "\
Examples:
  brolga init --output /etc/brolga/cache --name cache --member 10.0.0.1:7400 --member 10.0.0.2:7400 \\
      --member 10.0.0.3:7400 -- redis-server /etc/redis/redis.conf
  brolga init --member 10.9.0.1:7400,192.0.2.1 --member 10.9.0.2:7400,192.0.2.2 \\
      --member 10.9.0.3:7400,192.0.2.3 --publish 8080:80 -- nginx -g 'daemon off;'

Exit status:
  0 if both were written; 1 if not, and then nothing was.";

/// After the help of `brolga replica`.
pub(super) const REPLICA: &str = "\
Examples:
  brolga replica --config /etc/brolga/cache/cluster.toml --id 2
  brolga replica --config cluster.toml --id 2 -- redis-server /etc/redis/redis.conf
  brolga status --name cache

Exit status:
  the server's if it ends by itself (128 + N if signal N killed it),
  0 if the replica was stopped, 1 if something is wrong: the last line says what.";

/// After the help of `brolga man`.
pub(super) const MAN: &str = "\
Examples:
  brolga man run | man -l -
  brolga man --output /usr/local/share/man/man1";

/// Prints the page of `brolga`, or of one of its commands; false if there is no such command.
pub(super) fn print(command: Command, page: Option<&str>) -> io::Result<bool> {
    let Some(page) = pages(command).into_iter().find(|(name, _)| page == name.as_deref()) else {
        return Ok(false);
    };
    let mut out = io::stdout().lock();
    // A reader that went away (`| head`) is no error.
    match out.write_all(&page.1?).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(true),
    }
}

/// Writes all pages into a directory.
pub(super) fn write_all(command: Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (name, page) in pages(command) {
        let file = name.map_or("brolga.1".to_owned(), |name| format!("brolga-{name}.1"));
        std::fs::write(directory.join(file), page?)?;
    }
    Ok(())
}

/// All pages: that of `brolga` without a name, those of its commands with theirs.
fn pages(command: Command) -> Vec<(Option<String>, io::Result<Vec<u8>>)> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let subcommands: Vec<_> = command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned().collect();
    let own = (None, page(command));
    std::iter::once(own)
        .chain(subcommands.into_iter().map(|sub| (Some(sub.get_name().to_owned()), page(sub))))
        .collect()
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let after = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    let command = command.after_help(None::<&str>).after_long_help(None::<&str>);
    let mut out = Vec::new();
    Man::new(command).manual("Brolga").source(SOURCE).render(&mut out)?;
    sections(after.as_deref().unwrap_or_default(), &mut out)?;
    Ok(out)
}

/// The blocks of the text, each a heading with a colon and indented lines, as sections; lines stay as they are.
fn sections(text: &str, out: &mut Vec<u8>) -> io::Result<()> {
    for block in text.split("\n\n") {
        let (heading, lines) = match block.split_once(":\n") {
            Some((heading, lines)) => (heading, lines),
            None => ("See also", block),
        };
        writeln!(out, ".SH \"{}\"\n.nf", heading.to_uppercase())?;
        for line in lines.lines() {
            let line = line.strip_prefix("  ").unwrap_or(line).replace('\\', "\\e").replace('-', "\\-");
            // A point or a quote at the start of a line would be a command of roff.
            let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
            writeln!(out, "{guard}{line}")?;
        }
        writeln!(out, ".fi")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{pages, sections};
    use crate::cli::args::Cli;
    use clap::CommandFactory;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let pages = pages(Cli::command());
        let names: Vec<_> = pages.iter().map(|(name, _)| name.as_deref().unwrap_or("")).collect();
        assert!(names.starts_with(&["", "run", "status"]) && !names.contains(&"coordinator"), "{names:?}");
        for (name, page) in &pages {
            let page = String::from_utf8_lossy(page.as_ref().unwrap());
            let title = name.as_ref().map_or("brolga 1".to_owned(), |name| format!("brolga-{name} 1"));
            assert!(page.contains(&format!(".TH {title}")), "{name:?}: {page}");
            assert!(!page.contains("EXTRA"), "{page}");
        }
        let run = String::from_utf8_lossy(pages[1].1.as_ref().unwrap()).into_owned();
        assert!(run.contains(".SH \"EXAMPLES\"") && run.contains("redis\\-server"), "{run}");
    }

    #[test]
    fn lines_are_no_commands_of_roff() {
        let mut out = Vec::new();
        sections("Files:\n  .hidden\n  'quoted'\n  a\\b", &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, ".SH \"FILES\"\n.nf\n\\&.hidden\n\\&'quoted'\na\\eb\n.fi\n");
    }
}
