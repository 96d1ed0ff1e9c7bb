//! Signals from outside: from the supervisor into the log, and back the word that one was decided.

use dmt::entry::EventKind;

use super::config::{FromReplica, NewFile};
use super::frames::Control;
use super::intake::event;
use super::run::Replica;

/// Signals that took effect here in the bubble of an entry that may not be decided yet.
#[derive(Debug, Default)]
pub(super) struct Signals {
    done: Vec<(u64, u64)>,
}

impl Signals {
    /// The server took signal `id` in the bubble of `entry`.
    pub fn took_effect(&mut self, id: u64, entry: u64) {
        self.done.push((id, entry));
    }

    /// The server that took them is gone.
    pub fn forget(&mut self) {
        self.done.clear();
    }

    /// Takes out those of decided entries.
    fn decided(&mut self, commit: u64) -> Vec<u64> {
        if self.done.is_empty() {
            return Vec::new();
        }
        let decided: Vec<u64> =
            self.done.iter().filter(|(_, entry)| *entry < commit).map(|&(id, _)| id).collect();
        self.done.retain(|(_, entry)| *entry >= commit);
        decided
    }
}

impl Replica {
    /// Makes an event of a signal, if clients are served here. Else, and if there is no room now, it is dropped: the
    /// supervisor sends it again.
    pub(super) fn signal_server(&mut self, id: u64, signal: i32) {
        if !self.driver.serves() {
            // Only where supervisors do not know of each other; the leader of one machine is told by its own.
            if let Some(leader) = self.driver.other_leader().filter(|_| self.apart) {
                self.peers.send_control(leader, &Control::Signal { id, signal });
            }
            return;
        }
        if let Some((intake, ..)) = self.intake() {
            let taken = intake.put(&event(EventKind::Signal, 0, id, signal as u64, 0), &[]);
            tracing::info!("signal {signal} for the server: {}", if taken { "queued" } else { "no room" });
        }
    }

    /// Makes an event of a file's new content, as [`Replica::signal_server`] does of a signal.
    pub(super) fn replace_file(&mut self, id: u64, file: NewFile) {
        if !self.driver.serves() {
            if let Some(leader) = self.driver.other_leader().filter(|_| self.apart) {
                self.peers.send_control(leader, &Control::Replace { id, file });
            }
            return;
        }
        let (path, content) = (file.path.as_bytes(), &file.content[..]);
        let Some(head) = dmt::replaced::head(path, content) else {
            return tracing::warn!("{} and its content do not fit into an entry", file.path);
        };
        let payload = [&head, path, content].concat();
        if let Some((intake, ..)) = self.intake() {
            let taken = intake.put(&event(EventKind::File, 0, id, 0, payload.len()), &payload);
            tracing::info!("another content for {}: {}", file.path, if taken { "queued" } else { "no room" });
        }
    }

    /// Tells the supervisor which signals are decided. What a server did that is to be rebuilt does not count.
    pub(super) fn tell_signals(&mut self) {
        if self.driver.is_fenced() {
            return;
        }
        for id in self.signals.decided(self.driver.consensus.paxos().commit()) {
            let _ = self.supervisor.send(&FromReplica::Signalled(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Signals;

    #[test]
    fn a_signal_counts_once_its_entry_is_decided() {
        let mut signals = Signals::default();
        signals.took_effect(7, 3);
        signals.took_effect(8, 5);
        assert!(signals.decided(3).is_empty(), "entries 0..=2 are decided, entry 3 is not");
        assert_eq!(signals.decided(4), [7]);
        signals.forget();
        assert!(signals.decided(9).is_empty(), "the server that took signal 8 is gone");
    }
}
