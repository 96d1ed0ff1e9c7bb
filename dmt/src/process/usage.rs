//! CPU time as replicas can agree on it: a fixed price for each operation that a thread made while it had the turn.

use crate::call::Call;
use crate::kernel::Kernel;
use crate::process::abi::*;
use crate::thread::ThreadId;

/// CPU time that one operation counts as, nanoseconds: about what servers need between two operations.
pub const TICK_CPU_NS: u64 = 1000;

impl Kernel {
    /// Ticks that a thread has had, the current turn included.
    fn ticks_of(&self, id: ThreadId) -> u64 {
        let current = if self.sched.turn == id { self.sched.tick - self.sched.turn_since } else { 0 };
        self.threads.get(id).ticks + current
    }

    /// A thread ends: its time becomes its process's.
    pub(crate) fn fold_ticks(&mut self, id: ThreadId) {
        let ticks = self.ticks_of(id);
        if self.sched.turn == id {
            self.sched.turn_since = self.sched.tick;
        }
        let thread = self.threads.get_mut(id);
        thread.ticks = 0;
        let process = thread.process;
        self.processes.get_mut(process).ticks += ticks;
    }

    /// CPU time of `RUSAGE_SELF`, `RUSAGE_CHILDREN` or `RUSAGE_THREAD`, nanoseconds.
    pub fn cpu_time(&self, me: ThreadId, who: i32) -> u64 {
        let process = self.processes.get(self.process_of(me));
        let ticks = match who {
            RUSAGE_THREAD => self.ticks_of(me),
            RUSAGE_CHILDREN => process.children_ticks,
            _ => {
                let id = self.process_of(me);
                let live: u64 = self.threads_of(id).map(|t| self.ticks_of(t)).sum();
                process.ticks + live
            }
        };
        ticks * TICK_CPU_NS
    }
}

impl Call<'_> {
    /// `getrusage`, `times`, `clock`: CPU time in nanoseconds (user time; system time is always 0).
    pub fn cpu_time(&self, who: i32) -> u64 {
        self.with(|k| k.cpu_time(self.thread(), who))
    }
}
