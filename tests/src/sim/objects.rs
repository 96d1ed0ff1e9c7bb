//! Where the synchronisation objects of the toy servers are.

use std::cell::RefCell;

use dmt::sync::cond::Cond;
use dmt::sync::mutex::Mutex;

/// The synchronisation objects. Digests contain their addresses, which are the same on all replicas of a real cluster
/// because their address spaces are. Here each OS thread has one place for the objects of whichever server runs.
#[repr(C)]
pub(super) struct Place {
    pub(super) queue_lock: Mutex,
    pub(super) queue_filled: Cond,
    pub(super) help_wanted: Cond,
    pub(super) list_lock: Mutex,
}

thread_local! {
    static PLACE: RefCell<Box<Place>> = RefCell::new(Objects::new().0);
}

/// A server's synchronisation objects while it does not run.
pub struct Objects(Box<Place>);

impl Objects {
    /// Fresh ones.
    pub fn new() -> Self {
        // SAFETY: all zeroes is every object's static initialiser.
        Self(unsafe { Box::new(std::mem::zeroed()) })
    }

    /// Puts them into place.
    pub fn enter(&mut self) {
        PLACE.with_borrow_mut(|place| std::mem::swap(&mut **place, &mut *self.0));
    }

    /// Takes them out again.
    pub fn leave(&mut self) {
        self.enter();
    }
}

impl Default for Objects {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) fn place() -> *mut Place {
    PLACE.with_borrow_mut(|place| std::ptr::from_mut(&mut **place))
}
