//! What dmt needs of the world: park and wake a thread, and the leader's clock at admission.

use core::ffi::c_void;

use crate::affinity::{CpuMask, Place};
use crate::atomic::AtomicU32;
use crate::thread::ThreadId;

/// Implemented by preload with system calls through the gate, and by the simulator without an operating system.
pub trait Platform {
    /// Sleeps while `*word == expected`, for `timeout_ns` at the most. May return early. The futex is shared between
    /// processes.
    fn wait(&self, word: &AtomicU32, expected: u32, timeout_ns: Option<u64>);
    /// Wakes all sleepers on `word`.
    fn wake(&self, word: &AtomicU32);
    /// The leader's real time, nanoseconds since the Unix epoch. Used only at admission; what it returns travels in
    /// the entry.
    fn real_time(&self) -> u64;
    /// Sends the signal to the calling thread itself, so that its handler (or the default action) has run when this
    /// returns.
    fn deliver(&self, signal: &crate::process::PendingSignal);
    /// The calling thread was given the turn and is about to go on.
    fn took_turn(&self) {}
    /// The calling thread, for which the server waited, slept for the coordinator's sake. A checkpoint is taken while it
    /// does, so this may be the first that the server does after one was restored. To be called before anything else.
    fn resumed(&self) {}
    /// The branch at this address of the calling process has become a spin point: from now on a thread that takes it
    /// comes to [`crate::call::Call::spin_point`].
    fn arm_spin_point(&self, branch: u64) {
        let _ = branch;
    }
    /// Calls `function(data)` for thread `me` where it leaves nothing on the program's stack: what it does is not the same on
    /// all replicas, and the program may come to read what it left. It handles no signals and does not unwind.
    ///
    /// # Safety
    /// As that call.
    unsafe fn apart(&self, me: ThreadId, function: unsafe extern "C" fn(*mut c_void), data: *mut c_void) {
        let _ = me;
        // SAFETY: forwarded promise.
        unsafe { function(data) };
    }
    /// Whether all threads of a process are carried by one thread of the kernel, which changes between them by
    /// [`Platform::change`]. Else each is a thread of the kernel.
    fn carries(&self) -> bool {
        false
    }
    /// The carrier goes on with thread `next` of its process instead of `me`; returns when it goes on with `me`.
    fn change(&self, me: ThreadId, next: ThreadId) {
        let _ = (me, next);
        unreachable!("nothing is carried");
    }
    /// As [`Platform::change`] from a thread that has ended.
    fn go_on(&self, next: ThreadId) -> ! {
        let _ = next;
        unreachable!("nothing is carried");
    }
    /// The calling thread passes the turn to process `pid`, which may run in `place`, and then sleeps:
    /// brings that process to this processor, if that is worth it. Returns where it may run now.
    fn bring(&self, pid: i32, place: Place, processors: &CpuMask) -> Place {
        let _ = (pid, processors);
        place
    }
    /// The calling thread, of process `pid`, sleeps until the coordinator wakes it: it may wake anywhere, but best on processor
    /// `near`, if there is one. Returns where it may run now.
    fn let_go(&self, pid: i32, place: Place, near: Option<u32>, processors: &CpuMask) -> Place {
        let _ = (pid, near, processors);
        place
    }
    /// CPU time that the calling process has used, nanoseconds. No replica's state may depend on it.
    fn cpu_time(&self) -> u64 {
        0
    }
    /// Lets others have the processor first, if anybody waits for it.
    fn give_way(&self) {}
    /// Wakes a sleeping coordinator (a write to its eventfd).
    fn kick_coordinator(&self);
}
