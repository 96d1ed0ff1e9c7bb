//! POSIX message queues. All but one of their calls come by way of the filter.

use core::ffi::c_int;

use crate::args;
use crate::calls::{queue, timer::Event};
use crate::errno::libc_int;
use crate::hook;

hook! {
    fn mq_notify(queue: c_int, event: *const Event) -> c_int {
        // SAFETY: the program's own arguments.
        libc_int(unsafe { queue::notify(args!(queue, event)) })
    }
}
