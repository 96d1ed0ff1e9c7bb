//! pthread and futex objects. Their state lies in the server's own memory, in the object itself; only waits are in the
//! arena. An uncontended operation is plain loads and stores, because the caller holds the turn.
//!
//! The layouts keep glibc's fields for what its `*_init` functions and static initialisers set (type, sharing, clock),
//! and use the rest freely: every function of the family is ours, so nobody else looks.
//!
//! All functions here are unsafe for one reason: the pointer must be to a live object of the family in the calling
//! process, as POSIX requires of the program.

pub mod barrier;
pub mod cond;
pub mod futex;
pub mod mutex;
pub mod once;
pub mod rwlock;
pub mod semaphore;
pub mod spin;
#[cfg(test)]
mod tests;

use crate::call::Call;
use crate::park::{Space, WaitKey};

/// A deadline as the pthread calls take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// None.
    Never,
    /// On `CLOCK_REALTIME`, nanoseconds.
    Real(u64),
    /// On `CLOCK_MONOTONIC`, nanoseconds.
    Monotonic(u64),
}

/// Tells the number of a shared object from an address.
const SHARED_OBJECT: u64 = 1 << 63;

impl Call<'_> {
    /// The deadline on the virtual clock.
    pub fn deadline(&self, deadline: Deadline) -> Option<u64> {
        match deadline {
            Deadline::Never => None,
            Deadline::Real(at) => Some(at),
            Deadline::Monotonic(at) => Some(self.with(|k| k.from_monotonic(at))),
        }
    }

    /// The key of a wait on a pthread object. If processes share it, it has a `number`, which it gets at its first wait:
    /// they may have mapped it at different addresses.
    fn object_key(&self, space: Space, address: u64, number: Option<&mut u32>) -> WaitKey {
        let Some(number) = number else { return self.address_key(space, address, false) };
        if *number == 0 {
            *number = self.with(|k| {
                k.shared_objects += 1;
                k.shared_objects
            });
        }
        WaitKey::number(space, SHARED_OBJECT | u64::from(*number))
    }

    /// The key of a wait on an object of this process, or of all processes if it is shared.
    fn address_key(&self, space: Space, address: u64, shared: bool) -> WaitKey {
        let process = if shared { 0 } else { self.with(|k| k.threads.get(self.thread()).process) };
        WaitKey::within(process, space, address)
    }
}

/// Linux error numbers that these calls return.
pub(crate) mod errno {
    pub const EPERM: i32 = 1;
    pub const EINTR: i32 = 4;
    pub const EAGAIN: i32 = 11;
    pub const EBUSY: i32 = 16;
    pub const EINVAL: i32 = 22;
    pub const EDEADLK: i32 = 35;
    pub const ENOSYS: i32 = 38;
    pub const EOVERFLOW: i32 = 75;
    pub const ETIMEDOUT: i32 = 110;
    pub const EOWNERDEAD: i32 = 130;
    pub const ENOTRECOVERABLE: i32 = 131;
}
