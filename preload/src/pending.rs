//! Operations on threads and processes until dmt has them.

use dmt::call::Call;
use dmt::kernel::Step;
use dmt::op::Op;
use dmt::park::{Space, WaitKey};
use dmt::process::PendingSignal;
use dmt::sync::Deadline;
use dmt::thread::{ThreadId, ThreadState, Wake};

const ENOSYS: i64 = libc::ENOSYS as i64;

#[allow(missing_docs)]
pub trait Pending {
    fn first_process(&self, pid: i32) -> ThreadId;
    fn thread_reserve(&self, start: u64, argument: u64, detached: bool) -> i64;
    fn thread_created(&self, id: ThreadId, handle: u64, tid: i32);
    fn thread_abandon(&self, id: ThreadId);
    fn thread_exit(&self);
    fn thread_join(&self, handle: u64, wait: bool, limit: Deadline) -> i32;
    fn thread_detach(&self, handle: u64) -> i32;
    fn fork_reserve(&self) -> i64;
    fn fork_done(&self, id: u16, pid: i32);
    fn wait_child(&self, selector: i32, options: i32, status: &mut i32) -> i64;
    fn process_exit(&self, status: i32);
    fn before_exec(&self);
    fn after_exec(&self, closed: impl Fn(i32) -> bool);
    fn log(&self, severity: u64, line: &[u8]);
    fn random(&self, out: &mut [u8]);
    fn realtime(&self) -> u64;
    fn monotonic(&self) -> u64;
    fn sleep_until(&self, until: u64) -> i64;
    fn interval_timer(&self, new: Option<[u64; 2]>) -> [u64; 2];
    fn signals_pending(&self) -> u64;
    fn kill(&self, pid: i32, signal: i32) -> i64;
    fn thread_kill(&self, process: i32, tid: i32, signal: i32) -> i64;
    fn signal_queue(&self, process: i32, tid: i32, signal: i32, value: u64) -> i64;
    fn signal_action(&self, signal: i32, handler: u64, flags: i32);
    fn set_signal_mask(&self, mask: u64);
    fn signal_suspend(&self, mask: Option<u64>) -> i64;
    fn signal_wait(&self, set: u64, limit: Option<u64>, found: &mut PendingSignal) -> i64;
}

impl Pending for Call<'_> {
    fn first_process(&self, pid: i32) -> ThreadId {
        self.with(|k| {
            k.processes.get_mut(1).pid = pid;
            let id = k.threads.allocate(1).expect("first thread");
            k.threads.get_mut(id).tid = pid;
            id
        })
    }
    fn thread_reserve(&self, start: u64, argument: u64, detached: bool) -> i64 {
        self.quick(Op::ThreadCreate, 0, |k, me| {
            let process = k.threads.get(me).process;
            let Some(id) = k.threads.allocate(process) else { return -i64::from(libc::EAGAIN) };
            let t = k.threads.get_mut(id);
            t.start = [start, argument];
            t.detached = detached;
            i64::from(id)
        })
    }
    fn thread_created(&self, id: ThreadId, handle: u64, tid: i32) {
        self.with(|k| {
            let t = k.threads.get_mut(id);
            t.handle = handle;
            t.tid = tid;
            t.state = ThreadState::Runnable;
            k.sched.enqueue(&mut k.threads, id);
        });
    }
    fn thread_abandon(&self, id: ThreadId) {
        self.with(|k| k.threads.release(id));
    }
    fn thread_exit(&self) {
        let me = self.thread();
        self.quick(Op::ThreadExit, 0, |k, me| {
            k.wake_all(WaitKey::number(Space::Join, u64::from(me)));
            0i64
        });
        self.with(|k| {
            if k.threads.get(me).detached {
                k.threads.release(me);
            } else {
                k.threads.get_mut(me).state = ThreadState::Ended;
            }
        });
        self.leave();
    }
    fn thread_join(&self, handle: u64, wait: bool, limit: Deadline) -> i32 {
        let found = self.with(|k| {
            let process = k.threads.get(self.thread()).process;
            k.threads.ids().find(|&id| {
                let t = k.threads.get(id);
                t.state != ThreadState::Free && t.process == process && t.handle == handle
            })
        });
        let Some(id) = found else { return libc::ESRCH };
        let limit = self.deadline(limit);
        self.op(Op::Join, u64::from(id), |k, me| {
            if k.threads.get(id).state == ThreadState::Ended {
                k.threads.release(id);
                return Step::Done(0);
            }
            if !wait {
                return Step::Done(libc::EBUSY);
            }
            if k.take_wake(me) == Wake::Timeout {
                return Step::Done(libc::ETIMEDOUT);
            }
            k.wait(me, WaitKey::number(Space::Join, u64::from(id)), limit);
            Step::Block
        })
    }
    fn thread_detach(&self, handle: u64) -> i32 {
        self.quick(Op::Detach, 0, |k, _| {
            let found = k.threads.ids().find(|&id| {
                k.threads.get(id).state != ThreadState::Free && k.threads.get(id).handle == handle
            });
            if let Some(id) = found {
                k.threads.get_mut(id).detached = true;
                if k.threads.get(id).state == ThreadState::Ended {
                    k.threads.release(id);
                }
            }
            0
        })
    }
    fn fork_reserve(&self) -> i64 {
        -ENOSYS
    }
    fn fork_done(&self, _: u16, _: i32) {}
    fn wait_child(&self, _: i32, _: i32, _: &mut i32) -> i64 {
        -i64::from(libc::ECHILD)
    }
    fn process_exit(&self, _: i32) {}
    fn before_exec(&self) {}
    fn after_exec(&self, _: impl Fn(i32) -> bool) {}
    fn log(&self, _: u64, line: &[u8]) {
        let mut text = crate::fatal::Line::new();
        let _ = core::fmt::Write::write_str(&mut text, core::str::from_utf8(line).unwrap_or("?"));
        let _ = core::fmt::Write::write_str(&mut text, "\n");
        crate::fatal::print(&text);
    }
    fn random(&self, out: &mut [u8]) {
        self.quick(Op::Random, out.len() as u64, |k, _| {
            k.random.fill(out);
            0i64
        });
    }
    fn realtime(&self) -> u64 {
        self.quick(Op::Clock, 0, |k, _| k.clock() as i64) as u64
    }
    fn monotonic(&self) -> u64 {
        self.quick(Op::Clock, 1, |k, _| k.monotonic() as i64) as u64
    }
    fn sleep_until(&self, until: u64) -> i64 {
        self.op(Op::Sleep, until, |k, me| match k.take_wake(me) {
            Wake::Timeout => Step::Done(0),
            Wake::Signal => Step::Done(-i64::from(libc::EINTR)),
            _ if until <= k.clock() => Step::Done(0),
            _ => {
                k.wait(me, WaitKey::number(Space::Sleep, u64::from(me)), Some(until));
                Step::Block
            }
        })
    }
    fn interval_timer(&self, _: Option<[u64; 2]>) -> [u64; 2] {
        [0, 0]
    }
    fn signals_pending(&self) -> u64 {
        0
    }
    fn kill(&self, pid: i32, signal: i32) -> i64 {
        // SAFETY: sends a signal.
        unsafe { crate::raw!(libc::SYS_kill, pid, signal) as i64 }
    }
    fn thread_kill(&self, process: i32, tid: i32, signal: i32) -> i64 {
        // SAFETY: sends a signal.
        unsafe { crate::raw!(libc::SYS_tgkill, process, tid, signal) as i64 }
    }
    fn signal_queue(&self, _: i32, _: i32, _: i32, _: u64) -> i64 {
        -ENOSYS
    }
    fn signal_action(&self, _: i32, _: u64, _: i32) {}
    fn set_signal_mask(&self, mask: u64) {
        self.with(|k| k.threads.get_mut(self.thread()).signal_mask = mask);
    }
    fn signal_suspend(&self, _: Option<u64>) -> i64 {
        -ENOSYS
    }
    fn signal_wait(&self, _: u64, _: Option<u64>, _: &mut PendingSignal) -> i64 {
        -ENOSYS
    }
}
