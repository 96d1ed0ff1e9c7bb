//! Flow control of one client connection: pure counters that say how much may be read, and when the server is told
//! that its output was taken. A slow reader and an endless upload both stop at these bounds.

use dmt::bounds::{MAX_DATA_BYTES, RECEIVE_WINDOW_BYTES, SEND_WINDOW_BYTES};

/// Bytes taken by the client side after which a `Drained` event is due. Half a window: what is unreported never
/// closes the window, so the server cannot stall on it.
pub const DRAIN_REPORT_BYTES: u64 = SEND_WINDOW_BYTES / 2;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Input bytes given to the server, in total.
    pushed: u64,
    /// Input bytes that the server read, in total.
    consumed: u64,
    /// Output bytes that the client side took, in total.
    taken: u64,
    /// Output bytes reported as drained, in total.
    reported: u64,
}

impl Flow {
    /// Bytes that may be read from the client now; 0 = stop reading.
    pub fn read_budget(&self) -> usize {
        let unread = self.pushed.saturating_sub(self.consumed);
        (RECEIVE_WINDOW_BYTES.saturating_sub(unread) as usize).min(MAX_DATA_BYTES)
    }

    /// `bytes` were given to the server.
    pub fn pushed(&mut self, bytes: usize) {
        self.pushed += bytes as u64;
    }

    /// The server says that it has read `total` bytes since the start.
    pub fn consumed(&mut self, total: u64) {
        self.consumed = self.consumed.max(total);
    }

    /// The kernel took `bytes` of output.
    pub fn taken(&mut self, bytes: usize) {
        self.taken += bytes as u64;
    }

    /// The argument of the `Drained` event that is due, if one is. Call [`Flow::reported`] once it is queued.
    pub fn drained_due(&self) -> Option<u64> {
        (self.taken - self.reported >= DRAIN_REPORT_BYTES).then_some(self.taken)
    }

    /// The `Drained` event with this argument was queued.
    pub fn reported(&mut self, total: u64) {
        self.reported = total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_stops_at_the_window_and_goes_on_when_the_server_reads() {
        let mut flow = Flow::default();
        let mut total = 0;
        while flow.read_budget() > 0 {
            let bytes = flow.read_budget();
            flow.pushed(bytes);
            total += bytes as u64;
        }
        assert_eq!(total, RECEIVE_WINDOW_BYTES);
        flow.consumed(10);
        assert_eq!(flow.read_budget(), 10);
        flow.consumed(5);
        assert_eq!(flow.read_budget(), 10, "an old report takes nothing back");
    }

    #[test]
    fn a_full_send_window_always_has_a_report_due_once_the_client_took_it() {
        let mut flow = Flow::default();
        flow.taken(DRAIN_REPORT_BYTES as usize - 1);
        assert_eq!(flow.drained_due(), None);
        flow.taken(1);
        assert_eq!(flow.drained_due(), Some(DRAIN_REPORT_BYTES));
        flow.reported(DRAIN_REPORT_BYTES);
        assert_eq!(flow.drained_due(), None);
        flow.taken(SEND_WINDOW_BYTES as usize);
        assert!(flow.drained_due().is_some());
    }
}
