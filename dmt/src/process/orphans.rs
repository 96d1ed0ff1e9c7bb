//! Children that outlive their parent: whose they become, and what they hear of it.

use crate::bounds::MAX_PROCESSES;
use crate::call::Call;
use crate::kernel::Kernel;
use crate::process::abi::{EINVAL, SI_USER};
use crate::process::queue::Target;
use crate::process::signal::{PendingSignal, SIGNALS};
use crate::process::table::{Process, ProcessState};

impl Kernel {
    /// Children of a parent that ends get the signal that they asked for, and another parent: the nearest of their ancestors that
    /// takes orphans, else init, who reaps them at once when they end.
    pub(crate) fn orphan_children(&mut self, parent: u16) {
        let heir = self.subreaper_above(parent);
        let from = self.processes.get(parent);
        let (pid, uid) = (from.pid, from.uid);
        for id in 1..=self.processes.high() {
            let process = self.processes.get_mut(id);
            if process.state == ProcessState::Free || process.parent != parent {
                continue;
            }
            process.parent = heir;
            let signal = i32::from(process.death_signal);
            let ended = process.state == ProcessState::Zombie;
            if ended && heir == 0 {
                self.processes.release(id);
                continue;
            }
            if ended {
                self.tell_parent(id, heir);
                continue;
            }
            if signal != 0 {
                let info = PendingSignal { signal, code: SI_USER, pid, uid, ..PendingSignal::NONE };
                self.send_signal(Target::Process(id), info);
            }
            self.hang_up_jobs(id, parent);
        }
    }

    /// The nearest ancestor of a process that takes orphans; 0 = init.
    fn subreaper_above(&self, process: u16) -> u16 {
        let mut at = self.processes.get(process).parent;
        for _ in 0..MAX_PROCESSES {
            if at == 0 || self.processes.get(at).subreaper {
                break;
            }
            at = self.processes.get(at).parent;
        }
        at
    }
}

impl Call<'_> {
    fn of_itself<T>(&self, f: impl FnOnce(&mut Process) -> T) -> T {
        self.with(|k| {
            let own = k.process_of(self.thread());
            f(k.processes.get_mut(own))
        })
    }

    /// `PR_SET_PDEATHSIG`: 0 or -`EINVAL`. It counts when the parent ends, not when its thread ends that made this process. Costs no tick.
    pub fn set_death_signal(&self, signal: u64) -> i64 {
        if signal > SIGNALS as u64 {
            return -EINVAL;
        }
        self.of_itself(|process| process.death_signal = signal as u8);
        0
    }

    /// `PR_GET_PDEATHSIG`. Costs no tick.
    pub fn death_signal(&self) -> i32 {
        self.of_itself(|process| process.death_signal.into())
    }

    /// `PR_SET_CHILD_SUBREAPER`. Costs no tick.
    pub fn set_subreaper(&self, on: bool) {
        self.of_itself(|process| process.subreaper = on);
    }

    /// `PR_GET_CHILD_SUBREAPER`. Costs no tick.
    pub fn is_subreaper(&self) -> bool {
        self.of_itself(|process| process.subreaper)
    }
}
