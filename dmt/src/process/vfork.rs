//! vfork and posix_spawn: the parent waits until its child executes another program or ends.
//!
//! The child has a copy of the parent's memory, not the memory itself: sharing it would be one thread in two processes. What
//! it would leave there for the parent is one thing only in practice, the reason why posix_spawn failed, so that comes
//! by a way of its own.

use crate::call::Call;
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::process::table::ProcessState;
use crate::thread::ThreadId;

/// Exit code of a child of posix_spawn that could not execute its program, in glibc.
const SPAWN_FAILED: i32 = 127 << 8;

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// It executes another program, or has ended without.
    Over,
    /// It could not execute its program for this reason, and said so as a child of posix_spawn does. It is reaped.
    Failed(i32),
}

fn exec_of(process: u16) -> WaitKey {
    WaitKey::number(Space::Exec, u64::from(process))
}

impl Call<'_> {
    /// After [`Call::fork_done`], in a parent that called vfork: waits as the kernel makes it wait. With `spawns` a failure
    /// is told and the child reaped; preload then reaps the real one.
    pub fn await_launch(&self, child: ThreadId, pid: i32, spawns: bool) -> Launch {
        let process = self.with(|k| {
            let process = k.process_of(child);
            k.processes.get_mut(process).in_vfork = true;
            process
        });
        let error = self.op(Op::Wait, pid as u64, |k, me| {
            let slot = k.processes.get(process);
            if slot.pid == pid && slot.state == ProcessState::Live && slot.in_vfork {
                k.wait(me, exec_of(process), None);
                return Step::Block;
            }
            let failed = slot.pid == pid && slot.state == ProcessState::Zombie && slot.status == SPAWN_FAILED;
            let error = if failed && spawns && slot.in_vfork { i64::from(slot.vfork_error) } else { 0 };
            if error != 0 {
                k.reap(k.process_of(me), process);
            }
            Step::Done(error)
        });
        if error == 0 { Launch::Over } else { Launch::Failed(error as i32) }
    }

    /// The calling process is about to end; `errno` is that of its last failed call.
    pub fn note_errno(&self, errno: i32) {
        self.with(|k| {
            let process = k.process_of(self.thread());
            k.processes.get_mut(process).vfork_error = errno;
        });
    }
}

impl Kernel {
    /// A process executes another program, or has ended: a parent that waits for that goes on.
    pub(crate) fn launched(&mut self, process: u16) {
        if self.processes.get(process).in_vfork {
            self.wake_all(exec_of(process));
        }
    }
}
