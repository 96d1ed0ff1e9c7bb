//! Process groups and sessions: table data, with real pids. Preload makes the real calls, too.

use crate::call::Call;
use crate::kernel::Kernel;
use crate::process::abi::*;
use crate::process::table::ProcessState;

impl Kernel {
    /// The live process that `pid` names to `own`; 0 = itself.
    fn named(&self, own: u16, pid: i32) -> Option<u16> {
        if pid == 0 {
            return Some(own);
        }
        self.processes.by_pid(pid).filter(|&id| self.processes.get(id).state == ProcessState::Live)
    }
}

impl Kernel {
    /// The process that `pid` names to `own`, zombies included; 0 = itself.
    fn known(&self, own: u16, pid: i32) -> Option<u16> {
        if pid == 0 { Some(own) } else { self.processes.by_pid(pid) }
    }
}

impl Call<'_> {
    fn own(&self) -> u16 {
        self.with(|k| k.process_of(self.thread()))
    }

    /// `getppid`.
    pub fn parent_pid(&self) -> i64 {
        self.with(|k| i64::from(k.parent_pid(self.own())))
    }

    /// `getpgid`, `getpgrp` (`pid` = 0).
    pub fn group_of(&self, pid: i32) -> i64 {
        self.with(|k| match k.known(self.own(), pid) {
            Some(id) => i64::from(k.processes.get(id).group),
            None => -ESRCH,
        })
    }

    /// `getsid`.
    pub fn session_of(&self, pid: i32) -> i64 {
        self.with(|k| match k.known(self.own(), pid) {
            Some(id) => i64::from(k.processes.get(id).session),
            None => -ESRCH,
        })
    }

    /// `setsid`.
    pub fn new_session(&self) -> i64 {
        self.with(|k| {
            let own = self.own();
            let pid = k.processes.get(own).pid;
            if k.processes.ids().any(|id| k.processes.get(id).group == pid) {
                return -EPERM;
            }
            let process = k.processes.get_mut(own);
            (process.group, process.session) = (pid, pid);
            i64::from(pid)
        })
    }

    /// `setpgid`, for the caller or a child of it.
    pub fn set_group(&self, pid: i32, group: i32) -> i64 {
        self.with(|k| {
            let own = self.own();
            let Some(id) = k.named(own, pid) else { return -ESRCH };
            let process = k.processes.get(id);
            if group < 0 {
                return -EINVAL;
            }
            if id != own && process.parent != own {
                return -ESRCH;
            }
            let session = process.session;
            let group = if group == 0 { process.pid } else { group };
            let exists = k.processes.ids().any(|other| {
                let other = k.processes.get(other);
                other.group == group && other.session == session
            });
            if process.session == process.pid || group != process.pid && !exists {
                return -EPERM;
            }
            k.processes.get_mut(id).group = group;
            0
        })
    }
}
