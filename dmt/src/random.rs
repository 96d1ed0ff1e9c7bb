//! The server's only source of randomness: a ChaCha20 stream (RFC 8439) keyed by the secret in entry 0.
//!
//! Whoever holds the turn takes the next bytes, so all replicas hand out the same bytes to the same calls.

/// The stream. All zeroes is a valid (unkeyed) one; [`Random::seed`] keys it.
#[repr(C)]
pub struct Random {
    key: [u32; 8],
    counter: u64,
    block: [u8; 64],
    /// Bytes of `block` not yet handed out.
    left: u32,
}

impl Random {
    /// Keys the stream and starts it anew.
    pub fn seed(&mut self, secret: &[u8; 32]) {
        for (word, bytes) in self.key.iter_mut().zip(secret.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        self.counter = 0;
        self.left = 0;
    }

    /// Fills `out` with the stream's next bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.left == 0 {
                self.block = block(&self.key, self.counter);
                self.counter += 1;
                self.left = 64;
            }
            *byte = self.block[64 - self.left as usize];
            self.left -= 1;
        }
    }

    /// The stream's next eight bytes.
    pub fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// One block: constants, key, 64-bit counter, zero nonce (the original layout; RFC 8439 splits the same words 32/96).
fn block(key: &[u32; 8], counter: u64) -> [u8; 64] {
    let mut state = [0u32; 16];
    state[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    state[4..12].copy_from_slice(key);
    state[12] = counter as u32;
    state[13] = (counter >> 32) as u32;
    let mut x = state;
    for _ in 0..10 {
        for [a, b, c, d] in [
            [0, 4, 8, 12],
            [1, 5, 9, 13],
            [2, 6, 10, 14],
            [3, 7, 11, 15],
            [0, 5, 10, 15],
            [1, 6, 11, 12],
            [2, 7, 8, 13],
            [3, 4, 9, 14],
        ] {
            quarter(&mut x, a, b, c, d);
        }
    }
    let mut out = [0; 64];
    for (i, bytes) in out.chunks_exact_mut(4).enumerate() {
        bytes.copy_from_slice(&x[i].wrapping_add(state[i]).to_le_bytes());
    }
    out
}

fn quarter(x: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    for (turn, (p, q, r)) in [(16, (a, b, d)), (12, (c, d, b)), (8, (a, b, d)), (7, (c, d, b))] {
        x[p] = x[p].wrapping_add(x[q]);
        x[r] = (x[r] ^ x[p]).rotate_left(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_zero_key_vector_of_rfc_8439_appendix_a1() {
        // SAFETY: all zeroes is a valid stream.
        let mut random: Random = unsafe { core::mem::zeroed() };
        random.seed(&[0; 32]);
        let mut out = [0; 16];
        random.fill(&mut out);
        assert_eq!(
            out,
            [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd, 0x28]
        );
    }

    #[test]
    fn pieces_equal_the_whole() {
        // SAFETY: all zeroes is a valid stream.
        let (mut a, mut b): (Random, Random) = unsafe { core::mem::zeroed() };
        a.seed(&[7; 32]);
        b.seed(&[7; 32]);
        let mut whole = [0; 200];
        a.fill(&mut whole);
        let mut pieces = [0; 200];
        for piece in pieces.chunks_mut(13) {
            b.fill(piece);
        }
        assert_eq!(whole, pieces);
        assert_eq!(a.next_u64(), b.next_u64());
    }
}
