//! Cutting the log, and checkpoints that go from one simulated replica to another: `coordinator::replica::transfer` without files.
//!
//! Who holds what, and how far that lets a log be cut, is decided by the code that replicas run, and what they say to each other
//! travels in its frames. A piece stands for a part of an image.

use std::collections::BTreeSet;

use coordinator::checkpoint::{Piece, Want};
use coordinator::paxos::MILLIS;
use coordinator::replica::driver::Rebuild;
use coordinator::replica::frames::{self, Control};
use coordinator::replica::holdings::{COPY_LOG_BYTES, Held, Holdings, Holds, LONG_LOG_BYTES};

use super::check::rule;
use super::mail::{Around, Sent};
use super::plan::Broken;
use super::replica::Replica;

/// How often replicas tell each other what they hold, and logs are cut, nanoseconds.
const TELL_NS: u64 = 20 * MILLIS;
/// Without a piece for so long it asks again, perhaps another replica, nanoseconds.
const STALLED_NS: u64 = 30 * MILLIS;
/// How often it is looked whether somebody holds a checkpoint that is wanted, nanoseconds.
const CHOOSE_NS: u64 = 5 * MILLIS;
/// A checkpoint of which no piece was asked for during this is not lent any more, nanoseconds.
const LENT_NS: u64 = 200 * MILLIS;
/// Pieces of a checkpoint.
const PIECES: u64 = 5;
/// Entries of a log that counts as long enough for a leader to copy a checkpoint, and as long.
const LONG_LOGS: (u64, u64) = (40, 160);

#[derive(Debug)]
struct Fetch {
    from: u8,
    held: Held,
    pieces: u64,
    asked_at: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Transfer {
    pub(super) holdings: Holdings,
    tell_at: u64,
    choose_at: u64,
    /// The leader's log begins at this entry, and the own one ends before.
    pub(super) behind: Option<u64>,
    least: Option<u64>,
    copy: Option<u64>,
    /// No server can be started without one.
    stateless: bool,
    tried: BTreeSet<Held>,
    fetch: Option<Fetch>,
    lent: Option<(Held, u64)>,
}

impl Transfer {
    /// The checkpoint that another replica fetches.
    pub fn lent(&self, now: u64) -> Option<Held> {
        self.lent.filter(|(_, until)| now < *until).map(|(held, _)| held)
    }

    /// When something is to be done, if nothing happens.
    pub fn deadline(&self) -> u64 {
        let wants = self.least.or(self.copy).is_some();
        let fetch = match &self.fetch {
            Some(fetch) => fetch.asked_at + STALLED_NS,
            None if wants => self.choose_at,
            None => u64::MAX,
        };
        fetch.min(self.tell_at)
    }
}

impl Replica {
    /// No checkpoint of its own can be used, and the log does not reach back to the beginning.
    pub(super) fn want_state(&mut self) {
        self.transfer.stateless = true;
        self.transfer.least = Some(self.driver.consensus.paxos().first() + 1);
    }

    /// It can start a server.
    pub(super) fn has_state(&mut self) {
        self.transfer.stateless = false;
    }

    fn holds(&self) -> Holds {
        Holds {
            first: self.driver.consensus.paxos().first(),
            kept: self.shelf.held(),
            needs: self.transfer.fetch.as_ref().map(|fetch| fetch.held.entry),
        }
    }

    pub(super) fn send_control(to: u8, control: &Control, around: &mut Around<'_>) {
        let mut frame = Vec::new();
        frames::put_control(control, &mut frame);
        around.sent.push(Sent::Peer { to, frame, promises: false });
    }

    /// Once per turn.
    pub(super) fn tend_transfers(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        if let Some(first) = self.transfer.behind.take() {
            self.transfer.least = self.transfer.least.max(Some(first));
        }
        let commit = self.driver.consensus.paxos().commit();
        if !self.transfer.stateless && self.transfer.least.is_some_and(|least| least <= commit) {
            self.transfer.least = None;
        }
        self.fetch(around);
        if now >= self.transfer.tell_at {
            self.transfer.tell_at = now + TELL_NS;
            self.cut_log(around);
            let holds = self.holds();
            self.transfer.copy = self.to_copy(&holds);
            for peer in self.connected.clone() {
                Self::send_control(peer, &Control::Holds(holds.clone()), around);
            }
            if self.transfer.stateless && self.driver.leads() {
                self.driver.consensus.resign(now);
            }
        }
    }

    fn to_copy(&self, own: &Holds) -> Option<u64> {
        let paxos = self.driver.consensus.paxos();
        let members = paxos.members();
        let bytes = match paxos.len() - paxos.first() {
            entries if entries >= LONG_LOGS.1 => LONG_LOG_BYTES,
            entries if entries >= LONG_LOGS.0 => COPY_LOG_BYTES,
            _ => 0,
        };
        let copies = self.driver.leads() && self.server.is_some();
        let votes = |id| members.is_voter(id);
        copies.then(|| self.transfer.holdings.to_copy(own, members.quorum(), bytes, votes)).flatten()
    }

    fn cut_log(&mut self, around: &mut Around<'_>) {
        if self.server.is_none() {
            return;
        }
        let consensus = &self.driver.consensus;
        let members = consensus.paxos().members();
        let at = match around.plan.broken {
            Some(Broken::CutEarly) => u64::MAX,
            _ => self
                .transfer
                .holdings
                .cut_at(around.now, &self.holds(), members.quorum(), |id| members.is_voter(id)),
        };
        let at = at.min(self.driver.given().saturating_sub(1));
        if at <= consensus.paxos().first() {
            return;
        }
        match self.driver.consensus.cut(at) {
            Ok(true) => {
                let paxos = self.driver.consensus.paxos();
                around.images.cut(self.id, paxos.first(), paxos.members(), around.checker);
                (around.trace)(format!("{} cuts its log off before entry {at}", self.id));
            }
            Ok(false) => {}
            Err(error) => around.checker.fail(rule::RECOVERY, error.to_string()),
        }
    }

    /// A peer asks for a piece.
    pub(super) fn lend_piece(&mut self, to: u8, want: Want, around: &mut Around<'_>) {
        let held = Held { entry: want.entry, id: want.id };
        if !self.shelf.has(held) {
            let why = "it is not there any more".to_owned();
            return Self::send_control(to, &Control::NoPiece { want, why }, around);
        }
        self.transfer.lent = Some((held, around.now + LENT_NS));
        let bytes = vec![want.offset as u8; want.len as usize];
        let crc = crc32fast::hash(&bytes);
        let mut frame = Vec::new();
        frames::put_piece(&Piece { want, total: PIECES, crc, bytes }, &mut frame);
        around.sent.push(Sent::Peer { to, frame, promises: false });
    }

    /// A piece has come.
    pub(super) fn take_piece(&mut self, from: u8, piece: &Piece, around: &mut Around<'_>) {
        let Some(fetch) = self.transfer.fetch.as_mut().filter(|fetch| fetch.from == from) else { return };
        let held = Held { entry: piece.want.entry, id: piece.want.id };
        if fetch.held != held || piece.want.offset != fetch.pieces || !piece.is_whole() {
            return;
        }
        fetch.pieces += 1;
        fetch.asked_at = 0;
        self.shelf.begin(held, fetch.pieces);
        if fetch.pieces < piece.total {
            return self.fetch(around);
        }
        self.transfer.fetch = None;
        let Some(image) = around.images.get(held) else { return };
        self.shelf.put(image, self.transfer.lent(around.now));
        around.images.stored(self.id, held);
        if self.transfer.least.is_some_and(|least| held.entry >= least) {
            return self.install(held, around);
        }
        self.transfer.copy = None;
        self.transfer.tell_at = around.now;
        around.images.copies += 1;
    }

    /// A peer has not what it was asked for.
    pub(super) fn no_piece(&mut self, from: u8, want: Want) {
        self.transfer.fetch.take_if(|fetch| fetch.from == from && fetch.held.entry == want.entry);
    }

    fn fetch(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        if self.transfer.fetch.is_none() {
            self.begin_fetch(around);
        }
        let Some(fetch) = &mut self.transfer.fetch else { return };
        let waits = fetch.asked_at > 0;
        if !self.connected.contains(&fetch.from) || (waits && now >= fetch.asked_at + STALLED_NS) {
            self.transfer.fetch = None;
            self.transfer.choose_at = now + CHOOSE_NS;
        } else if !waits {
            fetch.asked_at = now;
            let Held { entry, id } = fetch.held;
            let want = Want { entry, id, listing: false, offset: fetch.pieces, len: 8 };
            Self::send_control(fetch.from, &Control::Fetch(want), around);
        }
    }

    fn begin_fetch(&mut self, around: &mut Around<'_>) {
        let now = around.now;
        let Some(least) = self.transfer.least.or(self.transfer.copy) else { return };
        if now < self.transfer.choose_at {
            return;
        }
        self.transfer.choose_at = now + CHOOSE_NS;
        let needed = self.transfer.least.is_some();
        if needed {
            let new = |held: &Held| held.entry >= least && !self.transfer.tried.contains(held);
            if let Some(own) = self.shelf.held().into_iter().find(new) {
                self.transfer.tried.insert(own);
                return self.install(own, around);
            }
        }
        let begun = self.shelf.begun();
        let leader = self.driver.leader();
        let offers = self.transfer.holdings.of_peers();
        let offers = offers.flat_map(|(peer, holds)| holds.kept.iter().map(move |held| (peer, *held)));
        let usable = |(_, held): &(u8, Held)| held.entry >= least && !self.transfer.tried.contains(held);
        let chosen = offers.filter(usable).max_by_key(|(peer, held)| {
            (begun.is_some_and(|(of, _)| of == *held), leader != Some(*peer), held.entry)
        });
        let Some((from, held)) = chosen else {
            // What did not work may work now.
            return self.transfer.tried.clear();
        };
        let pieces = begun.filter(|(of, _)| *of == held).map_or(0, |(_, pieces)| pieces.min(PIECES - 1));
        (around.trace)(format!("{} fetches the checkpoint at entry {} from {from}", self.id, held.entry));
        self.transfer.fetch = Some(Fetch { from, held, pieces, asked_at: 0 });
        self.transfer.tell_at = now;
    }

    /// The log and the server go on behind this checkpoint.
    fn install(&mut self, held: Held, around: &mut Around<'_>) {
        let Some(image) = around.images.get(held) else { return };
        (around.trace)(format!("{} goes on behind the checkpoint at entry {}", self.id, held.entry));
        self.driver.consensus.input(around.now, image.begin.clone());
        self.transfer.least = None;
        around.images.transfers += 1;
        if self.server.is_none() || self.driver.given() <= self.driver.consensus.paxos().first() {
            self.driver.must_rebuild(Rebuild::Behind(held.entry));
        }
    }
}
