//! Cancellation of threads (`pthread_cancel`): who is asked to end, and whether it may go on waiting.
//!
//! A request takes effect where the thread is at a cancellation point and has cancellation enabled. It ends the wait
//! there as a signal does; preload then makes the thread exit.

use crate::call::Call;
use crate::kernel::Kernel;
use crate::op::Op;
use crate::park::Space;
use crate::process::abi::ESRCH;
use crate::thread::{ThreadId, ThreadState, Wake};

/// A thread's part in it. All zeroes is a new thread's: enabled, deferred.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Cancel {
    /// `PTHREAD_CANCEL_DISABLE`.
    pub(crate) disabled: bool,
    /// `PTHREAD_CANCEL_ASYNCHRONOUS`.
    pub(crate) asynchronous: bool,
    /// It was asked to end.
    pub(crate) requested: bool,
    /// It is inside a function that is a cancellation point.
    pub(crate) at_point: bool,
}

impl Cancel {
    fn is_due(&self) -> bool {
        self.requested && self.at_point && !self.disabled
    }
}

impl Kernel {
    /// True if `me` is at a cancellation point and has been asked to end.
    #[inline]
    pub(crate) fn cancel_due(&self, me: ThreadId) -> bool {
        self.threads.get(me).cancel.is_due()
    }
}

impl Call<'_> {
    /// `pthread_cancel`: 0 or an errno.
    pub fn cancel(&self, handle: u64) -> i32 {
        let result = self.quick(Op::Cancel, handle, |k, me| {
            let Some(id) = k.thread_by_handle(k.process_of(me), handle) else { return ESRCH };
            let thread = k.threads.get_mut(id);
            if thread.state == ThreadState::Ended {
                return 0;
            }
            thread.cancel.requested = true;
            let waits = thread.state == ThreadState::Waiting && thread.key.space != Space::None;
            if waits && k.cancel_due(id) {
                k.wake_thread(id, Wake::Signal);
            }
            0
        });
        result as i32
    }

    /// `pthread_setcancelstate`: whether cancellation was disabled before. Costs no tick.
    pub fn disable_cancel(&self, disabled: bool) -> bool {
        self.with(|k| core::mem::replace(&mut k.threads.get_mut(self.thread()).cancel.disabled, disabled))
    }

    /// `pthread_setcanceltype`: whether it was asynchronous before. Costs no tick.
    pub fn asynchronous_cancel(&self, on: bool) -> bool {
        self.with(|k| core::mem::replace(&mut k.threads.get_mut(self.thread()).cancel.asynchronous, on))
    }

    /// True if the thread was asked to end and has said that this may happen anywhere.
    pub fn cancelled_anywhere(&self) -> bool {
        let cancel = self.with(|k| k.threads.get(self.thread()).cancel);
        cancel.asynchronous && cancel.requested && !cancel.disabled
    }

    /// At the begin of a cancellation point: whether the thread was at one already (a handler runs there), or `None` if
    /// it must end now.
    #[inline]
    pub fn enter_point(&self) -> Option<bool> {
        self.with(|k| {
            let cancel = &mut k.threads.get_mut(self.thread()).cancel;
            let before = core::mem::replace(&mut cancel.at_point, true);
            (!cancel.is_due()).then_some(before)
        })
    }

    /// At the end of a cancellation point: true if the thread must end now. A call that was carried out counts, so only
    /// one that `failed` gives way.
    #[inline]
    pub fn leave_point(&self, before: bool, failed: bool) -> bool {
        self.with(|k| {
            let cancel = &mut k.threads.get_mut(self.thread()).cancel;
            let due = failed && cancel.is_due();
            cancel.at_point = before;
            due
        })
    }

    /// The thread ends itself from here on; nobody can ask it to any more.
    pub fn begin_exit(&self) {
        self.with(|k| {
            let cancel = &mut k.threads.get_mut(self.thread()).cancel;
            *cancel = Cancel { disabled: true, ..Cancel::default() };
        });
    }
}
