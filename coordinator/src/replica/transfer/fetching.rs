//! The way of one checkpoint from another replica: whom to ask, what comes, and how the server goes on behind it.

use super::{BYTES_PER_SECOND, TransferStatus};
use crate::checkpoint::{Expected, Fetcher, KEEP, PIECE_BYTES, Piece, Stored, Told, Want};
use crate::replica::checkpoint_status::Kept;
use crate::replica::driver::Rebuild;
use crate::replica::error::ReplicaError;
use crate::replica::frames::Control;
use crate::replica::holdings::Held;
use crate::replica::run::Replica;

/// Pieces that are asked for and have not come.
const WINDOW: u64 = 4;
/// Without a piece for so long it asks again, perhaps another replica, nanoseconds.
const STALLED_NS: u64 = 3_000_000_000;
/// How often it is looked whether somebody holds a checkpoint that is wanted, nanoseconds.
const CHOOSE_NS: u64 = 200_000_000;
/// How often the progress is told in the log, nanoseconds.
const PROGRESS_NS: u64 = 5_000_000_000;

/// The checkpoint that is being fetched.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) from: u8,
    pub(super) held: Held,
    fetcher: Fetcher,
    pub(super) listing: bool,
    /// What is here, and what was asked for.
    written: u64,
    asked: u64,
    pub(super) total: u64,
    /// When it was begun, and with how many bytes.
    begun: (u64, u64),
    /// When a piece was written last, and when the progress was told last.
    moved_at: u64,
    told_at: u64,
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

    pub(super) fn fetch(&mut self, now: u64) -> Result<(), ReplicaError> {
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

    /// A piece has come.
    pub(in crate::replica) fn take_piece(&mut self, from: u8, piece: Piece) {
        let Some(fetch) = self.transfer.fetch.as_ref().filter(|fetch| fetch.from == from) else { return };
        if (fetch.held.entry, fetch.held.id) == (piece.want.entry, piece.want.id) {
            fetch.fetcher.take(piece);
        }
    }

    /// A peer has not what it was asked for.
    pub(in crate::replica) fn no_piece(&mut self, from: u8, want: Want, why: &str) {
        let mine = |fetch: &&Fetch| fetch.from == from && fetch.held.entry == want.entry;
        if self.transfer.fetch.as_ref().filter(mine).is_some() {
            tracing::warn!("replica {from} cannot give its checkpoint at entry {}: {why}", want.entry);
            self.transfer.fetch = None;
        }
    }
}
