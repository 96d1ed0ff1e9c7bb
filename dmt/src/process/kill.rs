//! kill and its kin.

use crate::call::Call;
use crate::kernel::Kernel;
use crate::op::Op;
use crate::process::abi::*;
use crate::process::queue::Target;
use crate::process::signal::PendingSignal;
use crate::process::table::ProcessState;
use crate::thread::{ThreadId, ThreadState};

impl Kernel {
    /// Sends to every process that `selector` names as `kill` does; signal 0 only asks.
    fn kill_selected(&mut self, me: ThreadId, selector: i32, info: PendingSignal) -> i64 {
        let own = self.process_of(me);
        let own_group = self.processes.get(own).group;
        let mut result = -ESRCH;
        for id in 1..=self.processes.high() {
            let process = self.processes.get(id);
            let named = match selector {
                1.. => process.pid == selector,
                0 => process.group == own_group,
                -1 => id != own,
                _ => process.group == -selector,
            };
            if process.state == ProcessState::Free || process.pid == 0 || !named {
                continue;
            }
            let sent = if info.signal == 0 { 0 } else { self.send_signal(Target::Process(id), info) };
            if sent != 0 && selector > 0 {
                return sent;
            }
            result = 0;
        }
        result
    }

    fn signal_from(&self, me: ThreadId, signal: i32, code: i32, value: u64) -> PendingSignal {
        let process = self.processes.get(self.process_of(me));
        PendingSignal { signal, code, pid: process.pid, uid: process.uid, value, ..PendingSignal::NONE }
    }

    /// The live thread with kernel id `tid`, of process `pid` unless that is -1.
    pub fn thread_by_tid(&self, pid: i32, tid: i32) -> Option<ThreadId> {
        let id = self.threads.by_tid(tid)?;
        (pid == -1 || self.processes.get(self.process_of(id)).pid == pid).then_some(id)
    }
}

fn valid(signal: i32) -> bool {
    (0..=63).contains(&signal)
}

impl Call<'_> {
    /// `kill`, `killpg` (`selector` = minus the group): pid > 0, 0 = own group, -1 = all others, < -1 = a group.
    pub fn kill(&self, selector: i32, signal: i32) -> i64 {
        self.send_to(selector, signal, SI_USER, 0)
    }

    /// `sigqueue` (`tid` = 0), `rt_tgsigqueueinfo`, `pthread_sigqueue`.
    pub fn signal_queue(&self, pid: i32, tid: i32, signal: i32, value: u64) -> i64 {
        if tid == 0 {
            return self.send_to(pid, signal, SI_QUEUE, value);
        }
        self.send_to_thread(pid, tid, signal, SI_QUEUE, value)
    }

    /// `tgkill`, `tkill` (`pid` = -1), `raise`: to one thread.
    pub fn thread_kill(&self, pid: i32, tid: i32, signal: i32) -> i64 {
        self.send_to_thread(pid, tid, signal, SI_TKILL, 0)
    }

    fn send_to(&self, selector: i32, signal: i32, code: i32, value: u64) -> i64 {
        self.quick(Op::Kill, selector as u64, |k, me| {
            if !valid(signal) {
                return -EINVAL;
            }
            let info = k.signal_from(me, signal, code, value);
            k.kill_selected(me, selector, info)
        })
    }

    fn send_to_thread(&self, pid: i32, tid: i32, signal: i32, code: i32, value: u64) -> i64 {
        self.quick(Op::Kill, tid as u64, |k, me| {
            if !valid(signal) || tid <= 0 {
                return -EINVAL;
            }
            let Some(id) = k.thread_by_tid(pid, tid) else { return -ESRCH };
            k.signal_thread(me, id, signal, code, value)
        })
    }

    /// `pthread_kill`, `pthread_sigqueue`, by handle: 0 or an errno.
    pub fn pthread_kill(&self, handle: u64, signal: i32) -> i32 {
        let result = self.quick(Op::Kill, handle, |k, me| {
            if !valid(signal) {
                return -EINVAL;
            }
            match k.thread_by_handle(k.process_of(me), handle) {
                Some(id) if k.threads.get(id).state == ThreadState::Ended => 0,
                Some(id) => k.signal_thread(me, id, signal, SI_TKILL, 0),
                None => -ESRCH,
            }
        });
        -result as i32
    }
}

impl Kernel {
    fn signal_thread(&mut self, me: ThreadId, id: ThreadId, signal: i32, code: i32, value: u64) -> i64 {
        if signal == 0 {
            return 0;
        }
        let info = self.signal_from(me, signal, code, value);
        self.send_signal(Target::Thread(id), info)
    }
}
