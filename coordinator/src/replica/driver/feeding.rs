//! What is decided, and what the server is fed.

use std::sync::atomic::Ordering;

use dmt::bounds::MAX_SPECULATION_ENTRIES;
use dmt::link::Link;

use super::{Driver, Effect, Phase, Rebuild};
use crate::log::{Disk, LogError};
use crate::replica::entries::is_bubble;

/// Entries read ahead of the server during a replay.
const REPLAY_ENTRIES: u64 = 1024;
/// Bytes read ahead of the server during a replay.
const REPLAY_BYTES: usize = 1 << 20;

impl<D: Disk> Driver<D> {
    /// Entries `from..to` are decided.
    pub(super) fn committed(
        &mut self,
        from: u64,
        to: u64,
        link: Option<&mut Link>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LogError> {
        if let Some(tainted) = self.given.overtaken(from) {
            self.rebuild = Some(Rebuild::Overruled(tainted.index));
        }
        for index in from..to {
            let value = self.consensus.recent(index).cloned();
            self.bubbles += u64::from(value.as_ref().is_some_and(|value| is_bubble(value)));
            if self.given.waits_for(index) {
                let value = match value {
                    Some(value) => Some(value),
                    None => self.consensus.read(index, index + 1, 1)?.into_iter().next(),
                };
                if let Err(tainted) = self.given.decide(index, value.as_ref()) {
                    self.rebuild = Some(Rebuild::Overruled(tainted.index));
                }
            }
        }
        self.entries += to - from;
        if let Some(link) = link {
            let applied = link.control().applied.load(Ordering::Relaxed);
            self.wake |= applied.saturating_sub(from) > MAX_SPECULATION_ENTRIES / 2;
            link.set_committed(to);
        }
        if self.rebuild.is_none() {
            // Else: what this server wrote may come from entries that were never decided.
            self.release(to, effects);
        }
        Ok(())
    }

    /// Lets out what waited for the decision of entries before `committed`.
    pub(super) fn release(&mut self, committed: u64, effects: &mut Vec<Effect>) {
        let changed = &mut self.changed;
        self.outputs.release(committed, |connection| changed.push(connection));
        let dials = self.outputs.take_dials().map(|(connection, to)| Effect::Dial { connection, to });
        effects.extend(dials);
        if self.outputs.has_datagrams() {
            effects.push(Effect::Datagrams);
        }
        changed.sort_unstable();
        changed.dedup();
        effects.extend(changed.drain(..).map(Effect::Released));
    }

    /// Gives the server the entries that it may have, as far as there is room, and finishes a take-over.
    pub(super) fn feed(
        &mut self,
        link: Option<&mut Link>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), LogError> {
        let committed = self.consensus.paxos().commit();
        let limit = match self.phase {
            _ if self.is_fenced() || self.held => return Ok(()),
            Phase::Follower => committed,
            Phase::TakingOver { next, .. } if self.crane.is_some() => committed.min(next),
            Phase::TakingOver { next, .. } => next,
            Phase::Leading { .. } if self.crane.is_some() => committed,
            Phase::Leading { .. } => return Ok(()),
        };
        let Some(link) = link else { return Ok(()) };
        while self.given.next() < limit {
            if self.replay.is_empty() {
                let from = self.given.next();
                self.replay =
                    self.consensus.read(from, limit.min(from + REPLAY_ENTRIES), REPLAY_BYTES)?.into();
            }
            let Some(value) = self.replay.front() else { return Ok(()) };
            if !link.push_entry(value) {
                return Ok(());
            }
            self.given.give(value, self.given.next() < committed);
            self.replay.pop_front();
            match self.phase {
                Phase::Follower => self.pace.given(1),
                _ => self.wake = true,
            }
        }
        if let Phase::TakingOver { ballot, next } = self.phase {
            // Until the leadership is established, an entry of an earlier leader may still be decided that cuts the bubble
            // which this server would run through.
            if self.given.next() >= next && self.consensus.paxos().is_established() {
                self.take_over(ballot, next, link, effects);
            }
        }
        Ok(())
    }
}
