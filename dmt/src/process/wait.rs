//! Waiting for children.

use crate::call::Call;
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::process::abi::*;
use crate::process::table::{Process, ProcessState, Report};
use crate::thread::Wake;

/// What a process waits for that waits for its children.
pub(crate) fn child_key(parent: u16) -> WaitKey {
    WaitKey::number(Space::Child, u64::from(parent))
}

impl Call<'_> {
    /// `wait4`, `waitpid`, `waitid`: returns the pid of a child that ended (`WEXITED`), was stopped (`WSTOPPED`) or went on
    /// (`WCONTINUED`), in order of these changes, and its wait status; 0 with `WNOHANG` if there is none; -`ECHILD`,
    /// -`EINTR`. `selector`: a pid, -1 = any, 0 = own group, -group. Of a child that ended preload then reaps the real
    /// one under the same turn, unless `WNOWAIT` keeps it waitable.
    pub fn wait_child(&self, selector: i32, options: i32, status: &mut i32) -> i64 {
        let mut waited = false;
        self.op(Op::Wait, selector as u64, |k, me| {
            let parent = k.process_of(me);
            let (child, any) = k.changed_child(parent, selector, options);
            if let Some(child) = child {
                let process = k.processes.get_mut(child);
                let pid = process.pid;
                *status = process.wait_status();
                if options & WNOWAIT == 0 && process.state == ProcessState::Live {
                    process.report = Report::None;
                } else if options & WNOWAIT == 0 {
                    k.reap(parent, child);
                }
                return Step::Done(i64::from(pid));
            }
            if !any {
                return Step::Done(-ECHILD);
            }
            if options & WNOHANG != 0 {
                return Step::Done(0);
            }
            if core::mem::replace(&mut waited, true) && k.take_wake(me) == Wake::Signal {
                waited = false;
                return k.interrupted(me);
            }
            k.wait(me, child_key(parent), None);
            Step::Block
        })
    }
}

impl Kernel {
    /// The child of `parent` that changed first, of those that `selector` names, in a way that `options` ask for; and
    /// whether it names any child at all.
    fn changed_child(&self, parent: u16, selector: i32, options: i32) -> (Option<u16>, bool) {
        let own_group = self.processes.get(parent).group;
        let (mut first, mut any) = (None, false);
        for id in 1..=self.processes.high() {
            let process = self.processes.get(id);
            let named = match selector {
                1.. => process.pid == selector,
                0 => process.group == own_group,
                -1 => true,
                _ => process.group == -selector,
            };
            if process.state == ProcessState::Free || process.parent != parent || !named {
                continue;
            }
            any = true;
            let earlier = first.is_none_or(|other| process.changed < self.processes.get(other).changed);
            if process.change() & options != 0 && earlier {
                first = Some(id);
            }
        }
        (first, any)
    }

    /// Frees a zombie's slot; its running time becomes its parent's children's.
    pub(crate) fn reap(&mut self, parent: u16, child: u16) {
        let process = self.processes.get(child);
        let ticks = process.ticks + process.children_ticks;
        self.processes.get_mut(parent).children_ticks += ticks;
        self.processes.release(child);
    }
}

/// Wait status of a process that goes on.
const CONTINUED: i32 = 0xffff;

impl Process {
    /// Which option of `wait` asks for what became of it; 0 = none.
    fn change(&self) -> i32 {
        match (self.state, self.report) {
            (ProcessState::Zombie, _) => WEXITED,
            (_, Report::Stopped) => WSTOPPED,
            (_, Report::Continued) => WCONTINUED,
            (_, Report::None) => 0,
        }
    }

    fn wait_status(&self) -> i32 {
        match self.change() {
            WSTOPPED => self.stopped << 8 | 0x7f,
            WCONTINUED => CONTINUED,
            _ => self.status,
        }
    }
}
