//! The server's processes and their signals. (Being built.)

use crate::bounds::{MAX_FDS, MAX_PROCESSES};
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::thread::ThreadId;

/// A signal to be delivered to the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PendingSignal {
    /// Its number.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_pid`.
    pub pid: i32,
    /// `si_uid`.
    pub uid: u32,
    /// `si_value`, or the exit status for SIGCHLD.
    pub value: u64,
}

/// One process.
#[repr(C)]
pub struct Process {
    /// Kernel process id in the replica's pid namespace; 0 = the slot is free.
    pub pid: i32,
    /// File numbers by descriptor; 0 = not emulated.
    pub fds: [u32; MAX_FDS],
}

/// The table.
#[repr(C)]
pub struct Processes {
    slots: [Process; MAX_PROCESSES],
}

impl Processes {
    /// The slot of process `id` (1-based).
    pub fn get(&self, id: u16) -> &Process {
        &self.slots[id as usize - 1]
    }

    /// The slot of process `id` (1-based), to change.
    pub fn get_mut(&mut self, id: u16) -> &mut Process {
        &mut self.slots[id as usize - 1]
    }
}

impl Kernel {
    /// The next signal that `me` must handle now.
    #[inline]
    pub fn next_signal(&mut self, _me: ThreadId) -> Option<PendingSignal> {
        None
    }
    /// A signal from outside for the first process.
    pub fn signal_from_outside(&mut self, _shared: &Shared, _signal: i32) {}
    /// An interval timer of a process expired.
    pub fn interval_timer_fired(&mut self, _shared: &Shared, _process: u16) {}
}
