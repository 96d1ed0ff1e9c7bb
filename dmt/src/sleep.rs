//! How the server sleeps until the coordinator has done something: decided an entry, brought inputs, made room for outputs.

use crate::atomic::Ordering;
use crate::call::{Call, UPCALL_HEADROOM_BYTES};

/// How long a server waits for room in the upcall ring before it looks again, nanoseconds.
const ROOM_RETRY_NS: u64 = 1_000_000;

impl Call<'_> {
    /// Sleeps until the coordinator changes something after `seen` was read.
    pub(crate) fn await_coordinator(&self, seen: u32, timeout: Option<u64>) {
        let control = &self.shared().control;
        if control.tracing.load(Ordering::Relaxed) != 0 {
            self.stream();
        }
        control.await_change(self.platform(), seen, timeout, || {
            if !self.with(|k| k.waits_for_decision(self.shared())) {
                self.kick();
            }
            self.let_go();
        });
        self.platform().resumed();
    }

    /// About to sleep until the coordinator wakes it.
    fn let_go(&self) {
        let control = &self.shared().control;
        self.with(|k| {
            let process = k.process_of(self.thread());
            if process == 0 {
                return;
            }
            let is_only = k.processes.ids().nth(1).is_none();
            let cpu_time = if is_only { self.platform().cpu_time() } else { 0 };
            control.cpu_time.store(cpu_time, Ordering::Relaxed);
            let near = control.near.load(Ordering::Relaxed).checked_sub(1).filter(|_| is_only);
            let slot = k.processes.get(process);
            let place = self.platform().let_go(slot.pid, slot.place, near, &k.processors);
            k.processes.get_mut(process).place = place;
        });
    }

    /// Waits for free room in the upcall ring.
    pub fn room(&self) {
        self.apart(|| self.await_room());
    }

    pub(crate) fn await_room(&self) {
        while !self.shared().upcalls.fits(UPCALL_HEADROOM_BYTES) {
            let control = &self.shared().control;
            let seen = control.inbound.load(Ordering::SeqCst);
            control.server_idle.store(1, Ordering::SeqCst);
            self.platform().kick_coordinator();
            if !self.shared().upcalls.fits(UPCALL_HEADROOM_BYTES) {
                self.platform().wait(&control.inbound, seen, Some(ROOM_RETRY_NS));
            }
            control.server_idle.store(0, Ordering::SeqCst);
            self.platform().resumed();
        }
    }
}
