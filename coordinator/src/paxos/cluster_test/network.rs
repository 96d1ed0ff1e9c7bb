//! Connections and messages: lost, doubled and late.

use super::*;

impl Cluster {
    pub(super) fn connect(&mut self, a: ReplicaId, b: ReplicaId) {
        self.next_link += 1;
        let link = self.next_link;
        self.links.insert((a.min(b), a.max(b)), link);
        for (at, peer) in [(a, b), (b, a)] {
            let delay = self.rng.up_to(2 * MILLIS);
            self.schedule(delay, Event::Connected { at, peer, link });
        }
    }

    pub(super) fn disconnect(&mut self, a: ReplicaId, b: ReplicaId) {
        if a == b || self.links.insert((a.min(b), a.max(b)), 0).unwrap_or(0) == 0 {
            return;
        }
        for (at, peer) in [(a, b), (b, a)] {
            let delay = self.rng.up_to(MILLIS);
            self.schedule(delay, Event::Disconnected { at, peer });
        }
    }

    pub(super) fn link(&self, a: ReplicaId, b: ReplicaId) -> u64 {
        self.links.get(&(a.min(b), a.max(b))).copied().unwrap_or(0)
    }

    pub(super) fn reconnect_all(&mut self) {
        let ids = self.ids.clone();
        for (at, &a) in ids.iter().enumerate() {
            for &b in &ids[at + 1..] {
                if self.nodes.contains_key(&a) && self.nodes.contains_key(&b) && self.link(a, b) == 0 {
                    self.connect(a, b);
                }
            }
        }
    }

    pub(super) fn transmit(&mut self, from: ReplicaId, to: ReplicaId, message: &Message) {
        let link = self.link(from, to);
        if link == 0 || (!self.calm && self.rng.up_to(99) < self.loss) {
            return;
        }
        let mut frame = Vec::new();
        wire::encode(message, &mut frame).expect("a Vec takes all");
        assert_eq!(frame.len(), wire::encoded_len(message));
        let copies = if !self.calm && self.rng.up_to(99) < self.loss { 2 } else { 1 };
        for _ in 0..copies {
            let delay = match self.rng.up_to(99) {
                _ if self.calm => 50_000,
                0 => self.rng.up_to(60 * MILLIS),
                _ => self.rng.up_to(MILLIS),
            };
            self.schedule(delay, Event::Deliver { from, to, link, frame: frame.clone() });
        }
    }
}
