//! Paxos and the log together: does the writes that Paxos asks for, reads old entries for it, and hands out what is
//! left to do. A full disk holds back acknowledgements, nothing else.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::log::{Directory, Disk, Log, LogError};
use crate::paxos::{
    Ballot, Input, MAX_BATCH_BYTES, MAX_BATCH_ENTRIES, Message, Nanos, Output, Paxos, ProposeError,
    ReplicaId, Write,
};

/// How long to wait before a full disk is tried again.
pub const DISK_RETRY_NS: Nanos = 500_000_000;
/// A leader whose disk has been full for so long leaves the leadership to a majority that goes on without it.
pub const DISK_PATIENCE_NS: Nanos = 1_000_000_000;

/// How much longer a replica waits for another one to be elected, for each entry that its server is behind.
const RELUCTANCE_PER_ENTRY_NS: Nanos = 50_000;
/// Longest such wait.
const LONGEST_RELUCTANCE_NS: Nanos = 150_000_000;

/// What the replica has to do.
#[derive(Debug)]
pub enum Happening {
    /// Send to a peer.
    Send {
        /// The peer.
        to: ReplicaId,
        /// The message.
        message: Message,
    },
    /// Entries `from..to` are decided.
    Committed {
        /// First.
        from: u64,
        /// One past the last.
        to: u64,
    },
    /// This replica leads; entries below `next` are known.
    BecameLeader {
        /// The leadership.
        ballot: Ballot,
        /// The first index to propose.
        next: u64,
    },
    /// This replica leads no more.
    Demoted,
    /// Another replica leads.
    Following(ReplicaId),
    /// No leader is known.
    LeaderLost,
    /// A checkpoint of a peer is needed: the leader's log begins here, and the own one ends before.
    Behind(u64),
}

/// See the module.
#[derive(Debug)]
pub struct Consensus<D: Disk = Directory> {
    paxos: Paxos,
    log: Log<D>,
    outputs: Vec<Output>,
    /// Writes that wait for space on the disk.
    blocked: VecDeque<(u64, Write)>,
    retry_at: Nanos,
    full_since: Nanos,
    /// Highest write appended and not reported as durable.
    appended: Option<u64>,
}

impl<D: Disk> Consensus<D> {
    /// Joins the two.
    pub fn new(paxos: Paxos, log: Log<D>) -> Self {
        Self {
            paxos,
            log,
            outputs: Vec::new(),
            blocked: VecDeque::new(),
            retry_at: 0,
            full_since: 0,
            appended: None,
        }
    }

    /// The state machine, to look at.
    pub fn paxos(&self) -> &Paxos {
        &self.paxos
    }

    /// Says how far the log reaches: at the end of an orderly stop.
    pub fn seal(&mut self) -> Result<(), LogError> {
        self.log.seal()
    }

    /// The log, to look at. It lags behind Paxos while writes wait for space on the disk.
    pub fn log(&self) -> &Log<D> {
        &self.log
    }

    /// Cuts off the entries before `first`, as far as that makes whole files of the log needless. True if something was cut off.
    pub fn cut(&mut self, first: u64) -> Result<bool, LogError> {
        let first = first.min(self.paxos.commit().saturating_sub(1));
        // While writes wait, the log may not know yet that it is to begin anew.
        if self.disk_full() {
            return Ok(false);
        }
        match self.log.cut(first) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            // There is no room for the small files that say so: nothing has changed, and it is tried again.
            Err(error) if error.is_full() => return Ok(false),
            Err(error) => return Err(error),
        }
        self.paxos.cut(self.log.first());
        Ok(true)
    }

    /// What another replica's log needs to begin behind a checkpoint at `next`, if this one knows it ([`Input::Begin`]).
    pub fn begin_at(&self, next: u64) -> Option<Input> {
        let index = next.checked_sub(1).filter(|index| *index < self.paxos.commit())?;
        let (previous, promised) = (self.paxos.previous(index), self.paxos.ballot());
        if let Some(entry) = self.paxos.entry(index) {
            let (entry, members) = (entry.clone(), self.paxos.members_behind(index));
            return Some(Input::Begin { index, entry, previous, promised, members });
        }
        let mut entries = Vec::new();
        self.log.read(index, next, 0, &mut entries).ok()?;
        let (entry, members) = (entries.pop()?, self.paxos.members_behind(index));
        Some(Input::Begin { index, entry, previous, promised, members })
    }

    /// True while the disk is full.
    pub fn disk_full(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// The server is `lag` entries behind what is decided: a replica that is less behind should lead.
    pub fn set_lag(&mut self, lag: u64) {
        self.paxos.set_reluctance((lag * RELUCTANCE_PER_ENTRY_NS).min(LONGEST_RELUCTANCE_NS));
    }

    /// Gives one input.
    pub fn input(&mut self, now: Nanos, input: Input) {
        self.paxos.step(now, input, &mut self.outputs);
    }

    /// Proposes the next entry.
    pub fn propose(&mut self, index: u64, value: Arc<[u8]>) -> Result<(), ProposeError> {
        self.paxos.propose(index, value)
    }

    /// When [`Consensus::tick`] is due.
    pub fn deadline(&self) -> Nanos {
        let paxos = self.paxos.deadline();
        match (self.disk_full(), self.paxos.is_leader()) {
            (false, _) => paxos,
            (true, false) => self.retry_at,
            (true, true) => paxos.min(self.retry_at),
        }
    }

    /// Passes time.
    pub fn tick(&mut self, now: Nanos) -> Result<(), LogError> {
        // Who cannot write cannot lead: it would only be in the way of the others' election.
        if self.paxos.deadline() <= now && (self.paxos.is_leader() || !self.disk_full()) {
            self.paxos.step(now, Input::Tick, &mut self.outputs);
        }
        if self.disk_full() && self.retry_at <= now {
            self.retry_at = now + DISK_RETRY_NS;
            self.unblock()?;
            if !self.disk_full() {
                tracing::info!("the disk has space again: acknowledging goes on");
            }
        }
        let patient = now < self.full_since.saturating_add(DISK_PATIENCE_NS);
        if self.disk_full() && !patient && self.paxos.is_leader() && self.paxos.is_ahead_of_own_log() {
            tracing::warn!("its disk stays full, but not those of a majority: leaves the leadership to them");
            self.paxos.resign(now, &mut self.outputs);
        }
        Ok(())
    }

    /// Leaves the leadership, if it has it, to the others.
    pub fn resign(&mut self, now: Nanos) {
        self.paxos.resign(now, &mut self.outputs);
    }

    /// Does what Paxos asked for, up to what needs durability, and appends what is left to do to `happenings`.
    pub fn collect(&mut self, now: Nanos, happenings: &mut VecDeque<Happening>) -> Result<(), LogError> {
        loop {
            self.paxos.flush(now, &mut self.outputs);
            if self.outputs.is_empty() {
                return Ok(());
            }
            for output in std::mem::take(&mut self.outputs) {
                match output {
                    Output::Send { to, message } => happenings.push_back(Happening::Send { to, message }),
                    Output::Persist { sequence, write } => self.persist(now, sequence, write)?,
                    Output::NeedOld { peer, from, to } => self.send_old(now, peer, from, to)?,
                    Output::Committed { from, to } => happenings.push_back(Happening::Committed { from, to }),
                    Output::BecameLeader { ballot, next } => {
                        happenings.push_back(Happening::BecameLeader { ballot, next });
                    }
                    Output::UnknownMembers { index, version } => {
                        return Err(LogError::UnknownMembers { index, version });
                    }
                    Output::Remembered => {
                        self.log.found()?;
                        tracing::warn!("its log is whole again: it votes from now on");
                    }
                    Output::Demoted { .. } => happenings.push_back(Happening::Demoted),
                    Output::Following { leader, .. } => happenings.push_back(Happening::Following(leader)),
                    Output::LeaderLost => happenings.push_back(Happening::LeaderLost),
                    Output::Behind { first } => happenings.push_back(Happening::Behind(first)),
                }
            }
        }
    }

    /// True if [`Consensus::collect`] has something to do besides proposals.
    pub fn has_outputs(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// True if [`Consensus::make_durable`] has something to do.
    pub fn needs_durability(&self) -> bool {
        self.appended.is_some()
    }

    /// Waits until what was appended is as durable as was configured, and tells Paxos.
    pub fn make_durable(&mut self, now: Nanos) -> Result<(), LogError> {
        if let Some(sequence) = self.appended.take() {
            self.log.sync()?;
            self.paxos.step(now, Input::Persisted(sequence), &mut self.outputs);
        }
        Ok(())
    }

    /// Up to `max_bytes` of the entries `from..to` (at least one), from memory or from the log; never from both at once, so who
    /// wants all asks again.
    pub fn read(&self, from: u64, to: u64, max_bytes: usize) -> Result<Vec<Arc<[u8]>>, LogError> {
        if from >= self.paxos.tail_start() {
            return Ok((from..to).map_while(|index| Some(self.paxos.entry(index)?.value.clone())).collect());
        }
        // While writes wait for space, the log may still have what was replaced in memory.
        let to = to.min(self.log.len()).min(self.paxos.tail_start());
        let mut entries = Vec::new();
        self.log.read(from, to, max_bytes, &mut entries)?;
        Ok(entries.into_iter().map(|entry| entry.value).collect())
    }

    /// The value at `index`, if it is in memory.
    pub fn recent(&self, index: u64) -> Option<&Arc<[u8]>> {
        self.paxos.entry(index).map(|entry| &entry.value)
    }

    fn persist(&mut self, now: Nanos, sequence: u64, write: Write) -> Result<(), LogError> {
        self.blocked.push_back((sequence, write));
        if self.blocked.len() > 1 {
            return Ok(());
        }
        self.unblock()?;
        if self.disk_full() {
            tracing::warn!("the disk of the log is full: nothing is acknowledged until it has space");
            self.retry_at = now + DISK_RETRY_NS;
            self.full_since = now;
        }
        Ok(())
    }

    fn unblock(&mut self) -> Result<(), LogError> {
        while let Some((sequence, write)) = self.blocked.front() {
            match self.log.append(write) {
                Ok(()) => self.appended = Some(*sequence),
                Err(error) if error.is_full() => return Ok(()),
                Err(error) => return Err(error),
            }
            self.blocked.pop_front();
        }
        Ok(())
    }

    fn send_old(&mut self, now: Nanos, peer: ReplicaId, from: u64, to: u64) -> Result<(), LogError> {
        let to = to.min(from + MAX_BATCH_ENTRIES as u64).min(self.log.len());
        if from >= to {
            return Ok(());
        }
        let mut entries = Vec::new();
        // What was cut off meanwhile is answered with nothing.
        if from >= self.log.first() {
            self.log.read(from, to, MAX_BATCH_BYTES, &mut entries)?;
        }
        self.paxos.step(now, Input::OldEntries { peer, first: from, entries }, &mut self.outputs);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use super::Consensus;
    use crate::log::{Durability, Log, MemoryDisk, Options};
    use crate::paxos::{Ballot, Config, Entry, Input, Message, Paxos, Recovered, no_members};

    const VALUE_BYTES: usize = 700;

    fn hear(consensus: &mut Consensus<MemoryDisk>, leader: u8, first: u64, bytes: &[u8]) {
        let ballot = Ballot::new(u64::from(leader), leader);
        let previous = if first == 0 { Ballot::ZERO } else { Ballot::new(1, 1) };
        let value = |byte: &u8| Entry { ballot, value: Arc::from([*byte; VALUE_BYTES]) };
        let entries = bytes.iter().map(value).collect();
        let message = Message::Accept { ballot, first, previous, commit: 0, entries };
        consensus.input(1, Input::Message { from: leader, message });
        consensus.collect(1, &mut VecDeque::new()).unwrap();
        consensus.make_durable(1).unwrap();
    }

    #[test]
    fn while_the_disk_is_full_nothing_is_read_from_the_log_that_was_replaced_in_memory() {
        let disk = MemoryDisk::default();
        let options = Options {
            cluster: [1; 16],
            durability: Durability::Memory,
            boot_id: "boot".to_owned(),
            segment_bytes: 4096,
            members_of: no_members,
        };
        let mut config = Config::new(2, vec![1, 2, 3], 7);
        (config.tail_entries, config.tail_bytes) = (2, 1 << 20);
        let log = Log::open(disk.clone(), options).unwrap();
        let mut consensus = Consensus::new(Paxos::new(config, Recovered::default(), 0), log);
        hear(&mut consensus, 1, 0, &[10, 11, 12, 13, 14]);
        disk.set_capacity(Some(0));
        hear(&mut consensus, 3, 3, &[33, 34, 35, 36, 37]);
        assert!(consensus.disk_full());
        let mut all = Vec::new();
        while all.len() < 8 {
            let read = consensus.read(all.len() as u64, 8, 1 << 20).unwrap();
            assert!(!read.is_empty(), "all that follows {all:?} is missing");
            all.extend(read.iter().map(|value| value[0]));
        }
        assert_eq!(all, [10, 11, 12, 33, 34, 35, 36, 37]);
    }
}
