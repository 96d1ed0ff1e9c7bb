//! What goes wrong.

use super::*;

impl Cluster {
    pub(super) fn fault(&mut self) {
        let id = self.ids[self.rng.up_to(self.ids.len() as u64 - 1) as usize];
        let other = self.ids[self.rng.up_to(self.ids.len() as u64 - 1) as usize];
        match self.rng.up_to(6) {
            5 => self.lose_checkpoints(id),
            6 => {}
            0 | 1 if self.nodes.contains_key(&id) => {
                self.crash(id);
                let pause = self.rng.up_to(100 * MILLIS);
                self.schedule(pause, Event::Restart { at: id });
            }
            2 if self.losing
                && self.members.voters().count() > 2
                && self.members.has(id)
                && self.rng.up_to(2) == 0
                && (self.lost == self.mended || self.forgetful) =>
            {
                self.lose_log(id)
            }
            2 => self.disconnect(id, other),
            3 => self.ids.clone().into_iter().for_each(|other| self.disconnect(id, other)),
            _ => self.reconnect_all(),
        }
    }

    /// A replica's log turns out to be damaged at its next start. One at a time: see `amnesia.rs`.
    pub(super) fn lose_log(&mut self, id: ReplicaId) {
        if self.nodes.contains_key(&id) {
            self.crash(id);
            let pause = self.rng.up_to(100 * MILLIS);
            self.schedule(pause, Event::Restart { at: id });
        }
        match self.forgetful {
            false => set_aside(&self.disks[&id], "a fault").expect("memory takes all"),
            true => drop(self.disks.insert(id, MemoryDisk::default())),
        }
        self.lost += 1;
    }
}
