//! Barriers.

use crate::call::Call;
use crate::kernel::Step;
use crate::op::Op;
use crate::park::Space;

/// A `pthread_barrier_t` as we use it; glibc's `pthread_barrier_init` sets `count` and `shared`.
#[derive(Debug)]
#[repr(C)]
pub struct Barrier {
    arrived: u32,
    round: u32,
    count: u32,
    shared: i32,
    /// Its number if processes share it, see [`Call::object_key`].
    number: u32,
    rest: [u32; 3],
}
const _: () = assert!(size_of::<Barrier>() == 32);

/// `PTHREAD_BARRIER_SERIAL_THREAD`.
const SERIAL_THREAD: i32 = -1;

impl Call<'_> {
    /// `pthread_barrier_wait`. The last thread to arrive is the serial one.
    ///
    /// # Safety
    /// See [`crate::sync`].
    pub unsafe fn barrier_wait(&self, barrier: *mut Barrier) -> i32 {
        // SAFETY: promise of the caller.
        let b = unsafe { &mut *barrier };
        let shared = b.shared != 0;
        let key = self.object_key(Space::Sync, barrier as u64, shared.then_some(&mut b.number));
        let mut round = None;
        self.op(Op::BarrierWait, barrier as u64, |k, me| {
            // SAFETY: promise of the caller; no reference outlives this try. A barrier may be destroyed once a thread
            // returned from it, but only after all waiters left: they look at it no more after the wake below.
            let b = unsafe { &mut *barrier };
            match round {
                Some(mine) if k.take_wake(me) == crate::thread::Wake::Event || b.round != mine => {
                    Step::Done(0)
                }
                Some(_) => {
                    k.wait(me, key, None);
                    Step::Block
                }
                None => {
                    b.arrived += 1;
                    if b.arrived == b.count {
                        b.arrived = 0;
                        b.round = b.round.wrapping_add(1);
                        k.wake_all(key);
                        return Step::Done(SERIAL_THREAD);
                    }
                    round = Some(b.round);
                    k.wait(me, key, None);
                    Step::Block
                }
            }
        })
    }
}
