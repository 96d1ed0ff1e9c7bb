//! What commands such as `brolga status` and `brolga kill` ask of the supervisor.

use std::path::PathBuf;

use super::LauncherError;
use super::control::{
    ClusterStatus, MemberStatus, OwnAddress, PortStatus, ProcessState, Reply, Request, answer,
};
use super::find_preload_beside;
use super::supervisor::Supervisor;
use crate::channel::Channel;
use crate::replica::config::{NewFile, ToReplica};
use crate::replica::status::{DigestState, Role};

impl Supervisor {
    /// True if the request was to stop.
    pub(super) fn answer(&mut self, request: &Request, channel: Channel) -> Result<bool, LauncherError> {
        let known = |id: u8| self.others.has(id) || self.replicas.iter().any(|replica| replica.id == id);
        let reply = match *request {
            Request::Start(id, Some(ref binary)) if known(id) && !self.others.has(id) => {
                let binary = binary.clone();
                self.start_other(id, binary)?
            }
            Request::Status => Reply::Status(Box::new(self.status())),
            Request::Stop => {
                answer(&channel, &Reply::Done);
                self.stopping.push(channel);
                return Ok(true);
            }
            Request::Signal(signal, ref files) => {
                self.signal(signal, files, channel);
                return Ok(false);
            }
            Request::Change(change) => {
                self.change(change, channel);
                return Ok(false);
            }
            Request::Kill(id) | Request::Start(id, _) | Request::Corrupt(id) | Request::Checkpoint(id)
                if !known(id) =>
            {
                let ids: Vec<_> = self.cluster.ids().iter().map(u8::to_string).collect();
                Reply::Refused(format!("there is no replica {id}; they are {}", ids.join(", ")))
            }
            Request::Kill(id) | Request::Start(id, _) | Request::Corrupt(id) | Request::Checkpoint(id)
                if self.others.has(id) =>
            {
                Reply::Refused(format!("replica {id} runs on another machine; do this there"))
            }
            Request::Kill(id) => self.kill(id)?,
            Request::Start(id, _) => self.start_again(id)?,
            Request::Corrupt(id) => self.tell(id, &ToReplica::CorruptNext),
            Request::Checkpoint(id) => self.tell(id, &ToReplica::Checkpoint),
        };
        answer(&channel, &reply);
        Ok(false)
    }

    fn tell(&self, id: u8, message: &ToReplica) -> Reply {
        match &self.replicas[self.index(id)].channel {
            Some(channel) if channel.send(message).is_ok() => Reply::Done,
            _ => Reply::Refused(format!("replica {id} does not run")),
        }
    }

    /// The answer comes when the signal is decided.
    fn signal(&mut self, signal: i32, files: &[NewFile], client: Channel) {
        let leader = self
            .replicas
            .iter()
            .find(|replica| replica.id == self.leader || !self.is_alone())
            .and_then(|replica| replica.channel.as_ref());
        self.server_signals.add(signal, files, client, leader);
    }

    /// Where what is for the leader goes. Without the leader here, this machine's replica passes it on.
    pub(super) fn channel_to_leader(&self) -> Option<&Channel> {
        let leader = self.replicas.iter().find(|replica| replica.id == self.leader || !self.is_alone());
        leader.and_then(|replica| replica.channel.as_ref())
    }

    /// The place of a replica of this machine.
    fn index(&self, id: u8) -> usize {
        self.replicas.iter().position(|replica| replica.id == id).unwrap_or(0)
    }

    fn kill(&mut self, id: u8) -> Result<Reply, LauncherError> {
        let index = self.index(id);
        let was = self.replicas[index].state();
        if was == ProcessState::Stopped {
            return Ok(Reply::Refused(format!("replica {id} is stopped already")));
        }
        self.replicas[index].held = true;
        self.replicas[index].restart_at = None;
        if was == ProcessState::Running {
            self.note_death(index)?;
        }
        Ok(Reply::Done)
    }

    fn start_again(&mut self, id: u8) -> Result<Reply, LauncherError> {
        let index = self.index(id);
        let replica = &mut self.replicas[index];
        if replica.state() == ProcessState::Running {
            return Ok(Reply::Refused(format!("replica {id} runs already")));
        }
        replica.forgive();
        self.start(id)?;
        Ok(Reply::Done)
    }

    /// Starts a replica with another build of Brolga, and from then on whenever it must be started.
    fn start_other(&mut self, id: u8, binary: PathBuf) -> Result<Reply, LauncherError> {
        let Some(preload) = find_preload_beside(&binary) else {
            return Ok(Reply::Refused(format!(
                "{} does not have libbrolga_preload.so beside it; install both together",
                binary.display()
            )));
        };
        let index = self.index(id);
        if self.replicas[index].state() != ProcessState::Running {
            self.replicas[index].binary = Some((binary, preload));
        }
        self.start_again(id)
    }

    fn status(&self) -> ClusterStatus {
        let members = self.replicas.iter().map(|replica| MemberStatus {
            id: replica.id,
            process: replica.state(),
            restarts: replica.restarts,
            entries_per_second: replica.entries_per_second(),
            status: replica.status.clone().filter(|_| replica.state() == ProcessState::Running),
        });
        let mut members: Vec<_> = members.chain(self.others.members()).collect();
        members.sort_by_key(|member| member.id);
        let mut live = members.iter().filter_map(|member| member.status.as_ref()).peekable();
        let digests_agree = live.peek().is_some()
            && live.all(|status| {
                status.role == Role::Leader || matches!(status.digests, DigestState::Agrees { .. })
            });
        let ports = self.ports.iter().map(|port| PortStatus {
            server_port: port.server_port,
            address: port.address,
            udp: false,
            own: port.own.iter().map(|&(replica, address, _)| OwnAddress { replica, address }).collect(),
        });
        let udp_ports = self.udp_ports.iter().map(|port| PortStatus {
            server_port: port.server_port,
            address: port.address,
            udp: true,
            own: vec![],
        });
        ClusterStatus {
            name: self.cluster.name.clone(),
            version: self.cluster.version.clone(),
            command: self.cluster.command_line(),
            supervisor: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            leader: if self.others.may_lead(self.leader) { self.leader } else { 0 },
            members: self.members(),
            digests_agree,
            ports: ports.chain(udp_ports).collect(),
            replicas: members,
        }
    }
}
