//! Which peers are sent new entries at once, and which a little later.
//!
//! A majority needs only some of the peers. Sending each lone entry to all of them at once costs the leader and every
//! follower a wake-up that no client waits for ("thrifty" in EPaxos, SOSP'13). So as long as entries come one at a time,
//! each after the last was decided, the peers beyond a majority, the *spares*, get theirs in bundles, at the latest [`Config::notice`](super::Config::notice) after the first of a bundle was
//! proposed. Who is a spare follows from what the peers have acknowledged: if one that is needed stops answering, a
//! spare overtakes it with the next bundle and is needed from then on.

use super::Paxos;
use super::leader::Flow;
use super::types::{Nanos, Output};

/// Entries that a spare may lack; with more it is sent them at once.
pub const SPARE_ENTRIES: u64 = 64;
/// Bytes of values that a spare may lack.
pub const SPARE_BYTES: u64 = 64 << 10;

impl Paxos {
    /// Sends peers what they lack and must not wait for.
    pub(super) fn replicate_all(&mut self, now: Nanos, out: &mut Vec<Output>) {
        let len = self.len();
        let before = std::mem::replace(&mut self.offered, len);
        // Under load the first of all answers is the better one to wait for.
        let alone = self.commit >= before;
        for at in 0..self.peers.len() {
            let waits = if len > before { alone } else { self.peers[at].due.is_some() };
            if waits && self.is_spare(at) && self.lacks_little(at) {
                self.owe(now, at);
            } else {
                self.replicate(now, at, out);
            }
        }
    }

    /// True if there is a majority without this peer, as far as one can tell.
    fn is_spare(&self, at: usize) -> bool {
        let candidate = &self.peers[at];
        let before = |(other, peer): (usize, &super::leader::Peer)| {
            peer.connected
                && peer.voter
                && peer.votes
                && peer.flow == Flow::Stream
                && (peer.matched > candidate.matched || (peer.matched == candidate.matched && other < at))
        };
        candidate.flow == Flow::Stream
            && self.peers.iter().enumerate().filter(|(other, peer)| before((*other, peer))).count()
                + usize::from(self.is_voter())
                >= self.quorum()
    }

    fn lacks_little(&self, at: usize) -> bool {
        let (next, len) = (self.peers[at].next, self.len());
        next >= self.tail.first() && len - next < SPARE_ENTRIES && self.tail.bytes(next, len) < SPARE_BYTES
    }

    /// Notes that a peer does not know everything yet.
    fn owe(&mut self, now: Nanos, at: usize) {
        let (len, commit, notice) = (self.len(), self.commit, self.config.notice);
        let peer = &mut self.peers[at];
        if peer.connected && (peer.next < len || peer.told_commit < commit) {
            peer.due.get_or_insert(now + notice);
        }
    }

    /// Peers may learn the new commit index with the next entries, or soon.
    pub(super) fn owe_commit(&mut self, now: Nanos) {
        (0..self.peers.len()).for_each(|at| self.owe(now, at));
    }

    /// False while this replica leads and a peer that is connected has not acknowledged its whole log, or was not told how much
    /// of it is decided. Without its leader a peer cannot find that out alone.
    pub fn peers_are_level(&self) -> bool {
        let (len, commit) = (self.len(), self.commit);
        let level = |peer: &super::leader::Peer| peer.matched >= len && peer.told_commit >= commit;
        !self.is_leader() || self.peers.iter().all(|peer| !peer.connected || level(peer))
    }

    /// When [`Paxos::pay`] has something to do.
    pub(super) fn owed_at(&self) -> Nanos {
        self.peers.iter().filter_map(|peer| peer.due).min().unwrap_or(Nanos::MAX)
    }

    /// Sends peers what they were owed for long enough: entries, or, where there are none, the commit index.
    pub(super) fn pay(&mut self, now: Nanos, out: &mut Vec<Output>) {
        for at in 0..self.peers.len() {
            if self.peers[at].due.is_none_or(|due| now < due) {
                continue;
            }
            self.peers[at].due = None;
            self.replicate(now, at, out);
            let peer = &self.peers[at];
            if peer.connected && peer.flow == Flow::Stream && peer.told_commit < self.commit {
                self.send_accept(now, at, Vec::new(), out);
            }
        }
    }
}
