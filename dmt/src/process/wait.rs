//! Waiting for children.

use crate::call::Call;
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::process::abi::*;
use crate::process::table::ProcessState;
use crate::thread::Wake;

/// Option of [`Call::wait_child`] beside the kernel's: the ends of children are of no interest.
pub const STOPS_ONLY: i32 = 1 << 30;

/// What a process waits for that waits for its children.
pub(crate) fn child_key(parent: u16) -> WaitKey {
    WaitKey::number(Space::Child, u64::from(parent))
}

impl Call<'_> {
    /// `wait4`, `waitpid`, `waitid`: returns the pid of a child that ended, in order of their ends, and its wait status;
    /// 0 with `WNOHANG` if none has; -`ECHILD`, -`EINTR`. `selector`: a pid, -1 = any, 0 = own group, -group.
    /// Preload then reaps the real child under the same turn, unless `WNOWAIT` keeps it waitable. Stops and
    /// continuations are never reported.
    pub fn wait_child(&self, selector: i32, options: i32, status: &mut i32) -> i64 {
        let mut waited = false;
        self.op(Op::Wait, selector as u64, |k, me| {
            let parent = k.process_of(me);
            let (child, any) = k.ended_child(parent, selector);
            if let Some(child) = child.filter(|_| options & STOPS_ONLY == 0) {
                let process = k.processes.get(child);
                let pid = process.pid;
                *status = process.status;
                if options & WNOWAIT == 0 {
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
    /// The child of `parent` that ended first and that `selector` names; and whether it names any child at all.
    fn ended_child(&self, parent: u16, selector: i32) -> (Option<u16>, bool) {
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
            if process.state == ProcessState::Zombie {
                let earlier = first.is_none_or(|other| process.ended < self.processes.get(other).ended);
                if earlier {
                    first = Some(id);
                }
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
