//! The words of consensus: ballots, entries, what goes into the state machine and what comes out.

use std::fmt;
use std::sync::Arc;

use super::members::{ChangeError, Members};
use super::message::Message;
use super::roster::{MembersOf, no_members};
pub use super::runs::Runs;

/// A replica's number, 1..=255.
pub type ReplicaId = u8;

/// Nanoseconds on a clock that never runs back. The caller reads it; the state machine only compares.
pub type Nanos = u64;

/// One millisecond.
pub const MILLIS: Nanos = 1_000_000;

/// Highest round of a ballot. `ballot << 24` (connection ids) then still fits an `i64`.
pub const MAX_ROUND: u64 = (1 << 31) - 1;

/// The number of a leadership: `round << 8 | replica id`, so that no two replicas ever own the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot(pub u64);

impl Ballot {
    /// Below every real ballot: nothing promised, nothing accepted.
    pub const ZERO: Self = Self(0);

    /// The ballot of `replica` in `round`.
    ///
    /// # Panics
    /// If the rounds are exhausted: then the cluster cannot elect safely any more. 2^31 elections come first.
    pub fn new(round: u64, replica: ReplicaId) -> Self {
        assert!(round <= MAX_ROUND, "no ballot above round {MAX_ROUND} exists");
        Self(round << 8 | u64::from(replica))
    }

    /// The round.
    pub fn round(self) -> u64 {
        self.0 >> 8
    }

    /// The replica that leads, or wants to lead, in this ballot.
    pub fn replica(self) -> ReplicaId {
        (self.0 & 0xff) as ReplicaId
    }

    /// Whether bytes from outside can be this ballot.
    pub fn is_sane(self) -> bool {
        self == Self::ZERO || (self.round() <= MAX_ROUND && self.replica() != 0)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round(), self.replica())
    }
}

/// One accepted value. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The stamp: the ballot in which the value was proposed (see the module docs of [`super`] for when it changes).
    pub ballot: Ballot,
    /// The value.
    pub value: Arc<[u8]>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}B", self.ballot, self.value.len())
    }
}

/// Who takes part, how long to wait, and how much to hold.
#[derive(Clone, Debug)]
pub struct Config {
    /// This replica.
    pub id: ReplicaId,
    /// With whom the cluster was made. One that joined later is not among them.
    pub founders: Vec<ReplicaId>,
    /// Finds the configurations in the log.
    pub members_of: MembersOf,
    /// A leader that has sent nothing to a peer for this long sends a heartbeat.
    pub heartbeat: Nanos,
    /// Base of the election time-out; the real one is drawn from `election..2 * election`. It is for leaders that hang or cannot
    /// be reached, and so long that one which a busy machine gives no time does not lose its clients: of a dead process
    /// the broken connection tells at once.
    pub election: Nanos,
    /// Upper end of the random pause between a broken connection to the leader and the trial vote.
    pub break_jitter: Nanos,
    /// How long a commit index may wait for another message to travel with, and entries for a peer that is not needed for a
    /// majority for more of them.
    pub notice: Nanos,
    /// Entries that the in-memory tail holds.
    pub tail_entries: usize,
    /// Bytes of values that the in-memory tail holds; the last entry always stays.
    pub tail_bytes: usize,
    /// Seed of the time-outs. It should differ from replica to replica.
    pub seed: u64,
}

impl Config {
    /// The defaults for replica `id` of a cluster that was made with `founders` and does not change.
    pub fn new(id: ReplicaId, founders: Vec<ReplicaId>, seed: u64) -> Self {
        Self {
            id,
            founders,
            members_of: no_members,
            heartbeat: 50 * MILLIS,
            election: 1000 * MILLIS,
            break_jitter: 2 * MILLIS,
            notice: MILLIS,
            tail_entries: TAIL_ENTRIES,
            tail_bytes: TAIL_BYTES,
            seed,
        }
    }
}

/// Default of [`Config::tail_entries`].
pub const TAIL_ENTRIES: usize = 32_768;
/// Default of [`Config::tail_bytes`].
pub const TAIL_BYTES: usize = 16 << 20;
/// Entries that a leader may hold undecided; [`super::Paxos::propose`] refuses more.
pub const MAX_UNDECIDED_ENTRIES: u64 = 2 * dmt::bounds::MAX_SPECULATION_ENTRIES;
/// Bytes of one value.
pub const MAX_VALUE_BYTES: usize = dmt::bounds::MAX_ENTRY_BYTES;
/// Entries in one `Accept`.
pub const MAX_BATCH_ENTRIES: usize = 1024;
/// Bytes of values in one `Accept`; one value may exceed it on its own.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
/// Bytes sent to a peer and not acknowledged; the leader sends no more until they are.
pub const MAX_INFLIGHT_BYTES: u64 = 8 << 20;
/// Entries sent to a peer and not acknowledged.
pub const MAX_INFLIGHT_ENTRIES: u64 = 8192;

/// What a replica knows when it starts: from its log, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Highest ballot promised.
    pub promised: Ballot,
    /// The stamp of every entry in the log. One that was cut begins with a decided entry, after which `commit` is at the least.
    pub stamps: Runs,
    /// The last entries of the log, up to `stamps.len()`; at least one if the log is not empty.
    pub tail: Vec<Entry>,
    /// Every entry below is known to be decided. 0 is always safe.
    pub commit: u64,
    /// The configuration that counts where the log begins, if it was cut; else it is the founders'.
    pub base: Option<Members>,
    /// The configurations in the log, with their indices.
    pub changes: Vec<(u64, Arc<Members>)>,
    /// The log was lost or damaged: what it held is not known. See `amnesia.rs`.
    pub lost: bool,
}

/// What the caller tells the state machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message came from a peer.
    Message {
        /// Who sent it, as its connection's certificate says.
        from: ReplicaId,
        /// The message.
        message: Message,
    },
    /// Time has passed; due at [`super::Paxos::deadline`]. Give messages that wait first: a peer may be alive in them.
    Tick,
    /// A connection to this peer stands. Sending to it works from now on, in order.
    PeerConnected(ReplicaId),
    /// The connection to this peer broke; what was sent may be lost.
    PeerDisconnected(ReplicaId),
    /// All writes up to this sequence number are as durable as the configured durability asks.
    Persisted(u64),
    /// The answer to [`Output::NeedOld`]: entries from the log, in order, from `first` on.
    OldEntries {
        /// The peer that they are for.
        peer: ReplicaId,
        /// Index of the first one.
        first: u64,
        /// At least one entry; at most [`MAX_BATCH_ENTRIES`] and about [`MAX_BATCH_BYTES`]. None if they were cut off meanwhile.
        entries: Vec<Entry>,
    },
    /// The server's state after this entry came from a peer. See `cut.rs`.
    Begin {
        /// Index of the entry.
        index: u64,
        /// The entry, as it stood in the peer's log, which knew it to be decided.
        entry: Entry,
        /// Stamp of the entry before, zero if it is not known.
        previous: Ballot,
        /// What that peer had promised then.
        promised: Ballot,
        /// The configuration that counts behind the entry.
        members: Members,
    },
}

/// One write to the log. Writes have consecutive sequence numbers and are appended in that order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The ballot that this replica promises.
    Promise(Ballot),
    /// An entry. An `index` inside the log replaces that entry and cuts off all that follow it, in one record.
    Entry {
        /// Where.
        index: u64,
        /// What.
        entry: Entry,
    },
    /// The log begins anew: it has this entry and no other.
    Anew {
        /// The entry's index.
        first: u64,
        /// The entry, which is decided.
        entry: Entry,
        /// Stamp of the entry before, zero if it is not known.
        previous: Ballot,
        /// The highest ballot that this replica has promised.
        promised: Ballot,
        /// The configuration that counts behind it.
        members: Members,
    },
}

/// What the caller has to do, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send to a peer. Dropped messages cost time, never safety.
    Send {
        /// The peer.
        to: ReplicaId,
        /// The message.
        message: Message,
    },
    /// Append to the log, then (once durable) report [`Input::Persisted`] with this or a later sequence number.
    Persist {
        /// The write's sequence number.
        sequence: u64,
        /// The write.
        write: Write,
    },
    /// Entries `from..to` are decided, for ever. Each index comes once per run, in order; those before a new beginning
    /// ([`Write::Anew`]) are left out.
    Committed {
        /// First index.
        from: u64,
        /// One past the last index.
        to: u64,
    },
    /// This replica leads. Entries below `next` are known (and proposed again); the next proposal has index `next`.
    BecameLeader {
        /// The leadership.
        ballot: Ballot,
        /// Where proposals start.
        next: u64,
    },
    /// This replica leads no more. Its undecided entries may or may not be decided later.
    Demoted {
        /// The leadership that ended.
        ballot: Ballot,
    },
    /// Another replica leads: clients are relayed to it.
    Following {
        /// The leader.
        leader: ReplicaId,
        /// Its leadership.
        ballot: Ballot,
    },
    /// This replica, which had lost its log, knows enough to vote: it is a full member from now on.
    Remembered,
    /// The leader of before is gone or unreachable and no other is known yet.
    LeaderLost,
    /// The leader's entries begin at `first`, and this log ends before: a checkpoint of a peer is needed, behind which it can go on
    /// ([`Input::Begin`]). Said again and again while that is so.
    Behind {
        /// The leader can send entries from here on.
        first: u64,
    },
    /// The entry at `index` has a configuration in a format that this binary does not know.
    UnknownMembers {
        /// Where.
        index: u64,
        /// Of the format.
        version: u64,
    },
    /// The peer needs entries that only the log has: read some from `from` on (below `to`), give [`Input::OldEntries`].
    NeedOld {
        /// The peer.
        peer: ReplicaId,
        /// First index to read.
        from: u64,
        /// The tail has entries from here on.
        to: u64,
    },
}

/// Why a value was not proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another replica leads, or none does.
    #[error("this replica does not lead; propose to the leader")]
    NotLeader,
    /// The log's next index is another one.
    #[error("entry {got} was proposed, but the next index is {next}")]
    WrongIndex {
        /// The proposed index.
        got: u64,
        /// The next index.
        next: u64,
    },
    /// [`MAX_UNDECIDED_ENTRIES`] entries wait for a majority.
    #[error("{0} entries wait for a majority already; propose again when some are decided")]
    Full(u64),
    /// It has a change of the members that may not be made now.
    #[error("the members cannot be changed: {0}")]
    Members(ChangeError),
    /// Longer than [`MAX_VALUE_BYTES`].
    #[error("a value of {0} bytes is longer than an entry may be")]
    TooLong(usize),
}

/// What a replica does at the moment, for `status` and for relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleKind {
    /// Accepts what a leader proposes, if one is known.
    Follower,
    /// Asks whether an election would succeed.
    Trial,
    /// Asks for promises.
    Candidate,
    /// Leads.
    Leader,
}
