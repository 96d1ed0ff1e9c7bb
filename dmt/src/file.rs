//! Open file descriptions that dmt emulates. (Being built.)

use crate::entry::Event;
use crate::kernel::Kernel;
use crate::link::Shared;

/// The table of open files.
#[repr(C)]
pub struct Files {
    used_blocks: u64,
}

impl Files {
    /// Blocks of the buffer pool in use.
    pub fn pool_used(&self) -> u64 {
        self.used_blocks
    }
}

impl Kernel {
    /// A client connected.
    pub fn client_connected(&mut self, _shared: &Shared, _event: &Event<'_>) {}
    /// Bytes came from a client.
    pub fn client_data(&mut self, _shared: &Shared, _event: &Event<'_>) {}
    /// A client sent FIN.
    pub fn client_closed(&mut self, _shared: &Shared, _event: &Event<'_>) {}
    /// A client is gone.
    pub fn client_reset(&mut self, _shared: &Shared, _event: &Event<'_>) {}
    /// A client took output.
    pub fn client_drained(&mut self, _shared: &Shared, _event: &Event<'_>) {}
    /// The timerfd with this file number expired.
    pub fn timerfd_fired(&mut self, _file: u32) {}
}
