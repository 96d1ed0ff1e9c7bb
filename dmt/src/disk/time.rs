//! A time stamp of a file.

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Seconds since the Unix epoch, and nanoseconds of the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct Time {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below a thousand million.
    pub nanoseconds: i64,
}

impl Time {
    /// A time of the virtual clock.
    pub fn of_clock(ns: u64) -> Self {
        Self { seconds: (ns / SECOND_NS) as i64, nanoseconds: (ns % SECOND_NS) as i64 }
    }
}
