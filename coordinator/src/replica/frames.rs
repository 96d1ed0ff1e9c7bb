//! What travels between two replicas: a length, a kind, and either a Paxos message or a control message.

use serde::{Deserialize, Serialize};

use super::config::NewFile;
use super::digests::Digest;
use super::holdings::Holds;
use super::status::ReplicaStatus;
use crate::checkpoint::{PIECE_BYTES, Piece, Want};
use crate::paxos::{Change, ChangeError, Message, wire};

/// Bytes in front of a frame: length of the body (`u32`), kind (`u8`).
const HEADER_BYTES: usize = 5;
/// Body of a frame at the most: a batch of entries with all their heads.
pub const MAX_FRAME_BYTES: usize = wire::MAX_FRAME_BYTES;

/// Version of what replicas say to each other. It is the first thing that they say, and whoever knows another one hangs up.
pub const WIRE_VERSION: u32 = 3;
const MAGIC: [u8; 4] = *b"BRLG";

const KIND_HELLO: u8 = 0;
const KIND_PAXOS: u8 = 1;
const KIND_CONTROL: u8 = 2;
const KIND_PIECE: u8 = 3;
/// In front of the bytes of a piece: entry, id, kind, offset, bytes of all, checksum; little-endian.
const PIECE_HEADER_BYTES: usize = 8 + 4 + 1 + 8 + 8 + 4;

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
    /// What a replica on another machine says about itself, for its peers' supervisors.
    Status(Box<ReplicaStatus>),
    /// A signal for the server, from the supervisor of a replica that does not lead.
    Signal {
        /// See [`super::config::ToReplica::Signal`].
        id: u64,
        /// Its number.
        signal: i32,
    },
    /// Asks for nothing: it is there for the peer's kernel to acknowledge (see [`super::liveness`]).
    Probe,
    /// A replica's server starts from nothing: earlier digests of it do not count.
    Restarted,
    /// A change of the members, from the supervisor of a replica that does not lead.
    Change {
        /// See [`super::config::ToReplica::Change`].
        id: u64,
        /// What.
        change: Change,
    },
    /// The leader's answer to that.
    Changed {
        /// Of the request.
        id: u64,
        /// See [`super::config::FromReplica::Changed`].
        answer: Result<u64, ChangeError>,
    },
    /// To a replica that is no member any more: since when.
    Removed(u64),
    /// A file that gets another content, from the supervisor of a replica that does not lead.
    Replace {
        /// See [`super::config::ToReplica::Replace`].
        id: u64,
        /// The file.
        file: NewFile,
    },
    /// Which checkpoints the sender holds.
    Holds(Holds),
    /// Asks for a piece of a checkpoint.
    Fetch(Want),
    /// There is no such piece.
    NoPiece {
        /// What was asked for.
        want: Want,
        /// Why not.
        why: String,
    },
}

/// The first frame in each direction. Its layout is that of all versions: magic, version, fingerprint, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// [`WIRE_VERSION`] of the sender.
    pub version: u32,
    /// What its log belongs to.
    pub fingerprint: [u8; 16],
}

impl Hello {
    /// What keeps a replica with the own `fingerprint` from talking to the one that said this.
    pub fn complaint(&self, fingerprint: [u8; 16]) -> Option<String> {
        if self.version != WIRE_VERSION {
            return Some(format!(
                "it speaks version {} of the protocol between replicas, and this one version {WIRE_VERSION}: install the \
                 same Brolga on both",
                self.version
            ));
        }
        let same = self.fingerprint == fingerprint;
        (!same)
            .then(|| "it belongs to another cluster, or its cluster.toml is not the same as here".to_owned())
    }

    fn read(body: &[u8]) -> Option<Self> {
        let (magic, rest) = body.split_first_chunk::<4>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let fingerprint = *rest.first_chunk::<16>()?;
        (*magic == MAGIC).then(|| Self { version: u32::from_le_bytes(*version), fingerprint })
    }
}

/// A frame from a peer.
#[derive(Debug)]
pub enum Frame {
    /// The first one.
    Hello(Hello),
    /// For Paxos.
    Paxos(Message),
    /// For the replica.
    Control(Control),
    /// A piece of a checkpoint.
    Piece(Piece),
}

/// The peer does not speak our language.
#[derive(Debug, thiserror::Error)]
#[error("a frame of kind {kind} with {len} bytes cannot be read: {why}")]
pub struct FrameError {
    kind: u8,
    len: usize,
    why: String,
}

/// Appends the first frame.
pub fn put_hello(hello: Hello, to: &mut Vec<u8>) {
    put(KIND_HELLO, to, |to| {
        to.extend_from_slice(&MAGIC);
        to.extend_from_slice(&hello.version.to_le_bytes());
        to.extend_from_slice(&hello.fingerprint);
    });
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

/// Appends a piece of a checkpoint.
pub fn put_piece(piece: &Piece, to: &mut Vec<u8>) {
    put(KIND_PIECE, to, |to| {
        let Want { entry, id, listing, offset, .. } = piece.want;
        to.extend_from_slice(&entry.to_le_bytes());
        to.extend_from_slice(&id.to_le_bytes());
        to.push(u8::from(listing));
        to.extend_from_slice(&offset.to_le_bytes());
        to.extend_from_slice(&piece.total.to_le_bytes());
        to.extend_from_slice(&piece.crc.to_le_bytes());
        to.extend_from_slice(&piece.bytes);
    });
}

fn read_piece(body: &[u8]) -> Option<Piece> {
    let (header, bytes) = body.split_at_checked(PIECE_HEADER_BYTES)?;
    let word = |at: usize, len: usize| {
        header[at..at + len].iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
    };
    let want = Want {
        entry: word(0, 8),
        id: word(8, 4) as u32,
        listing: header[12] != 0,
        offset: word(13, 8),
        len: bytes.len() as u32,
    };
    let fits = bytes.len() as u64 <= PIECE_BYTES;
    fits.then(|| Piece { want, total: word(21, 8), crc: word(29, 4) as u32, bytes: bytes.to_vec() })
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
        KIND_HELLO => Frame::Hello(Hello::read(body).ok_or_else(|| error("it is no greeting".to_owned()))?),
        KIND_PAXOS => Frame::Paxos(wire::decode(body).map_err(|e| error(e.to_string()))?),
        KIND_CONTROL => Frame::Control(postcard::from_bytes(body).map_err(|e| error(e.to_string()))?),
        KIND_PIECE => Frame::Piece(read_piece(body).ok_or_else(|| error("it is no piece".to_owned()))?),
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
    fn a_greeting_of_another_version_or_cluster_is_refused_by_name() {
        let mut bytes = Vec::new();
        put_hello(Hello { version: WIRE_VERSION + 1, fingerprint: [7; 16] }, &mut bytes);
        // A later version may say more.
        bytes.extend([1, 2]);
        bytes[0] += 2;
        let Some((Frame::Hello(hello), _)) = take(&bytes).unwrap() else { panic!() };
        assert!(hello.complaint([7; 16]).unwrap().contains("speaks version 4"));
        assert!(
            Hello { version: WIRE_VERSION, ..hello }.complaint([8; 16]).unwrap().contains("cluster.toml")
        );
        assert_eq!(Hello { version: WIRE_VERSION, ..hello }.complaint([7; 16]), None);
        bytes[5] = b'X';
        assert!(take(&bytes).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(take(&[0, 0, 0, 0, 9]).is_err());
        assert!(take(&[255, 255, 255, 255, KIND_PAXOS]).is_err());
        assert!(take(&[1, 0, 0, 0, KIND_CONTROL, 255]).is_err());
    }
}
