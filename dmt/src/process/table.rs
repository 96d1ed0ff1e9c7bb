//! The process table.

use crate::affinity::Place;
use crate::bounds::MAX_PROCESSES;
use crate::grant::Grant;
use crate::kernel::Kernel;
use crate::process::interval::IntervalTimers;
use crate::process::outside::OutsideSignals;
use crate::process::queue::SignalQueue;
use crate::process::signal::{Disposition, SIGNALS};
use crate::process::signal_wait::SignalFds;
use crate::thread::{ThreadId, ThreadState};

/// Slot of the server's first process.
pub const FIRST_PROCESS: u16 = 1;
/// Pid of the container's init, the parent of the first process and of orphans.
pub const INIT_PID: i32 = 1;

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ProcessState {
    /// The slot is free.
    Free = 0,
    /// It has threads, or is being forked.
    Live = 1,
    /// It ended; its parent has not yet waited for it.
    Zombie = 2,
}

/// A change of a process that its parent was not yet told of by `wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Report {
    /// None.
    None = 0,
    /// It is stopped.
    Stopped = 1,
    /// It goes on again.
    Continued = 2,
}

/// One process.
#[repr(C)]
pub struct Process {
    /// Kernel process id in the replica's pid namespace; 0 until it is known.
    pub pid: i32,
    /// What it is doing.
    pub state: ProcessState,
    /// Where its carrier waits for the turn, if it has one.
    pub granted: Grant,
    /// Where it may run: a note of the platform.
    pub place: Place,
    /// Slot of its parent; 0 = init.
    pub parent: u16,
    /// Process group (a pid).
    pub group: i32,
    /// Session (a pid).
    pub session: i32,
    /// Real user, which its signals carry.
    pub uid: u32,
    /// Real group.
    pub gid: u32,
    /// Its first thread, whose kernel id is the pid.
    pub main: ThreadId,
    /// Threads that have not ended, those being created included.
    pub(crate) threads: u16,
    /// It was made by vfork, and its parent waits until it executes another program or ends.
    pub(crate) in_vfork: bool,
    /// Why it executed none, an errno.
    pub(crate) vfork_error: i32,
    /// Wait status of a zombie.
    pub(crate) status: i32,
    /// The signal that stopped it, or 0.
    pub(crate) stopped: i32,
    /// What its parent may still wait for, unless it ended.
    pub(crate) report: Report,
    /// The signal that it wants at its parent's end, or 0 (`PR_SET_PDEATHSIG`).
    pub(crate) death_signal: u8,
    /// Orphans among its descendants become its children (`PR_SET_CHILD_SUBREAPER`).
    pub(crate) subreaper: bool,
    /// Order, among all processes, of its end or else of what `report` says.
    pub(crate) changed: u64,
    /// Signals sent to the process and not yet taken by a thread.
    pub(crate) pending: u64,
    /// Logical time that its ended threads ran, ticks.
    pub(crate) ticks: u64,
    /// Logical time that its waited-for children ran, ticks.
    pub(crate) children_ticks: u64,
    /// What it does on each signal, by number.
    pub(crate) dispositions: [Disposition; SIGNALS + 1],
    /// Its interval timers.
    pub(crate) timers: IntervalTimers,
}

/// The table, and the signals that wait for its processes and threads.
#[repr(C)]
pub struct Processes {
    slots: [Process; MAX_PROCESSES],
    /// Slots that were ever used: what is looked through.
    high: u16,
    pub(crate) queue: SignalQueue,
    pub(crate) signalfds: SignalFds,
    pub(crate) outside: OutsideSignals,
    /// Ends, stops and continuations so far.
    pub(crate) changes: u64,
}

// What zeroing a slot relies on.
const _: () = assert!(ProcessState::Free as u8 == 0 && Report::None as u8 == 0);
// An interval timer's number and its process share a u16.
const _: () = assert!(MAX_PROCESSES < 256);

impl Processes {
    /// The slot of process `id` (1-based).
    #[inline]
    pub fn get(&self, id: u16) -> &Process {
        &self.slots[id as usize - 1]
    }

    /// The slot of process `id` (1-based), to change.
    #[inline]
    pub fn get_mut(&mut self, id: u16) -> &mut Process {
        &mut self.slots[id as usize - 1]
    }

    /// Takes the lowest free slot; `None` at [`MAX_PROCESSES`].
    pub(crate) fn allocate(&mut self) -> Option<u16> {
        let index = self.slots.iter().position(|p| p.state == ProcessState::Free)?;
        // SAFETY: an all-zero Process is valid: enums have a zero variant, the rest is integers.
        self.slots[index] = unsafe { core::mem::zeroed() };
        self.slots[index].state = ProcessState::Live;
        self.high = self.high.max(index as u16 + 1);
        Some(index as u16 + 1)
    }

    pub(crate) fn release(&mut self, id: u16) {
        let process = self.get_mut(id);
        (process.state, process.pid) = (ProcessState::Free, 0);
    }

    /// The last slot that was ever used.
    pub(crate) fn high(&self) -> u16 {
        self.high
    }

    /// Slots in use, in order.
    pub fn ids(&self) -> impl Iterator<Item = u16> + '_ {
        (1..=self.high).filter(|&id| self.get(id).state != ProcessState::Free)
    }

    /// The process with this pid, zombies included.
    pub fn by_pid(&self, pid: i32) -> Option<u16> {
        self.ids().find(|&id| self.get(id).pid == pid)
    }
}

impl Kernel {
    /// The process of a thread.
    #[inline]
    pub fn process_of(&self, thread: ThreadId) -> u16 {
        self.threads.get(thread).process
    }

    /// The first thread, in slot order from `from`, of `process` that has not ended.
    pub(crate) fn next_thread_of(&self, process: u16, from: ThreadId) -> Option<ThreadId> {
        self.threads.ids().skip_while(|&id| id < from).find(|&id| {
            let thread = self.threads.get(id);
            thread.process == process && !matches!(thread.state, ThreadState::Free | ThreadState::Ended)
        })
    }

    /// Threads of `process` that have not ended, in slot order.
    pub fn threads_of(&self, process: u16) -> impl Iterator<Item = ThreadId> + '_ {
        let mut from = 1;
        core::iter::from_fn(move || {
            let id = self.next_thread_of(process, from)?;
            from = id + 1;
            Some(id)
        })
    }

    /// True once the first process has registered.
    pub fn has_processes(&self) -> bool {
        self.processes.ids().next().is_some()
    }

    /// The thread that continues as the only one of process `pid` in its new image after `execve`: the one that holds
    /// the turn. `None` if no live process has this pid.
    pub fn thread_of_pid(&self, pid: i32) -> Option<ThreadId> {
        let process = self.processes.by_pid(pid)?;
        let turn = self.sched.turn;
        if turn != 0 && self.process_of(turn) == process {
            return Some(turn);
        }
        self.next_thread_of(process, 1)
    }
}
