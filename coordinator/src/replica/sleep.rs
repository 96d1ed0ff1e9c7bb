//! How the replica's loop waits: until when, and whether it looks for news a while before it sleeps.

use std::io;
use std::sync::atomic::Ordering;

use dmt::link::Link;
use nix::sys::epoll::EpollFlags;

use super::poll::{Ready, Token};
use super::polling::Awaited;
use super::run::{Replica, STATUS_NS};

/// How soon to look again whether the server has room for inputs, nanoseconds.
const ROOM_RETRY_NS: u64 = 5_000_000;
/// How long the loop sleeps at the most while its server runs, nanoseconds.
const RUNNING_LOOK_NS: u64 = 1_000_000;

impl Replica {
    /// Returns when something happened or is due.
    pub(super) fn await_news(&mut self, ready: &mut Vec<Ready>) -> io::Result<()> {
        let begun = self.now();
        let awaited = self.awaited();
        let sleep = self.longest_sleep(begun);
        let moment = self.polling.begin(begun, awaited);
        if !self.look_for_news(begun, moment.min(sleep), ready)? {
            if moment < sleep {
                self.polling.in_vain();
            }
            let rest = if self.may_sleep() { sleep.saturating_sub(moment) } else { 0 };
            self.poll.wait(rest, ready)?;
            if !ready.is_empty() {
                self.polling.woken(self.now());
            }
        }
        if let Some(server) = &self.server {
            server.link.woke();
        }
        Ok(())
    }

    /// True if there was news within `moment` nanoseconds from `begun` on. The server does not have to wake anybody then, which on a
    /// virtual machine takes it longer than all else that a reply makes it do.
    fn look_for_news(&self, begun: u64, moment: u64, ready: &mut Vec<Ready>) -> io::Result<bool> {
        let link = self.server.as_ref().map(|server| &server.link);
        if moment == 0 {
            return Ok(false);
        }
        if link.is_some_and(|link| !link.prepare_look()) {
            self.poll.wait(0, ready)?;
            return Ok(true);
        }
        let mut now = begun;
        while now < begun + moment {
            self.poll.wait(0, ready)?;
            if link.is_some_and(Link::was_kicked) {
                ready.push(Ready { token: Token::Kick, flags: EpollFlags::EPOLLIN });
            }
            if !ready.is_empty() {
                return Ok(true);
            }
            std::thread::yield_now();
            now = self.now();
        }
        Ok(false)
    }

    /// Notes whether the turn for what was `ready` was for clients.
    pub(super) fn note_traffic(&mut self, ready: &[Ready]) {
        let (now, serves) = (self.now(), self.driver.serves());
        let of_clients =
            |event: &&Ready| matches!(event.token, Token::Client(_) | Token::Relay(_) | Token::Datagram(_));
        let requests = ready.iter().filter(of_clients).count();
        self.polling.note_clients(now, requests);
        self.batch.set(self.polling.in_throng(now));
        if let Some(server) = &self.server {
            let (throng, control) = (self.polling.in_large_throng(now), server.link.control());
            if let Some(near) = self.nearness.set(now, throng, control.cpu_time.load(Ordering::Relaxed)) {
                control.near.store(near, Ordering::Relaxed);
            }
        }
        let kicked = serves && ready.iter().any(|event| matches!(event.token, Token::Kick));
        let len = self.driver.consensus.paxos().len();
        let entries = len != std::mem::replace(&mut self.entries_before, len);
        if requests > 0 || kicked || entries {
            self.polling.note_traffic(now);
        }
    }

    fn awaited(&self) -> Option<Awaited> {
        let paxos = self.driver.consensus.paxos();
        let server_runs = || self.server.as_ref().is_some_and(|server| server.link.control().server_runs());
        Some(match self.driver.serves() {
            true if paxos.commit() < paxos.len() => Awaited::Answer,
            true if server_runs() => Awaited::Output,
            _ => Awaited::Request,
        })
    }

    /// When there is something to do even if nothing happens.
    fn next_due(&mut self, now: u64) -> u64 {
        let consensus = &self.driver.consensus;
        let mut deadline = consensus.deadline().min(self.peers.deadline()).min(self.status_at);
        deadline = deadline.min(self.ports.deadline()).min(self.death_deadline());
        if let Some(due) = self.report.due_ms(consensus.paxos().commit()) {
            deadline = deadline.min(due * 1_000_000);
        }
        if self.clients.waits_for_room() || self.datagrams.waits_for_room() {
            deadline = deadline.min(now + ROOM_RETRY_NS);
        }
        deadline = deadline.min(self.checkpointing.deadline(now)).min(self.transfer.deadline(now));
        deadline = deadline.min(self.driver.wake_deadline().unwrap_or(u64::MAX));
        let link = self.server.as_ref().map(|server| &server.link);
        deadline.min(self.driver.crane_deadline(now, link).unwrap_or(u64::MAX))
    }

    /// How long the loop sleeps at the most.
    fn longest_sleep(&mut self, now: u64) -> u64 {
        let sleep = self.next_due(now).saturating_sub(now).min(STATUS_NS);
        // A running server wakes us at its bubble's end; a long computation behind a reply must not hold the reply back.
        let runs = self.server.as_ref().is_some_and(|server| server.link.control().server_runs());
        if runs { sleep.min(RUNNING_LOOK_NS) } else { sleep }
    }

    /// Tells the server that the loop sleeps; false if it has said something already.
    fn may_sleep(&self) -> bool {
        self.server.as_ref().is_none_or(|server| server.link.prepare_sleep())
    }
}
