//! On which processors the server's threads may run at the moment: notes of the platform, which nothing deterministic reads.

/// Processors that a [`CpuMask`] can name.
pub const MAX_PROCESSORS: u32 = 1024;
const WORD_BITS: u32 = u64::BITS;

/// A set of processors, laid out as the kernel's `cpu_set_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuMask([u64; (MAX_PROCESSORS / WORD_BITS) as usize]);

impl Default for CpuMask {
    fn default() -> Self {
        Self([0; (MAX_PROCESSORS / WORD_BITS) as usize])
    }
}

impl CpuMask {
    /// One processor; none at all if its number is not below [`MAX_PROCESSORS`].
    pub fn only(processor: u32) -> Self {
        let mut mask = Self::default();
        if let Some(word) = mask.0.get_mut((processor / WORD_BITS) as usize) {
            *word = 1 << (processor % WORD_BITS);
        }
        mask
    }

    /// Whether the processor is in the set.
    pub fn has(&self, processor: u32) -> bool {
        self.0
            .get((processor / WORD_BITS) as usize)
            .is_some_and(|word| word >> (processor % WORD_BITS) & 1 != 0)
    }

    /// Whether no processor is.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

/// Where a thread may run. All zeroes is "unknown", as for a thread that inherited its creator's set.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// On all processors that the server has.
    pub const FREE: Self = Self(1);

    /// On one.
    pub fn bound(processor: u32) -> Self {
        Self(processor + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_holds_the_processors_that_it_can_name() {
        for processor in [0, 1, 63, 64, MAX_PROCESSORS - 1] {
            let mask = CpuMask::only(processor);
            assert!(mask.has(processor) && !mask.is_empty());
            assert!(!mask.has(processor + 1));
        }
        assert!(CpuMask::only(MAX_PROCESSORS).is_empty());
        assert!(!CpuMask::default().has(MAX_PROCESSORS));
    }
}
