//! What the events of an entry do to the kernel.

use core::sync::atomic::Ordering;

use zerocopy::FromBytes;

use crate::digest;
use crate::entry::{Event, EventKind, Parameters};
use crate::kernel::Kernel;
use crate::link::Shared;

impl Kernel {
    /// Applies one event of an admitted or decided entry. Called at the entry's stamp, before any thread runs on.
    pub fn apply_event(&mut self, shared: &Shared, event: Event<'_>) {
        let header = event.header;
        self.digest =
            digest::mix(self.digest, header.connection.get() ^ header.arg.get(), header.sequence.get());
        match event.kind {
            EventKind::Connect => self.client_connected(shared, &event),
            EventKind::Data => self.client_data(shared, &event),
            EventKind::PeerClosed => self.client_closed(shared, &event),
            EventKind::PeerReset => self.client_reset(shared, &event),
            EventKind::Drained => self.client_drained(shared, &event),
            EventKind::Signal => {
                self.signal_from_outside(shared, header.arg.get() as i32, header.sequence.get());
            }
            EventKind::Datagram => self.datagram_arrived(shared, &event),
            EventKind::Connected => self.outbound_connected(shared, &event),
            EventKind::Refused => self.outbound_refused(shared, &event),
            EventKind::Outbound => self.outbound_renewed(shared, event.payload),
            EventKind::File => self.file_replaced(shared, &event),
            EventKind::Reconfigure => {
                if let Ok(parameters) = Parameters::ref_from_bytes(event.payload) {
                    self.sched.set_parameters(parameters);
                    shared.control.spin_limit_us.store(self.sched.spin_limit_us, Ordering::Relaxed);
                }
            }
            EventKind::Preempt | EventKind::SpinPoint | EventKind::Members | EventKind::Pad => {}
        }
    }
}
