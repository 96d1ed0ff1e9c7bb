//! When a simulated replica takes a checkpoint, and what it starts a server from: `coordinator::replica::checkpointing` without a
//! container.

use std::rc::Rc;

use coordinator::paxos::MILLIS;
use coordinator::replica::driver::Phase;
use coordinator::replica::holdings::Held;

use super::image::Image;
use super::mail::Around;
use super::replica::Replica;

/// How long the server may take to apply what it has, nanoseconds.
const PARK_NS: u64 = 200 * MILLIS;
/// How soon to look again whether it has, nanoseconds.
const LOOK_NS: u64 = MILLIS;
/// A replica that is so many entries behind takes none.
const MOST_LAG: u64 = 32;
/// Percent of the restores that fail while there are faults.
const FAILED_RESTORES: u64 = 10;

/// How far the one that is being taken is.
#[derive(Debug, Default)]
pub enum Stage {
    /// None is.
    #[default]
    None,
    /// The server is not fed since then.
    Parking(u64),
    /// It stands still until then.
    Dumping(u64, Rc<Image>),
    /// It is on the disk then.
    Storing(u64, Rc<Image>),
}

impl Stage {
    /// When something is to be done, if nothing happens.
    pub fn deadline(&self, now: u64) -> u64 {
        match self {
            Self::None => u64::MAX,
            Self::Parking(_) => now + LOOK_NS,
            Self::Dumping(until, _) | Self::Storing(until, _) => *until,
        }
    }
}

impl Replica {
    fn may_checkpoint(&self) -> bool {
        let follows = self.driver.phase() == Phase::Follower && self.driver.other_leader().is_some();
        self.server.is_some() && !self.driver.is_fenced() && follows
    }

    /// Takes one if it is its turn, and goes on with the one that it takes.
    pub(super) fn tend_checkpoint(&mut self, around: &mut Around<'_>) {
        let commit = self.driver.consensus.paxos().commit();
        let due = self.schedule.is_due(0, commit);
        let lag = self.driver.lag(self.server.as_ref().map(|server| &server.link));
        if due && matches!(self.stage, Stage::None) && self.may_checkpoint() && lag < MOST_LAG {
            self.driver.hold(true);
            self.stage = Stage::Parking(around.now);
        }
        match std::mem::take(&mut self.stage) {
            Stage::None => {}
            Stage::Parking(since) => {
                let rests = self.server.as_ref().is_some_and(|server| self.driver.rests(&server.link));
                if !self.may_checkpoint() || around.now >= since + PARK_NS {
                    return self.driver.hold(false);
                }
                self.stage = Stage::Parking(since);
                if rests {
                    self.dump(around);
                }
            }
            Stage::Dumping(until, image) if around.now >= until => {
                self.driver.hold(false);
                self.stage = Stage::Storing(around.now + around.rng.between(1, 10) * MILLIS, image);
            }
            Stage::Storing(until, image) if around.now >= until => {
                (around.trace)(format!("{} has a checkpoint at entry {}", self.id, image.held.entry));
                around.images.taken += 1;
                around.images.stored(self.id, image.held);
                self.shelf.put(image, self.transfer.lent(around.now));
            }
            other => self.stage = other,
        }
    }

    fn dump(&mut self, around: &mut Around<'_>) {
        let next = self.driver.given();
        let (Some(server), Some(begin), Some(entries)) =
            (&self.server, self.driver.consensus.begin_at(next), self.tap.entries(next))
        else {
            // It led a moment ago, and its last entry is not decided.
            (self.stage, _) = (Stage::None, self.driver.hold(false));
            return;
        };
        let image = Rc::new(Image {
            held: Held { entry: next, id: around.images.next_id() },
            entries: entries.to_vec(),
            connections: self.driver.connections(),
            listener: self.tap.listener,
            digest: server.digest(),
            begin,
        });
        around.images.note(&image, around.checker);
        self.stage = Stage::Dumping(around.now + around.rng.between(1, 20) * MILLIS, image);
    }

    /// The server is gone, or is about to be.
    pub(super) fn checkpoint_lost_server(&mut self) {
        self.driver.hold(false);
        if !matches!(self.stage, Stage::Storing(..)) {
            self.stage = Stage::None;
        }
    }

    /// The checkpoint to start a server from, if one can be restored: one whose last entry is that of the log.
    pub(super) fn usable_image(&self, around: &mut Around<'_>) -> Option<Rc<Image>> {
        let consensus = &self.driver.consensus;
        let mut usable = self.shelf.images().into_iter().filter(|image| {
            let last = image.held.entry - 1;
            let own = (last >= consensus.paxos().first()).then(|| consensus.read(last, last + 1, 1));
            own.and_then(Result::ok).is_some_and(|own| own.first() == image.entries.last())
        });
        let fails = around.now < around.plan.faults_until && around.rng.percent(FAILED_RESTORES);
        usable.nth(usize::from(fails))
    }
}
