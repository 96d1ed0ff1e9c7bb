//! What a simulated replica hears of its peers.

use coordinator::paxos::Input;
use coordinator::replica::frames::{self, Control, Frame};

use super::check::rule;
use super::mail::{Around, Mail};
use super::replica::Replica;

impl Replica {
    /// Takes mail. What is for Paxos is returned: it has its turn later.
    pub(super) fn read_mail(&mut self, mail: Mail, around: &mut Around<'_>) -> Option<Input> {
        match mail {
            Mail::Frame(from, frame) => return self.read_frame(from, &frame, around),
            Mail::PeerUp(id) => {
                self.connected.insert(id);
                self.tell_if_removed(id, around);
                return Some(Input::PeerConnected(id));
            }
            Mail::PeerDown(id) => {
                self.connected.remove(&id);
                self.transfer.holdings.lose(id);
                return Some(Input::PeerDisconnected(id));
            }
            client => self.hear_client(client, around),
        }
        None
    }

    fn read_frame(&mut self, from: u8, bytes: &[u8], around: &mut Around<'_>) -> Option<Input> {
        match frames::take(bytes) {
            Ok(Some((frame, len))) if len == bytes.len() => match frame {
                Frame::Paxos(message) => return Some(Input::Message { from, message }),
                Frame::Control(Control::Holds(holds)) => {
                    self.transfer.holdings.hear(around.now, from, holds);
                }
                Frame::Control(Control::Fetch(want)) => self.lend_piece(from, want, around),
                Frame::Control(Control::NoPiece { want, .. }) => self.no_piece(from, want),
                Frame::Control(Control::Removed(epoch)) => self.stewardship.told = Some(epoch),
                Frame::Piece(piece) => self.take_piece(from, &piece, around),
                // Nobody here says anything else.
                Frame::Control(_) | Frame::Hello(_) => {}
            },
            other => {
                let detail = format!("replica {} reads a frame as {other:?}", self.id);
                around.checker.fail(rule::AGREEMENT, detail);
            }
        }
        None
    }
}
