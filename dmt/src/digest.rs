//! The rolling digest over everything a replica did, and the trace of its last operations.
//!
//! Replicas whose digests agree at the same entry did the same operations with the same results and wrote the same
//! bytes. The mixing is the multiply-and-fold of wyhash's inner step: not cryptographic, the peers are not enemies.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::bounds::TRACE_OPERATIONS;
use crate::thread::ThreadId;

const K0: u64 = 0xa076_1d64_78bd_642f;
const K1: u64 = 0xe703_7ed1_a0b4_28db;

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// `digest` continued by two words.
#[inline]
pub fn mix(digest: u64, a: u64, b: u64) -> u64 {
    fold(digest ^ a ^ K0, b ^ K1)
}

/// Digests that are continued side by side through many bytes: a multiplication need not wait for the one before it.
const LANES: usize = 4;
/// Bytes by which a digest is continued at once.
const CHUNK_BYTES: usize = 16;

#[inline]
fn mix_chunk(digest: u64, chunk: &[u8; CHUNK_BYTES]) -> u64 {
    let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| chunk[at + i]));
    mix(digest, word(0), word(8))
}

/// `digest` continued by bytes, their length included.
pub fn mix_bytes(mut digest: u64, bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<CHUNK_BYTES>();
    let (blocks, chunks) = chunks.as_chunks::<LANES>();
    if !blocks.is_empty() {
        let mut lanes: [u64; LANES] = core::array::from_fn(|lane| digest ^ lane as u64);
        for block in blocks {
            for (lane, chunk) in lanes.iter_mut().zip(block) {
                *lane = mix_chunk(*lane, chunk);
            }
        }
        digest = lanes.into_iter().fold(digest, |digest, lane| mix(digest, lane, K0));
    }
    for chunk in chunks {
        digest = mix_chunk(digest, chunk);
    }
    let mut words = [0u64; 2];
    for (i, &byte) in rest.iter().enumerate() {
        words[i / 8] |= u64::from(byte) << (8 * (i % 8));
    }
    mix(mix(digest, words[0], words[1]), bytes.len() as u64, K0)
}

/// What the trace keeps of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Traced {
    /// Logical time of the operation.
    pub tick: u64,
    /// Its object: an address or a number.
    pub object: u64,
    /// What it returned.
    pub result: i64,
    /// Who did it.
    pub thread: ThreadId,
    /// An [`crate::op::Op`].
    pub op: u16,
    /// Low half of the digest after it.
    pub digest: u32,
}

/// The last [`TRACE_OPERATIONS`] operations.
#[repr(C)]
pub struct Trace {
    operations: [Traced; TRACE_OPERATIONS],
    written: u64,
    /// Operations that are in the trace ring already, if they go there.
    streamed: u64,
}

impl Trace {
    #[inline]
    pub(crate) fn push(&mut self, traced: Traced) {
        self.operations[self.written as usize % TRACE_OPERATIONS] = traced;
        self.written += 1;
    }

    /// The next operation that is not in the trace ring yet.
    pub(crate) fn next_to_stream(&mut self) -> Option<Traced> {
        self.streamed = self.streamed.max(self.written.saturating_sub(TRACE_OPERATIONS as u64));
        if self.streamed == self.written {
            return None;
        }
        let traced = self.operations[self.streamed as usize % TRACE_OPERATIONS];
        self.streamed += 1;
        Some(traced)
    }

    /// The operations kept, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Traced> {
        let kept = self.written.min(TRACE_OPERATIONS as u64);
        (self.written - kept..self.written).map(|i| &self.operations[i as usize % TRACE_OPERATIONS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_the_split_count() {
        let base = mix_bytes(1, b"hello, replicated world");
        assert_ne!(base, mix_bytes(1, b"hello, replicated worlD"));
        assert_ne!(base, mix_bytes(2, b"hello, replicated world"));
        assert_ne!(base, mix_bytes(mix_bytes(1, b"hello, "), b"replicated world"));
        assert_ne!(mix_bytes(1, b"\0"), mix_bytes(1, b"\0\0"));
    }

    #[test]
    fn every_bit_of_many_bytes_and_their_order_count() {
        let bytes: [u8; 200] = core::array::from_fn(|i| i as u8);
        let base = mix_bytes(1, &bytes);
        for bit in 0..8 * bytes.len() {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(mix_bytes(1, &other), base, "bit {bit}");
        }
        for (one, two) in [(0, 16), (0, 64), (16, 32), (48, 64), (128, 144)] {
            let mut other = bytes;
            for at in 0..16 {
                other.swap(one + at, two + at);
            }
            assert_ne!(mix_bytes(1, &other), base, "chunks at {one} and {two}");
        }
        assert_ne!(mix_bytes(2, &bytes), base);
        assert_ne!(mix_bytes(1, &bytes[..192]), base);
    }
}
