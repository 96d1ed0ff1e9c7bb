//! Checkpoints of simulated servers, and where replicas keep them.
//!
//! The memory of a toy server cannot be copied: its threads' stacks hold addresses. An image is what leads to the same state, the
//! entries that the server had applied, and a new server that is to be restored is brought there before anyone sees it
//! ([`super::server::Server::restore`]). What the coordinator keeps with a checkpoint (connections, the log's end) is there as it is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use coordinator::checkpoint::KEEP;
use coordinator::paxos::{Input, Members};
use coordinator::replica::holdings::Held;

use super::check::{Checker, rule};

/// See the module.
#[derive(Debug)]
pub struct Image {
    /// At which entry it was taken, and which one it is.
    pub held: Held,
    /// What the server had applied.
    pub entries: Vec<Arc<[u8]>>,
    /// Its connections, with the number of each one's next event.
    pub connections: Vec<(u64, u64)>,
    /// Its listener for TCP.
    pub listener: Option<u64>,
    /// See [`super::server::Server::digest`].
    pub digest: u64,
    /// What consensus needs to go on behind it.
    pub begin: Input,
}

/// All that were ever taken. What travels between replicas names them.
#[derive(Debug, Default)]
pub struct Images {
    all: BTreeMap<Held, Rc<Image>>,
    /// Digests of servers at rest, by entry.
    digests: BTreeMap<u64, u64>,
    /// Taken whole.
    pub taken: u64,
    /// Behind which a replica that needed one went on.
    pub transfers: u64,
    /// That a leader copied so that logs can be cut.
    pub copies: u64,
    /// Logs that were cut.
    pub cuts: u64,
    /// Where a log was cut last.
    pub highest_cut: u64,
    /// The highest entry at which a replica ever had one on its disk.
    newest: BTreeMap<u8, u64>,
    /// Servers that were started from one.
    pub restores: u64,
}

impl Images {
    /// A number that no other image has.
    pub fn next_id(&self) -> u32 {
        self.all.len() as u32 + 1
    }

    /// A replica took one: all that are taken at one entry must be of the same state.
    pub fn note(&mut self, image: &Rc<Image>, checker: &mut Checker) {
        let known = *self.digests.entry(image.held.entry).or_insert(image.digest);
        if known != image.digest {
            let (entry, digest) = (image.held.entry, image.digest);
            checker.fail(
                rule::DIGESTS,
                format!("two checkpoints at entry {entry} are of other states: {known:x} and {digest:x}"),
            );
        }
        self.all.insert(image.held, image.clone());
    }

    /// Replica `id` has it on its disk.
    pub fn stored(&mut self, id: u8, held: Held) {
        let newest = self.newest.entry(id).or_default();
        *newest = held.entry.max(*newest);
    }

    /// Replica `id` has cut its log: a majority must have checkpoints to go on from, as far as they were not damaged.
    pub fn cut(&mut self, id: u8, first: u64, members: &Members, checker: &mut Checker) {
        self.cuts += 1;
        self.highest_cut = self.highest_cut.max(first);
        // A learner, and a leader that is being removed, count themselves for their own logs.
        let own = (!members.is_voter(id)).then_some(id);
        let holds = |voter: &u8| self.newest.get(voter).is_some_and(|entry| *entry > first);
        let holders = members.voters().chain(own).filter(holds).count();
        if holders < members.quorum() {
            checker.fail(
                rule::CHECKPOINTS,
                format!(
                    "replica {id} cut its log before entry {first}, and {holders} of {members:?} can go on"
                ),
            );
        }
    }

    /// The one that is meant.
    pub fn get(&self, held: Held) -> Option<Rc<Image>> {
        self.all.get(&held).cloned()
    }
}

#[derive(Debug, Default)]
struct Kept {
    /// The newest first.
    images: Vec<Rc<Image>>,
    /// One that came in part, and how many of its pieces.
    begun: Option<(Held, u64)>,
}

/// The checkpoints on a replica's disk. Clones share them, as processes share a disk.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Rc<RefCell<Kept>>);

impl Shelf {
    /// Puts one there; the newest [`KEEP`] stay, and the one that another replica fetches.
    pub fn put(&self, image: Rc<Image>, lent: Option<Held>) {
        let mut kept = self.0.borrow_mut();
        kept.begun.take_if(|(held, _)| *held == image.held);
        kept.images.retain(|other| other.held.entry != image.held.entry);
        kept.images.push(image);
        kept.images.sort_by_key(|image| std::cmp::Reverse(image.held));
        let mut count = 0;
        kept.images.retain(|image| {
            count += 1;
            count <= KEEP || Some(image.held) == lent
        });
    }

    /// All, the newest first.
    pub fn images(&self) -> Vec<Rc<Image>> {
        self.0.borrow().images.clone()
    }

    /// Those that are told to others.
    pub fn held(&self) -> Vec<Held> {
        self.0.borrow().images.iter().map(|image| image.held).take(KEEP).collect()
    }

    /// Whether this one is there.
    pub fn has(&self, held: Held) -> bool {
        self.0.borrow().images.iter().any(|image| image.held == held)
    }

    /// The one that came in part, and how many of its pieces.
    pub fn begun(&self) -> Option<(Held, u64)> {
        self.0.borrow().begun
    }

    /// So many pieces of this one have come. Those of another one are given up.
    pub fn begin(&self, held: Held, pieces: u64) {
        self.0.borrow_mut().begun = Some((held, pieces));
    }

    /// They are damaged, all of them.
    pub fn lose(&self) {
        *self.0.borrow_mut() = Kept::default();
    }
}
