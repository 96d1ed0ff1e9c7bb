//! An orderly stop. All replicas are told to end at once; a leader ends when its peers have its whole log and know what of it is
//! decided, and the others end when their leader is gone.
//!
//! Without it the logs of the spares, which are sent entries a little later than a majority ([`crate::paxos`]), would lack the
//! last ones; and where each replica is told to end when its server has, the last one would never learn that its server may.
//! The leader's server runs on meanwhile, but what it does is not looked at any more: no entry is added.

use super::error::ReplicaError;
use super::peers::PeerNews;
use super::poll::Token;
use super::run::Replica;

/// How long a replica that was told to end waits for others at the most, nanoseconds: one that catches up may take minutes.
const LEVEL_NS: u64 = 500_000_000;

impl Replica {
    /// Returns when the logs are level, as far as this replica can tell.
    pub(super) fn level_logs(&mut self) -> Result<(), ReplicaError> {
        let begun = self.now();
        let end = begun + LEVEL_NS;
        let mut news = Vec::new();
        loop {
            let now = self.now();
            self.take_peer_news(now, &mut news);
            if now >= end || self.is_level() {
                break;
            }
            self.driver.consensus.tick(now)?;
            self.settle(now)?;
            self.flush_peers(now)?;
            self.send_released();
            let deadline = self.driver.consensus.deadline().min(self.peers.deadline()).min(end);
            self.hear_peers(deadline, &mut news)?;
        }
        let (level, taken) = (self.is_level(), (self.now() - begun) / 1_000_000);
        tracing::info!(
            "ends {taken} ms after it was told to; the logs are {}level",
            if level { "" } else { "not " }
        );
        // At once, and not when the server is gone: the others wait for it.
        self.peers.finish_all();
        while !self.peers.connected().is_empty() && self.now() < end {
            self.hear_peers(end, &mut news)?;
            news.clear();
        }
        self.peers.close_all();
        Ok(())
    }

    /// Waits until `deadline` for something that peers say. Clients, ports and the server are not served any more.
    fn hear_peers(&mut self, deadline: u64, news: &mut Vec<PeerNews>) -> Result<(), ReplicaError> {
        let mut ready = Vec::new();
        self.poll
            .wait(deadline.saturating_sub(self.now()), &mut ready)
            .map_err(ReplicaError::system("wait for events"))?;
        for event in &ready {
            if let Token::Peer(key) = event.token {
                let now = self.now();
                self.peers.ready(&self.poll, now, key, *event, news);
            }
        }
        Ok(())
    }

    fn is_level(&self) -> bool {
        let leader = self.driver.other_leader();
        self.driver.consensus.paxos().peers_are_level() && leader.is_none_or(|id| !self.peers.is_up(id))
    }
}
