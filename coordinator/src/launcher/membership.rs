//! Members that come and go, as the supervisor sees it: the log says who takes part, and the supervisor follows. On one machine it
//! starts a replica for each member that has none, and ends and clears away those that are members no more.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::LauncherError;
use super::control::{Reply, answer};
use super::keys;
use super::replica_process::ReplicaProcess;
use super::state::replica_directory;
use super::supervisor::{Supervisor, publish_to};
use super::telling::say;
use crate::channel::Channel;
use crate::container::{SharedDirectory, remove_tree};
use crate::paxos::{Change, ChangeError, Members};
use crate::replica::config::ToReplica;

/// How often the removal of a replica's files is tried, and the time between two tries: its processes die within milliseconds.
const CLEARING_TRIES: u32 = 100;
const CLEARING_PAUSE: Duration = Duration::from_millis(10);

/// Clients of the control socket that wait for the leader's word on a change.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Number, the replica that was asked, who asks.
    waiting: Vec<(u64, u8, Channel)>,
    last: u64,
}

impl Changes {
    /// Takes a client; returns the number of its request, which no other supervisor uses.
    fn add(&mut self, asked: u8, client: Channel) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        self.last = now.max(self.last + 1);
        self.waiting.push((self.last, asked, client));
        self.last
    }

    /// The leader has answered.
    pub fn answered(&mut self, id: u64, word: &Result<u64, ChangeError>) {
        let Some(at) = self.waiting.iter().position(|(waiting, ..)| *waiting == id) else { return };
        let (.., client) = self.waiting.swap_remove(at);
        let reply = match word {
            Ok(epoch) => Reply::Epoch(*epoch),
            Err(error) => Reply::Refused(error.to_string()),
        };
        answer(&client, &reply);
    }

    /// A replica died: nobody knows what became of what it was asked.
    pub fn refuse_of(&mut self, id: u8) {
        for (.., client) in self.waiting.extract_if(.., |(_, asked, _)| *asked == id) {
            let text = "the leader died before it answered; `brolga member list` shows whether the change was made, else try again";
            answer(&client, &Reply::Refused(text.to_owned()));
        }
    }
}

/// Removes what a replica had. Processes of its container may not be quite dead yet, and write to it.
fn clear_away(path: &Path) -> io::Result<()> {
    for _ in 0..CLEARING_TRIES {
        match remove_tree(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                std::thread::sleep(CLEARING_PAUSE)
            }
            done => return done,
        }
    }
    remove_tree(path)
}

impl Supervisor {
    /// Who takes part, as far as is known.
    pub(super) fn members(&self) -> Members {
        let known = self.cluster.members.clone();
        known.unwrap_or_else(|| Members::founders(&self.cluster.founders()))
    }

    /// Passes a change on to the leader, or on several machines to the replica here, which knows the leader.
    pub(super) fn change(&mut self, change: Change, client: Channel) {
        let asked = |replica: &&ReplicaProcess| replica.id == self.leader || !self.is_alone();
        let asked = self.replicas.iter().find(asked);
        let Some((asked, channel)) = asked.and_then(|one| Some((one.id, one.channel.as_ref()?))) else {
            return answer(&client, &Reply::Refused(ChangeError::NotLeader.to_string()));
        };
        let id = self.changes.add(asked, client);
        if channel.send(&ToReplica::Change { id, change }).is_err() {
            self.changes.refuse_of(asked);
        }
    }

    /// A replica knows these members to be decided.
    pub(super) fn renew_members(&mut self, members: &Members) -> Result<(), LauncherError> {
        if members.epoch <= self.cluster.members.as_ref().map_or(0, |known| known.epoch) {
            return Ok(());
        }
        let before = self.cluster.members.replace(members.clone());
        self.cluster.save(self.state.path())?;
        let before = before.unwrap_or_else(|| Members::founders(&self.cluster.founders()));
        for member in &members.list {
            match before.get(member.id) {
                None => say(&format!("replica {} joins, and learns before it votes", member.id)),
                Some(old) if !old.voter && member.voter => say(&format!("replica {} votes", member.id)),
                Some(_) => {}
            }
            if self.replicas.iter().all(|replica| replica.id != member.id) && !self.others.has(member.id) {
                self.ports.add(member.id, member.service)?;
                match self.is_alone() {
                    true => self.seat(member.id)?,
                    false => self.others.add(member.id),
                }
            }
        }
        for id in before.list.iter().map(|member| member.id).filter(|id| !members.has(*id)) {
            match self.replicas.iter_mut().find(|replica| replica.id == id) {
                Some(replica) => replica.leave(members.epoch),
                None => {
                    self.others.remove(id);
                    self.ports.remove(id);
                }
            }
        }
        // All must know where the others take clients.
        self.ports.iter().for_each(|port| self.replicas.iter().for_each(|replica| publish_to(replica, port)));
        Ok(())
    }

    /// Makes and starts a replica on this machine.
    fn seat(&mut self, id: u8) -> Result<(), LauncherError> {
        keys::ensure(&self.seats.keys, &[id], &self.cluster.name)?;
        self.seats.add(id)?;
        self.replicas.push(ReplicaProcess::new(id));
        self.start(id)
    }

    /// When the next replica that was removed is ended.
    pub(super) fn leaving_by(&self) -> impl Iterator<Item = Instant> {
        self.replicas.iter().filter_map(|replica| replica.leaves)
    }

    /// Clears away replicas that are no members any more. One that has a machine for itself stays as it was, for a person to look at.
    pub(super) fn retire_removed(&mut self) -> Result<(), LauncherError> {
        let now = Instant::now();
        let over = |replica: &ReplicaProcess| {
            replica.leaves.is_some_and(|by| replica.channel.is_none() || now >= by)
        };
        if !self.is_alone() {
            let gone = self.replicas.iter().find(|replica| over(replica));
            return gone.map_or(Ok(()), |replica| {
                let text = replica.failure.clone();
                Err(LauncherError::Refused(
                    text.unwrap_or_else(|| format!("replica {} was removed", replica.id)),
                ))
            });
        }
        while let Some(at) = self.replicas.iter().position(over) {
            let mut replica = self.replicas.remove(at);
            let id = replica.id;
            replica.end();
            let directory = replica_directory(self.state.path(), id);
            let shared = SharedDirectory::path_of(&self.cluster.tag(), u32::from(id));
            let cleared = clear_away(&shared).and_then(|()| clear_away(&directory));
            keys::remove(&self.seats.keys, id);
            self.seats.remove(id);
            self.ports.remove(id);
            if self.leader == id {
                self.leader = 0;
            }
            match cleared {
                Ok(()) => say(&format!("replica {id} is removed, and its files with it")),
                Err(error) => {
                    say(&format!("replica {id} is removed, but not all of {}: {error}", directory.display()));
                }
            }
        }
        Ok(())
    }
}
