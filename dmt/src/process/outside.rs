//! Signals from outside the replica: events in the log, for the server's first process.
//!
//! Whoever sends one gives it an id, and sends it again until he knows that it was decided, perhaps to another leader. An
//! id that was seen takes no second effect.

use crate::bounds::RECENT_OUTSIDE_SIGNALS;
use crate::kernel::Kernel;
use crate::link::Shared;
use crate::process::abi::SI_USER;
use crate::process::queue::Target;
use crate::process::signal::PendingSignal;
use crate::process::table::{FIRST_PROCESS, ProcessState};
use crate::upcall::UpcallKind;

/// The ids of the newest signals from outside. All zeroes is none.
#[repr(C)]
pub struct OutsideSignals {
    ids: [u64; RECENT_OUTSIDE_SIGNALS],
    next: usize,
}

impl OutsideSignals {
    /// True if `id` is new; it is remembered then.
    pub(crate) fn is_new(&mut self, id: u64) -> bool {
        if self.ids.contains(&id) {
            return false;
        }
        self.ids[self.next] = id;
        self.next = (self.next + 1) % RECENT_OUTSIDE_SIGNALS;
        true
    }
}

impl Kernel {
    /// A signal from outside. Its `si_pid` is 0, as that of any sender outside of the namespace of process ids.
    pub fn signal_from_outside(&mut self, shared: &Shared, signal: i32, id: u64) {
        if self.processes.outside.is_new(id) && self.processes.get(FIRST_PROCESS).state == ProcessState::Live
        {
            let info = PendingSignal { signal, code: SI_USER, ..Default::default() };
            self.send_signal(Target::Process(FIRST_PROCESS), info);
        }
        self.upcall(shared, UpcallKind::Signalled, [id, 0, 0, 0], 0, &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::abi::SIGUSR1;
    use crate::process::signal::{Disposition, Handling, bit};
    use crate::testing::Server;

    #[test]
    fn a_signal_that_is_sent_twice_takes_effect_once() {
        let (server, mut link) = Server::leader(100);
        let call = crate::call::Call::new(server.arena, &*server.platform, 0);
        let main = call.first_process(1000);
        // SAFETY: no thread of the server runs.
        let kernel = unsafe { &mut *server.arena.kernel() };
        kernel.processes.get_mut(FIRST_PROCESS).dispositions[SIGUSR1 as usize] =
            Disposition { flags: 0, handling: Handling::Handler };
        let mut taken = Vec::new();
        for id in [5, 5, 6] {
            kernel.signal_from_outside(&server.arena.shared, SIGUSR1, id);
            taken.push(kernel.take_signal(main, bit(SIGUSR1)).map(|info| (info.signal, info.pid)));
        }
        assert_eq!(taken, [Some((SIGUSR1, 0)), None, Some((SIGUSR1, 0))]);
        let mut told = Vec::new();
        while let Some(upcall) = link.next_upcall() {
            told.push((upcall.kind, upcall.header.a.get()));
        }
        assert_eq!(told, [5, 5, 6].map(|id| (UpcallKind::Signalled, id)), "each sender hears of it");
    }
}
