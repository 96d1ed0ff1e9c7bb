//! The supervisor's loop: one thread, `poll` over signals, the control socket and the replicas' channels.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::LauncherError;
use super::cluster::Cluster;
use super::control::{ControlSocket, ProcessState};
use super::ending::Ending;
use super::membership::Changes;
use super::others::Others;
use super::publish::{Followed, Place, Port, Ports, Publication};
use super::publish_udp::{FollowedUdp, UdpPort, UdpPorts};
use super::replica_process::{Launch, ReplicaProcess};
pub use super::seats::Seats;
use super::signals::Signals;
use super::state::{StateDirectory, coordinator_log};
use super::telling::{Unstarted, announce, announce_udp, say, tell_changes, tell_exit};
use crate::channel::{Channel, Received};
use crate::container::SharedDirectory;
use crate::replica::config::{FromReplica, ToReplica};
use crate::replica::status::{ReplicaStatus, Role};

/// How long replicas have to end by themselves before they are killed.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct Supervisor {
    pub(super) cluster: Cluster,
    pub(super) state: StateDirectory,
    preload: PathBuf,
    pub(super) seats: Seats,
    /// Those of this machine.
    pub(super) replicas: Vec<ReplicaProcess>,
    pub(super) others: Others,
    pub(super) ports: Ports,
    pub(super) udp_ports: UdpPorts,
    control: ControlSocket,
    signals: SignalFd,
    pub(super) server_signals: Signals,
    pub(super) changes: Changes,
    pub(super) started: Instant,
    pub(super) leader: u8,
    ending: Ending,
    unstarted: Unstarted,
    /// Connections of `brolga stop`; they close when the process ends.
    pub(super) stopping: Vec<Channel>,
}

/// Why the loop ended.
enum End {
    Asked,
    ServerExited(i32),
}

impl Supervisor {
    /// Takes ports and sockets; starts nothing yet.
    pub fn new(
        cluster: Cluster,
        state: StateDirectory,
        preload: PathBuf,
        publish: &[Publication],
        seats: Seats,
    ) -> Result<Self, LauncherError> {
        let wanted: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        wanted.thread_block().map_err(LauncherError::system("block signals"))?;
        let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(LauncherError::system("make a signalfd"))?;
        let ports = Ports::new(Place::of(&cluster, &seats.ids), publish)?;
        let udp_ports = UdpPorts::new(publish)?;
        let path = state.control_socket();
        let control = ControlSocket::bind(&path)
            .map_err(|source| LauncherError::State { path: path.clone(), source })?;
        let elsewhere = cluster.ids().into_iter().filter(|id| !seats.ids.contains(id));
        let (others, replicas) =
            (Others::new(elsewhere), seats.ids.iter().map(|&id| ReplicaProcess::new(id)).collect());
        Ok(Self {
            cluster,
            state,
            preload,
            seats,
            replicas,
            others,
            ports,
            udp_ports,
            control,
            signals,
            server_signals: Signals::default(),
            changes: Changes::default(),
            started: Instant::now(),
            leader: 0,
            ending: Ending::default(),
            unstarted: Unstarted::default(),
            stopping: Vec::new(),
        })
    }

    /// Runs the cluster to its end; returns the exit code.
    pub fn run(mut self) -> Result<i32, LauncherError> {
        let count = self.cluster.ids().len();
        say(&format!(
            "cluster {} ({count} replica{}): {}",
            self.cluster.name,
            if count == 1 { "" } else { "s" },
            self.cluster.command_line()
        ));
        self.ports.iter().for_each(announce);
        self.udp_ports.iter().for_each(announce_udp);
        let ids = self.seats.ids.clone();
        let ended = ids.into_iter().try_for_each(|id| self.start(id)).and_then(|()| self.serve());
        self.stop_all();
        match ended? {
            End::Asked => {
                say("stopped; the same command goes on from here, or afresh with --fresh");
                Ok(0)
            }
            End::ServerExited(status) => {
                self.server_signals.server_ended();
                Ok(tell_exit(self.state.path(), self.leader, status))
            }
        }
    }

    fn serve(&mut self) -> Result<End, LauncherError> {
        loop {
            self.wait()?;
            if self.asked_to_stop() {
                return Ok(End::Asked);
            }
            while let Some((request, channel)) = self.control.accept() {
                if self.answer(&request, channel)? {
                    return Ok(End::Asked);
                }
            }
            for index in 0..self.replicas.len() {
                self.hear(index)?;
            }
            self.retire_removed()?;
            if let Some(status) = self.ending.agreed(&self.replicas, self.leader) {
                return Ok(End::ServerExited(status));
            }
            self.restart_due()?;
        }
    }

    fn wait(&self) -> Result<(), LauncherError> {
        let mut fds = vec![self.signals.as_fd(), self.control.socket.as_fd()];
        fds.extend(self.replicas.iter().filter_map(|replica| replica.channel.as_ref()).map(AsFd::as_fd));
        let mut polled: Vec<_> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let due = self
            .replicas
            .iter()
            .filter_map(|replica| replica.restart_at)
            .chain(self.leaving_by())
            .chain(self.ending.by)
            .min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let left = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(LauncherError::system("poll")(error)),
        }
    }

    fn asked_to_stop(&self) -> bool {
        matches!(self.signals.read_signal(), Ok(Some(_)))
    }

    pub(super) fn start(&mut self, id: u8) -> Result<(), LauncherError> {
        let launch = Launch { state: self.state.path(), preload: &self.preload, seats: &self.seats };
        let Some(replica) = self.replicas.iter_mut().find(|replica| replica.id == id) else { return Ok(()) };
        replica.start(&launch).map_err(LauncherError::system("start a replica"))?;
        for port in self.ports.iter() {
            publish_to(replica, port);
        }
        self.udp_ports.iter().for_each(|port| publish_udp_to(replica, port));
        Ok(())
    }

    /// Takes in all that a replica has said.
    fn hear(&mut self, index: usize) -> Result<(), LauncherError> {
        loop {
            let Some(channel) = &self.replicas[index].channel else { return Ok(()) };
            match channel.receive::<FromReplica>() {
                Ok(Received::Message(FromReplica::Status(status), _)) => self.note_status(index, *status)?,
                Ok(Received::Message(FromReplica::Failed(message), _)) => {
                    self.replicas[index].failure = Some(message);
                }
                Ok(Received::Message(FromReplica::Signalled(id), _)) => {
                    if self.server_signals.decided(id) {
                        self.server_signals.send(self.channel_to_leader());
                    }
                }
                Ok(Received::Message(FromReplica::Changed { id, answer }, _)) => {
                    self.changes.answered(id, &answer);
                }
                Ok(Received::Message(FromReplica::Removed(epoch), _)) => {
                    self.replicas[index].leave(epoch);
                }
                Ok(Received::Message(FromReplica::Peer(status), _)) => {
                    self.note_leader(status.id, status.role);
                    self.renew_members(&status.members)?;
                    self.others.note(*status);
                }
                Ok(Received::Empty) => return Ok(()),
                Ok(Received::Closed) | Err(_) => return self.note_death(index),
            }
        }
    }

    fn note_status(&mut self, index: usize, status: ReplicaStatus) -> Result<(), LauncherError> {
        let id = self.replicas[index].id;
        for followed in self.ports.follow(&status.listeners)? {
            match followed {
                Followed::Bound(port) => {
                    announce(port);
                    self.replicas.iter().for_each(|replica| publish_to(replica, port));
                }
                Followed::Private(address) => say(&format!(
                    "the server listens on {address}, which other machines cannot reach; to publish it write \
                     publish = [\"{0}:{0}\"] in cluster.toml",
                    address.port()
                )),
                Followed::NotHere(address) => {
                    say(&format!("the server listens on {address}, but this machine has no such address"));
                }
                Followed::Taken(address) => say(&format!(
                    "the server asked for any port and listens on {address}, which another program on this \
                     machine has: clients cannot connect there"
                )),
            }
        }
        for followed in self.udp_ports.follow(&status.listeners) {
            match followed {
                FollowedUdp::Bound(port) => {
                    announce_udp(port);
                    self.replicas.iter().for_each(|replica| publish_udp_to(replica, port));
                }
                FollowedUdp::Failed(address, error) => say(&format!(
                    "nobody can send to UDP {address}, to which the server is bound: {error}; choose another \
                     address with --publish [ADDRESS:]PORT:{}/udp",
                    address.port()
                )),
            }
        }
        // A replica that has its machine for itself passes the signal on to the leader.
        if status.role == Role::Leader || !self.is_alone() {
            self.server_signals.send(self.replicas[index].channel.as_ref());
        }
        self.note_leader(id, status.role);
        self.renew_members(&status.members)?;
        let before = self.replicas[index].note(status);
        tell_changes(id, before.as_ref(), self.replicas[index].status.as_ref());
        Ok(())
    }

    /// True if all replicas are on this machine.
    pub(super) fn is_alone(&self) -> bool {
        self.cluster.machines.is_empty()
    }

    fn note_leader(&mut self, id: u8, role: Role) {
        if role == Role::Leader && self.leader != id {
            self.leader = id;
            self.unstarted.tell();
            say(&format!("replica {id} leads"));
        } else if role != Role::Leader && self.leader == id && !self.is_alone() {
            self.leader = 0;
        }
    }

    pub(super) fn note_death(&mut self, index: usize) -> Result<(), LauncherError> {
        let replica = &mut self.replicas[index];
        replica.end();
        let id = replica.id;
        if self.leader == id {
            self.leader = 0;
        }
        let _ = crate::container::remove_tree(&SharedDirectory::path_of(&self.cluster.tag(), u32::from(id)));
        self.changes.refuse_of(id);
        if replica.leaves.is_some() {
            return Ok(());
        }
        if replica.held {
            say(&format!("replica {id} is stopped; `brolga start --replica {id}` brings it back"));
            return Ok(());
        }
        let how = replica.failure.clone().unwrap_or_else(|| replica.last_end.clone());
        // What stops a replica's very first start is not cured by another one. If it is the machine (no namespaces, no
        // overlay) it stops the other replicas, too, and with half of them the run; a damaged log is one replica's own.
        if replica.restarts == 0 && !replica.has_served() && replica.failure.is_some() {
            if self.too_many_given_up() {
                self.unstarted.forget(&how);
                return Err(LauncherError::Replica { id, message: how });
            }
            self.unstarted.note(id, how, self.leader != 0);
            return Ok(());
        }
        if is_of_disk(&how) {
            if replica.await_disk(Instant::now()) {
                say(&format!("replica {id} cannot run: {how}; it is tried again until its disk is well"));
            }
            return Ok(());
        }
        if replica.plan_restart(Instant::now()) {
            say(&format!("replica {id} died ({how}); restarting it"));
            return Ok(());
        }
        say(&format!(
            "replica {id} died ({how}) too often and is given up; `brolga start --replica {id}` tries again"
        ));
        if self.too_many_given_up() {
            let given_up = self.given_up();
            let (count, log) = (self.replicas.len() as u8, coordinator_log(self.state.path(), id));
            return Err(LauncherError::CrashLoop { given_up, count, last: how, log });
        }
        Ok(())
    }

    fn given_up(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.state() == ProcessState::GivenUp).count()
    }

    /// True if the replicas that are left are no majority.
    fn too_many_given_up(&self) -> bool {
        self.given_up() * 2 >= self.replicas.len()
    }

    fn restart_due(&mut self) -> Result<(), LauncherError> {
        let now = Instant::now();
        let due: Vec<u8> =
            self.replicas.iter().filter(|r| r.restart_at.is_some_and(|at| at <= now)).map(|r| r.id).collect();
        for id in due {
            // What one replica lacks (its disk fails) must not end the others.
            if let Err(error) = self.start(id)
                && let Some(index) = self.replicas.iter().position(|replica| replica.id == id)
            {
                self.replicas[index].failure = Some(error.to_string());
                self.note_death(index)?;
            }
        }
        Ok(())
    }

    /// Asks all replicas to end, and kills those that do not, or all at a second signal.
    fn stop_all(&mut self) {
        for replica in &self.replicas {
            if let Some(channel) = &replica.channel {
                let _ = channel.send(&ToReplica::Stop);
            }
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        self.ending.by = Some(deadline);
        while self.replicas.iter().any(|replica| replica.channel.is_some()) && Instant::now() < deadline {
            if self.wait().is_err() || self.asked_to_stop() {
                break;
            }
            for replica in &mut self.replicas {
                while let Some(channel) = &replica.channel {
                    match channel.receive::<FromReplica>() {
                        Ok(Received::Message(FromReplica::Status(status), _)) => drop(replica.note(*status)),
                        Ok(Received::Message(_, _)) => {}
                        Ok(Received::Empty) => break,
                        Ok(Received::Closed) | Err(_) => replica.channel = None,
                    }
                }
            }
        }
        self.replicas.iter_mut().for_each(ReplicaProcess::end);
        self.state.clear_leftovers(&self.cluster);
    }
}

/// Whether a replica ended because its disk fails. That is nothing of the server's or of Brolga's, and passes when somebody mends it.
fn is_of_disk(how: &str) -> bool {
    let errors = [Errno::EIO, Errno::EROFS].map(|errno| std::io::Error::from(errno).to_string());
    errors.iter().any(|error| how.contains(error))
}

pub(super) fn publish_to(replica: &ReplicaProcess, port: &Port) {
    let Some(channel) = &replica.channel else { return };
    let own = port.own.iter().map(|(id, address, _)| (*id, *address)).collect();
    let message = ToReplica::Publish { server_port: port.server_port, address: port.address, own };
    let mine = port.own.iter().find(|(id, ..)| *id == replica.id).and_then(|(.., socket)| socket.as_ref());
    let sockets: Vec<_> = port.shared.iter().chain(mine).map(AsFd::as_fd).collect();
    // A replica that is gone is noticed by the end of its channel.
    let _ = channel.send_with(&message, &sockets);
}

fn publish_udp_to(replica: &ReplicaProcess, port: &UdpPort) {
    let Some(channel) = &replica.channel else { return };
    let message = ToReplica::PublishUdp { server_port: port.server_port, address: port.address };
    // As above.
    let _ = channel.send_with(&message, &[port.socket.as_fd()]);
}
