//! When the coordinator is woken to send what the server has written to clients.
//!
//! Not for each reply: a wake-up costs more than many a request (a third of the throughput of redis). All output since the last
//! time goes at the bubble's end, in quiescence, and after [`OUTPUTS_PER_KICK`] outputs, so that it is sent while the server goes on. A
//! coordinator that sleeps while the server runs looks every millisecond besides.
//!
//! A server with a thread for each connection takes longer for a request than a wake-up. If only a few clients wait, those that have
//! their answers should get them, and ask again, while other threads work: else server and clients wait for each other in turns. So
//! with up to [`FEW_CLIENTS`] the output goes when the turn does, at most every [`BETWEEN_KICKS_NS`]. Not where there are other replicas:
//! the coordinator has more to do for each message then, and on their machine all of them lose by it (`docs/decisions/speed.md`).
//!
//! Nothing that a replica does depends on any of this.

use core::sync::atomic::Ordering;

use crate::call::Call;
use crate::kernel::{Kernel, Step};
use crate::op::Op;
use crate::thread::ThreadId;

/// Outputs for clients after which the coordinator is woken, so that it sends them while the server goes on.
const OUTPUTS_PER_KICK: u32 = 16;
/// Clients that wait for an answer; see the module.
const FEW_CLIENTS: u32 = 16;
/// Least time between two such wake-ups, nanoseconds.
const BETWEEN_KICKS_NS: u64 = 50_000;

impl Call<'_> {
    /// An operation that writes to clients: waits first until the coordinator has taken enough of the upcalls.
    pub fn output_op<T: Copy + Into<i64>>(
        &self,
        op: Op,
        object: u64,
        mut f: impl FnMut(&mut Kernel, ThreadId) -> Step<T>,
    ) -> T {
        self.room();
        // A leader writes upcalls, a follower none.
        let value = self.op(op, object, |k, me| self.apart(|| f(k, me)));
        self.apart(|| {
            let kick = self.with(|k| {
                k.sched.unkicked += 1;
                k.sched.unkicked >= OUTPUTS_PER_KICK
            });
            if kick {
                self.kick();
            }
        });
        value
    }

    /// Wakes the coordinator if it sleeps and upcalls wait.
    pub fn kick(&self) {
        self.with(|k| k.sched.unkicked = 0);
        self.apart(|| {
            if self.shared().control.must_kick(|| !self.shared().upcalls.is_empty()) {
                self.platform().kick_coordinator();
            }
        });
    }

    /// The turn is about to go to another thread.
    pub(crate) fn kick_between_threads(&self) {
        let alone = self.shared().control.alone.load(Ordering::Relaxed) != 0;
        if !alone || self.with(|k| k.sched.unkicked == 0 || k.files.connections.asking > FEW_CLIENTS) {
            return;
        }
        let now = self.platform().real_time();
        if now.wrapping_sub(self.with(|k| k.sched.kicked_at)) >= BETWEEN_KICKS_NS {
            self.with(|k| k.sched.kicked_at = now);
            self.kick();
        }
    }
}
