//! What travels between two replicas: a length, a kind, and either a Paxos message or a control message.

use serde::{Deserialize, Serialize};

use super::digests::Digest;
use crate::paxos::{Message, wire};

/// Bytes in front of a frame: length of the body (`u32`), kind (`u8`).
const HEADER_BYTES: usize = 5;
/// Body of a frame at the most: a batch of entries with all their heads.
pub const MAX_FRAME_BYTES: usize = wire::MAX_FRAME_BYTES;

const KIND_PAXOS: u8 = 1;
const KIND_CONTROL: u8 = 2;

/// Messages beside Paxos.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// Follower to leader: what its server's digests were.
    Digests(Vec<Digest>),
    /// Leader to follower: all digests before this entry are equal.
    Agreed(u64),
    /// Leader to follower: your server is somewhere else than mine.
    Diverged {
        /// The leader's digest.
        expected: Digest,
        /// The follower's.
        actual: Digest,
    },
    /// A replica's server starts from nothing: earlier digests of it do not count.
    Restarted,
}

/// A frame from a peer.
#[derive(Debug)]
pub enum Frame {
    /// For Paxos.
    Paxos(Message),
    /// For the replica.
    Control(Control),
}

/// The peer does not speak our language.
#[derive(Debug, thiserror::Error)]
#[error("a frame of kind {kind} with {len} bytes cannot be read: {why}")]
pub struct FrameError {
    kind: u8,
    len: usize,
    why: String,
}

/// Appends a Paxos message.
pub fn put_message(message: &Message, to: &mut Vec<u8>) {
    put(KIND_PAXOS, to, |to| {
        // Writing to memory cannot fail.
        let _ = wire::encode(message, to);
    });
}

/// Appends a control message.
pub fn put_control(control: &Control, to: &mut Vec<u8>) {
    put(KIND_CONTROL, to, |to| {
        if let Ok(bytes) = postcard::to_stdvec(control) {
            to.extend_from_slice(&bytes);
        }
    });
}

fn put(kind: u8, to: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = to.len();
    to.extend_from_slice(&[0, 0, 0, 0, kind]);
    body(to);
    let len = (to.len() - start - HEADER_BYTES) as u32;
    to[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// Splits the first whole frame off `bytes`: the frame and its length in all, or `None` if more bytes are needed.
pub fn take(bytes: &[u8]) -> Result<Option<(Frame, usize)>, FrameError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let kind = header[4];
    let error = |why: String| FrameError { kind, len, why };
    if len > MAX_FRAME_BYTES {
        return Err(error("it is too long".to_owned()));
    }
    let Some(body) = bytes.get(HEADER_BYTES..HEADER_BYTES + len) else { return Ok(None) };
    let frame = match kind {
        KIND_PAXOS => Frame::Paxos(wire::decode(body).map_err(|e| error(e.to_string()))?),
        KIND_CONTROL => Frame::Control(postcard::from_bytes(body).map_err(|e| error(e.to_string()))?),
        _ => return Err(error("the kind is unknown".to_owned())),
    };
    Ok(Some((frame, HEADER_BYTES + len)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::Ballot;
    use proptest::prelude::*;

    #[test]
    fn frames_come_out_one_by_one_and_only_whole() {
        let mut bytes = Vec::new();
        put_message(&Message::Nack { promised: Ballot::new(3, 2) }, &mut bytes);
        let first = bytes.len();
        put_control(&Control::Agreed(7), &mut bytes);
        for cut in 0..first {
            assert!(take(&bytes[..cut]).unwrap().is_none());
        }
        let (frame, len) = take(&bytes).unwrap().unwrap();
        assert!(matches!(frame, Frame::Paxos(Message::Nack { .. })));
        let (frame, rest) = take(&bytes[len..]).unwrap().unwrap();
        assert!(matches!(frame, Frame::Control(Control::Agreed(7))));
        assert_eq!(len + rest, bytes.len());
    }

    proptest! {
        #[test]
        fn bytes_of_anybody_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..4_u8, fits in any::<bool>()) {
            if fits && bytes.len() >= HEADER_BYTES {
                let body = (bytes.len() - HEADER_BYTES) as u32;
                bytes[..4].copy_from_slice(&body.to_le_bytes());
                bytes[4] = kind;
            }
            if let Ok(Some((_, len))) = take(&bytes) {
                prop_assert!(len <= bytes.len());
            }
        }

        #[test]
        fn a_changed_byte_never_panics(entry in any::<u64>(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let digest = Digest { entry, tick: 1, value: 2 };
            let mut bytes = Vec::new();
            put_control(&Control::Digests(vec![digest; 5]), &mut bytes);
            put_message(&Message::Nack { promised: Ballot::new(3, 2) }, &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = with;
            let mut rest = &bytes[..];
            while let Ok(Some((_, len))) = take(rest) {
                rest = &rest[len..];
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(take(&[0, 0, 0, 0, 9]).is_err());
        assert!(take(&[255, 255, 255, 255, KIND_PAXOS]).is_err());
        assert!(take(&[1, 0, 0, 0, KIND_CONTROL, 255]).is_err());
    }
}
