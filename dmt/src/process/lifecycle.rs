//! Birth, change of image and death of processes.

use crate::call::Call;
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::op::Op;
use crate::process::abi::*;
use crate::process::cancel::Cancel;
use crate::process::queue::Target;
use crate::process::signal::{Disposition, Handling, PendingSignal};
use crate::process::table::{FIRST_PROCESS, INIT_PID, ProcessState};
use crate::thread::{ThreadId, ThreadState};
use crate::upcall::UpcallKind;

impl Call<'_> {
    /// Registers the server's first process, before any other operation; `self` may name thread 0. Its thread then
    /// calls [`Call::start_first`].
    pub fn first_process(&self, pid: i32) -> ThreadId {
        self.with(|k| {
            assert!(!k.has_processes(), "the first process registers once");
            let id = k.processes.allocate().expect("the table is empty");
            let process = k.processes.get_mut(id);
            (process.pid, process.group, process.session) = (pid, pid, pid);
            let thread = k.add_thread(id).expect("the table is empty");
            k.processes.get_mut(id).main = thread;
            k.threads.get_mut(thread).tid = pid;
            self.shared().control.set_pid(id, pid);
            thread
        })
    }

    /// Before the real `fork`: reserves a process and its thread, with copies of everything a child inherits. Returns
    /// the child's thread number, or -`EAGAIN`. The child runs only after [`Call::fork_done`].
    pub fn fork_reserve(&self) -> i64 {
        self.quick(Op::Fork, 0, |k, me| k.reserve_fork(me).map_or(-EAGAIN, i64::from))
    }

    /// After the real `fork`, in the parent, which still has the turn: `pid` is the child's, or negative if there is
    /// none. The child calls [`Call::start`] with the reserved number.
    pub fn fork_done(&self, child: ThreadId, pid: i32) {
        self.with(|k| {
            let process = k.process_of(child);
            if pid <= 0 {
                k.exit_descriptors(self.shared(), process);
                k.remove_thread(child);
                k.processes.release(process);
                return;
            }
            k.processes.get_mut(process).pid = pid;
            self.shared().control.set_pid(process, pid);
            k.threads.get_mut(child).tid = pid;
            k.make_runnable(child);
        });
    }

    /// Before the real `execve`. If that fails, nothing has happened.
    pub fn before_exec(&self) {
        self.quick(Op::Exec, 0, |_, _| 0i64);
    }

    /// In the new image, whose only thread takes the number that [`Kernel::thread_of_pid`] gave and has the turn.
    /// Other threads are gone, handlers are reset, what is close-on-exec is closed; mask, pending signals and the
    /// `setitimer` timers stay.
    pub fn after_exec(&self) {
        let me = self.thread();
        self.with(|k| {
            let process = k.process_of(me);
            k.remove_threads(process, me);
            k.sched.spinners.forget(process);
            let slot = k.processes.get_mut(process);
            slot.main = me;
            for disposition in &mut slot.dispositions {
                if disposition.handling == Handling::Handler {
                    *disposition = Disposition::default();
                }
            }
            let pid = slot.pid;
            let thread = k.threads.get_mut(me);
            (thread.tid, thread.handle, thread.detached) = (pid, 0, false);
            k.delete_timers(process);
            k.exec_descriptors(self.shared(), process);
            k.locks_changed();
            k.launched(process);
            k.processes.get_mut(process).in_vfork = false;
        });
        self.kick();
    }

    /// The process ends with this wait status (`code << 8`, or a signal's number): all its threads are gone in dmt's
    /// eyes, and the turn passes on. Preload then ends it for real and makes no further call.
    pub fn process_exit(&self, status: i32) {
        self.room();
        self.tick();
        let ended = self.with(|k| {
            k.note(self.thread(), Op::ProcessExit, status as u64, 0);
            let ended = k.process_of(self.thread());
            k.end_process(self.shared(), self.thread(), status);
            ended
        });
        if ended == FIRST_PROCESS {
            self.end_server(status);
        }
        self.kick();
        self.leave();
    }

    /// With its first process the server has ended. The coordinator hears of that behind the entry that says where: it ends when it
    /// has heard, and would not hear of the entry any more.
    fn end_server(&self, status: i32) {
        let (tick, digest) = self.with(|k| (k.sched.tick, k.digest));
        self.room();
        self.with(|k| k.close_last(self.shared(), self.now()));
        self.room();
        let exited = [status as u32 as u64, tick, digest, 0];
        self.with(|k| k.upcall(self.shared(), UpcallKind::Exited, exited, 0, &[]));
    }

    /// [`Call::process_exit`] of a process that dies of `signal`: a [`PendingSignal`] with `fatal`, or a fault.
    pub fn fatal_signal(&self, signal: i32) {
        self.process_exit(signal);
    }

    /// What happened to this replica's server is in no log: it cannot go on.
    pub fn fail(&self, why: &str) {
        self.room();
        self.with(|k| k.diverge(self.shared(), why));
        self.kick();
    }

    /// As [`Call::fail`], in the server itself: nothing more of it runs.
    pub fn fail_for_good(&self, why: &str) -> ! {
        self.fail(why);
        self.halt()
    }

    /// The real user and group of this process, which its signals and messages carry.
    pub fn note_user(&self, uid: u32, gid: u32) {
        self.with(|k| {
            let process = k.process_of(self.thread());
            let slot = k.processes.get_mut(process);
            (slot.uid, slot.gid) = (uid, gid);
        });
    }
}

impl Kernel {
    fn reserve_fork(&mut self, me: ThreadId) -> Option<ThreadId> {
        let parent = self.process_of(me);
        let child = self.processes.allocate()?;
        let Some(thread) = self.add_thread(child) else {
            self.processes.release(child);
            return None;
        };
        let from = self.processes.get(parent);
        let (group, session, uid, gid) = (from.group, from.session, from.uid, from.gid);
        let dispositions = from.dispositions;
        let slot = self.processes.get_mut(child);
        (slot.group, slot.session, slot.uid, slot.gid) = (group, session, uid, gid);
        slot.dispositions = dispositions;
        (slot.parent, slot.main) = (parent, thread);
        let (mask, handle) = (self.threads.get(me).signal_mask, self.threads.get(me).handle);
        let cancel = self.threads.get(me).cancel;
        let slot = self.threads.get_mut(thread);
        (slot.signal_mask, slot.handle) = (mask, handle);
        slot.cancel = Cancel { requested: false, at_point: false, ..cancel };
        self.fork_descriptors(parent, child);
        Some(thread)
    }

    /// The rest of an exit: `me` is the thread that does it and has the turn.
    fn end_process(&mut self, shared: &Shared, me: ThreadId, status: i32) {
        let id = self.process_of(me);
        shared.control.set_pid(id, 0);
        self.exit_descriptors(shared, id);
        self.locks_changed();
        self.sched.spinners.forget(id);
        self.undo_semaphores(id);
        self.remove_threads(id, me);
        self.remove_thread(me);
        self.cancel_timers(id);
        self.processes.queue.purge(Target::Process(id), u64::MAX);
        self.processes.get_mut(id).pending = 0;
        self.orphan_children(id);
        self.launched(id);
        self.processes.changes += 1;
        let changed = self.processes.changes;
        let process = self.processes.get_mut(id);
        (process.state, process.status, process.changed) = (ProcessState::Zombie, status, changed);
        let parent = process.parent;
        self.hang_up_jobs(id, parent);
        if parent == 0 {
            self.processes.release(id);
            return;
        }
        self.tell_parent(id, parent);
    }

    pub(crate) fn tell_parent(&mut self, child: u16, parent: u16) {
        let process = self.processes.get(child);
        let status = process.status;
        let (code, value) =
            if status & 0x7f == 0 { (CLD_EXITED, status >> 8 & 0xff) } else { (CLD_KILLED, status & 0x7f) };
        let info = PendingSignal {
            signal: SIGCHLD,
            code,
            pid: process.pid,
            uid: process.uid,
            value: value as u64,
            fatal: false,
            ..PendingSignal::NONE
        };
        let disposition = self.processes.get(parent).dispositions[SIGCHLD as usize];
        if disposition.handling == Handling::Ignore || disposition.flags & SA_NOCLDWAIT != 0 {
            self.reap(parent, child);
        }
        self.send_signal(Target::Process(parent), info);
        self.wake_all(crate::process::wait::child_key(parent));
    }

    /// Removes all threads of a process but `me`.
    fn remove_threads(&mut self, process: u16, me: ThreadId) {
        for id in self.threads.ids() {
            let thread = self.threads.get(id);
            if id != me && thread.process == process && thread.state != ThreadState::Free {
                self.remove_thread(id);
                self.threads.retire(id);
            }
        }
    }

    /// `getppid`.
    pub fn parent_pid(&self, process: u16) -> i32 {
        match self.processes.get(process).parent {
            0 => INIT_PID,
            parent => self.processes.get(parent).pid,
        }
    }
}
