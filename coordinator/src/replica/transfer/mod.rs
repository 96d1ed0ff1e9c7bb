//! Cutting the log, and checkpoints that come from other replicas and go to them.
//!
//! A replica fetches one if its log ends before its leader's begins, or if its own log begins late and no checkpoint of its own can be
//! used. It asks for one piece after the other, a few at a time and no faster than [`BYTES_PER_SECOND`], so that who gives is not
//! kept from its clients. What has come stays on the disk over broken connections and the death of the process. A leader may also copy
//! one that it does not need itself, so that the log can be cut ([`super::holdings`]). `fetching.rs` has the way of one of them.

mod fetching;

use std::collections::BTreeSet;
use std::sync::Arc;

use nix::sys::eventfd::EventFd;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Lender, PIECE_BYTES, Want};
use crate::replica::error::ReplicaError;
use crate::replica::frames::Control;
use crate::replica::holdings::{Held, Holdings, Holds};
use crate::replica::retries::Retries;
use crate::replica::run::Replica;

/// Bytes a second that a replica fetches at the most.
pub const BYTES_PER_SECOND: u64 = 32 << 20;
/// A checkpoint of which no piece was asked for during this is not lent any more, nanoseconds.
const LENT_NS: u64 = 60_000_000_000;
/// How often replicas tell each other what they hold, and the log is cut, nanoseconds.
const TELL_NS: u64 = 1_000_000_000;

/// A checkpoint on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferStatus {
    /// The replica that gives it; 0 while nobody does.
    pub from: u8,
    /// Entry at which it is.
    pub entry: u64,
    /// Bytes that are here, those of an earlier process included.
    pub received: u64,
    /// Bytes in all; 0 while that is not known.
    pub total: u64,
    /// Bytes a second since it was begun by this process.
    pub rate: u64,
    /// Seconds that it still needs at this rate.
    pub remaining: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Transfer {
    pub holdings: Holdings,
    kick: Arc<EventFd>,
    lender: Option<Lender>,
    lent_at: u64,
    tell_at: u64,
    /// A checkpoint at this entry or later is needed.
    least: Option<u64>,
    /// A leader is to copy one at this entry or later.
    copy: Option<u64>,
    /// No server can be started without one.
    stateless: bool,
    /// Those that could not be restored.
    tried: BTreeSet<Held>,
    retries: Retries,
    fetch: Option<fetching::Fetch>,
    complained_at: u64,
    /// When to look again for a checkpoint.
    choose_at: u64,
}

impl Transfer {
    /// Nothing is wanted yet. `kick` wakes the loop.
    pub fn new(kick: Arc<EventFd>) -> Self {
        Self {
            holdings: Holdings::default(),
            kick,
            lender: None,
            lent_at: 0,
            tell_at: 0,
            least: None,
            copy: None,
            stateless: false,
            tried: BTreeSet::new(),
            retries: Retries::default(),
            fetch: None,
            complained_at: 0,
            choose_at: 0,
        }
    }

    /// When the loop must look again, if nothing happens.
    pub fn deadline(&self, now: u64) -> u64 {
        let waits = self.fetch.as_ref().is_some_and(|fetch| fetch.total > 0 || fetch.listing);
        if waits { now + PIECE_BYTES * 1_000_000_000 / BYTES_PER_SECOND } else { self.tell_at }
    }

    /// The entry at which or behind which a checkpoint is wanted.
    fn wanted(&self) -> Option<u64> {
        self.least.or(self.copy)
    }
}

impl Replica {
    /// Starts a server from a checkpoint or, if the log is whole, from nothing. Else a checkpoint is fetched first.
    pub(super) fn start_server(&mut self) {
        let checkpoints = self.checkpoints_at_start();
        let whole = self.driver.consensus.paxos().first() == 0;
        if whole || !checkpoints.is_empty() {
            self.transfer.stateless = false;
            self.keeper.start(checkpoints, whole);
        } else {
            self.want_state();
        }
    }

    /// None of its checkpoints could be restored, and the log does not reach back to the beginning.
    pub(super) fn not_restored(&mut self, failure: Option<String>) {
        let kept = self.status.checkpoints.kept.iter();
        self.transfer.tried.extend(kept.map(|kept| Held { entry: kept.entry, id: kept.id }));
        self.want_state();
        self.restore_failed(&failure.unwrap_or_else(|| "the log needs one, and there is none".to_owned()));
    }

    /// It has a server again.
    pub(super) fn has_server(&mut self) {
        self.transfer.retries.succeeded();
    }

    /// Nothing is tried during the pause that follows.
    fn restore_failed(&mut self, why: &str) {
        let now = self.now();
        let pause = self.transfer.retries.failed(now);
        let failures = self.transfer.retries.failures();
        let told = format!("{why} (failure {failures} in a row, the next try follows in {pause} s)");
        tracing::error!("no server can be brought back: {told}");
        self.status.checkpoints.restore_error = Some(told);
        self.status_at = 0;
    }

    fn want_state(&mut self) {
        let first = self.driver.consensus.paxos().first();
        tracing::error!(
            "the log begins at entry {first} and no checkpoint of this replica can be used: it needs one of another replica"
        );
        self.transfer.stateless = true;
        self.transfer.least = Some(first + 1);
        self.status_at = 0;
    }

    /// What it tells the others.
    fn holds(&self) -> Holds {
        let kept = self.status.checkpoints.kept.iter();
        Holds {
            first: self.driver.consensus.paxos().first(),
            kept: kept.map(|kept| Held { entry: kept.entry, id: kept.id }).collect(),
            needs: self.transfer.fetch.as_ref().map(|fetch| fetch.held.entry),
        }
    }

    /// Tells the others what it holds, cuts the log, fetches and lends checkpoints. Once per turn of the loop.
    pub(super) fn go_on_with_transfers(&mut self, now: u64) -> Result<(), ReplicaError> {
        self.lend(now);
        if let Some(first) = self.behind.take() {
            self.transfer.least = self.transfer.least.max(Some(first));
        }
        let commit = self.driver.consensus.paxos().commit();
        if !self.transfer.stateless && self.transfer.least.is_some_and(|least| least <= commit) {
            self.transfer.least = None;
        }
        if self.transfer.wanted().is_some() || self.transfer.fetch.is_some() {
            self.fetch(now)?;
        }
        if now >= self.transfer.tell_at {
            self.transfer.tell_at = now + TELL_NS;
            self.cut_log(now)?;
            let holds = self.holds();
            self.transfer.copy = self.to_copy(&holds);
            for peer in self.peers.connected() {
                self.peers.send_control(peer, &Control::Holds(holds.clone()));
            }
            // A leader without a server would keep clients waiting for as long as the transfer lasts.
            if self.transfer.stateless && self.driver.leads() {
                self.driver.consensus.resign(now);
            }
        }
        Ok(())
    }

    /// A leader copies a checkpoint if that lets the log be cut.
    fn to_copy(&self, own: &Holds) -> Option<u64> {
        let members = self.driver.consensus.paxos().members();
        let votes = |id: u8| members.voters().any(|voter| voter == id);
        let copies = self.driver.leads() && self.server.is_some();
        let (quorum, log) = (members.quorum(), self.status.log_bytes);
        copies.then(|| self.transfer.holdings.to_copy(own, quorum, log, votes)).flatten()
    }

    fn cut_log(&mut self, now: u64) -> Result<(), ReplicaError> {
        // A server that is being started needs the log from a place that is not known here.
        if self.server.is_none() {
            return Ok(());
        }
        let consensus = &self.driver.consensus;
        let members = consensus.paxos().members();
        let votes = |id: u8| members.voters().any(|voter| voter == id);
        let at = self.transfer.holdings.cut_at(now, &self.holds(), members.quorum(), votes);
        let at = at.min(self.driver.given().saturating_sub(1));
        let (before, bytes) = (consensus.paxos().first(), self.status.log_bytes);
        if at > before && self.driver.consensus.cut(at)? {
            tracing::info!(
                "cut its log of {} MB off before entry {at}: a majority holds checkpoints behind it",
                bytes >> 20
            );
            self.status_at = 0;
        }
        Ok(())
    }

    /// Answers who fetches a checkpoint of this replica.
    fn lend(&mut self, now: u64) {
        let Some(lender) = &self.transfer.lender else { return };
        while let Some((to, want, answer)) = lender.answered() {
            match answer {
                Ok(piece) => self.peers.send_piece(to, &piece),
                Err(why) => self.peers.send_control(to, &Control::NoPiece { want, why }),
            }
        }
        if now >= self.transfer.lent_at.saturating_add(LENT_NS) {
            self.checkpointing.store().lend(0);
        }
    }

    /// A peer asks for a piece.
    pub(super) fn lend_piece(&mut self, now: u64, to: u8, want: Want) {
        let store = self.checkpointing.store().clone();
        store.lend(want.entry);
        self.transfer.lent_at = now;
        if self.transfer.lender.is_none() {
            let started = Lender::start(store, self.transfer.kick.clone());
            self.transfer.lender =
                started.inspect_err(|error| tracing::warn!("cannot lend a checkpoint: {error}")).ok();
        }
        if let Some(lender) = &self.transfer.lender {
            lender.ask(to, want);
        }
    }
}
