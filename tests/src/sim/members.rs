//! Changes of the members, as `coordinator::replica::stewardship` makes them.

use coordinator::paxos::{Change, ChangeError};
use coordinator::replica::frames::Control;
use coordinator::replica::membership::members_event;

use super::mail::Around;
use super::replica::Replica;

/// See the module.
#[derive(Debug, Default)]
pub struct Stewardship {
    /// Epoch of the last decided configuration that was looked at.
    seen: u64,
    /// Leadership and epoch of the change that was made an event last.
    made: (u64, u64),
    /// A member said that this replica is none since this epoch.
    pub(super) told: Option<u64>,
    /// It is none any more, and has to end.
    pub removed: bool,
}

impl Replica {
    /// Makes an event of a change, if this replica leads and it may be made.
    pub fn change_members(&mut self, change: &Change, around: &mut Around<'_>) -> Result<(), ChangeError> {
        if !self.driver.serves() {
            return Err(ChangeError::NotLeader);
        }
        let paxos = self.driver.consensus.paxos();
        let next = paxos.prepare_change(change)?;
        let made = (paxos.ballot().0, next.epoch);
        if self.stewardship.made == made {
            return Err(ChangeError::Busy(next.epoch));
        }
        let (header, payload) = members_event(&next);
        let link = self.server.as_mut().map(|server| &mut server.link);
        if !self.driver.intake(link).is_some_and(|(intake, _)| intake.put(&header, &payload)) {
            return Err(ChangeError::NewLeader);
        }
        self.stewardship.made = made;
        (around.trace)(format!("{} changes the members to epoch {}: {change:?}", self.id, next.epoch));
        Ok(())
    }

    /// Goes on with what was asked for, and takes notice of what was decided.
    pub(super) fn tend_members(&mut self, around: &mut Around<'_>) {
        if self.driver.serves()
            && let Some(change) = self.driver.consensus.paxos().next_change()
        {
            // What cannot be made now is tried again with the next turn.
            let _ = self.change_members(&change, around);
        }
        let members = self.driver.consensus.paxos().decided_members().clone();
        if self.driver.leads() {
            around.checker.leads(self.id, &members);
        }
        if members.epoch > self.stewardship.seen {
            self.stewardship.seen = members.epoch;
            let place = members.list.iter().position(|member| member.id == self.id);
            self.schedule.renew(place.map_or(0, |at| at as u8 + 1), members.list.len() as u8);
            for peer in self.connected.clone() {
                self.tell_if_removed(peer, around);
            }
        }
        let removed = members.epoch > 0 && members.highest >= self.id && !members.has(self.id);
        self.stewardship.removed |=
            removed || self.stewardship.told.is_some_and(|epoch| epoch > members.epoch);
    }

    /// A replica that is no member any more hears it from every member that it meets.
    pub(super) fn tell_if_removed(&mut self, peer: u8, around: &mut Around<'_>) {
        let paxos = self.driver.consensus.paxos();
        if paxos.is_removed(peer) {
            let epoch = paxos.decided_members().epoch;
            Self::send_control(peer, &Control::Removed(epoch), around);
        }
    }
}
