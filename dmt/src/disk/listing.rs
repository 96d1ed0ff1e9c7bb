//! The order of a directory: by a hash of the names, which is also the position that `telldir` and `d_off` give. Like
//! the kernel's order it means nothing, but it is the same wherever the same names are, and a position stays good when
//! names come and go, so a program may delete what it lists.

/// Position of a directory's end.
pub const END: u64 = 1 << 62;
/// Positions of `.` and `..`, which come first.
const SELF: u64 = 1;
const PARENT: u64 = 2;

/// The position behind `name`.
pub fn position(name: &[u8]) -> u64 {
    match name {
        b"." => SELF,
        b".." => PARENT,
        // FNV-1a, its bits mixed once more, because names differ in their last letters mostly.
        _ => {
            let hash = name
                .iter()
                .fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
            let mixed = (hash ^ hash >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            PARENT + 1 + (mixed >> 3) % (END - PARENT - 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_differ_and_lie_before_the_end() {
        let mut seen: Vec<_> = (0..100_000).map(|i| position(format!("file-{i}").as_bytes())).collect();
        assert!(seen.iter().all(|&at| at > position(b"..") && at < END));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100_000);
        assert!(position(b".") < position(b".."));
    }
}
