//! Starting the server, and starting it again from nothing: its state comes back by the replay of the log.
//!
//! Another thread does it (see [`super::keeper`]). The replica goes on to vote and to accept meanwhile; what it has
//! decided and promised is not touched.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use nix::sys::epoll::EpollFlags;

use super::config::FromReplica;
use super::digests::{self, Digest, Mismatch};
use super::divergence_file;
use super::divergences::MAX_DIVERGENCES;
use super::driver::Rebuild;
use super::error::ReplicaError;
use super::frames::{Control, Frame};
use super::poll::Token;
use super::run::Replica;
use super::status::{DigestState, Divergence, ReplicaStatus};
use crate::container::Report;
use crate::paxos::Input;

impl Replica {
    /// Takes the server that was started in the meantime, if one was.
    pub(super) fn take_server(&mut self) -> Result<(), ReplicaError> {
        let Some(started) = self.keeper.started().transpose()? else { return Ok(()) };
        let Some(server) = started.server else {
            self.not_restored(started.failure);
            return Ok(());
        };
        self.poll
            .add(&server.report_fd(), Token::Container, EpollFlags::EPOLLIN)
            .map_err(ReplicaError::system("watch the container"))?;
        if let Some(kick) = server.kick() {
            self.poll
                .add(&kick, Token::Kick, EpollFlags::EPOLLIN | EpollFlags::EPOLLET)
                .map_err(ReplicaError::system("watch the restored server's eventfd"))?;
        }
        self.driver.server_started(&server.link);
        self.status.container_pid = server.init_pid();
        self.server = Some(*server);
        self.has_server();
        self.note_restore(started.restored.as_ref(), started.failure);
        self.status_at = 0;
        Ok(())
    }

    /// Gives the server away to be ended.
    fn end_server(&mut self, trace: Option<PathBuf>) {
        let Some(server) = self.server.take() else { return };
        server.halt();
        if let Some(kick) = server.kick() {
            self.poll.remove(&kick);
        }
        // Its end would be heard for as long as that takes.
        self.poll.remove(&server.report_fd());
        self.keeper.end(server, trace);
        self.checkpoint_lost_server();
        self.status.container_pid = 0;
        self.status.listeners.clear();
    }

    /// Ends the server and has it started from nothing.
    pub(super) fn rebuild_server(&mut self, reason: &Rebuild) {
        tracing::warn!("rebuilds its server from the log: {reason}");
        self.end_server(None);
        self.clients.close_all();
        self.datagrams.forget_server(&self.poll);
        self.driver.server_ended();
        self.signals.forget();
        self.report = digests::Report::default();
        self.book.forget_own();
        self.status.server_exit = None;
        self.death = None;
        self.status.rebuilds += 1;
        self.status_at = 0;
        if let Some(leader) = self.driver.other_leader() {
            self.peers.send_control(leader, &Control::Restarted);
        }
        self.watch_ports();
        self.start_server();
    }

    /// The container has news: the server ended.
    pub(super) fn hear_container(&mut self) {
        let Some(server) = &mut self.server else { return };
        match server.container().report() {
            Ok(Some(Report::ServerExited(status))) => {
                // The channel stays readable after its end.
                self.poll.remove(&server.report_fd());
                self.server_exited(status);
            }
            Ok(Some(Report::HelperEnded(ended))) => self.dump_ended(ended),
            Ok(Some(Report::ProcessDied { pid, status })) => self.process_died(pid, status),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("the container cannot be heard: {error}");
                self.poll.remove(&server.report_fd());
            }
        }
    }

    /// The server is somewhere else than the leader's: it must not go on.
    pub(super) fn diverged(&mut self, entry: u64, tick: u64, reason: &str) {
        tracing::error!("DIVERGED at entry {entry}, logical time {tick}: {reason}");
        self.status.digests = DigestState::Diverged { entry, tick, reason: reason.to_owned() };
        let count = self.status.last_divergence.as_ref().map_or(0, |last| last.count) + 1;
        let last = Divergence { entry, tick, reason: reason.to_owned(), count };
        divergence_file::save(&self.log_directory, &last);
        self.status.last_divergence = Some(last);
        self.status_at = 0;
        self.digest_file.flush();
        self.keep_trace(entry);
        if self.driver.diverged(entry) {
            tracing::error!(
                "diverged {MAX_DIVERGENCES} times without getting further: the server stays fenced"
            );
        }
    }

    /// Ends the server that diverged and keeps its last operations beside the log, for a comparison with another's.
    fn keep_trace(&mut self, entry: u64) {
        let path = self.log_directory.with_file_name(format!("divergence-at-entry-{entry}.trace"));
        self.end_server(Some(path));
    }

    /// The own server's digest at the end of a bubble.
    pub(super) fn own_digest(&mut self, digest: Digest) {
        self.digest_file.note(digest);
        let wrong = self.book.own(digest);
        if self.driver.leads() {
            self.tell_diverged(&wrong);
        } else {
            let now_ms = self.now() / 1_000_000;
            self.report.add(digest, now_ms);
        }
    }

    fn tell_diverged(&mut self, wrong: &[Mismatch]) {
        for &Mismatch { replica, expected, actual } in wrong {
            tracing::error!(
                "replica {replica} DIVERGED at entry {}: digest {:016x} at logical time {}, expected {:016x} at {}",
                expected.entry,
                actual.value,
                actual.tick,
                expected.value,
                expected.tick
            );
            self.book.forget(replica);
            self.peers.send_control(replica, &Control::Diverged { expected, actual });
        }
    }

    /// Sends the follower's digests if it is time.
    pub(super) fn report_digests(&mut self, now: u64) {
        let Some(leader) = self.driver.other_leader() else {
            if self.driver.leads() {
                self.report.clear()
            } else {
                self.report.keep_last()
            }
            return;
        };
        if let Some(digests) = self.report.take_due(now / 1_000_000, self.driver.consensus.paxos().commit()) {
            self.peers.send_control(leader, &Control::Digests(digests));
        }
    }

    /// A frame of a peer.
    pub(super) fn peer_frame(&mut self, now: u64, from: u8, frame: Frame) {
        match frame {
            Frame::Paxos(message) => self.driver.consensus.input(now, Input::Message { from, message }),
            Frame::Control(Control::Digests(digests)) => {
                if self.driver.leads() {
                    let wrong = self.book.theirs(from, &digests);
                    self.tell_diverged(wrong.as_slice());
                    if let Some(until) = self.book.agreed_until(from) {
                        self.peers.send_control(from, &Control::Agreed(until));
                    }
                }
            }
            Frame::Control(Control::Agreed(until)) => {
                if self.driver.leader() == Some(from) && !self.driver.is_fenced() {
                    self.status.digests = DigestState::Agrees { until };
                    self.driver.agreed(until);
                    // The leader may speak of the server of before.
                    if self.checkpointing.agreed(until.min(self.report.until())) {
                        self.status_at = 0;
                    }
                }
            }
            Frame::Control(Control::Diverged { expected, actual }) => {
                // The leader may speak of the server of before, if it had more of its digests to compare.
                let of_this_server = self.report.covers(expected.entry);
                if self.driver.leader() == Some(from) && of_this_server && !self.driver.is_fenced() {
                    let reason = format!(
                        "digest {:016x} at logical time {}, the leader has {:016x} at {}",
                        actual.value, actual.tick, expected.value, expected.tick
                    );
                    self.diverged(expected.entry, actual.tick, &reason);
                }
            }
            Frame::Control(Control::Status(status)) => {
                // Who speaks is what the certificate says.
                let _ =
                    self.supervisor.send(&FromReplica::Peer(Box::new(ReplicaStatus { id: from, ..*status })));
            }
            // Passed on once: if the leader has changed, the supervisor sends it again.
            Frame::Control(Control::Signal { id, signal }) if self.driver.serves() => {
                self.signal_server(id, signal)
            }
            Frame::Control(Control::Replace { id, file }) if self.driver.serves() => {
                self.replace_file(id, file);
            }
            Frame::Control(Control::Signal { .. } | Control::Replace { .. }) | Frame::Hello(_) => {}
            Frame::Control(Control::Probe) => {}
            Frame::Control(Control::Change { id, change }) => {
                let answer = self.change_members(&change);
                self.peers.send_control(from, &Control::Changed { id, answer });
            }
            Frame::Control(Control::Changed { id, answer }) => {
                let _ = self.supervisor.send(&FromReplica::Changed { id, answer });
            }
            Frame::Control(Control::Removed(epoch)) => self.stewardship.told_removed(epoch),
            Frame::Control(Control::Restarted) => self.book.forget(from),
            Frame::Control(Control::Holds(holds)) => self.transfer.holdings.hear(now, from, holds),
            Frame::Control(Control::Fetch(want)) => self.lend_piece(now, from, want),
            Frame::Control(Control::NoPiece { want, why }) => self.no_piece(from, want, &why),
            Frame::Piece(piece) => self.take_piece(from, piece),
        }
    }

    /// Counts that only the arena knows.
    pub(super) fn read_arena_status(&mut self) {
        let Some(server) = &self.server else { return };
        let control = server.link.control();
        self.status.applied = control.applied.load(Ordering::Relaxed);
        self.status.tick = control.tick.load(Ordering::Relaxed);
        self.status.digest = control.digest.load(Ordering::Relaxed);
        self.status.preemptions = control.preemptions.load(Ordering::Relaxed);
    }
}
