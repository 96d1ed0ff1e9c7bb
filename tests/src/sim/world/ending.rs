//! When a schedule is over, and whether it ended well.

use std::collections::BTreeSet;

use super::{Event, HEALED_NS, Report, Slot, World};
use crate::sim::check::{Violation, rule};
use crate::sim::client::{Client, State};
use crate::sim::server::Server;

impl World {
    /// Liveness: all clients were served after the faults, and all servers have caught up.
    pub(super) fn is_done(&mut self) -> bool {
        let quiet = |client: &Client| client.stops && client.state == State::Idle;
        if !self.clients.iter().all(quiet) {
            return false;
        }
        if let Some(waiting) = self.clients.iter().position(|client| client.healed == 0) {
            self.clients[waiting].stops = false;
            self.think(waiting);
            self.at(self.now + HEALED_NS, Event::Quiet);
            return false;
        }
        let decided = self.checker.decided.len() as u64;
        let caught_up = |slot: &Slot| {
            slot.replica.as_ref().is_some_and(|replica| {
                let idle = replica.server.as_ref().is_some_and(|server| !server.is_busy());
                replica.progress() == (decided, decided) && (idle || !replica.is_leader())
            })
        };
        // All members have a vote, and nothing that was asked for is left to do.
        let members = &self.checker.quorums.members().list;
        members.iter().all(|member| {
            let slot = self.slots.get(usize::from(member.id) - 1);
            member.voter && member.replaces == 0 && slot.is_some_and(caught_up)
        })
    }

    pub(super) fn describe(&self) -> String {
        let state = |slot: &Slot| match &slot.replica {
            Some(replica) => format!("{:?} leads={}", replica.progress(), replica.is_leader()),
            None => "down".to_owned(),
        };
        let replicas: Vec<String> = self.slots.iter().map(state).collect();
        for slot in &self.slots {
            if let Some(replica) = &slot.replica {
                self.say(&replica.describe());
            }
        }
        let clients: Vec<_> = self.clients.iter().map(|c| (c.state, c.healed)).collect();
        format!(
            "decided {}, {:?}, replicas (commit, applied) {replicas:?}, clients {clients:?}",
            self.checker.decided.len(),
            self.checker.quorums.members()
        )
    }

    /// The members' servers. One of a replica that was removed and has not heard of it may have run what was never decided.
    fn servers(&self) -> impl Iterator<Item = &Server> {
        let ids = self.checker.quorums.members().list.iter().map(|member| usize::from(member.id));
        ids.filter_map(|id| self.slots.get(id - 1)?.replica.as_ref()?.server.as_ref())
    }

    /// Each datagram was taken once at the most, in one order, and none was answered that was not taken.
    fn check_datagrams(&self) -> Result<(), Violation> {
        let mut taken: Vec<&Vec<u64>> = self.servers().map(|server| &server.toy.datagrams).collect();
        taken.sort_unstable_by_key(|list| list.len());
        let longest = taken.last().copied().cloned().unwrap_or_default();
        if taken.iter().any(|list| !longest.starts_with(list)) {
            return Err(Violation {
                rule: rule::DIGESTS,
                detail: "the servers took other datagrams".to_owned(),
            });
        }
        let once: BTreeSet<u64> = longest.iter().copied().collect();
        if once.len() < longest.len() || !self.answered.is_subset(&once) {
            let detail = format!("datagrams taken {longest:?}, answered {:?}", self.answered);
            return Err(Violation { rule: rule::I5_EXACTLY_ONCE, detail });
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Report, Violation> {
        let mut lists: Vec<&Vec<u64>> = self.servers().map(|server| &server.toy.list).collect();
        // Followers run the last bubble only when they know the next entry.
        lists.sort_unstable_by_key(|list| list.len());
        let longest = lists.last().copied().cloned().unwrap_or_default();
        if lists.iter().any(|list| !longest.starts_with(list)) {
            return Err(Violation { rule: rule::DIGESTS, detail: "the servers' lists differ".to_owned() });
        }
        self.history.check(&longest)?;
        self.check_datagrams()?;
        self.say("done");
        Ok(Report {
            time: self.now,
            entries: self.checker.decided.len() as u64,
            requests: self.history.operations.len() as u64,
            answered: self.history.answered() as u64,
            calls: self.calls.len() as u64,
            datagrams: self.answered.len() as u64,
            outputs: self.checker.outputs,
            digests: self.checker.compared,
            preemptions: self.checker.preemptions,
            closings: self.checker.closings,
            checkpoints: self.images.taken,
            cuts: self.images.cuts,
            transfers: self.images.transfers,
            copies: self.images.copies,
            restores: self.images.restores,
            epochs: self.checker.quorums.members().epoch,
            ..self.report
        })
    }
}
