//! Cutting the log, and checkpoints that come from other replicas and go to them.
//!
//! A replica fetches one if its log ends before its leader's begins, or if its own log begins late and no checkpoint of its own can be
//! used. It asks for one piece after the other, a few at a time and no faster than [`BYTES_PER_SECOND`], so that who gives is not
//! kept from its clients. What has come stays on the disk over broken connections and the death of the process. A leader may also copy
//! one that it does not need itself, so that the log can be cut ([`super::holdings`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use nix::sys::eventfd::EventFd;
use serde::{Deserialize, Serialize};

use super::checkpointing::Kept;
use super::driver::Rebuild;
use super::error::ReplicaError;
use super::frames::Control;
use super::holdings::{Held, Holdings, Holds};
use super::retries::Retries;
use super::run::Replica;
use crate::checkpoint::{Expected, Fetcher, KEEP, Lender, PIECE_BYTES, Piece, Stored, Told, Want};

/// Bytes a second that a replica fetches at the most.
pub const BYTES_PER_SECOND: u64 = 32 << 20;
/// Pieces that are asked for and have not come.
const WINDOW: u64 = 4;
/// Without a piece for so long it asks again, perhaps another replica, nanoseconds.
const STALLED_NS: u64 = 3_000_000_000;
/// A checkpoint of which no piece was asked for during this is not lent any more, nanoseconds.
const LENT_NS: u64 = 60_000_000_000;
/// How often replicas tell each other what they hold, and the log is cut, nanoseconds.
const TELL_NS: u64 = 1_000_000_000;
/// How often it is looked whether somebody holds a checkpoint that is wanted, nanoseconds.
const CHOOSE_NS: u64 = 200_000_000;
/// How often the progress is told in the log, nanoseconds.
const PROGRESS_NS: u64 = 5_000_000_000;

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

/// The checkpoint that is being fetched.
#[derive(Debug)]
struct Fetch {
    from: u8,
    held: Held,
    fetcher: Fetcher,
    listing: bool,
    /// What is here, and what was asked for.
    written: u64,
    asked: u64,
    total: u64,
    /// When it was begun, and with how many bytes.
    begun: (u64, u64),
    /// When a piece was written last, and when the progress was told last.
    moved_at: u64,
    told_at: u64,
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
    fetch: Option<Fetch>,
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
}

impl Transfer {
    /// The entry at which or behind which a checkpoint is wanted.
    fn wanted(&self) -> Option<u64> {
        self.least.or(self.copy)
    }
}

impl Fetch {
    /// The next piece to ask for, if it is time.
    fn next(&mut self, now: u64) -> Option<Want> {
        let since = now.saturating_sub(self.begun.0);
        let allowed = (u128::from(since) * u128::from(BYTES_PER_SECOND) / 1_000_000_000) as u64;
        let window = WINDOW * PIECE_BYTES;
        let early = self.asked.saturating_sub(self.begun.1) >= allowed + window;
        let full = self.asked >= self.written + window;
        // Of a listing the next piece is known only when the one before is here.
        let known = if self.listing { self.asked == self.written } else { self.asked < self.total };
        if early || full || !known {
            return None;
        }
        let Held { entry, id } = self.held;
        let want = Want { entry, id, listing: self.listing, offset: self.asked, len: PIECE_BYTES as u32 };
        self.asked += PIECE_BYTES;
        Some(want)
    }

    fn status(&self, now: u64) -> TransferStatus {
        let took = now.saturating_sub(self.begun.0).max(1);
        let came = u128::from(self.written.saturating_sub(self.begun.1));
        let rate = (came * 1_000_000_000 / u128::from(took)) as u64;
        let remaining = self.total.saturating_sub(self.written) / rate.max(1);
        let received = if self.listing { 0 } else { self.written };
        TransferStatus {
            from: self.from,
            entry: self.held.entry,
            received,
            total: self.total,
            rate,
            remaining,
        }
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

    /// A piece has come.
    pub(super) fn take_piece(&mut self, from: u8, piece: Piece) {
        let Some(fetch) = self.transfer.fetch.as_ref().filter(|fetch| fetch.from == from) else { return };
        if (fetch.held.entry, fetch.held.id) == (piece.want.entry, piece.want.id) {
            fetch.fetcher.take(piece);
        }
    }

    /// A peer has not what it was asked for.
    pub(super) fn no_piece(&mut self, from: u8, want: Want, why: &str) {
        let mine = |fetch: &&Fetch| fetch.from == from && fetch.held.entry == want.entry;
        if self.transfer.fetch.as_ref().filter(mine).is_some() {
            tracing::warn!("replica {from} cannot give its checkpoint at entry {}: {why}", want.entry);
            self.transfer.fetch = None;
        }
    }

    /// Chooses whom to fetch from: goes on with what was begun, spares the leader, takes the newest.
    fn choose(&self, least: u64) -> Option<(u8, Held)> {
        let begun = self.checkpointing.store().begun();
        let leader = self.driver.leader();
        let offers = self
            .transfer
            .holdings
            .of_peers()
            .flat_map(|(peer, holds)| holds.kept.iter().map(move |held| (peer, *held)));
        let usable = |(_, held): &(u8, Held)| held.entry >= least && !self.transfer.tried.contains(held);
        offers.filter(usable).max_by_key(|(peer, held)| {
            (begun == Some((held.entry, held.id)), leader != Some(*peer), held.entry)
        })
    }

    fn fetch(&mut self, now: u64) -> Result<(), ReplicaError> {
        if self.keeper.is_starting() {
            // It would come too late to be told that it is not wanted.
            return Ok(());
        }
        if self.transfer.fetch.is_none() {
            self.begin_fetch(now)?;
        }
        while let Some(told) = self.transfer.fetch.as_ref().and_then(|fetch| fetch.fetcher.told()) {
            match told {
                Told::At { listing, offset, total } => self.fetched(now, listing, offset, total),
                Told::Done(stored) => {
                    self.transfer.fetch = None;
                    self.fetched_whole(now, *stored);
                }
                Told::Failed(error) => {
                    self.transfer.tried.extend(self.transfer.fetch.take().map(|fetch| fetch.held));
                    if self.transfer.stateless {
                        self.restore_failed(&error.to_string());
                    }
                    tracing::warn!("a checkpoint of another replica cannot be used: {error}");
                }
            }
        }
        let Some(fetch) = &mut self.transfer.fetch else { return Ok(()) };
        if !self.peers.is_up(fetch.from) || now >= fetch.moved_at.saturating_add(STALLED_NS) {
            let whole = fetch.total > 0 && fetch.written >= fetch.total;
            if !whole {
                // What is there stays; whoever is chosen next goes on with it.
                self.transfer.fetch = None;
                return Ok(());
            }
        }
        while let Some(want) = fetch.next(now) {
            self.peers.send_control(fetch.from, &Control::Fetch(want));
        }
        self.status.transfer = Some(fetch.status(now));
        Ok(())
    }

    fn begin_fetch(&mut self, now: u64) -> Result<(), ReplicaError> {
        let may = now >= self.transfer.choose_at && self.transfer.retries.may(now);
        let Some(least) = self.transfer.wanted().filter(|_| may) else {
            return Ok(());
        };
        self.transfer.choose_at = now + CHOOSE_NS;
        self.status.transfer = None;
        let needed = self.transfer.least.is_some();
        if needed && self.begin_from_own(now, least) {
            return Ok(());
        }
        let Some((from, held)) = self.choose(least) else {
            return if needed { self.complain(now, least) } else { Ok(()) };
        };
        tracing::info!("fetches the checkpoint at entry {} from replica {from}", held.entry);
        let expected =
            Expected { fingerprint: self.cluster_fingerprint, preload: self.keeper.preload().to_owned() };
        let store = self.checkpointing.store().clone();
        let fetcher = Fetcher::start(store, (held.entry, held.id), expected, self.transfer.kick.clone())
            .map_err(ReplicaError::system("start the thread that fetches checkpoints"))?;
        self.transfer.fetch = Some(Fetch {
            from,
            held,
            fetcher,
            listing: false,
            written: 0,
            asked: 0,
            total: 0,
            begun: (now, 0),
            moved_at: now,
            told_at: now,
        });
        // So that nobody cuts off what it needs then.
        self.transfer.tell_at = now;
        Ok(())
    }

    /// A checkpoint of its own may be newer than its log, if that was lost.
    fn begin_from_own(&mut self, now: u64, least: u64) -> bool {
        let tried = &self.transfer.tried;
        let new = |stored: &Stored| {
            let held = Held { entry: stored.manifest.place.next, id: stored.id };
            held.entry >= least && !tried.contains(&held)
        };
        let Some(own) = self.checkpointing.store().list().into_iter().find(new) else { return false };
        tracing::info!("its own checkpoint at entry {} is newer than its log", own.manifest.place.next);
        self.transfer.tried.insert(Held { entry: own.manifest.place.next, id: own.id });
        self.install(now, own);
        true
    }

    fn complain(&mut self, now: u64, least: u64) -> Result<(), ReplicaError> {
        if self.transfer.stateless && self.driver.consensus.paxos().is_alone() {
            let directory = self.log_directory.display().to_string();
            return Err(ReplicaError::NoState { directory, first: least.saturating_sub(1) });
        }
        if now >= self.transfer.complained_at {
            self.transfer.complained_at = now + PROGRESS_NS;
            // What did not work may work now. All that there is was tried, so the pause is longer each time.
            if self.transfer.retries.failures() > 0 {
                self.transfer.tried.clear();
            }
            tracing::warn!("no connected replica holds a checkpoint at entry {least} or later; trying on");
        }
        Ok(())
    }

    /// The thread has written, and says from where on it needs more.
    fn fetched(&mut self, now: u64, listing: bool, offset: u64, total: Option<u64>) {
        let Some(fetch) = &mut self.transfer.fetch else { return };
        if fetch.listing != listing || fetch.total == 0 && total.is_some() {
            (fetch.asked, fetch.begun) = (offset, (now, offset));
        }
        if !listing && offset > 0 && fetch.total == 0 {
            tracing::info!("{} MB of it are here already: goes on behind them", offset >> 20);
        }
        (fetch.listing, fetch.written, fetch.total) = (listing, offset, total.unwrap_or(0));
        // A piece that was asked for behind a lost one does not come.
        fetch.asked = fetch.asked.max(offset);
        fetch.moved_at = now;
        if now >= fetch.told_at + PROGRESS_NS && fetch.total > 0 {
            fetch.told_at = now;
            let status = fetch.status(now);
            tracing::info!(
                "{} % of the checkpoint at entry {} from replica {}: {} MB/s, {} s remain",
                status.received * 100 / status.total.max(1),
                status.entry,
                status.from,
                status.rate >> 20,
                status.remaining
            );
        }
    }

    /// A checkpoint is here, whole. Which one is needed may have changed on the way.
    fn fetched_whole(&mut self, now: u64, stored: Stored) {
        if self.transfer.least.is_some_and(|least| stored.manifest.place.next >= least) {
            return self.install(now, stored);
        }
        let entry = stored.manifest.place.next;
        tracing::info!("has a copy of the checkpoint at entry {entry}");
        self.note_kept(&stored);
        (self.transfer.copy, self.status.transfer) = (None, None);
        // The log may be cut now.
        (self.transfer.tell_at, self.status_at) = (now, 0);
    }

    fn note_kept(&mut self, stored: &Stored) {
        let kept = &mut self.status.checkpoints.kept;
        kept.retain(|kept| kept.entry != stored.manifest.place.next);
        kept.push(Kept::from(stored));
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.entry));
        kept.truncate(KEEP);
    }

    /// The log and the server go on behind this checkpoint.
    fn install(&mut self, now: u64, stored: Stored) {
        let held = Held { entry: stored.manifest.place.next, id: stored.id };
        let begin = match stored.log_end() {
            Ok(begin) => begin,
            Err(error) => {
                tracing::warn!("the checkpoint at entry {} cannot be used: {error}", held.entry);
                self.transfer.tried.insert(held);
                return;
            }
        };
        self.driver.consensus.input(now, begin);
        self.transfer.least = None;
        self.status.transfer = None;
        let kept = &mut self.status.checkpoints.kept;
        kept.retain(|kept| kept.entry < held.entry);
        kept.insert(0, Kept::from(&stored));
        kept.truncate(KEEP);
        tracing::info!("has the checkpoint at entry {} whole", held.entry);
        // If its server can go on with the log as it is, nothing else is needed.
        if self.server.is_none() || self.driver.given() <= self.driver.consensus.paxos().first() {
            self.driver.must_rebuild(Rebuild::Behind(held.entry));
        }
    }
}
