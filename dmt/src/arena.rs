//! The arena: all memory that a replica's server processes and its coordinator share.

use core::cell::UnsafeCell;

use crate::kernel::Kernel;
use crate::link::Shared;

/// The arena as it lies in memory. All zeroes is a fresh one: its kernel has run nothing.
#[repr(C)]
pub struct Arena {
    /// What the coordinator reads and writes, too.
    pub shared: Shared,
    kernel: UnsafeCell<Kernel>,
}

/// Bytes of an arena file, a multiple of the page size. The file is sparse: untouched tables cost nothing.
pub const ARENA_BYTES: usize = (size_of::<Arena>() + 4095) & !4095;

impl Arena {
    /// Offset of the table of threads.
    pub(crate) const THREADS: usize =
        core::mem::offset_of!(Self, kernel) + core::mem::offset_of!(Kernel, threads);

    /// The kernel's state. Only the holder of the turn may look behind the pointer.
    pub fn kernel(&self) -> *mut Kernel {
        self.kernel.get()
    }
}

// SAFETY: the shared part is made of atomics and rings; the kernel is reached only through a raw pointer, by the one
// thread that holds the turn, and the turn is handed over with sequentially consistent stores.
unsafe impl Sync for Arena {}
