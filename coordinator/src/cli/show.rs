//! `brolga status`.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use crate::launcher::LauncherError;
use crate::launcher::control::{ClusterStatus, MemberStatus, ProcessState, Reply, Request, ask};
use crate::paxos::Members;
use crate::replica::status::{DigestState, Divergence, ReplicaStatus, Role};

/// Time between two pictures of `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// Columns that are aligned on the right: ballot to restarts.
const NUMBERS: std::ops::RangeInclusive<usize> = 3..=10;

/// Prints the status, again and again with `watch`.
pub(super) fn status(state: &Path, json: bool, watch: bool) -> Result<i32, LauncherError> {
    loop {
        let Reply::Status(status) = ask(state, &Request::Status)? else { return Ok(1) };
        let text = if json {
            serde_json::to_string_pretty(&status).map_err(LauncherError::system("write JSON"))? + "\n"
        } else {
            table(&status)
        };
        let clear = if watch { "\x1b[H\x1b[2J" } else { "" };
        let mut out = io::stdout().lock();
        // A reader that went away (`| head`) is no error.
        if write!(out, "{clear}{text}").and_then(|()| out.flush()).is_err() || !watch {
            return Ok(0);
        }
        std::thread::sleep(WATCH_PAUSE);
    }
}

fn table(status: &ClusterStatus) -> String {
    let mut text = format!(
        "cluster {}: {}\nup {} s, leader {}, digests {}\n",
        status.name,
        status.command,
        status.uptime_seconds,
        if status.leader == 0 { "none".to_owned() } else { status.leader.to_string() },
        match (status.digests_agree, diverged(status).next()) {
            (_, Some(_)) => "DIFFER",
            (true, None) => "agree",
            (false, None) => "not all compared",
        },
    );
    for port in &status.ports {
        if port.udp {
            text += &format!("UDP port {} at {}\n", port.server_port, port.address);
            continue;
        }
        let own: Vec<_> =
            port.own.iter().map(|own| format!("replica {} at {}", own.replica, own.address)).collect();
        text += &format!("port {} at {} ({})\n", port.server_port, port.address, own.join(", "));
    }
    if status.ports.is_empty() {
        text += "the server listens on no port\n";
    }
    let head = [
        "replica",
        "state",
        "role",
        "ballot",
        "committed",
        "applied",
        "tick",
        "lag",
        "conns",
        "entries/s",
        "restarts",
        "digest",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(status.replicas.iter().map(row));
    text += &align(&rows);
    text += &members(&status.members);
    for (id, entry, tick, reason) in diverged(status) {
        text += &format!("replica {id} DIVERGED at entry {entry}, tick {tick}: {reason}\n");
    }
    for member in &status.replicas {
        damaged_log(member, &mut text);
        divergence(member, &mut text);
        checkpoints(member, &mut text);
        if member.status.as_ref().is_some_and(|s| s.disk_full) {
            text += &format!("replica {}: disk full, nothing is acknowledged\n", member.id);
        }
    }
    text
}

/// One line on who takes part, if that is worth one.
fn members(members: &Members) -> String {
    let learners: Vec<_> =
        members.list.iter().filter(|member| !member.voter).map(|member| member.id.to_string()).collect();
    match (members.epoch, learners.is_empty()) {
        (0, true) => String::new(),
        (epoch, true) => format!("members: epoch {epoch}, all vote\n"),
        (epoch, false) => {
            format!("members: epoch {epoch}, learning and without a vote yet: {}\n", learners.join(", "))
        }
    }
}

/// What is known of a replica that diverged and goes on.
fn divergence(member: &MemberStatus, text: &mut String) {
    let Some(status) = &member.status else { return };
    let Some(Divergence { entry, tick, reason, count }) = &status.last_divergence else { return };
    if matches!(status.digests, DigestState::Diverged { .. }) {
        return;
    }
    let rebuilt = if status.role == Role::Recovering { "is being rebuilt" } else { "was rebuilt" };
    let often = if *count == 1 { String::new() } else { format!(" ({count} divergences in all)") };
    *text += &format!(
        "replica {} diverged at entry {entry}, tick {tick}, and {rebuilt}{often}: {reason}\n",
        member.id
    );
}

/// What keeps a replica from voting whose log was damaged.
fn damaged_log(member: &MemberStatus, text: &mut String) {
    let Some(log) = member.status.as_ref().and_then(|status| status.damaged_log.as_ref()) else { return };
    let unheard: Vec<_> = log.unheard.iter().map(u8::to_string).collect();
    let waits = match unheard.is_empty() {
        true => String::new(),
        false => format!(", and must still hear from {}", unheard.join(", ")),
    };
    *text += &format!(
        "replica {} has no vote until it has learned everything anew{waits}, because its log was damaged: {}\n",
        member.id, log.why
    );
}

fn checkpoints(member: &MemberStatus, text: &mut String) {
    let Some(status) = member.status.as_ref().map(|status| &status.checkpoints) else { return };
    if !status.kept.is_empty() {
        let kept: Vec<_> = status
            .kept
            .iter()
            .map(|kept| format!("entry {} (digest {}, {} KB)", kept.entry, kept.digest, kept.bytes / 1024))
            .collect();
        *text += &format!("replica {}: checkpoints at {}\n", member.id, kept.join(", "));
    }
    let (first, transfer) =
        member.status.as_ref().map_or((0, None), |status| (status.first_entry, status.transfer.as_ref()));
    if first > 0 {
        *text += &format!("replica {}: its log begins at entry {first}\n", member.id);
    }
    if let Some(coming) = transfer {
        *text += &format!(
            "replica {}: {} % of the checkpoint at entry {} came from replica {}: {:.1} MB/s, {} s remain\n",
            member.id,
            coming.received * 100 / coming.total.max(1),
            coming.entry,
            coming.from,
            coming.rate as f64 / 1e6,
            coming.remaining
        );
    }
    if let Some(error) = &status.last_error {
        *text += &format!("replica {}: the last checkpoint that failed: {error}\n", member.id);
    }
    if let Some(error) = &status.restore_error {
        *text += &format!("replica {}: a checkpoint was not restored: {error}\n", member.id);
    }
}

/// Replicas that went another way than the leader: id, entry, tick and how it was noticed.
fn diverged(status: &ClusterStatus) -> impl Iterator<Item = (u8, u64, u64, &str)> {
    status.replicas.iter().filter_map(|member| match &member.status.as_ref()?.digests {
        DigestState::Diverged { entry, tick, reason } => Some((member.id, *entry, *tick, reason.as_str())),
        _ => None,
    })
}

fn row(member: &MemberStatus) -> Vec<String> {
    let process = match member.process {
        ProcessState::Running => "running",
        ProcessState::Restarting => "restarting",
        ProcessState::Stopped => "stopped",
        ProcessState::GivenUp => "given up",
        ProcessState::Elsewhere => "elsewhere",
        ProcessState::Unreachable => "unreachable",
    };
    let mut row = vec![member.id.to_string(), process.to_owned()];
    match &member.status {
        None => {
            row.extend((0..8).map(|_| "-".to_owned()));
            row.extend([member.restarts.to_string(), "-".to_owned()]);
        }
        Some(status) => row.extend(cells(member, status)),
    }
    row
}

fn cells(member: &MemberStatus, status: &ReplicaStatus) -> [String; 10] {
    let role = match status.role {
        Role::Recovering => "recovering",
        Role::Follower => "follower",
        Role::TakingOver => "taking over",
        Role::Leader => "leader",
    };
    let digest = match &status.digests {
        _ if status.role == Role::Leader => format!("{:016x}", status.digest),
        DigestState::Unknown => "not compared".to_owned(),
        DigestState::Agrees { until } => format!("equal < {until}"),
        DigestState::Diverged { .. } => "DIVERGED".to_owned(),
    };
    [
        role.to_owned(),
        // The id of the proposer is the low byte.
        format!("{}.{}", status.ballot >> 8, status.ballot & 0xff),
        status.committed.to_string(),
        status.applied.to_string(),
        status.tick.to_string(),
        status.lag.to_string(),
        (status.connections + status.relayed).to_string(),
        member.entries_per_second.to_string(),
        member.restarts.to_string(),
        digest,
    ]
}

fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let cell = |column: usize, text: &String, width: usize| {
        if NUMBERS.contains(&column) { format!("{text:>width$}") } else { format!("{text:width$}") }
    };
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<_> = cells.map(|(column, (text, &width))| cell(column, text, width)).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::launcher::control::{ClusterStatus, MemberStatus, PortStatus, ProcessState};
    use crate::replica::status::{DamagedLog, DigestState, Divergence, ReplicaStatus, Role};

    fn member(id: u8, process: ProcessState, status: Option<ReplicaStatus>) -> MemberStatus {
        MemberStatus { id, process, restarts: 0, entries_per_second: 5, status }
    }

    fn cluster(replicas: Vec<MemberStatus>) -> ClusterStatus {
        ClusterStatus {
            name: "default".into(),
            version: "1".into(),
            command: "redis-server".into(),
            supervisor: 1,
            uptime_seconds: 3,
            members: crate::paxos::Members::default(),
            leader: 0,
            digests_agree: false,
            ports: vec![PortStatus {
                server_port: 80,
                address: "1.2.3.4:8080".parse().unwrap(),
                udp: false,
                own: vec![],
            }],
            replicas,
        }
    }

    #[test]
    fn shows_replicas_and_what_is_wrong() {
        let diverged = DigestState::Diverged { entry: 7, tick: 99, reason: "digest".to_owned() };
        let status = ReplicaStatus {
            role: Role::Follower,
            ballot: 0x203,
            digests: diverged,
            ..ReplicaStatus::default()
        };
        let text = table(&cluster(vec![
            member(1, ProcessState::Running, Some(status)),
            member(2, ProcessState::Stopped, None),
        ]));
        assert!(text.contains("digests DIFFER"), "{text}");
        assert!(text.contains("port 80 at 1.2.3.4:8080"), "{text}");
        assert!(text.contains("1        running  follower     2.3"), "{text}");
        assert!(text.contains("2        stopped  -"), "{text}");
        let lines: Vec<_> =
            text.lines().filter(|line| line.contains("follower") || line.contains("lag")).collect();
        // Numbers end below the end of their heading.
        let end = |line: &str, of: &str| line.find(of).map(|at| at + of.len());
        assert_eq!(end(lines[0], "entries/s"), lines[1].rfind(" 5 ").map(|at| at + 2), "{text}");
        assert!(text.contains("replica 1 DIVERGED at entry 7, tick 99: digest"), "{text}");
    }

    #[test]
    fn tells_of_a_damaged_log() {
        let why = "log file x is corrupt at byte 7".to_owned();
        let status = ReplicaStatus {
            damaged_log: Some(DamagedLog { why, unheard: vec![2, 3] }),
            ..ReplicaStatus::default()
        };
        let text = table(&cluster(vec![member(1, ProcessState::Running, Some(status))]));
        let told = "replica 1 has no vote until it has learned everything anew, and must still hear from 2, 3, because its log was \
                    damaged: log file x is corrupt at byte 7\n";
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn tells_of_a_divergence_until_and_after_the_rebuild() {
        let last = Divergence { entry: 7, tick: 99, reason: "digest".to_owned(), count: 2 };
        let digests = DigestState::Diverged { entry: 7, tick: 99, reason: "digest".to_owned() };
        let fenced =
            ReplicaStatus { digests, last_divergence: Some(last.clone()), ..ReplicaStatus::default() };
        let digests = DigestState::Agrees { until: 9 };
        let rebuilt =
            ReplicaStatus { role: Role::Follower, digests, last_divergence: Some(last), ..fenced.clone() };
        let told = |status| {
            let text = table(&cluster(vec![member(1, ProcessState::Running, Some(status))]));
            let lines: Vec<_> =
                text.lines().filter(|line| line.contains("at entry 7")).map(str::to_owned).collect();
            lines.join("\n")
        };
        assert_eq!(told(fenced), "replica 1 DIVERGED at entry 7, tick 99: digest");
        assert_eq!(
            told(rebuilt),
            "replica 1 diverged at entry 7, tick 99, and was rebuilt (2 divergences in all): digest"
        );
    }
}
