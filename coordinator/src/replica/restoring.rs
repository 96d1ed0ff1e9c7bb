//! From which checkpoints a replica's server may be restored, and what follows when it was.

use super::checkpoint_status::Kept;
use super::run::Replica;
use super::status::DigestState;
use crate::checkpoint::{Manifest, Store, Stored};

impl Replica {
    /// The checkpoints that a new server may be restored from, the newest first: of this log, and not of a state that
    /// turned out to be wrong.
    pub(super) fn usable_checkpoints(&mut self) -> Vec<Stored> {
        let mut found = self.checkpointing.store().list();
        if let DigestState::Diverged { entry, .. } = self.status.digests {
            let from = self.status.checkpoints.restored_from;
            found.retain(|stored| {
                let next = stored.manifest.place.next;
                let right = next <= entry && Some(next) != from;
                if !right {
                    tracing::warn!("the checkpoint at entry {next} is removed: the server that came of it, or that it is of, diverged");
                    Store::remove(&stored.path);
                }
                right
            });
        }
        found.retain(|stored| {
            let place = &stored.manifest.place;
            let same = self.last_entry(place.next) == Some(place.last_entry);
            if !same {
                tracing::warn!(
                    "the checkpoint {} is not used: entry {} of the log is not the one that it is of",
                    stored.path.display(),
                    place.next - 1
                );
            }
            same
        });
        self.status.checkpoints.kept = found.iter().map(Kept::from).collect();
        found
    }

    /// The same, with the one in front that an operator has chosen; once.
    pub(super) fn checkpoints_at_start(&mut self) -> Vec<Stored> {
        let mut found = self.usable_checkpoints();
        let Some(entry) = self.checkpointing.take_choice() else { return found };
        match found.iter().position(|stored| stored.manifest.place.next == entry) {
            Some(at) => found[..=at].rotate_right(1),
            None => tracing::warn!("the checkpoint at entry {entry}, which was chosen, cannot be used"),
        }
        found
    }

    /// The server was brought back from a checkpoint, or `error` says why not.
    pub(super) fn note_restore(&mut self, from: Option<&Manifest>, error: Option<String>) {
        self.status.checkpoints.restored_from = from.map(|manifest| manifest.place.next);
        self.status.checkpoints.restore_error = error;
        self.checkpointing.restored(from.map(|manifest| manifest.place.next));
        let Some(manifest) = from else { return };
        let place = &manifest.place;
        tracing::info!("restored the checkpoint at entry {}, logical time {}", place.next, place.tick);
        self.driver.server_restored(place.next, &manifest.known.connections);
        for listener in &manifest.known.listeners {
            self.listens(listener.clone());
        }
        for membership in &manifest.known.memberships {
            self.datagrams.member(&self.poll, *membership, true);
        }
    }
}
