//! Operations on a file that may have to wait: one shape for all of them.

use crate::call::Call;
use crate::file::FileId;
use crate::file::abi::{EBADF, EINTR, ERESTART};
use crate::file::signals;
use crate::kernel::{Kernel, Step};
use crate::link::Shared;
use crate::op::Op;
use crate::park::{Space, WaitKey};
use crate::thread::{ThreadId, Wake};

/// What one try of a file operation came to.
pub(crate) enum Try {
    /// It is done, with this result.
    Done(i64),
    /// It must wait.
    Wait(Wait),
}

/// How a file operation waits.
pub(crate) struct Wait {
    /// For what.
    pub(crate) space: Space,
    /// Nanoseconds from its first wait on; `None` = for ever.
    pub(crate) timeout: Option<u64>,
    /// Its result if the time is over first.
    pub(crate) timed_out: i64,
    /// Its result if a signal comes first; -`ERESTART` = another try, or -`EINTR`, as the handler's flags say.
    pub(crate) interrupted: i64,
}

impl Wait {
    /// A wait whose results are those of a call that has moved `done` bytes so far.
    pub(crate) fn after(space: Space, timeout: u64, done: usize) -> Try {
        let or = |errno: i64| if done > 0 { done as i64 } else { -errno };
        Try::Wait(Self {
            space,
            timeout: (timeout > 0).then_some(timeout),
            timed_out: or(super::abi::EAGAIN),
            // Only a call without a time-out of its own starts again after a handler with SA_RESTART.
            interrupted: if timeout > 0 { or(EINTR) } else { or(ERESTART) },
        })
    }
}

/// A file operation in progress.
struct Waiter {
    file: FileId,
    /// It has waited, and holds a reference to the file meanwhile.
    waits: bool,
    deadline: Option<u64>,
    timed_out: i64,
    interrupted: i64,
}

fn not_restarted(result: i64) -> i64 {
    if result == -ERESTART { -EINTR } else { result }
}

impl Waiter {
    const NEW: Self = Self { file: 0, waits: false, deadline: None, timed_out: 0, interrupted: 0 };

    fn finish(&mut self, k: &mut Kernel, shared: &Shared, me: ThreadId, value: i64) -> Step<i64> {
        if core::mem::take(&mut self.waits) {
            k.threads.get_mut(me).held_file = 0;
            k.release_file(shared, self.file);
        }
        Step::Done(value)
    }

    fn wait(&mut self, k: &mut Kernel, shared: &Shared, me: ThreadId, why: Wake, wait: &Wait) -> Step<i64> {
        if why == Wake::Timeout {
            return self.finish(k, shared, me, wait.timed_out);
        }
        if signals::waiting(k, me) {
            if wait.interrupted == -ERESTART && k.restarts(me) {
                return Step::Restart;
            }
            return self.finish(k, shared, me, not_restarted(wait.interrupted));
        }
        if !core::mem::replace(&mut self.waits, true) {
            // The file lives on if another thread closes its last descriptor meanwhile.
            k.hold_file(self.file);
            k.threads.get_mut(me).held_file = self.file;
        }
        (self.timed_out, self.interrupted) = (wait.timed_out, wait.interrupted);
        if self.deadline.is_none() {
            self.deadline = wait.timeout.map(|timeout| k.clock().saturating_add(timeout));
        }
        k.wait(me, WaitKey::number(wait.space, u64::from(self.file)), self.deadline);
        Step::Block
    }
}

impl Call<'_> {
    /// Carries out an operation on descriptor `fd` that may wait. `f` tries, and is called again after each wake.
    pub(crate) fn file_op(
        &self,
        op: Op,
        fd: i32,
        mut f: impl FnMut(&mut Kernel, &Shared, ThreadId, FileId) -> Try,
    ) -> i64 {
        let shared = self.shared();
        let mut waiter = Waiter::NEW;
        let mut attempt = |k: &mut Kernel, me: ThreadId| {
            if !waiter.waits {
                let Some(file) = k.descriptor(me, fd) else { return Step::Done(-EBADF) };
                waiter.file = file;
            }
            let why = if waiter.waits { k.take_wake(me) } else { Wake::None };
            match f(k, shared, me, waiter.file) {
                Try::Done(value) => waiter.finish(k, shared, me, value),
                Try::Wait(wait) => waiter.wait(k, shared, me, why, &wait),
            }
        };
        // A leader tells how much of a client's input was read.
        self.op(op, fd as u64, |k, me| self.apart(|| attempt(k, me)))
    }

    /// As [`Call::file_op`], for operations that write to clients: the try after a wake is an operation of its own,
    /// because each needs room among the upcalls.
    pub(crate) fn file_output_op(
        &self,
        op: Op,
        fd: i32,
        mut f: impl FnMut(&mut Kernel, &Shared, ThreadId, FileId) -> Try,
    ) -> i64 {
        let shared = self.shared();
        let mut waiter = Waiter::NEW;
        loop {
            let value = self.output_op(op, fd as u64, |k, me| {
                if waiter.waits {
                    let value = match k.take_wake(me) {
                        Wake::Timeout => waiter.timed_out,
                        Wake::Signal if !k.restarts(me) => not_restarted(waiter.interrupted),
                        Wake::Signal if signals::waiting(k, me) => waiter.interrupted,
                        Wake::Signal | Wake::Event | Wake::None => -ERESTART,
                    };
                    return waiter.finish(k, shared, me, value);
                }
                let Some(file) = k.descriptor(me, fd) else { return Step::Done(-EBADF) };
                waiter.file = file;
                match f(k, shared, me, file) {
                    Try::Done(value) => Step::Done(value),
                    Try::Wait(wait) => waiter.wait(k, shared, me, Wake::None, &wait),
                }
            });
            if value != -ERESTART {
                return value;
            }
        }
    }
}
